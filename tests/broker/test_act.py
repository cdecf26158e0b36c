"""The act plane on a real Kafka: side effects by a handler, a worker that is killed, a retry."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from tests.broker.bench import Bench, Sent, wait_for

HANDLER = '''\
"""Writes each run into a ledger, and fails the first run of some."""
import asyncio, json, os, time
from edo_stream.actions import BusinessError, Call, TransientError, action

@action(dict)
async def ship(event, call: Call):
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(json.dumps([call.id, call.attempt, time.time()]) + "\\n")
    await asyncio.sleep(0.002)
    if event["fails"] and call.attempt == 1:
        raise TransientError("the first time")
    if event["refused"]:
        raise BusinessError(reason="no-stock")
    return {"shipped": event["n"]}
'''

FLOW = """\
name: {name}
owner: team-tests
description: Ships.
on: {topic}
group: {name}
partitions: 2
action:
  kind: python
  handler: shipping_handler:ship
  idempotency_key: command
  replay: safe
retry: {{initial: 300ms, max: 300ms, retries: 2}}
concurrency: 8
"""


class Ran(NamedTuple):
    command: str
    attempt: int
    at_s: float


class Shop:
    """A flow with a handler, on a bench."""

    def __init__(self, bench: Bench, root: Path) -> None:
        self.bench = bench
        self.flow = f"{bench.name}-ship"
        self.ledger = root / "ledger"
        self.topic = bench.declare("placed", partitions=2)
        bench.apply()
        flows = root / "flows"
        flows.mkdir()
        (flows / f"{self.flow}.yaml").write_text(FLOW.format(name=self.flow, topic=self.topic))
        (root / "shipping_handler.py").write_text(HANDLER)
        self.environment = {"LEDGER": str(self.ledger)}

    def runs(self) -> list[Ran]:
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [Ran(*json.loads(line)) for line in lines]

    def outcomes(self, count: int) -> list[Any]:
        def look() -> list[Any] | None:
            found = self.bench.read(f"edo.outcomes.{self.flow}")
            return found if len(found) >= count else None

        return wait_for(look, f"{count} outcomes")


def order(number: int, key: str) -> Sent:
    data = {"n": number, "fails": number % 10 == 3, "refused": number % 10 == 7}
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"o-%d" % number),
        ("ce_source", b"/shop"),
        ("ce_type", b"order.placed"),
        ("content-type", b"application/json"),
    ]
    # Keys decide where commands go; where the orders lie does not matter.
    return Sent(key.encode(), json.dumps(data).encode(), headers, number % 2)


def test_every_event_has_its_effect_in_order_through_retries_and_a_kill(
    bench: Bench, tmp_path: Path
) -> None:
    shop = Shop(bench, tmp_path)
    worker = bench.worker(**shop.environment)
    worker.start()
    # The events of a key come from one partition: even keys, and odd ones.
    sent = [order(number, f"k{number % 6}") for number in range(300)]
    bench.send(shop.topic, sent[:200])
    wait_for(lambda: len(shop.runs()) > 60, "commands that run")
    worker.kill()
    before = len(shop.runs())
    bench.send(shop.topic, sent[200:])
    worker.start()

    outcomes = shop.outcomes(len(sent))

    kinds = defaultdict(list)
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for record in outcomes:
        headers = {name: value.decode() for name, value in record.headers}
        kinds[headers["ce_type"].rpartition(".")[2]].append(headers["ce_causationid"])
        by_key[record.key].append(int(headers["edo-origin"].rpartition("/")[2]))
    ended = [command for found in kinds.values() for command in found]
    assert len(sent) == len(ended) == len(set(ended)), "each command ends once"
    assert {"done": 270, "failed": 30} == {kind: len(found) for kind, found in kinds.items()}
    assert len(by_key) == 6
    for key, offsets in by_key.items():
        assert offsets == sorted(offsets), f"{key!r}: out of order"
    _judge_runs(shop.runs(), before, set(ended))


def _judge_runs(runs: list[Ran], before: int, commands: set[str]) -> None:
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    for run in runs:
        times[run.command, run.attempt].append(run.at_s)
    assert commands == {command for command, _ in times}
    again = [name for name, found in times.items() if len(found) > 1]
    # What ran when the worker was killed, and what had ended without a commit yet.
    assert len(again) <= 16 * 2, f"{len(again)} of {before} runs were repeated"
    for (command, attempt), found in times.items():
        assert attempt <= 2
        if attempt == 2:
            assert found[0] - times[command, 1][0] >= 0.3, "a retry is never early"
    assert 30 == sum(attempt == 2 for _, attempt in times)


STOPPING = """\
dead_letters: {after: stop}
"""

BROKEN = """\
import os
from edo_stream.actions import PermanentError, TransientError, action

@action(dict)
def ship(event):
    if os.path.exists(os.environ["MENDED"]):
        return {"shipped": event["n"]}
    if event["n"] == 0:
        raise PermanentError("no such address")
    raise TransientError("closed")
