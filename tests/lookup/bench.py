"""A task that looks up, on a bench: fed and read by short calls, crashed and restored at will."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from edo_stream.core.accounts import Account
from edo_stream.core.correlation.feed import ValueOf
from edo_stream.core.effects import Effects, Publish
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts
from edo_stream.core.lookup.global_table import GlobalTable
from edo_stream.core.lookup.path import Path
from edo_stream.core.lookup.pipeline import LookupPipeline
from edo_stream.core.lookup.spec import Enrichment, Lookup, LookupSpec, OnMissing
from edo_stream.core.record import Batch, Record, StoredRecord
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.trigger import FlowTrigger
from tests.core.bench import contract, decode
from tests.core.memory import Changelog, Memory

EVENTS, TABLE, CONTROL = "edo.lookups-1", "shop.customer.profile", "edo.control.lookups-1"
COMMANDS, LETTERS, OUTCOMES = "edo.commands.f", "edo.dead-letters.f", "edo.outcomes.f"
INTERNAL = InternalTopics("edo.accounts", 1, "edo.gaps", 1, CONTROL)
IDENTITY = TaskIdentity("app", "lookups-1", 0)
NOW_MS = 1_700_000_000_000
WAIT_MS = 1_000


def made(facts: Facts) -> bytes:
    """The data of a command: the event's number and its row."""
    whole = facts.whole
    row = whole["lookup"]["row"]
    return msgspec.json.encode([whole["data"]["n"], None if row is None else row["data"]])


def lookup(**rest: Any) -> Lookup:
    """A lookup with the values that a test does not care about."""
    parts: dict[str, Any] = {"wait_ms": WAIT_MS, "missing": OnMissing.NULL}
    return Lookup("row", TABLE, EVENTS, 1, ValueOf("/k"), **{**parts, **rest})


@dataclass
class Bench:
    """One task; every step is committed unless said otherwise."""

    lookup: Lookup = field(default_factory=lookup)
    waiting_max: int = 100_000
    log: Changelog = field(default_factory=lambda: Changelog(as_is))
    published: list[Publish] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)

    def __post_init__(self) -> None:
        trigger = FlowTrigger("f", COMMANDS, LETTERS, 1, make=made)
        self.enrichment = Enrichment(
            trigger, OUTCOMES, (self.lookup,), contract(), self.waiting_max
        )
        self.spec = LookupSpec(
            EVENTS, 1, "edo.dead-letters.lookups-1", {TABLE: decode}, {"f": self.enrichment}
        )
        self.path = Path(IDENTITY, "shop.order.placed", 0, self.enrichment)
        self.offsets = {EVENTS: 0, TABLE: 0, CONTROL: 0}
        self.global_rows = Memory()
        self.global_table = GlobalTable(self.global_rows, decode)
        self.open()

    def open(self) -> None:
        """Open a pipeline over what the changelog says, as after a crash or on another worker."""
        self.rows = self.log.restored()
        self.state = Table(self.rows)
        self.pipeline = LookupPipeline(IDENTITY, self.spec, self.state, INTERNAL)
        self.pipeline.share({TABLE: self.global_table.get})

    def event(self, number: int, key: str, at_ms: int) -> Record:
        """The record by which an event comes."""
        data = msgspec.json.encode({"n": number, "k": key})
        event = Event(f"e{number}", "/shop", "order.placed", b"o", data)
        own = StoredRecord("shop.order.placed", 0, number, at_ms, b"o", None)
        (hop,) = self.path.commands(own, event, at_ms)
        return self._record(hop.topic, at_ms, hop.key or b"", hop.value)

    def row(self, key: str, value: Any, at_ms: int = NOW_MS) -> Record:
        """A record of the table; ``None`` deletes the row."""
        data = None
        if value is not None:
            data = msgspec.json.encode({"id": "r", "data": value})
        return self._record(TABLE, at_ms, key.encode(), data)

    def arrive(self, *rows: Record) -> None:
        """Have records of a global table be read, and told."""
        positions = {row.partition: row.offset + 1 for row in rows}
        changes, arrived = self.global_table.changes(rows, positions)
        self.global_rows.write(changes)
        self.pipeline.tell(TABLE, arrived)

    def request(self, op: str, key: str) -> Record:
        """An operator's request."""
        value = msgspec.json.encode({"op": op, "flow": "f", "key": key})
        return self._record(CONTROL, NOW_MS, key.encode(), value)

    def _record(self, topic: str, at_ms: int, key: bytes, value: bytes | None) -> Record:
        offset = self.offsets[topic]
        self.offsets[topic] += 1
        return StoredRecord(topic, 0, offset, at_ms, key, value)

    def step(self, *records: Record, now_ms: int = NOW_MS, caught_up_ms: int = 0) -> Effects:
        """Step without a commit, and unless told otherwise without timers."""
        batches = [Batch(record.topic, 0, [record]) for record in records]
        return self.pipeline.step(batches, now_ms, caught_up_ms)

    def commit(self, effects: Effects) -> Effects:
        self.log.commit(self.state, self.rows)
        self.published += effects.publish
        self.accounts += effects.accounts
        return effects

    def feed(self, *records: Record, now_ms: int = NOW_MS) -> Effects:
        """Step with records only, and commit."""
        return self.commit(self.step(*records, now_ms=now_ms))

    def tick(self, now_ms: int) -> None:
        """Fire all that is due, step by step."""
        while (due_ms := self.pipeline.next_due_ms()) is not None and due_ms <= now_ms:
            self.commit(self.step(now_ms=now_ms, caught_up_ms=now_ms))

    def ends(self) -> list[tuple[str, Any]]:
        """What became of events, in order: a command's data, or which event went where."""
        found: list[tuple[str, Any]] = []
        for one in self.published:
            data = None if one.value is None else msgspec.json.decode(one.value)
            headers = dict(one.headers)
            if one.topic == COMMANDS:
                found.append(("command", tuple(data)))
            elif one.topic == LETTERS:
                reason = (headers["edo-reason"] or b"").decode()
                found.append((reason, data["n"]))
            elif one.topic == OUTCOMES:
                cause = (headers["ce_causationid"] or b"").decode()
                found.append(("unmatched", int(cause[1:])))
        return found

    def fates(self, topic: str = EVENTS) -> dict[int, str]:
        """Last known fate of each offset; a held event settles at most once."""
        fates: dict[int, str] = {}
        for account in self.accounts:
            if account.topic != topic:
                continue
            for run in account.settled:
                for offset in range(run.offset, run.offset + run.length):
                    assert fates[offset] == "h", f"{offset} ended as {fates[offset]} before"
                    fates[offset] = run.fate
            for run in account.runs:
                for offset in range(run.offset, run.offset + run.length):
                    assert offset not in fates
                    fates[offset] = run.fate
        return fates
