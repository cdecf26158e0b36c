"""Dead letters of both planes, from the metric to the end of what was sent again; and the audit."""

import json
from pathlib import Path
from typing import Any

from load.fleet import LocalWorker
from tests.broker.bench import PATIENCE_S, Bench, Sent, event, wait_for
from tests.broker.test_observe import samples, status_of

HANDLER = '''\
"""Fails the first run of one, and another until it is mended."""
import os
from edo_stream.actions import Call, PermanentError, TransientError, action

@action(dict)
def ship(event, call: Call):
    if event["id"] == "a/2" and call.attempt == 1:
        raise TransientError("the first time")
    if event["id"] == "a/3" and not os.path.exists(os.environ["MENDED"]):
        raise PermanentError("no such address")
    return {"key": call.idempotency_key}
'''

FLOW = """\
name: {name}
owner: team-ship
description: Ships.
on: {topic}
group: {name}
partitions: 1
action: {{kind: python, handler: letters_handler:ship, idempotency_key: command, replay: safe}}
retry: {{initial: 300ms, max: 300ms, retries: 2}}
"""

ORDER = "ordering: {policy: sequence, start: 1, gap_timeout: 1s, on_timeout: dead-letter}"
TERMS = "dead_letters: {owner: team-letters, acknowledge_within: 1s}"


def told(bench: Bench, *arguments: str, code: int = 0) -> Any:
    answer = bench.edo(*arguments, "--json")
    assert answer.returncode == code, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


def waiting(worker: LocalWorker) -> dict[str, float]:
    return {
        labels["owner"]: value
        for labels, value in samples(worker).get("edo_dead_letters_waiting", ())
    }


def test_letters_are_seen_sent_again_and_gone_and_every_command_is_accounted_for(
    bench: Bench, tmp_path: Path
) -> None:
    topic, flow = declared(bench, tmp_path)
    mended = tmp_path / "mended"
    worker = bench.worker(MENDED=str(mended))
    worker.start()
    # The first of b never comes: its second is given up, although it was seen.
    bench.send(topic, [*(event(f"a/{n}", "a", n) for n in (1, 2, 3)), event("b/2", "b", 2)])

    def both() -> bool:
        return waiting(worker) == {"team-letters": 1, "team-ship": 1}

    wait_for(both, "two dead letters in the metrics")
    wait_for(lambda: is_overdue(worker), "one of them overdue")
    (of_event,) = told(bench, "dlq", "list", "--topic", topic)
    (of_command,) = told(bench, "dlq", "list", "--flow", flow, "--class", "poison", "--key", "a")
    assert (of_event["reason"], of_event["owner"]) == ("gap-timeout", "team-letters")
    assert (of_command["reason"], of_command["owner"]) == ("permanent", "team-ship")
    owners = told(bench, "dlq", "owners", code=1)
    assert {"team-letters": 1, "team-ship": 0} == {o["owner"]: o["overdue"] for o in owners}
    mended.write_text("")

    assert bench.edo("dlq", "redrive", "--topic", topic).returncode == 0
    assert bench.edo("dlq", "redrive", of_command["id"], "--new-key").returncode == 0
    assert bench.edo("dlq", "redrive", of_command["id"]).returncode == 1

    outcomes = wait_for(lambda: outcomes_of(bench, flow, 4), "four outcomes")
    late = {dict(one.headers)["ce_causationid"]: one.headers for one in bench.results(topic, 4)}
    assert dict(late[b"b/2"])["ce_edolate"] == b"true"
    wait_for(lambda: set(waiting(worker).values()) == {0.0}, "no letter to wait")
    audit = wait_for(lambda: at_rest(bench, flow), "all commands accounted for")
    # The command that was given up is one, and what it became is another, by another key.
    assert (audit["commands"], audit["done"], audit["dead_lettered"]) == (5, 4, 1)
    keys = {json.loads(one.value)["key"] for one in outcomes}
    commands = {
        dict(one.headers)["ce_id"].decode() for one in bench.read(f"edo.commands.{flow}")[:3]
    }
    assert 2 == len(keys & commands), "of three commands the third has another key now"
    (retries,) = status_of(worker)["retries"]
    assert (retries["flow"], retries["retries"]) == (flow, 1)
    assert 0 <= retries["lateP99Ms"] < 1000 * PATIENCE_S

    # An outcome twice: somebody has tampered with the topic.
    first = outcomes[0]
    bench.send(f"edo.outcomes.{flow}", [Sent(first.key, first.value, list(first.headers))])
    report = told(bench, "audit", code=1)
    assert {"more than one outcome": 1} == report["problems"]


def test_letters_of_a_flow_that_is_gone_are_seen_and_not_sent_to_nobody(
    bench: Bench, tmp_path: Path
) -> None:
    topic, flow = declared(bench, tmp_path)
    worker = bench.worker(MENDED=str(tmp_path / "mended"))
    worker.start()
    bench.send(topic, [event("a/3", "a", 1)])
    wait_for(lambda: told(bench, "dlq", "list", "--flow", flow), "the letter")
    worker.kill()
    file = tmp_path / "flows" / f"{flow}.yaml"
    gone = file.rename(file.with_suffix(".gone"))

    (letter,) = told(bench, "dlq", "list", "--flow", flow)
    assert (letter["owner"], letter["dueMs"]) == ("team-ship", None)
    refused = bench.edo("dlq", "redrive", letter["id"])
    assert (1, True) == (refused.returncode, f"reads edo.commands.{flow}" in refused.stderr)
    assert 1 == len(bench.read(f"edo.commands.{flow}"))
    gone.rename(file)
    redriven = told(bench, "dlq", "redrive", letter["id"])
    assert {"action": "redriven", "ids": [letter["id"]]} == redriven
    assert [] == told(bench, "dlq", "list", "--flow", flow)
    none = bench.edo("dlq", "redrive", "--flow", flow)
    assert (1, True) == (none.returncode, "no such letter waits" in none.stderr)
    (done,) = told(bench, "dlq", "list", "--all", "--flow", flow)
    assert {"by", "at", "action", "note"} == set(done["ack"])


def declared(bench: Bench, root: Path) -> tuple[str, str]:
    """A topic and a flow on it."""
    topic, flow = bench.declare("placed", ORDER, TERMS), f"{bench.name}-ship"
    bench.apply()
    (root / "flows").mkdir()
    (root / "flows" / f"{flow}.yaml").write_text(FLOW.format(name=flow, topic=topic))
    (root / "letters_handler.py").write_text(HANDLER)
    return topic, flow


def is_overdue(worker: LocalWorker) -> bool:
    return ({"owner": "team-letters"}, 1.0) in samples(worker)["edo_dead_letters_overdue"]


def at_rest(bench: Bench, flow: str) -> dict[str, int] | None:
    commands: dict[str, int] = told(bench, "audit")["flows"][flow]
    return commands if commands["pending"] + commands["waiting"] == 0 else None


def outcomes_of(bench: Bench, flow: str, count: int) -> list[Any] | None:
    found = bench.read(f"edo.outcomes.{flow}")
    return found if len(found) >= count else None
