"""A task on a bench: a pipeline over tables in memory, fed and read by short calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.contract import (
    Codec,
    Contract,
    DedupePolicy,
    KeyOrder,
    OrderingPolicy,
)
from edo_stream.core.dedupe import expand_ids
from edo_stream.core.effects import Effects, Publish
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.record import Batch, Record, StoredRecord
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import InternalTopics, TaskIdentity
from tests.core.memory import Changelog

TOPIC = "shop.order.placed"
CONTROL = "edo.control"
INTERNAL = InternalTopics("edo.accounts", 3, "edo.gaps", 3, CONTROL)
IDENTITY = TaskIdentity("app", "shop", 5)
NOW_MS = 1_700_000_000_000
SOURCE_AND_ID = DedupePolicy()


def contract(
    ordering: OrderingPolicy | None = None,
    dedupe: DedupePolicy | None = SOURCE_AND_ID,
    topic: str = TOPIC,
    **rest: Any,
) -> Contract:
    """A contract with the values that the tests do not care about."""
    parts: dict[str, Any] = {
        "owner": "shop-team",
        "group": "shop",
        "partitions": 8,
        "codec": Codec.CLOUDEVENTS,
        "emit": f"{topic}.results",
        "emit_partitions": 8,
        "dead_letters": f"{topic}.dead",
    }
    return Contract(
        topic=topic, dedupe=dedupe, ordering=ordering or KeyOrder(), **{**parts, **rest}
    )


def decode(record: Record) -> Event | Violation | Ignored:
    """Codec of the tests: a JSON object with the parts of an event; no value is no fact."""
    if record.value is None:
        return Ignored("tombstone")
    parts = msgspec.json.decode(record.value)
    if "raise" in parts:
        raise KeyError(parts["raise"])
    key = (record.key or b"").strip(b"!")
    if "bad" in parts:
        return Violation("invalid", parts["bad"], key, parts.get("n"))
    return Event(
        id=str(parts["id"]),
        source="/shop",
        type=parts.get("type", "shop.order.placed"),
        key=key,
        data=record.value,
        content_type="application/json",
        subject=parts.get("subject"),
        time_ms=parts.get("time"),
        position=parts.get("n"),
        correlation_id=parts.get("correlation"),
        extensions=tuple((name, value or b"") for name, value in record.headers),
    )


def record(
    offset: int,
    key: bytes | None = b"k",
    *,
    topic: str = TOPIC,
    timestamp: int = NOW_MS,
    headers: Sequence[tuple[str, bytes | None]] = (),
    raw: bytes | None = None,
    **parts: Any,
) -> StoredRecord:
    """A record whose value holds ``parts``; the id defaults to the offset."""
    value = raw if raw is not None else msgspec.json.encode({"id": f"id-{offset}", **parts})
    return StoredRecord(topic, IDENTITY.partition, offset, timestamp, key, value, tuple(headers))


def numbered(offset: int, number: int, key: bytes = b"k", **parts: Any) -> StoredRecord:
    """A record of a numbered key."""
    return record(offset, key, n=number, **parts)


def operation(offset: int, **request: Any) -> StoredRecord:
    """A record of the control topic."""
    value = msgspec.json.encode(request)
    return StoredRecord(CONTROL, IDENTITY.partition, offset, NOW_MS, None, value)


@dataclass
class Bench:
    """One task; every step is committed unless said otherwise."""

    contracts: Sequence[Contract]
    decode: Callable[[Record], Event | Violation | Ignored] = decode
    budget: IdsBudget = field(default_factory=IdsBudget)
    state_log: Changelog = field(default_factory=lambda: Changelog(as_is))
    ids_log: Changelog = field(default_factory=lambda: Changelog(expand_ids))
    published: list[Publish] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open()
        assert not self.state_log.records

    def open(self) -> None:
        """Open a pipeline over what the changelogs say, as after a crash or on another worker."""
        self.state_rows = self.state_log.restored()
        self.ids_rows = self.ids_log.restored()
        self.state = Table(self.state_rows)
        self.ids = Table(self.ids_rows, expand_ids)
        sources: Mapping[str, Source] = {
            each.topic: Source(each, self.decode) for each in self.contracts
        }
        self.pipeline = Pipeline(IDENTITY, sources, self.state, self.ids, INTERNAL, self.budget)

    def step(
        self, *records: Record, now_ms: int = NOW_MS, caught_up_ms: int | None = None
    ) -> Effects:
        """Step without a commit; the records of a topic are one batch."""
        topics = dict.fromkeys(each.topic for each in records)
        batches = [
            Batch(topic, IDENTITY.partition, [each for each in records if each.topic == topic])
            for topic in topics
        ]
        return self.pipeline.step(batches, now_ms, now_ms if caught_up_ms is None else caught_up_ms)

    def commit(self, effects: Effects) -> Effects:
        self.state_log.commit(self.state, self.state_rows)
        self.ids_log.commit(self.ids, self.ids_rows)
        self.published += effects.publish
        self.accounts += effects.accounts
        return effects

    def feed(self, *records: Record, now_ms: int = NOW_MS) -> Effects:
        """Step and commit."""
        return self.commit(self.step(*records, now_ms=now_ms))

    def tick(self, now_ms: int, caught_up_ms: int | None = None) -> Effects:
        """Step without records, and commit."""
        return self.commit(self.step(now_ms=now_ms, caught_up_ms=caught_up_ms))

    def outputs(self) -> list[tuple[Any, ...]]:
        """All that was published but accounts, short: see :func:`short`."""
        return [short(each) for each in self.published if each.topic != INTERNAL.accounts]

    def fates(self, topic: str = TOPIC) -> dict[int, str]:
        """Last known fate of each offset; a held record settles at most once."""
        fates: dict[int, str] = {}
        for account in self.accounts:
            if account.topic != topic:
                continue
            for run in account.settled:
                for offset in range(run.offset, run.offset + run.length):
                    assert fates[offset] == Fate.HELD.value
                    fates[offset] = run.fate
            for run in account.runs:
                for offset in range(run.offset, run.offset + run.length):
                    assert offset not in fates
                    fates[offset] = run.fate
        return fates


def header(publish: Publish, name: str) -> str | None:
    """Text of a header, which occurs at most once."""
    values = [value for each, value in publish.headers if each == name]
    assert len(values) <= 1, f"{name} occurs {len(values)} times"
    return None if not values or values[0] is None else values[0].decode()


def short(publish: Publish) -> tuple[Any, ...]:
    """What a test compares of a record.

    ``("emit", offset)``, ``("late", offset)``, ``("dead", offset, reason)``,
    ``("gap", key, first, last, reason)`` or ``("done" | "refused", offset)``.
    """
    if publish.topic == INTERNAL.gaps:
        data = msgspec.json.decode(publish.value or b"")
        kind = (header(publish, "ce_type") or "").rpartition(".")[2]
        if kind != "skipped":
            return (kind, data["offset"])
        return ("gap", data["key"], data["first"], data["last"], data["reason"])
    if (reason := header(publish, "edo-reason")) is not None:
        return ("dead", int(header(publish, "edo-offset") or ""), reason)
    kind = "late" if header(publish, "ce_edolate") else "emit"
    return (kind, int((header(publish, "ce_edoposition") or "").rpartition("/")[2]))
