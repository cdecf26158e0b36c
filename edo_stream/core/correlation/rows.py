"""What rests in the state of a task that correlates: rows of waits, held events and flows.

| Prefix | Key | Row |
|---|---|---|
| ``w`` | the wait's name | :class:`WaitRow` |
| ``e`` | length and text of the name, then what orders the events | :class:`HeldEvent` |
| ``f`` | the flow | :class:`FlowRow` |
| ``t`` | the flow, a zero, when it is due, the correlation key | a timer |

A wait's name is its flow, a zero, and its correlation key. Kinds that hold few events keep them in
the wait's own row (*heads*), so that a wait of two events is one row; kinds that hold many keep
each in a row of its own.
"""

from collections.abc import Container, Iterator
from enum import IntEnum
from struct import Struct
from typing import Final

import msgspec

from edo_stream.core.state import Table

WAIT: Final = b"w"
EVENT: Final = b"e"
FLOW: Final = b"f"
TIMER: Final = b"t"

_LENGTH: Final = Struct(">I")
NUMBER: Final = Struct(">Q")


class Phase(IntEnum):
    """Where a key stands."""

    RESTING = 0
    """It was heard of; nothing waits."""
    EARLY = 1
    """What does not open a wait has come before what does."""
    OPEN = 2
    OVER = 3
    """What comes now is late."""


class Head(msgspec.Struct, array_like=True, frozen=True):
    """An event in its wait's own row."""

    input: str
    at_ms: int
    """Time by the flow's clock."""
    offset: int
    size_bytes: int
    payload: bytes
    """A :class:`~.joined.Joined`, encoded."""


class HeldEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event in a row of its own."""

    at_ms: int
    offset: int
    size_bytes: int
    payload: bytes


class Burst(msgspec.Struct, array_like=True, frozen=True):
    """Events of a key that came without a pause; the last of them is held, by its time."""

    first_ms: int
    count: int
    ids: tuple[str, ...]
    """Of the latest of them, in the order of their reading."""
    last: Head


class WaitRow(msgspec.Struct, array_like=True):
    """One key of one flow; fields are only ever appended."""

    born: int
    """Offset of the record by which the row came to be."""
    touched_ms: int = 0
    """Stream time of the last change."""
    phase: int = Phase.RESTING
    run: int = 0
    """Firings of the key."""
    opened_ms: int = 0
    """Time of the event that opened the wait, by the flow's clock."""
    until_ms: int | None = None
    """Deadline, by the flow's clock."""
    due_ms: int | None = None
    """When its timer is due."""
    heads: list[Head] = msgspec.field(default_factory=list)
    held: int = 0
    """Events held, heads or rows; a manifest is none of them."""
    size_bytes: int = 0
    counted: int = 0
    """Of them, those that count towards what is expected."""
    expect: int | None = None
    """How many are needed, where a manifest says it."""
    members: tuple[str, ...] | None = None
    """Which are needed, where a manifest says it."""
    ended: str = ""
    """How the last wait ended."""
    ended_ms: int = 0
    completed_by: str = ""
    late: int = 0
    """Events that came after the end and were appended."""
    settled_ms: int = 0
    """Windows that end here or before have fired."""
    first_ms: int = 0
    """Time of the earliest event that waits for a window."""
    postponed: list[Head] = msgspec.field(default_factory=list)
    """Events that are none of this wait, read before it has ended."""
    bursts: list[Burst] = msgspec.field(default_factory=list)
    """What waits until its key is quiet, the earliest first."""
    changes: int = 0
    """What was told of the key, where its flow has a history."""
    shape: int = 0
    """How its events are held; 0: as the flow's row says."""


class Stamp(msgspec.Struct, array_like=True):
    """The beginning of a :class:`WaitRow`, which says whether it is forgotten."""

    born: int
    touched_ms: int
    phase: int


class FlowRow(msgspec.Struct, array_like=True):
    """One flow in one task; fields are only ever appended. All but the first two only grow."""

    open: int = 0
    """Waits in which something waits."""
    held: int = 0
    """Events that wait."""
    fired: int = 0
    timed_out: int = 0
    late: int = 0
    refused: int = 0
    """Events that found a bound reached."""
    is_owed: bool = False
    """Whether each event that waits is to be in a command, whatever else comes."""
    shape: int = 0
    """How the events of rows are held that do not say it."""


encode_wait: Final = msgspec.msgpack.Encoder().encode
decode_wait: Final = msgspec.msgpack.Decoder(WaitRow).decode
decode_stamp: Final = msgspec.msgpack.Decoder(Stamp).decode
encode_flow: Final = msgspec.msgpack.Encoder().encode
decode_flow: Final = msgspec.msgpack.Decoder(FlowRow).decode
_encode_event: Final = msgspec.msgpack.Encoder().encode
decode_event: Final = msgspec.msgpack.Decoder(HeldEvent).decode


