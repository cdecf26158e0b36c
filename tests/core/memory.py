"""Tables in memory, and a task whose changelogs are kept, so that it can be restored."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from edo_stream.core.state import Expand, Table


class Memory:
    """A sorted KeyValue without a disk."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.rows.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(self.rows)
        for key in keys[bisect_left(keys, start) : bisect_left(keys, end)]:
            yield key, self.rows[key]

    def write(self, rows: dict[bytes, bytes | None]) -> None:
        for key, value in rows.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


class Changelog:
    """All that a table has ever committed, in order."""

    def __init__(self, expand: Expand) -> None:
        self.expand = expand
        self.records: list[tuple[bytes, bytes | None]] = []

    def commit(self, table: Table, memory: Memory) -> None:
        """Do what the engine does after its transaction."""
        self.records += table.changelog.items()
        memory.write(table.local)
        table.settle()

    def restored(self) -> Memory:
        """What a restore from the first record on leads to."""
        memory = Memory()
        for key, value in self.records:
            memory.write(dict(self.expand(key, value)))
        return memory
