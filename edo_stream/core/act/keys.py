"""The keys whose commands cannot simply run: one waits for its retry, or nobody may go on.

Theory of operation. A row ``k`` + queue exists as long as a key is blocked, and says by what:

- *waiting*: its head failed and lies on a tier; the tier's record will run it.
- *draining*: its head is the first of the parked commands, and runs or is about to; while
  ``due_ms`` is set it *rests*: its throttle lets it begin only then. While it is *aside*, its flow
  is stopped, or was a moment ago (:mod:`.parking`).
- *stopped*: its head became a dead letter, and the flow wants an operator to look first.

Commands that come meanwhile are parked: one row ``p`` each, numbered within the queue. Before the
first a number is left, for a head that comes off its tier and may not run. All rows ``k`` are kept
in memory as well; a key costs some 300 bytes while it is blocked.
"""

from collections.abc import Container
from enum import Enum
from struct import Struct
from typing import Final

import msgspec

from edo_stream.core.act.command import flow_of
from edo_stream.core.record import Record, StoredRecord, stored
from edo_stream.core.state import Table

_KEY: Final = b"k"
_KEY_END: Final = b"l"
_PARKED: Final = b"p"
_NUMBER: Final = Struct(">Q")
_LENGTH: Final = Struct(">H")


class Blocked(Enum):
    """By what a key is blocked."""

    WAITING = "w"
    DRAINING = "d"
    STOPPED = "s"


class KeyRow(msgspec.Struct, array_like=True):
    """A blocked key; fields are only ever appended."""

    blocked: Blocked
    since_ms: int
    """When it was blocked."""
    head: str = ""
    """Id of the command that all others wait for; empty when an operator has dropped it."""
    first: int = 1
    next: int = 1
    """Numbers of the parked commands: from ``first`` up to, not including, ``next``."""
    run_now: bool = False
    """An operator wants the head to run: it does not wait for its time, nor for its throttle."""
    attempt: int = 0
    """The head's next attempt."""
    due_ms: int = 0
    """When that is due, as written to the tier; or until when the key rests."""
    error: str = ""
    """Class and reason of the head's last failure."""
    tags: tuple[bytes, ...] = ()
    """Of the head that waits for its retry: events may cancel it by them."""
    is_aside: bool = False
    """Its head, the first parked command, is not to run while the flow is stopped."""
    retries: int = 0
    """How many of the parked commands have come off tiers."""

    @property
    def parked(self) -> int:
        """Commands that wait behind the head, the head itself included while draining."""
        return self.next - self.first

    @property
    def is_resting(self) -> bool:
        """Whether its head waits for the throttle of its key."""
        return self.blocked is Blocked.DRAINING and self.due_ms > 0

    @property
    def state(self) -> str:
        """By what it is blocked, as operators are told."""
        if self.is_aside:
            return "paused"
        return "resting" if self.is_resting else self.blocked.name.lower()


decode_key_row = msgspec.msgpack.Decoder(KeyRow).decode
_decode_parked = msgspec.msgpack.Decoder(StoredRecord).decode


