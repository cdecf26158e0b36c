"""A disk and a changelog in memory, for tests of what uses them."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

from aiokafka import TopicPartition

from edo_stream.engine.ports import ChangelogRecord, Grown


class MemoryDisk:
    """See :class:`edo_stream.engine.ports.Disk`."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.is_closed = False
        self.wiped = 0
        self._offset: int | None = None
        self._written_at_ms: int | None = None

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.rows.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(self.rows)
        for key in keys[bisect_left(keys, start) : bisect_left(keys, end)]:
            yield key, self.rows[key]

    def offset(self) -> int | None:
        return self._offset

    def written_at_ms(self) -> int | None:
        return self._written_at_ms

    def write(self, rows: Mapping[bytes, bytes | None], offset: int | None, now_ms: int) -> None:
        for key, value in rows.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self._offset = self._offset if offset is None else offset
        self._written_at_ms = now_ms

    def wipe(self) -> None:
        self.rows.clear()
        self._offset = self._written_at_ms = None
        self.wiped += 1

    def close(self) -> None:
        self.is_closed = True


class MemoryChangelog:
    """See :class:`edo_stream.engine.ports.Changelog`; offsets may have gaps, as compaction leaves.

    ``read_from`` remembers where reads began.
    """

    def __init__(self, records: Mapping[int, tuple[bytes, bytes | None]], first: int, end: int):
        self._records = dict(sorted(records.items()))
        self._first = first
        self._end = end
        self.read_from: list[int] = []

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        return self._first, self._end

    async def read(
        self, partition: TopicPartition, start: int, end: int
    ) -> AsyncGenerator[Sequence[ChangelogRecord], None]:
        self.read_from.append(start)
        part = [
            ChangelogRecord(offset, *record)
            for offset, record in self._records.items()
            if start <= offset < end
        ]
        for at in range(0, len(part), 2):
            yield part[at : at + 2]


class MemoryFollower:
    """See :class:`edo_stream.engine.ports.Follower`; gives what :meth:`put` was given."""

    def __init__(self) -> None:
        self.starts: list[Mapping[TopicPartition, int]] = []
        self.is_closed = True
        self._grown: asyncio.Queue[Mapping[TopicPartition, Grown] | Exception] = asyncio.Queue()

    def put(self, grown: Mapping[TopicPartition, Grown] | Exception) -> None:
        """What the next call of :meth:`next` gives, or raises."""
        self._grown.put_nowait(grown)

    async def follow(self, starts: Mapping[TopicPartition, int]) -> None:
        self.starts.append(starts)
        self.is_closed = False

    async def next(self, records_max: int) -> Mapping[TopicPartition, Grown]:
        grown = await self._grown.get()
        if isinstance(grown, Exception):
            raise grown
        return grown

    async def close(self) -> None:
        self.is_closed = True
