"""One lookup of one flow in one task: events find their row, or wait for it in their order.

Theory of operation. An event whose row is there goes on at once. One whose row is not waits in the
queue of its key, and whatever comes of the key later waits behind it. A row that comes lets the
whole queue go; what is more than one step's worth goes in the next ones, before anything else is
read: all go on with the row that has come. A deadline lets the head go without: it is due only when
the task has read all that was written before (:mod:`edo_stream.engine.task`), so what is missing
then is not there, wherever the reading of the table had been. A lookup that does not wait is one
whose deadline is at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.rows import (
    FLOW,
    NUMBER,
    EventRows,
    FlowRow,
    HeldEvent,
    decode_flow,
    encode_flow,
)
from edo_stream.core.effects import Publish
from edo_stream.core.ledger import Ledger
from edo_stream.core.lookup.path import NULL, Path, Seeker, decode_seeker, with_way_back
from edo_stream.core.lookup.rows import Leave, QueueName, QueueRow, parse_queue, row_of
from edo_stream.core.lookup.spec import Enrichment, OnMissing
from edo_stream.core.record import Record
from edo_stream.core.state import RowCache, Table
from edo_stream.core.task import Step, TaskIdentity
from edo_stream.core.timers import Timers

Find = Callable[[bytes], bytes | None]
"""The row of a key, as JSON."""
AT_ONCE: Final = 0
"""When the timer of a queue is due that has more events to let go than a step takes."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """State that all lookups of a task share."""

    identity: TaskIdentity
    step: Step
    table: Table
    queues: RowCache[QueueRow]
    events: EventRows
    timers: Timers
    ledger: Ledger
    global_tables: dict[str, Find] = field(default_factory=dict)
    """Tables that the whole worker shares, by name."""


class FlowOfTask:
    """One flow: its counters, and its paths by where its events come from."""

    def __init__(self, enrichment: Enrichment, shared: SharedState) -> None:
        self.enrichment = enrichment
        self.row = FlowRow()
        self._shared = shared
        self._is_changed = False
        self._paths: dict[tuple[str, int], Path] = {}

    def restore(self) -> None:
        """Read anew what is kept in memory."""
        value = self._shared.table.get(FLOW + self.enrichment.trigger.flow.encode())
        self.row = FlowRow() if value is None else decode_flow(value)
        self._is_changed = False

    def flush(self) -> None:
        """Write what has changed; the last act of a step."""
        if self._is_changed:
            name = FLOW + self.enrichment.trigger.flow.encode()
            self._shared.table.write(name, encode_flow(self.row))
            self._is_changed = False

    def note(self, **more: int) -> None:
        """Count what has happened."""
        for name, count in more.items():
            setattr(self.row, name, getattr(self.row, name) + count)
        self._is_changed = True

    def path(self, seeker: Seeker) -> Path:
        """The way of events from where one comes from."""
        place = (seeker.topic, seeker.partition)
        if place not in self._paths:
            self._paths[place] = Path(self._shared.identity, *place, self.enrichment)
        return self._paths[place]


class Queue:
    """See the module's docstring."""

    def __init__(self, flow: FlowOfTask, stage: int, shared: SharedState) -> None:
        self._flow = flow
        self._stage = stage
        self._lookup = flow.enrichment.lookups[stage]
        self._shared = shared
        self.table = self._lookup.table
        self.is_global = self._lookup.is_global

    def place(self, record: Record, seeker: Seeker) -> None:
        """Let an event go on with its row, or wait."""
        key, shared = record.key or b"", self._shared
        name = self._name(key)
        queue = shared.queues.get(name)
        if queue is None:
            row = self._row(key)
            if row is not None:
                self._go_on(seeker, record.offset, row)
                return
        refusal = self._refusal(queue)
        if refusal is not None:
            self._flow.note(refused=1)
            self._give_up(seeker, record.offset, "lookup-full", refusal)
            return
        if queue is None:
            queue = QueueRow(since_ms=record.timestamp)
            self._flow.note(open=1)
        # Never before one that came earlier: they leave in their order.
        due_ms = max(record.timestamp + self._lookup.wait_ms, queue.last_due_ms, AT_ONCE + 1)
        if not queue.held:
            queue.due_ms = due_ms
            shared.timers.set(due_ms, name)
        queue.last_due_ms = due_ms
        value = record.value or b""
        held = HeldEvent(due_ms, record.offset, len(value), value)
        shared.events.hold(name, NUMBER.pack(queue.next), held)
        queue.next += 1
        shared.queues.put(name, queue)
        self._flow.note(held=1)
        shared.ledger.mark(record.offset, Fate.HELD)

    @property
    def waits(self) -> bool:
        """Whether any event of the flow waits in the task."""
        return self._flow.row.held > 0

    def look(self, key: bytes) -> None:
        """Let all that waits for a key go on if its row is there."""
        is_queue = self.waits and self._shared.queues.get(self._name(key)) is not None
        if is_queue and self._row(key) is not None:
            self.release(key)

    def release(self, key: bytes) -> None:
        """Let all that waits for a row go on with it: it is there."""
        name = self._name(key)
        queue = self._shared.queues.get(name) if self._flow.row.held else None
        if queue is not None:
            self._let_go(name, queue, Leave.WITH_ROW)

    def expire(self, key: bytes, limit_ms: int) -> None:
        """Do what the timer of a queue is due for: let events go on.

        They are those that have begun to, or else those whose time is over: all of them with their
        row if it is there after all, else these as the flow says.
        """
        name = self._name(key)
        queue = self._shared.queues.get(name)
        assert queue is not None, f"timer of {name!r} without its queue"
        is_there = self._row(key) is not None
        if queue.leaving and (is_there or queue.leave != Leave.WITH_ROW):
            self._take_leaving(name, queue)
        elif is_there:
            # It came while the flow was not declared, or the task has not got to it yet.
            self._let_go(name, queue, Leave.WITH_ROW)
        else:
            queue.leaving = 0
            self._time_out(name, queue, limit_ms)

    def let_go(self, key: bytes, is_forced: bool) -> bool:
        """Do what an operator wants with all that waits for a key; false: nothing does."""
        name = self._name(key)
        queue = self._shared.queues.get(name)
        if queue is None:
            return False
        self._let_go(name, queue, Leave.WITH_NULL if is_forced else Leave.WITHOUT_ROW)
        return True

    def _name(self, key: bytes) -> bytes:
        return QueueName(self._flow.enrichment.trigger.flow, self._lookup.name, key).text()

    def _refusal(self, queue: QueueRow | None) -> str | None:
        """Why an event cannot wait, if so: a bound is reached."""
        most = self._flow.enrichment.waiting_max
        if self._flow.row.held >= most:
            return f"lookup.{self._lookup.name}: {most} events of the flow wait"
        most = self._lookup.per_key_max
        if queue is not None and queue.held >= most:
            return f"lookup.{self._lookup.name}: {most} events wait for its key"
        return None

    def _row(self, key: bytes) -> bytes | None:
        if self.is_global:
            return self._shared.global_tables[self.table](key)
        return self._shared.table.get(row_of(self.table, key))

    def _let_go(self, name: bytes, queue: QueueRow, leave: Leave) -> None:
        """Let all that is in a queue now go on."""
        queue.leaving, queue.leave = queue.held, leave
        self._take_leaving(name, queue)

    def _take_leaving(self, name: bytes, queue: QueueRow) -> None:
        """Let events go on that are to, as many as the step takes."""
        step, was_held = self._shared.step, queue.held
        row = self._row(parse_queue(name).key) if queue.leave == Leave.WITH_ROW else NULL
        assert row is not None, f"the row that the events of {name!r} go on with is there"
        while queue.leaving and not step.is_full:
            seeker, event = self._take(name, queue)
            queue.leaving -= 1
            if queue.leave == Leave.WITHOUT_ROW:
                self._miss(seeker, event.offset)
            else:
                self._go_on(seeker, event.offset, row)
        self._keep(name, queue, was_held)

    def _time_out(self, name: bytes, queue: QueueRow, limit_ms: int) -> None:
        """Let the events whose time is over go on without their row, as many as the step takes."""
        step, was_held = self._shared.step, queue.held
        while queue.held and self._head(name, queue).at_ms <= limit_ms and not step.is_full:
            seeker, event = self._take(name, queue)
            self._miss(seeker, event.offset)
        self._flow.note(timed_out=was_held - queue.held)
        self._keep(name, queue, was_held)

    def _head(self, name: bytes, queue: QueueRow) -> HeldEvent:
        event = self._shared.events.get(name, NUMBER.pack(queue.first))
        assert event is not None, f"event {queue.first} of {name!r} is there"
        return event

    def _take(self, name: bytes, queue: QueueRow) -> tuple[Seeker, HeldEvent]:
        """Take the first event off a queue."""
        event = self._head(name, queue)
        self._shared.events.release(name, NUMBER.pack(queue.first))
        self._shared.step.taken += 1
        queue.first += 1
        seeker = decode_seeker(event.payload)
        assert isinstance(seeker, Seeker), "it was decoded before it was held"
        return seeker, event

    def _keep(self, name: bytes, queue: QueueRow, was_held: int) -> None:
        """Keep what is left of a queue, and set its timer anew."""
        shared = self._shared
        self._flow.note(held=queue.held - was_held)
        shared.timers.clear(queue.due_ms, name)
        if not queue.held:
            shared.queues.delete(name)
            self._flow.note(open=-1)
            return
        queue.due_ms = AT_ONCE if queue.leaving else self._head(name, queue).at_ms
        shared.timers.set(queue.due_ms, name)
        shared.queues.put(name, queue)

    def _go_on(self, seeker: Seeker, offset: int, row: bytes) -> None:
        """Bring an event to its next lookup, or to its commands."""
        path = self._flow.path(seeker)
        found = {**seeker.found, self._lookup.name: row}
        seen = (seeker.record(), seeker.event())
        now_ms = self._shared.step.now_ms
        written = path.onward(self._stage + 1, seen, found, now_ms, redrive=seeker.redrive)
        letters = self._flow.enrichment.trigger.dead_letters
        if any(one.topic == letters for one in written):
            self._write_letter(seeker, offset, written)
        else:
            self._write(offset, Fate.EMITTED, *written)
        self._flow.note(fired=1)

    def _miss(self, seeker: Seeker, offset: int) -> None:
        """Do with an event what the flow says of one without its row."""
        lookup = self._lookup
        if lookup.missing is OnMissing.NULL:
            self._go_on(seeker, offset, NULL)
            return
        detail = f"lookup.{lookup.name}: {lookup.table} has no row of the event's key"
        if lookup.wait_ms:
            detail += f" within {lookup.wait_ms} ms"
        if lookup.missing is OnMissing.DEAD_LETTER:
            self._give_up(seeker, offset, "no-row", detail)
            return
        path = self._flow.path(seeker)
        data = msgspec.json.encode({"lookup": lookup.name, "topic": lookup.table, "detail": detail})
        record, event, now_ms = seeker.record(), seeker.event(), self._shared.step.now_ms
        outcomes = self._flow.enrichment.outcomes
        told = path.trigger.outcome(record, event, now_ms, "unmatched", outcomes, data)
        self._write(offset, Fate.FAILED, *path.trigger.answered(told, "unmatched"))

    def _give_up(self, seeker: Seeker, offset: int, reason: str, detail: str) -> None:
        path = self._flow.path(seeker)
        now_ms = self._shared.step.now_ms
        letter = path.letter(seeker.record(), seeker.event(), now_ms, reason, detail)
        self._write_letter(seeker, offset, path.answered(letter))

    def _write_letter(self, seeker: Seeker, offset: int, written: Sequence[Publish]) -> None:
        """Write a dead letter, and what goes with it, so that it can be sent again."""
        trigger = self._flow.enrichment.trigger
        back = [
            with_way_back(one, seeker, trigger.bytes_max)
            if one.topic == trigger.dead_letters
            else one
            for one in written
        ]
        self._write(offset, Fate.DEAD_LETTERED, *back)

    def _write(self, offset: int, fate: Fate, *written: Publish) -> None:
        self._shared.step.publish += written
        self._shared.ledger.mark(offset, fate)
