"""A paused flow with more retries than a window holds, beside another flow of its group."""

import json
from pathlib import Path
from typing import Any

from tests.broker.bench import Bench, event, wait_for

HANDLER = '''\
"""Asks for patience until there is a file: of ships all commands, of bills the first run."""
import os
from pathlib import Path
from edo_stream.actions import Throttled, action

ROOT = Path(os.environ["ROOT"])

@action(dict)
async def ship(event):
    if not (ROOT / "open").exists():
        raise Throttled()

@action(dict)
async def bill(event):
    if not (ROOT / "billed").exists():
        (ROOT / "billed").touch()
        raise Throttled()
'''

FLOW = """\
name: {name}
owner: team-tests
description: Takes its time.
on: {topic}
group: {group}
partitions: 1
action:
  kind: python
  handler: patient_handler:{handler}
  idempotency_key: command
  replay: safe
concurrency: 100
retry: {{initial: 2s, max: 2s}}
"""
SHIPS = 1_100


def flows(bench: Bench, root: Path) -> dict[str, str]:
    """Write two flows of a group; their topics."""
    topics = {name: bench.declare(f"{name}-asked") for name in ("ship", "bill")}
    bench.apply()
    (root / "flows").mkdir()
    for name, topic in topics.items():
        flow = f"{bench.name}-{name}"
        text = FLOW.format(name=flow, topic=topic, group=f"{bench.name}-act", handler=name)
        (root / "flows" / f"{flow}.yaml").write_text(text)
    (root / "patient_handler.py").write_text(HANDLER)
    return topics


def test_retries_of_a_paused_flow_are_parked_and_others_come_in_time(
    bench: Bench, tmp_path: Path
) -> None:
    topics = flows(bench, tmp_path)
    ship, bill = (f"{bench.name}-{name}" for name in topics)
    worker = bench.worker(ROOT=str(tmp_path))
    worker.start()

    def keys(*command: str) -> list[dict[str, Any]]:
        told = bench.edo(*command, "--json")
        assert 0 == told.returncode, told.stderr
        found: list[dict[str, Any]] = json.loads(told.stdout)
        return [one for one in found if one["flow"] == ship]

    def ends(flow: str, count: int) -> bool | None:
        return True if len(bench.read(f"edo.outcomes.{flow}")) >= count else None

    bench.send(topics["ship"], [event(f"s-{n}", f"k-{n}") for n in range(SHIPS)])
    wait_for(lambda: len(keys("retry", "list")) == SHIPS or None, "all wait for a retry")
    paused = bench.edo("flow", "pause", ship, "--reason", "busy")
    assert 0 == paused.returncode, paused.stderr
    bench.send(topics["bill"], [event("b-1")])

    wait_for(lambda: ends(bill, 1), "the retry of the other flow")
    found = wait_for(
        lambda: here if len(here := keys("key", "list", "--state", "paused")) == SHIPS else None,
        "all parked",
    )
    assert {("paused", 1)} == {(one["state"], one["parked"]) for one in found}
    assert SHIPS == len(keys("retry", "list"))
    assert [] == bench.read(f"edo.outcomes.{ship}")
    audited = bench.edo("audit", "--json")
    assert 0 == audited.returncode, audited.stdout + audited.stderr
    assert SHIPS == json.loads(audited.stdout)["flows"][ship]["parked"]

    (tmp_path / "open").touch()
    worker.kill()
    worker.start()
    assert [] == bench.read(f"edo.outcomes.{ship}"), "still paused"
    resumed = bench.edo("flow", "resume", ship)
    assert 0 == resumed.returncode, resumed.stderr
    wait_for(lambda: ends(ship, SHIPS), "all that was parked")
    assert [] == keys("key", "list")

    def audited_done() -> int | None:
        told = bench.edo("audit", "--json")
        assert 0 == told.returncode, told.stdout + told.stderr
        done: int = json.loads(told.stdout)["flows"][ship]["done"]
        return done if done == SHIPS else None

    assert SHIPS == wait_for(audited_done, "all accounted for")