def not_declared(state: Table, flows: Container[str]) -> dict[str, FlowRow]:
    """Flows that are not among these, and for which events wait."""
    found = {
        key[len(FLOW) :].decode(): decode_flow(value)
        for key, value in state.scan(FLOW, bytes([FLOW[0] + 1]))
    }
    return {flow: row for flow, row in found.items() if row.held and flow not in flows}


def stranded(state: Table, flows: Container[str]) -> dict[str, int]:
    """How many events wait to be in commands of flows that are not among these, by flow."""
    return {flow: row.held for flow, row in not_declared(state, flows).items() if row.is_owed}


def events_of(name: bytes) -> bytes:
    """What the rows of a wait's events begin with."""
    return EVENT + _LENGTH.pack(len(name)) + name


def parse_event_key(row: bytes) -> tuple[bytes, bytes]:
    """A wait's name, and what orders the event in it."""
    start = 1 + _LENGTH.size
    end = start + int(_LENGTH.unpack_from(row, 1)[0])
    return row[start:end], row[end:]


def scan_events(state: Table, name: bytes, after: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Rows of a wait's events behind a place, in order: what orders each, and the row."""
    start = events_of(name)
    first = start + after + b"\0" if after else start
    return ((row[len(start) :], value) for row, value in state.scan(first, _after(start)))


#: By place: the event that was there before, and the one that is there now.
Journal = dict[bytes, tuple[HeldEvent | None, HeldEvent | None]]


class EventRows:
    """Events in rows of their own; one that is held and released within a step leaves no trace."""

    def __init__(self, state: Table) -> None:
        self.journal: Journal | None = None
        """What changes is noted here, of the one wait that is looked at; ``None``: of none."""
        self._state = state
        self._fresh: dict[bytes, dict[bytes, HeldEvent]] = {}
        self._released: dict[bytes, None] = {}
        # Rows of the wait that was asked for last, as the table has them: only the end of a step
        # writes any, and then they are forgotten.
        self._stored: tuple[bytes, dict[bytes, HeldEvent]] = (b"", {})

    def pages(self) -> dict[bytes, dict[bytes, HeldEvent]]:
        """What the compiled half holds events in, by wait and place; of those that are new."""
        return self._fresh

    def discard(self) -> None:
        """Forget what is uncommitted."""
        self._fresh.clear()
        self._released.clear()
        self._stored = (b"", {})
        self.journal = None

    def get(self, name: bytes, place: bytes) -> HeldEvent | None:
        """The event at a place, in the order of its wait's events."""
        fresh = self._fresh.get(name)
        if fresh is not None and place in fresh:
            return fresh[place]
        row = events_of(name) + place
        value = None if row in self._released else self._state.get(row)
        return None if value is None else decode_event(value)

    def hold(self, name: bytes, place: bytes, event: HeldEvent) -> None:
        """Keep an event; what was at its place is replaced."""
        self._note(name, place, event)
        self._fresh.setdefault(name, {})[place] = event

    def release(self, name: bytes, place: bytes) -> None:
        """Forget the event at a place."""
        self._note(name, place, None)
        fresh = self._fresh.get(name)
        if fresh is not None:
            fresh.pop(place, None)
        row = events_of(name) + place
        if self._state.get(row) is not None:
            self._released[row] = None

    def all(self, name: bytes) -> list[tuple[bytes, HeldEvent]]:
        """All events of a wait, in order."""
        start, released = events_of(name), self._released
        found = {
            place: event
            for place, event in self._stored_of(name).items()
            if start + place not in released
        }
        found.update(self._fresh.get(name, {}))
        return sorted(found.items())

    def take_all(self, name: bytes) -> list[tuple[bytes, HeldEvent]]:
        """All events of a wait, in order; they are released."""
        found, start = self.all(name), events_of(name)
        for place, _ in found:
            self._note(name, place, None)
        self._released.update(dict.fromkeys([start + place for place in self._stored_of(name)]))
        self._fresh.pop(name, None)
        return found

    def _stored_of(self, name: bytes) -> dict[bytes, HeldEvent]:
        """Events of a wait that earlier steps have kept, in order."""
        if self._stored[0] != name:
            start = events_of(name)
            rows = self._state.scan(start, _after(start))
            self._stored = (name, {row[len(start) :]: decode_event(value) for row, value in rows})
        return self._stored[1]

    def _note(self, name: bytes, place: bytes, event: HeldEvent | None) -> None:
        journal = self.journal
        if journal is not None:
            before = journal[place][0] if place in journal else self.get(name, place)
            journal[place] = (before, event)

    def flush(self) -> None:
        """Write what has changed; the last act of a step."""
        for row in self._released:
            self._state.write(row, None)
        for name, events in self._fresh.items():
            start = events_of(name)
            for place, event in events.items():
                self._state.write(start + place, _encode_event(event))
        self.discard()


def _after(prefix: bytes) -> bytes:
    """First key behind all that begin with a prefix, which does not end in 0xff alone."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])
