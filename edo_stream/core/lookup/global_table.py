"""A global table: rows of all partitions of a compacted topic, kept once for all tasks of a worker.

| Prefix | Key | Row |
|---|---|---|
| ``r`` | the key | :class:`GlobalRow` |
| ``d`` | the key | :class:`GlobalRow` without data: deleted, and kept for a day |
| ``p`` | number of the partition | the offset that is read next |
| ``n`` | | how many rows there are |

Theory of operation. Within a partition the later record holds. A key may be in two partitions,
after a topic has grown or where a producer has a partitioner of its own; then the record with the
later timestamp holds, at the same moment the one of the higher partition. So the rows do not
depend on which partition happened to be read first, and all workers come to the same ones. For
that a deletion is remembered while what was written before it may still come.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.pointer import MISSING, parse_json
from edo_stream.core.record import Record
from edo_stream.core.state import KeyValue

ROW: Final = b"r"
DELETED: Final = b"d"
_POSITION: Final = b"p"
_COUNT: Final = b"n"
_NUMBER: Final = struct.Struct(">I")

Changes = dict[bytes, bytes | None]


class GlobalRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last record of a key; fields are only ever appended."""

    at_ms: int
    partition: int
    data: bytes | None
    """JSON; ``None``: the key has no row any more."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(GlobalRow).decode


def row_of_record(
    record: Record, decode: Callable[[Record], Decoded]
) -> bytes | Violation | Ignored | None:
    """The row that a record has, as JSON; ``None``: its key has none any more."""
    if not record.key:
        return Violation("no-key", "a row's record has a key: found none")
    if record.value is None:
        return None
    decoded = decode(record)
    if not isinstance(decoded, Event):
        return decoded
    if decoded.data is None or parse_json(decoded.data) is MISSING:
        return Violation("invalid", "a row is JSON: found none")
    return decoded.data


class GlobalTable:
    """See the module's docstring. What changes is written by the caller, all of it at once."""

    def __init__(self, committed: KeyValue, decode: Callable[[Record], Decoded]) -> None:
        self._committed = committed
        self._decode = decode
        self.positions: dict[int, int] = {}
        """The offset that is read next, by partition."""
        self.rows = 0
        """How many there are."""
        self.restore()

    def restore(self) -> None:
        """Read what is kept in memory."""
        found = self._committed.scan(_POSITION, _after(_POSITION))
        self.positions = {_NUMBER.unpack(key[1:])[0]: int(value) for key, value in found}
        self.rows = int(self._committed.get(_COUNT) or 0)

    def get(self, key: bytes) -> bytes | None:
        """A key's row, as JSON."""
        value = self._committed.get(ROW + key)
        return None if value is None else _decode(value).data

    def changes(
        self, records: Sequence[Record], positions: Mapping[int, int]
    ) -> tuple[Changes, list[bytes]]:
        """Rows to write for records, and which keys have another one now.

        ``positions`` are where the partitions stand behind the records. A record that is no row
        changes nothing: whoever counts them makes a dead letter of it.
        """
        changes: Changes = {}
        arrived: dict[bytes, None] = {}
        for record in records:
            data = row_of_record(record, self._decode)
            if isinstance(data, Violation | Ignored):
                continue
            key = record.key or b""
            before = self._known(key, changes)
            row = _row(record, data, before)
            if row is None:
                continue
            changes |= _changes_of(key, row, before)
            self.rows += (data is not None) - (before is not None and before.data is not None)
            if data is None:
                arrived.pop(key, None)
            else:
                arrived[key] = None
        for partition, position in positions.items():
            if self.positions.get(partition) != position:
                self.positions[partition] = position
                changes[_POSITION + _NUMBER.pack(partition)] = b"%d" % position
        if records:
            changes[_COUNT] = b"%d" % self.rows
        return changes, list(arrived)

    def forgotten(self, before_ms: int, start: bytes, most: int) -> tuple[Changes, bytes | None]:
        """What forgets deletions from before a time, of so many from a place on; and the next.

        The first place is :data:`DELETED`, and behind the last there is ``None``. Not while rows
        are loaded that may be as old.
        """
        found = list(islice(self._committed.scan(start, _after(DELETED)), most))
        changes: Changes = {key: None for key, row in found if _decode(row).at_ms < before_ms}
        return changes, found[-1][0] + b"\0" if len(found) == most else None

    def _known(self, key: bytes, changes: Changes) -> GlobalRow | None:
        for name in (ROW + key, DELETED + key):
            value = changes[name] if name in changes else self._committed.get(name)
            if value is not None:
                return _decode(value)
        return None


def _row(record: Record, data: bytes | None, before: GlobalRow | None) -> GlobalRow | None:
    """What holds of a record and what was known of its key; ``None``: what was known."""
    at_ms, partition = record.timestamp, record.partition
    if before is not None:
        if before.partition == partition:
            # So that what holds depends on no order between partitions.
            at_ms = max(at_ms, before.at_ms)
        elif (at_ms, partition) < (before.at_ms, before.partition):
            return None
    return GlobalRow(at_ms, partition, data)


def _changes_of(key: bytes, row: GlobalRow, before: GlobalRow | None) -> Changes:
    value = _encode(row)
    changes: Changes = {ROW + key: None if row.data is None else value}
    if row.data is None:
        changes[DELETED + key] = value
    elif before is not None and before.data is None:
        changes[DELETED + key] = None
    return changes


def _after(prefix: bytes) -> bytes:
    return bytes((prefix[0] + 1,))
