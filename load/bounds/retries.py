"""How late retries run while little else happens: the receiver's clock against the due time."""

import asyncio
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edo_stream.local.kafka import LocalKafka
from load.bounds.figures import Bound, Scale
from load.bounds.place import PARTITIONS, BoundError, Place
from load.plan import Kind, Planned
from load.read import records

_FLOW: Final = "bounds-ship"
_SERVICE: Final = "bounds"
_A_SECOND: Final = 20

_DECLARATION: Final = """\
name: bounds-ship
owner: load
description: Fails once, and succeeds a second later.
on: {topic}
group: bounds-actions
partitions: {partitions}
action: {{kind: python, handler: bounds_handler:ship, idempotency_key: command, replay: safe}}
retry: {{initial: 1s, max: 1s, retries: 1}}
# Each first run fails: that must not stop the others.
breaker: {{window: 10000, consecutive: 1000000, failure_ratio: 1}}
"""

_HANDLER: Final = '''\
"""Fails the first time; writes down when the second came."""
import os, time
from edo_stream.actions import Call, TransientError, action

_ledger = open({ledger!r}, "a", buffering=1)

@action(dict)
async def ship(event, call: Call):
    if call.attempt == 1:
        raise TransientError("the first time")
    _ledger.write(f"{{call.id}} {{time.time_ns() // 1_000_000}}\\n")
'''


def measure_retries(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """How much later than due commands run again; none may be early."""
    place = Place(root, kafka, "retries", "ordering: {policy: key}", PARTITIONS)
    ledger = root / "ledger"
    flow = _DECLARATION.format(topic=place.topic, partitions=PARTITIONS)
    place.add_flow(_FLOW, flow, "bounds_handler", _HANDLER.format(ledger=str(ledger)))
    place.create(_SERVICE)
    with place.worker(_SERVICE):
        place.send(_events(scale.timers))
        place.wait_until(lambda: len(_runs(ledger)) >= scale.timers, "all retries to run")
    late_ms = sorted(asyncio.run(_lateness(kafka, _runs(ledger))))
    if late_ms[0] < 0:
        raise BoundError(f"a retry ran {-late_ms[0]} ms early")
    p99_ms, median_ms = late_ms[len(late_ms) * 99 // 100], statistics.median(late_ms)
    detail = f"{len(late_ms)} retries of 1 s, {_A_SECOND} a second; median {median_ms:.0f} ms"
    return [Bound("lateness of retries, p99", p99_ms, 100, "ms", detail)]


def _events(count: int) -> Iterator[Planned]:
    """Events of different keys."""
    for number in range(count):
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", b"retry-%d" % number),
            ("ce_source", b"/load/bounds"),
            ("ce_type", b"load.thing.happened"),
            ("content-type", b"application/json"),
        )
        key = b"key-%d" % number
        yield Planned(number / _A_SECOND, key, b"{}", headers, Kind.EVENT, None)


def _runs(ledger: Path) -> dict[str, int]:
    """When each command ran for the second time, in epoch ms."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return {line.split()[0]: int(line.split()[1]) for line in lines}


async def _lateness(kafka: LocalKafka, ran_ms: dict[str, int]) -> list[int]:
    """For each command, the time of its second run, less that at which it was due on its tier."""
    late = []
    broker = {"bootstrap_servers": kafka.bootstrap}
    async for record in records("edo.retry.bounds-actions.1s", broker, lambda _: True):
        headers = dict(record.headers)
        late.append(ran_ms[headers["ce_id"].decode()] - int(headers["edo-due-ms"]))
    return late
