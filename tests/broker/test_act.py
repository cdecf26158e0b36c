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
