"""The waits of one flow in one task: their rows, timers, bounds and the fates of their events."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.asked import FAILED
from edo_stream.core.correlation.changes import Ending
from edo_stream.core.correlation.joined import Joined, decode_joined
from edo_stream.core.correlation.outlet import End, Inputs, JoinOutlet, Part
from edo_stream.core.correlation.rows import (
    FLOW,
    TIMER,
    EventRows,
    FlowRow,
    Head,
    HeldEvent,
    Phase,
    Stamp,
    WaitRow,
    decode_flow,
    encode_flow,
)
from edo_stream.core.correlation.spec import Batched, Clock, Correlation, Debounced, OnLate
from edo_stream.core.event import Violation
from edo_stream.core.ledger import Ledger
from edo_stream.core.state import RowCache, Table
from edo_stream.core.task import Step, TaskIdentity
from edo_stream.core.timers import Timers

_WAITING: Final = (Phase.EARLY, Phase.OPEN)


#: Fates by which nothing comes of an event, no command and no letter: what who asks is told.
_ENDED: Final = {
    Fate.STALE: ("stale", "another event came instead, or none of those that it waited for"),
    Fate.LATE: ("late", "its wait had ended before"),
    Fate.DROPPED: ("dropped", "an operator has ended its wait"),
}


class Settled(Protocol):
    """An event whose fate is final."""

    @property
    def offset(self) -> int:
        """Offset of its record."""

    @property
    def payload(self) -> bytes:
        """The event, encoded."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """An event of a flow, as it comes."""

    key: bytes
    joined: Joined
    payload: bytes
    """The event, encoded."""
    offset: int
    at_ms: int
    """Its time by the flow's clock."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SharedState:
    """State that all flows of a task share."""

    step: Step
    table: Table
    rows: RowCache[WaitRow]
    events: EventRows
    ledger: Ledger