"""


def test_an_operator_sees_what_is_blocked_and_lets_it_go_on(bench: Bench, tmp_path: Path) -> None:
    shop = Shop(bench, tmp_path)
    flow_file = tmp_path / "flows" / f"{shop.flow}.yaml"
    flow_file.write_text(
        flow_file.read_text().replace(
            "{initial: 300ms, max: 300ms, retries: 2}", "{initial: 1h, max: 1h}"
        )
        + STOPPING
    )
    (tmp_path / "shipping_handler.py").write_text(BROKEN)
    mended = tmp_path / "mended"
    bench.worker(**shop.environment, MENDED=str(mended)).start()
    bench.send(shop.topic, [order(number, key) for number, key in enumerate(["s", "w", "s", "w"])])

    def blocked() -> dict[str, Any] | None:
        told = bench.edo("key", "list", "--json")
        assert told.returncode == 0, told.stderr
        found = {one["key"]: one for one in json.loads(told.stdout)}
        # The one that stopped has one more behind it, and so has the one that waits.
        return found if [one["parked"] for one in found.values()] == [1, 1] else None

    found = wait_for(blocked, "two blocked keys")
    assert {"s": "stopped", "w": "waiting"} == {key: one["state"] for key, one in found.items()}
    assert (found["w"]["attempt"], found["w"]["error"]) == (2, "transient: transient")
    waiting = json.loads(bench.edo("retry", "list", "--json").stdout)
    assert ["w"] == [one["key"] for one in waiting]
    refused = bench.edo("key", "continue", shop.flow, "w")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "key.continue: not while the key is waiting" in refused.stderr
    assert bench.edo("key", "continue", shop.flow, "nobody").returncode == 1
    mended.write_text("")

    assert bench.edo("key", "continue", shop.flow, "s").returncode == 0
    assert bench.edo("retry", "run-now", shop.flow, "w").returncode == 0

    shipped = [json.loads(record.value)["shipped"] for record in shop.outcomes(3)]
    assert sorted(shipped) == [1, 2, 3]
    assert shipped.index(1) < shipped.index(3)
    (letter,) = bench.read(f"edo.dead-letters.{shop.flow}")
    assert dict(letter.headers)["edo-detail"] == b"no such address"
    assert json.loads(bench.edo("key", "list", "--json").stdout) == []


def test_dead_letters_are_listed_by_owner_sent_again_and_acknowledged(
    bench: Bench, tmp_path: Path
) -> None:
    shop = Shop(bench, tmp_path)
    (tmp_path / "shipping_handler.py").write_text(BROKEN)
    mended = tmp_path / "mended"
    bench.worker(**shop.environment, MENDED=str(mended)).start()
    assert bench.edo("breaker", "open", shop.flow).returncode == 0
    bench.send(shop.topic, [order(0, "s"), Sent(b"s", b"{", partition=0)])
    wait_for(lambda: bench.read(f"edo.commands.{shop.flow}"), "a command")
    (listed,) = json.loads(bench.edo("breaker", "list", "--json").stdout)
    assert (listed["flow"], listed["stopped"]) == (shop.flow, [0, 1])
    assert bench.read(f"edo.dead-letters.{shop.flow}") == [], "nothing runs"
    assert bench.edo("breaker", "close", shop.flow).returncode == 0

    def letters(*arguments: str) -> list[dict[str, Any]]:
        told = bench.edo("dlq", "list", "--json", *arguments)
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)

    found = wait_for(lambda: len(letters()) == 2 and letters(), "two dead letters")
    (command,) = [one for one in found if one["flow"] == shop.flow]
    (event,) = [one for one in found if one["flow"] is None]
    assert (command["class"], command["reason"]) == ("poison", "permanent")
    assert (event["class"], event["origin"]) == ("poison", f"{shop.topic}/0/1")
    assert [command] == letters("--flow", shop.flow, "--class", "poison", "--key", "s")
    told = bench.edo("dlq", "owners", "--json")
    (waiting,) = json.loads(told.stdout)
    assert (told.returncode, waiting["owner"], waiting["letters"]) == (0, "team-tests", 2)
    shown = json.loads(bench.edo("dlq", "show", command["id"], "--json").stdout)
    assert json.loads(shown["value"])["n"] == 0
    assert bench.edo("dlq", "ack").returncode == 2
    assert bench.edo("dlq", "ack", "nothing").returncode == 1
    mended.write_text("")

    assert bench.edo("dlq", "redrive", command["id"], "--by", "me").returncode == 0
    assert bench.edo("dlq", "ack", event["id"], "--by", "me", "--note", "seen").returncode == 0

    (outcome,) = shop.outcomes(1)
    assert json.loads(outcome.value) == {"shipped": 0}
    assert letters() == []
    acks = {one["id"]: one["ack"]["action"] for one in letters("--all")}
    assert acks == {command["id"]: "redriven", event["id"]: "acknowledged"}
