"""What goes into the world: events with duplicates, reordering, gaps and poison, from the seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple
from zlib import crc32

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.contract import (
    Codec,
    Contract,
    DedupePolicy,
    KeyOrder,
    MonotonicOrder,
    NoOrder,
    OnFull,
    OnLate,
    OnTimeout,
    OrderingPolicy,
    SequenceOrder,
)
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.testing.broker import NewRecord
from edo_stream.testing.loop import START_MS


class Parts(msgspec.Struct):
    """The value of a test's record."""

    id: str
    n: int | None = None
    bad: bool = False


_decode = msgspec.json.Decoder(Parts).decode
_encode = msgspec.json.Encoder().encode


def decode(record: Record) -> Decoded:
    """The tests' codec."""
    if record.value is None:
        return Ignored("tombstone")
    try:
        parts = _decode(record.value)
    except msgspec.DecodeError:
        return Violation("undecodable", "no JSON")
    key = record.key or b""
    if parts.bad:
        return Violation("invalid", "bad", key, parts.n)
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Event(parts.id, "/s", "t", key, record.value, position=parts.n, extensions=headers)


class Arrival(NamedTuple):
    """Records that come to a source at a time, by a transaction of somebody or by none."""

    at_s: float
    place: TopicPartition
    records: list[NewRecord]
    open_s: float | None = None
    is_commit: bool = True


@dataclass(frozen=True)
class Group:
    """A co-partition group: its topics with their contracts, and how many partitions."""

    name: str
    partitions: int
    contracts: tuple[Contract, ...]

    @property
    def control(self) -> str:
        return f"edo.control.{self.name}"

    @property
    def topics(self) -> list[str]:
        return [*(contract.topic for contract in self.contracts), self.control]


def some_contract(random: Random, topic: str, group: str, partitions: int) -> Contract:
    """A contract of any kind."""
    return contract_of(
        topic, group, partitions, _some_order(random), random.choice((None, DedupePolicy()))
    )


def contract_of(
    topic: str,
    group: str,
    partitions: int,
    ordering: OrderingPolicy,
    dedupe: DedupePolicy | None,
) -> Contract:
    return Contract(
        topic=topic,
        owner="simulation",
        group=group,
        partitions=partitions,
        codec=Codec.CLOUDEVENTS,
        emit=f"{topic}.results",
        emit_partitions=partitions,
        dead_letters=f"{topic}.dead",
        ordering=ordering,
        dedupe=dedupe,
    )


def _some_order(random: Random) -> OrderingPolicy:
    kind = random.random()
    if kind < 0.1:
        return NoOrder()
    if kind < 0.25:
        return KeyOrder()
    if kind < 0.4:
        return MonotonicOrder()
    return SequenceOrder(
        start=random.choice((None, 1, 1)),
        gap_timeout_ms=random.randrange(500, 6_000),
        on_timeout=random.choice(
            (OnTimeout.SKIP, OnTimeout.SKIP, OnTimeout.DEAD_LETTER, OnTimeout.HOLD)
        ),
        held_per_key_max=random.choice((2, 1_000, 1_000)),
        on_full=random.choice(list(OnFull)),
        on_late=random.choice(list(OnLate)),
    )


def arrivals(random: Random, groups: list[Group], events: int, lasts_s: float) -> list[Arrival]:
    """Input for all topics, in the order of time."""
    topics = [(group, contract) for group in groups for contract in group.contracts]
    found: list[Arrival] = []
    for group, contract in topics:
        share = max(3, events // len(topics))
        found += _arrivals_of(random, contract, share, lasts_s)
        found += _operations(random, group, contract, lasts_s)
    return sorted(found, key=lambda arrival: arrival.at_s)


def _arrivals_of(
    random: Random, contract: Contract, events: int, lasts_s: float
) -> Iterator[Arrival]:
    keys = [b"k%d" % number for number in range(random.randrange(1, 6))]
    bursts = sorted(random.uniform(0, lasts_s) for _ in range(random.randrange(1, 8)))
    numbers = dict.fromkeys(keys, 0)
    by_moment: dict[tuple[float, TopicPartition], list[NewRecord]] = {}
    for _ in range(events):
        at_s, key = random.choice(bursts), random.choice(keys)
        numbers[key] += 1
        place = TopicPartition(contract.topic, crc32(key) % contract.partitions)
        for value, late_s in _copies(random, key, numbers[key]):
            record = NewRecord(START_MS + int((at_s + late_s) * 1000), key, value)
            by_moment.setdefault((at_s + late_s, place), []).append(record)
    for (at_s, place), records in by_moment.items():
        if random.random() < 0.1:
            yield Arrival(at_s, place, records, random.uniform(0, 3), random.random() < 0.7)
        else:
            yield Arrival(at_s, place, records)


def _copies(random: Random, key: bytes, number: int) -> Iterator[tuple[bytes | None, float]]:
    """Values of one event and how much later each comes: none for a gap that stays."""
    parts = Parts(f"{key.decode()}-{number}", number)
    kind = random.random()
    if kind < 0.03:
        return
    if kind < 0.05:
        yield b"{", 0.0
    elif kind < 0.08:
        yield _encode(Parts(parts.id, number, bad=True)), 0.0
    elif kind < 0.09:
        yield None, 0.0
    elif kind < 0.2:
        # Out of order: within the patience of the contract, or beyond.
        yield _encode(parts), random.choice((0.01, 0.5, 3.0, 9.0)) * random.random()
    else:
        yield _encode(parts), 0.0
    if random.random() < 0.08:
        yield _encode(parts), random.choice((0.0, 1.0, 5.0)) * random.random()


def _operations(
    random: Random, group: Group, contract: Contract, lasts_s: float
) -> Iterator[Arrival]:
    if random.random() < 0.15:
        key = f"k{random.randrange(5)}"
        place = TopicPartition(group.control, crc32(key.encode()) % group.partitions)
        request = {"op": "gap.release", "topic": contract.topic, "key": key}
        at_s = random.uniform(0, lasts_s)
        record = NewRecord(START_MS + int(at_s * 1000), None, _encode(request))
        yield Arrival(at_s, place, [record])