class Waits:
    """What all kinds of correlation do with their rows."""

    def __init__(
        self, identity: TaskIdentity, correlation: Correlation, shared: SharedState, shape: int
    ) -> None:
        self.correlation = correlation
        self.shape = shape
        """How the flow holds its events."""
        self.outlet = JoinOutlet(identity, correlation, shared.ledger.topic, shared.step)
        self.events = shared.events
        self._prefix = correlation.flow.encode() + b"\0"
        self._step = shared.step
        self._table = shared.table
        self._rows = shared.rows
        self._ledger = shared.ledger
        self.timers = Timers(shared.table, TIMER + self._prefix)
        self.flow = FlowRow()
        self.told: list[Ending] | None = None
        """Ends are noted here while somebody looks."""
        self._is_flow_changed = False
        self._touch_ms = correlation.remember_ms // 16
        self.idle_ms = correlation.remember_ms + self._touch_ms
        """For so long nothing is heard of a key before it is forgotten."""

    def restore(self) -> None:
        """Read anew what is kept in memory."""
        value = self._table.get(FLOW + self.correlation.flow.encode())
        self.flow = FlowRow() if value is None else decode_flow(value)
        self.told = None
        # Where nothing waits, nothing waits otherwise.
        self._is_flow_changed = bool(self.flow.held and not self.flow.shape)
        if not (self.flow.held and self.flow.shape):
            self.flow.shape = self.shape
        self.timers.restore()

    def flush(self) -> None:
        """Write what has changed; the last act of a step."""
        self.timers.flush()
        if self._is_flow_changed:
            self.flow.is_owed = isinstance(self.correlation.kind, Debounced | Batched)
            self._table.write(FLOW + self.correlation.flow.encode(), encode_flow(self.flow))
            self._is_flow_changed = False

    def note_changed(self) -> None:
        """Write the flow's own row with the step: its counts have changed."""
        self._is_flow_changed = True

    def name(self, key: bytes) -> bytes:
        """Name of a key's row."""
        return self._prefix + key

    def oldest_ms(self) -> int | None:
        """Since when the wait is open whose deadline is the next; call between steps."""
        if self.timers.next_due_ms is None:
            return None
        ((_, key),) = self.timers.due(self.timers.next_due_ms, 1)
        row = self._rows.get(self.name(key))
        return None if row is None else row.opened_ms

    def time_of(self, timestamp_ms: int, joined: Joined) -> int:
        """Time of an event by the flow's clock; never in the future."""
        at_ms = timestamp_ms
        if self.correlation.clock is Clock.EVENT and joined.time_ms is not None:
            at_ms = joined.time_ms
        return max(0, min(at_ms, self._step.now_ms))

    def find(self, key: bytes) -> WaitRow | None:
        """The row of a key that is known; do not change it without :meth:`put`."""
        row = self._rows.get(self.name(key))
        return None if row is None or self.is_idle(row) else row

    def stored(self, key: bytes) -> WaitRow | None:
        """The row of a key, even if it is as good as forgotten."""
        return self._rows.get(self.name(key))

    def keep(self, key: bytes, row: WaitRow) -> None:
        """Keep a row of which nothing has changed but what is told of it."""
        self._rows.put(self.name(key), row)

    def get(self, key: bytes, offset: int) -> WaitRow:
        """The row of a key; a new one, born at the offset, where there is none."""
        return self.find(key) or WaitRow(offset)

    def is_idle(self, row: WaitRow | Stamp) -> bool:
        """Whether nothing waits, and nothing was heard for so long that the key is forgotten."""
        is_waiting = row.phase in _WAITING
        return not is_waiting and self._step.row.stream_ms - row.touched_ms > self.idle_ms

    def is_foreign(self, row: WaitRow) -> bool:
        """Whether a row's events are held as the flow was declared before, and is not now."""
        return (row.shape or self.flow.shape) != self.shape

    def put(self, key: bytes, row: WaitRow) -> None:
        """Keep a row that was changed."""
        row.touched_ms = self._step.row.stream_ms
        row.shape = 0 if self.flow.shape == self.shape else self.shape
        self._rows.put(self.name(key), row)

    def put_or_forget(self, key: bytes, row: WaitRow) -> None:
        """Keep a row that was changed, unless nothing has come of its key yet."""
        if row.phase == Phase.RESTING and not row.run and not row.ended:
            self._rows.delete(self.name(key))
        else:
            self.put(key, row)

    def turn_away(self, row: WaitRow, arrival: Arrival, inputs: dict[str, Any]) -> None:
        """Do with a late event what the flow says; ``inputs`` is the event as a result shows it."""
        key, joined = arrival.key, arrival.joined
        self.note_late(key, row)
        match self.correlation.late:
            case OnLate.APPEND if arrival.size_bytes > self.outlet.late_bytes_max:
                most = self.outlet.late_bytes_max
                detail = f"late: an event that is appended has at most {most} bytes as results "
                detail += f"have it, found {arrival.size_bytes}"
                self.refuse(arrival, Violation("too-large", detail))
            case OnLate.APPEND:
                # Its number is part of the id, and so of the state.
                row.late += 1
                self.put(key, row)
                end = End("late", joined.input, joined)
                part = Part(joined.input, joined, arrival.offset)
                self.outlet.fire(key, row, end, [part], {"inputs": inputs})
                self._ledger.mark(arrival.offset, Fate.EMITTED)
            case OnLate.DEAD_LETTER:
                self.refuse(arrival, Violation("late", f"its wait had ended before: {row.ended}"))
            case _:
                self.settle(arrival, Fate.LATE)

    def note_late(self, key: bytes, row: WaitRow) -> None:
        """Count a late event; its key's row is written now and then, so that it stays known."""
        self.flow.late += 1
        self._note(Ending("late", "", row.run))
        self._is_flow_changed = True
        if self._step.row.stream_ms - row.touched_ms > self._touch_ms:
            self.put(key, row)

    def turn(self, row: WaitRow, phase: Phase) -> None:
        """Change the phase of a wait, and count the waits that are open."""
        was, row.phase = row.phase in _WAITING, phase
        if was != (phase in _WAITING):
            self.flow.open += -1 if was else 1
            self._is_flow_changed = True

    def arm(self, key: bytes, row: WaitRow, due_ms: int | None) -> None:
        """Set the timer of a wait, or clear it."""
        if due_ms != row.due_ms:
            if row.due_ms is not None:
                self.timers.clear(row.due_ms, key)
            if due_ms is not None:
                self.timers.set(due_ms, key)
            row.due_ms = due_ms

    def rest(self, key: bytes, row: WaitRow) -> None:
        """Nothing waits any more; the next event opens the next wait."""
        self.turn(row, Phase.RESTING)
        self.arm(key, row, None)
        row.until_ms = None
        row.opened_ms = 0

    def note_timed_out(self) -> None:
        """Count a wait whose deadline has passed."""
        self.flow.timed_out += 1
        self._is_flow_changed = True

    def refusal(
        self, row: WaitRow, size_bytes: int, freed_bytes: int | None = None
    ) -> Violation | None:
        """Why an event cannot wait, if so: a bound is reached.

        ``freed_bytes`` is the size of the event that it replaces; ``None``: it is one more.
        """
        bounds = self.correlation.bounds
        if (refusal := self.refusal_of_wait(row)) is not None:
            return refusal
        if freed_bytes is None and row.held >= bounds.events_max:
            return Violation("correlation-full", f"{bounds.events_max} events wait for its key")
        if row.size_bytes + size_bytes - (freed_bytes or 0) > bounds.bytes_max:
            detail = f"the events of its key would have more than {bounds.bytes_max} bytes"
            return Violation("correlation-full", detail)
        return None

    def refusal_of_wait(self, row: WaitRow) -> Violation | None:
        """Why a key cannot wait, if so: as many wait as may."""
        open_max = self.correlation.bounds.open_max
        if row.phase not in _WAITING and self.flow.open >= open_max:
            return Violation("correlations-full", f"{open_max} waits of the flow are open")
        return None

    def add_head(self, row: WaitRow, arrival: Arrival) -> None:
        """Hold an event in the wait's own row."""
        row.heads.append(self.held(row, arrival))

    def postpone(self, row: WaitRow, arrival: Arrival) -> None:
        """Hold an event until the wait has ended."""
        row.postponed.append(self.held(row, arrival))

    def take_postponed(self, key: bytes, row: WaitRow) -> list[Arrival]:
        """Events that were held until the wait has ended, in the order of their times."""
        heads, row.postponed = sorted(row.postponed, key=place_of), []
        for head in heads:
            self.forget(row, head.size_bytes)
        return arrivals_of(key, heads)

    def held(self, row: WaitRow, arrival: Arrival) -> Head:
        """An event that is held from now on; where in the wait's row, the caller says."""
        self._note_held(row, arrival)
        return Head(
            arrival.joined.input,
            arrival.at_ms,
            arrival.offset,
            arrival.size_bytes,
            arrival.payload,
        )

    def drop_head(self, row: WaitRow, head: Head, fate: Fate, reason: str = "") -> None:
        """Let go of an event; its fate is final."""
        row.heads.remove(head)
        self.forget(row, head.size_bytes)
        self.settle(head, fate, reason)

    def add_event(self, key: bytes, row: WaitRow, place: bytes, arrival: Arrival) -> None:
        """Hold an event in a row of its own."""
        event = HeldEvent(arrival.at_ms, arrival.offset, arrival.size_bytes, arrival.payload)
        self.events.hold(self.name(key), place, event)
        self._note_held(row, arrival)

    def _note_held(self, row: WaitRow, arrival: Arrival) -> None:
        row.held += 1
        row.size_bytes += arrival.size_bytes
        self.flow.held += 1
        self._is_flow_changed = True
        self._ledger.mark(arrival.offset, Fate.HELD)

    def forget(self, row: WaitRow, size_bytes: int) -> None:
        """Take an event off the wait's sums."""
        row.held -= 1
        row.size_bytes -= size_bytes
        self.flow.held -= 1
        self._is_flow_changed = True

    def take_all(self, key: bytes, row: WaitRow) -> list[Head]:
        """All that is held of a key, wherever a flow's declaration has had it kept, as read."""
        heads = [head_of(event) for _, event in self.events.take_all(self.name(key))]
        heads += [*row.heads, *row.postponed, *(burst.last for burst in row.bursts)]
        row.heads, row.postponed, row.bursts = [], [], []
        row.counted, row.expect, row.members = 0, None, None
        return sorted(heads, key=lambda head: head.offset)

    def settle(self, event: Settled, fate: Fate, reason: str = "") -> None:
        """Note the final fate of an event; who asks is told by whatever it went into, or here."""
        self._ledger.mark(event.offset, fate)
        if self.correlation.replies is not None and fate in _ENDED:
            word, detail = _ENDED[fate]
            joined = joined_of(event.payload)
            self.outlet.answer(joined, FAILED, "business", reason or word, detail)

    def refuse(self, arrival: Arrival, why: Violation) -> None:
        """Dead-letter an event that comes."""
        self.outlet.dead_letter(arrival.key, arrival.offset, arrival.joined, why)
        self._ledger.mark(arrival.offset, Fate.DEAD_LETTERED)
        self._note(Ending("refused", why.reason))
        if why.reason.endswith("-full"):
            self.flow.refused += 1
            self._is_flow_changed = True

    def bury(self, key: bytes, offset: int, joined: Joined, why: Violation) -> None:
        """Dead-letter an event that was held."""
        self.outlet.dead_letter(key, offset, joined, why)
        self._ledger.mark(offset, Fate.DEAD_LETTERED)

    def fire(
        self, key: bytes, row: WaitRow, end: End, inputs: Inputs, extra: dict[str, Any]
    ) -> None:
        """Publish a firing, and count it."""
        row.run += 1
        self.outlet.fire(key, row, end, inputs, extra)
        self.flow.fired += 1
        self._is_flow_changed = True
        self.note_end(row, end)

    def fire_command(
        self, key: bytes, row: WaitRow, end: End, inputs: Inputs, extra: dict[str, Any]
    ) -> Violation | None:
        """Publish a command of what a key has gathered, or say why there is none; count it."""
        row.run += 1
        why = self.outlet.command(key, row, end, inputs, extra)
        self.flow.fired += why is None
        self._is_flow_changed = True
        self.note_end(row, end)
        return why

    def note_end(self, row: WaitRow, end: End) -> None:
        """Remember how the wait ended."""
        row.ended = end.reason
        row.ended_ms = self._step.now_ms
        row.completed_by = end.completed_by
        self._note(Ending(end.reason, end.completed_by, row.run))

    def _note(self, ending: Ending) -> None:
        if self.told is not None:
            self.told.append(ending)


def arrivals_of(key: bytes, heads: Iterable[Head]) -> list[Arrival]:
    """Events that were held, as they came."""
    return [
        Arrival(
            key, joined_of(head.payload), head.payload, head.offset, head.at_ms, head.size_bytes
        )
        for head in heads
    ]


def place_of(head: Head) -> tuple[int, int]:
    """What orders events: their times, and where they were read."""
    return head.at_ms, head.offset


def head_of(event: HeldEvent) -> Head:
    """An event of a row of its own, as one in the wait's row."""
    name = joined_of(event.payload).input
    return Head(name, event.at_ms, event.offset, event.size_bytes, event.payload)


def joined_of(payload: bytes) -> Joined:
    """An event that rests in the state."""
    joined = decode_joined(payload)
    assert isinstance(joined, Joined), "it was decoded before it was held"
    return joined
