"""Disks that outlive the process: every completed write survives, none is ever half done."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from edo_stream.testing.faults import Faults
from edo_stream.testing.loop import Process


class Platter:
    """What one table and partition has on the disk of one machine."""

    def __init__(self, machine: str, table: str, partition: int) -> None:
        self.name = f"{machine}:{table}-{partition}"
        self.table = table
        self.partition = partition
        self.wipe()

    def wipe(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.keys: list[bytes] | None = []
        self.offset: int | None = None
        self.written_at_ms: int | None = None
        self.expected: dict[bytes, bytes] = {}
        """The judge's: what the changelog says up to ``offset``."""
        self.behind: dict[bytes, None] = {}
        """The judge's: rows whose change the compaction has moved to a later offset."""
        self.seen_offset = -1
        """The judge's: offset up to which ``expected`` goes."""


OnWrite = Callable[[Platter, Mapping[bytes, bytes | None]], None]


class SimulatedDisk:
    """See :class:`edo_stream.engine.ports.Disk`; one process's handle on a platter."""

    def __init__(
        self, platter: Platter, process: Process, faults: Faults, on_write: OnWrite
    ) -> None:
        self._platter = platter
        self._process = process
        self._faults = faults
        self._on_write = on_write
        self._is_open = True

    def get(self, key: bytes) -> bytes | None:
        return self._platter.rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self._platter.rows.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        platter = self._platter
        keys = platter.keys
        if keys is None:
            keys = platter.keys = sorted(platter.rows)
        for key in keys[bisect_left(keys, start) : bisect_left(keys, end)]:
            yield key, platter.rows[key]

    def offset(self) -> int | None:
        return self._platter.offset

    def written_at_ms(self) -> int | None:
        return self._platter.written_at_ms

    def write(self, rows: Mapping[bytes, bytes | None], offset: int | None, now_ms: int) -> None:
        assert self._is_open, f"{self._platter.name} is closed"
        self._faults.enter(self._process)
        platter = self._platter
        for key, value in rows.items():
            if value is None:
                platter.rows.pop(key, None)
            else:
                platter.rows[key] = value
        platter.keys = None
        if offset is not None:
            platter.offset = offset
        platter.written_at_ms = now_ms
        self._on_write(platter, rows)
        self._faults.leave(self._process)

    def wipe(self) -> None:
        self._platter.wipe()

    def close(self) -> None:
        self._is_open = False