class Keys:
    """The blocked keys of one task."""

    def __init__(self, state: Table, tiers: Container[str]) -> None:
        self._state = state
        self._tiers = tiers
        self._rows: dict[bytes, KeyRow] = {}
        self._dirty: dict[bytes, None] = {}
        self.parked = 0
        """Commands parked, over all keys, that have not come off tiers."""
        self.retries = 0
        """Those that have."""

    def restore(self) -> None:
        """Read all rows."""
        self._dirty.clear()
        self._rows = {
            row[1:]: decode_key_row(value) for row, value in self._state.scan(_KEY, _KEY_END)
        }
        self.retries = sum(row.retries for row in self._rows.values())
        self.parked = sum(row.parked for row in self._rows.values()) - self.retries

    def get(self, queue: bytes) -> KeyRow | None:
        """The row of a blocked key; whoever changes it calls :meth:`put`."""
        return self._rows.get(queue)

    def all(self) -> dict[bytes, KeyRow]:
        """All blocked keys by the name of their queue; not to be changed."""
        return self._rows

    def put(self, queue: bytes, row: KeyRow) -> None:
        """Keep a new or changed row."""
        self._rows[queue] = row
        self._dirty[queue] = None

    def free(self, queue: bytes) -> None:
        """The key is not blocked any more."""
        assert not self._rows[queue].parked, f"{queue!r} still has parked commands"
        del self._rows[queue]
        self._dirty[queue] = None

    def park(self, queue: bytes, record: Record) -> None:
        """Keep a command until those before it are through."""
        row = self._rows[queue]
        value = msgspec.msgpack.encode(stored(record))
        self._state.write(_parked_row(queue, row.next), value)
        row.next += 1
        self._count(queue, record.topic, 1)

    def has_place_before(self, queue: bytes) -> bool:
        """Whether a head can be parked before the others; rows of older versions had no place."""
        row = self._rows[queue]
        return row.first > 0 or not row.parked

    def park_before(self, queue: bytes, record: Record) -> None:
        """Keep a head before the commands that wait behind it."""
        row = self._rows[queue]
        if not row.parked:
            row.first = row.next = 1
        row.first -= 1
        value = msgspec.msgpack.encode(stored(record))
        self._state.write(_parked_row(queue, row.first), value)
        self._count(queue, record.topic, 1)

    def _count(self, queue: bytes, topic: str, more: int) -> None:
        if topic in self._tiers:
            self._rows[queue].retries += more
            self.retries += more
        else:
            self.parked += more
        self._dirty[queue] = None

    def first(self, queue: bytes) -> StoredRecord:
        """The first parked command of a key that has one."""
        value = self._state.get(_parked_row(queue, self._rows[queue].first))
        assert value is not None, f"{queue!r} has lost its first parked command"
        return _decode_parked(value)

    def found(self, queue: bytes) -> list[StoredRecord]:
        """Parked commands of a key that are there: before the state is restored, not all may be."""
        row = self._rows[queue]
        rows = self._state.scan(_parked_row(queue, row.first), _parked_row(queue, row.next))
        return [_decode_parked(value) for _, value in rows]

    def behind(self, queue: bytes, kept: int) -> list[StoredRecord]:
        """All parked commands but the first ``kept``, in order."""
        row = self._rows[queue]
        found = []
        for number in range(min(row.first + kept, row.next), row.next):
            value = self._state.get(_parked_row(queue, number))
            assert value is not None, f"{queue!r} has lost a parked command"
            found.append(_decode_parked(value))
        return found

    def unpark(self, queue: bytes, topic: str) -> None:
        """The first parked command, which was read of a topic, has its fate."""
        row = self._rows[queue]
        self._state.write(_parked_row(queue, row.first), None)
        row.first += 1
        self._count(queue, topic, -1)

    def take_behind(self, queue: bytes, kept: int) -> list[StoredRecord]:
        """Remove all parked commands but the first ``kept``; they are given in order."""
        row, taken = self._rows[queue], self.behind(queue, kept)
        for number in range(row.next - len(taken), row.next):
            self._state.write(_parked_row(queue, number), None)
        row.next -= len(taken)
        for record in taken:
            self._count(queue, record.topic, -1)
        return taken

    def flush(self) -> None:
        """Write what has changed; the last act of a step."""
        for queue in self._dirty:
            row = self._rows.get(queue)
            self._state.write(_KEY + queue, None if row is None else msgspec.msgpack.encode(row))
        self._dirty.clear()


def stranded(state: Table, flows: Container[str]) -> dict[str, int]:
    """Commands that wait behind heads, or are heads, of keys of flows that are not these."""
    found: dict[str, int] = {}
    for row, value in state.scan(_KEY, _KEY_END):
        flow = flow_of(row[1:])
        if flow not in flows:
            key = decode_key_row(value)
            found[flow] = found.get(flow, 0) + key.parked + (key.blocked is Blocked.WAITING)
    return {flow: count for flow, count in found.items() if count}


def _parked_row(queue: bytes, number: int) -> bytes:
    # The length first: no queue's rows lie between those of another.
    return _PARKED + _LENGTH.pack(len(queue) & 0xFFFF) + queue + _NUMBER.pack(number)
