"""What rests in the state of a task that looks up: rows of tables, and events that wait for one.

| Prefix | Key | Row |
|---|---|---|
| ``r`` | the table, a zero, the key | the row, as JSON |
| ``w`` | the queue's name | :class:`QueueRow` |
| ``e`` | length and text of the name, then the number in the queue | an event |
| ``f`` | the flow | its counters |
| ``t`` | when it is due, the queue's name | a timer |
| ``g`` | the table | nothing: no flow looked it up, and its rows go, or are gone |

A queue's name is the flow, a zero, the lookup's name, a zero, and the key.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

ROW: Final = b"r"
QUEUE: Final = b"w"
GONE: Final = b"g"


class Leave(IntEnum):
    """How events leave a queue."""

    WITH_ROW = 0
    WITH_NULL = 1
    """As an operator wants it."""
    WITHOUT_ROW = 2
    """As the flow says of events whose row is missing."""


class QueueRow(msgspec.Struct, array_like=True):
    """The events of one key that wait for a row; fields are only ever appended."""

    first: int = 0
    """Number of the event that is next."""
    next: int = 0
    """Number of the event that comes next."""
    since_ms: int = 0
    """When the first of them came."""
    due_ms: int = 0
    """Deadline of the first."""
    last_due_ms: int = 0
    """That of the last, before which no later one has its own."""
    leaving: int = 0
    """So many of the first go on, as far as a step goes, before anything else is read."""
    leave: int = Leave.WITH_ROW

    @property
    def held(self) -> int:
        """How many wait."""
        return self.next - self.first


class QueueName(NamedTuple):
    """Which queue it is."""

    flow: str
    lookup: str
    key: bytes

    def text(self) -> bytes:
        """The name as rows have it."""
        return b"%s\0%s\0%s" % (self.flow.encode(), self.lookup.encode(), self.key)


def parse_queue(name: bytes) -> QueueName:
    """The name that a row has."""
    flow, lookup, key = name.split(b"\0", 2)
    return QueueName(flow.decode(), lookup.decode(), key)


def row_of(table: str, key: bytes) -> bytes:
    """Key of a table's row."""
    return ROW + table.encode() + b"\0" + key


def rows_of(table: str) -> tuple[bytes, bytes]:
    """Between which keys all rows of a table are."""
    return ROW + table.encode() + b"\0", ROW + table.encode() + b"\1"


encode_queue: Final = msgspec.msgpack.Encoder().encode
decode_queue: Final = msgspec.msgpack.Decoder(QueueRow).decode
