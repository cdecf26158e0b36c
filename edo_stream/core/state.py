"""State of one task: committed rows beneath, the batch's own writes above.

Theory of operation. A step reads and writes through a :class:`Table`. Its writes stay in memory
(``changelog`` and ``local``) until the engine has committed them in the transaction of the batch;
then :meth:`Table.settle` forgets them, because the store below has them. After an abort
:meth:`Table.discard` forgets them as well, and with them everything that the step did.

What a row looks like on the changelog and on disk may differ: ``expand`` turns one changelog
record into local rows. It is a pure function. Commit and restore reach the same disk by it, but
for rows of :meth:`Table.write_as`, whose owner reads both kinds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Final, Generic, Protocol, TypeVar

#: Format of all that rests in tables and on their changelogs: rows, records, and how a record
#: expands to rows. Raised by a change that code of before cannot read; fields appended at the end
#: of a row are none. What an earlier format has left must go on to be read (docs/state.md).
FORMAT: Final = 1

Rows = Iterable[tuple[bytes, bytes | None]]
Expand = Callable[[bytes, bytes | None], Rows]


class KeyValue(Protocol):
    """Committed rows of one table and partition, on disk."""

    def get(self, key: bytes) -> bytes | None:
        """Value of a row, or ``None``."""

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Values in the order of the keys."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows from ``start`` (inclusive) to ``end`` (exclusive) in the order of their keys.

        The rows may be read while later ones are fetched; the store is not written meanwhile.
        """


def as_is(key: bytes, value: bytes | None) -> Rows:
    """Expand a changelog record to the row of the same key and value; ``None`` deletes it."""
    return ((key, value),)


class Table:
    """Rows of one task in one table, with the uncommitted ones on top.

    ``changelog`` and ``local`` are what the batch has written so far: the records for the
    changelog topic, and the rows for the disk (a value of ``None`` deletes).
    """

    def __init__(self, committed: KeyValue, expand: Expand = as_is) -> None:
        self.committed = committed
        self.changelog: dict[bytes, bytes | None] = {}
        self.local: dict[bytes, bytes | None] = {}
        self._expand = expand

    def get(self, key: bytes) -> bytes | None:
        """Value of a row as the batch sees it."""
        if key in self.local:
            return self.local[key]
        return self.committed.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of the keys, as the batch sees them."""
        local = self.local
        if not local:
            return list(self.committed.get_many(keys))
        values = list(self.committed.get_many(keys))
        for index, key in enumerate(keys):
            if key in local:
                values[index] = local[key]
        return values

    def write(self, key: bytes, value: bytes | None) -> None:
        """Record a change: one changelog record, and the local rows that it expands to."""
        self.changelog[key] = value
        if self._expand is as_is:
            self.local[key] = value
        else:
            self.local.update(self._expand(key, value))

    def write_all(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Record changes, one after the other."""
        if self._expand is as_is:
            self.changelog.update(rows)
            self.local.update(rows)
        else:
            for key, value in rows.items():
                self.write(key, value)

    def write_as(self, key: bytes, value: bytes, row: bytes) -> None:
        """Record a change whose local row is another one than those that it expands to."""
        self.changelog[key] = value
        self.local[row] = value

    def keep(self, key: bytes, value: bytes) -> None:
        """Write a local row of what is on the changelog already."""
        self.local[key] = value

    def forget(self, key: bytes) -> None:
        """Delete a local row without a changelog record (expired, or kept in another row)."""
        self.local[key] = None

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows between two keys as the batch sees them; do not write while it is read."""
        own = sorted((key, value) for key, value in self.local.items() if start <= key < end)
        below = self.committed.scan(start, end)
        if not own:
            yield from below
            return
        hidden = {key for key, _ in own}
        kept = ((key, value) for key, value in below if key not in hidden)
        yield from merge(kept, ((key, value) for key, value in own if value is not None))

    def settle(self) -> None:
        """Forget the uncommitted rows: the store has them now."""
        self.changelog = {}
        self.local = {}

    def discard(self) -> None:
        """Forget the uncommitted rows: their transaction did not commit."""
        self.settle()


T = TypeVar("T")
_ABSENT: object = object()


class RowCache(Generic[T]):
    """Decoded rows of one kind (one key prefix), changed in place and encoded once a batch.

    At most ``rows_max`` rows stay decoded between batches; then the cache starts anew.
    """

    def __init__(
        self,
        table: Table,
        prefix: bytes,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        rows_max: int = 100_000,
    ) -> None:
        self._table = table
        self._prefix = prefix
        self._encode = encode
        self._decode = decode
        self._rows_max = rows_max
        self._rows: dict[bytes, T | None] = {}
        # In the order of the first change, which is the same in every run; a set's is not.
        self._dirty: dict[bytes, None] = {}

    def get(self, key: bytes) -> T | None:
        """The row, decoded; a caller that changes it in place calls :meth:`put` as well."""
        row = self._rows.get(key, _ABSENT)
        if row is _ABSENT:
            raw = self._table.get(self._prefix + key)
            row = self._rows[key] = None if raw is None else self._decode(raw)
        return row  # type: ignore[return-value]  # not the sentinel any more

    def put(self, key: bytes, row: T) -> None:
        """Keep a new or changed row."""
        self._rows[key] = row
        self._dirty[key] = None

    def pages(self) -> tuple[dict[bytes, T | None], dict[bytes, None]]:
        """What the compiled half reads and writes: decoded rows, and which of them have changed."""
        return self._rows, self._dirty

    def delete(self, key: bytes) -> None:
        """Remove the row."""
        self._rows[key] = None
        self._dirty[key] = None

    def flush(self) -> None:
        """Write what has changed to the table; the last act of a step."""
        if self._dirty:
            prefix, rows, encode = self._prefix, self._rows, self._encode
            self._table.write_all(
                {
                    prefix + key: None if (row := rows[key]) is None else encode(row)
                    for key in self._dirty
                }
            )
            self._dirty.clear()
        if len(self._rows) > self._rows_max:
            self._rows.clear()

    def discard(self) -> None:
        """Drop all rows: those in memory may be ahead of a transaction that did not commit."""
        self._rows.clear()
        self._dirty.clear()
