"""Latency at a fixed rate: from a record's ``ce_time``, its sending, to when a reader has it.

Sent open-loop: a program that falls behind is sent more all the same, and its latency grows.
"""

import asyncio
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from load.bench.machine import now_ms, read_machine, usage_between
from load.bench.programs import PARTITIONS, Place, Program, contestant
from load.bench.records import expected, profile_of, records_of
from load.bench.run import Bench
from load.bench.topics import INPUTS
from load.profile import Profile
from load.send import Report, SendPolicy, quantiles, send

WARM_S: Final = 5.0
"""Of the load, not counted: a Java program compiles itself meanwhile."""
_FIRST_RECORDS: Final = 50
_FIRST_SEED: Final = 1
_SEED: Final = 2
_START_S: Final = 60.0
_GRACE_S: Final = 15.0
"""For the last results after the last record was sent."""
_LAG_MS_MAX: Final = 20.0


@dataclass(frozen=True, slots=True)
class Latency:
    """What was seen of the results of the measured time."""

    program: str
    rate: float
    p50: float | None
    p99: float | None
    max: float | None
    events: int
    missing: int
    """Results that were not there when the grace after the last record was over."""
    sender_lag_ms: float
    """p99 of how late records were sent; beyond 20 ms the sender could not keep the rate."""
    worker_cores: float
    other_cores: float
    is_void: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the report."""
        return asdict(self) | {"void": self.is_void}


Seen = tuple[int, int]
"""When a record was sent and when it was read, in epoch ms."""


def latencies_ms(seen: Iterable[Seen], warm_until_ms: int) -> "array[float]":
    """Latencies of the records that were sent after the warm-up."""
    return array("f", (read - sent for sent, read in seen if sent >= warm_until_ms))


async def measure(
    program: Program, place: Place, bench: Bench, rate: float, measured_s: float
) -> Latency:
    """Start the program, warm it up, and hold the rate."""
    await bench.topics.create(place.input)
    worker = contestant(program, place, bench.screen.say)
    await worker.prepare()
    reader = AIOKafkaConsumer(
        bootstrap_servers=place.broker,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await reader.start()
    try:
        reader.assign([TopicPartition(place.output, number) for number in range(PARTITIONS)])
        await bench.screen.wait_until_quiet(bench.broker_pid, bench.patience_s)
        worker.launch()
        first = profile_of(_FIRST_RECORDS, seed=_FIRST_SEED)
        await _send(first, place)
        await _read(reader, expected(first).events, _START_S)
        bench.screen.show(f"{place.app}: {rate:,.0f} events/s")
        before = read_machine(worker.pid, bench.broker_pid)
        profile = profile_of(round(rate * (WARM_S + measured_s)), rate, _SEED)
        wanted = expected(profile).events
        reading = asyncio.create_task(_read(reader, wanted, WARM_S + measured_s + _GRACE_S))
        report = await _send(profile, place)
        seen = await reading
        usage = usage_between(before, read_machine(worker.pid, bench.broker_pid))
    finally:
        await reader.stop()
        worker.stop()
        await bench.clear(place)
    warm_until_ms = before.at_ms + int(WARM_S * 1_000)
    found = latencies_ms(seen, warm_until_ms)
    shown: dict[str, float] = quantiles(found) or {}
    lag_ms = (quantiles(report.lags_ms) or {"p99": 0.0})["p99"]
    return Latency(
        program=program.name,
        rate=rate,
        p50=shown.get("p50"),
        p99=shown.get("p99"),
        max=shown.get("max"),
        events=len(found),
        missing=wanted - len(seen),
        sender_lag_ms=lag_ms,
        worker_cores=usage.worker_s / usage.wall_s,
        other_cores=usage.other_cores,
        is_void=usage.is_void or lag_ms > _LAG_MS_MAX,
    )


def latency_place(program: Program, bench: Bench) -> Place:
    """A place with an input of its own."""
    return bench.place(program, f"{INPUTS}latency-{program.name.replace('_', '-')}", "latency")


async def _send(profile: Profile, place: Place) -> Report:
    access = {"bootstrap_servers": place.broker}
    return await send(records_of(profile), place.input, access, SendPolicy(), lambda report: None)


async def _read(reader: AIOKafkaConsumer, wanted: int, patience_s: float) -> list[Seen]:
    """Read results until there are so many, or the time is over."""
    seen: list[Seen] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while len(seen) < wanted:
                fetched = await reader.getmany(timeout_ms=500)
                at_ms = now_ms()
                for records in fetched.values():
                    seen += ((_sent_ms(record.headers), at_ms) for record in records)
    return seen


def _sent_ms(headers: Sequence[tuple[str, bytes]]) -> int:
    time = next(value for name, value in headers if name == "ce_time")
    return round(datetime.fromisoformat(time.decode()).timestamp() * 1_000)
