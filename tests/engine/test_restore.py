"""A restore reads what the disk lacks, and starts anew where the disk cannot be built upon."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition

from edo_stream.core.dedupe import expand_ids
from edo_stream.core.state import as_is
from edo_stream.engine.ports import ChangelogRecord, DiskError
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS, Restored, TaskTable, restore
from tests.engine.memory import MemoryChangelog, MemoryDisk

NOW_MS = 1_700_000_000_000
PLACE = TopicPartition("state-changelog", 3)


def table(**rows: str) -> TaskTable:
    """A table whose disk has rows as of offset 5, written a minute ago."""
    disk = MemoryDisk()
    if rows:
        disk.write({k.encode(): v.encode() for k, v in rows.items()}, 5, NOW_MS - 60_000)
    return TaskTable(PLACE, disk, as_is)


def restored(table: TaskTable, changelog: MemoryChangelog) -> Restored:
    return asyncio.run(restore(table, changelog, NOW_MS))


def test_an_empty_disk_reads_the_whole_changelog() -> None:
    target = table()
    changelog = MemoryChangelog({0: (b"a", b"1"), 1: (b"b", b"2"), 2: (b"a", None)}, 0, 3)
    assert restored(target, changelog) == Restored(3, 0, 3)
    assert (target.rows.get(b"a"), target.rows.get(b"b")) == (None, b"2")
    assert target.disk.offset() == 2


def test_a_disk_that_was_here_reads_only_what_came_since() -> None:
    target = table(a="1", b="2")
    changelog = MemoryChangelog({5: (b"a", b"old"), 6: (b"b", None), 7: (b"c", b"3")}, 0, 8)
    assert restored(target, changelog) == Restored(2, 6, 8)
    assert [target.rows.get(key) for key in (b"a", b"b", b"c")] == [b"1", None, b"3"]


def test_a_disk_at_the_end_reads_nothing() -> None:
    target = table(a="1")
    assert restored(target, MemoryChangelog({}, 0, 6)) == Restored(0, 6, 6)
    assert target.disk.offset() == 5


def test_gaps_of_compaction_and_markers_are_passed() -> None:
    target = table(a="1")
    changelog = MemoryChangelog({9: (b"b", b"2"), 14: (b"c", b"3")}, 8, 20)
    assert restored(target, changelog) == Restored(2, 8, 20)
    assert target.rows.get(b"c") == b"3"
    assert target.disk.offset() == 14


def test_records_are_expanded_to_rows() -> None:
    disk = MemoryDisk()
    value = b"\x00\x00\x00\x09" + b"d" * 16 + b"e" * 16
    changelog = MemoryChangelog({0: (b"key", value)}, 0, 2)
    restored(TaskTable(PLACE, disk, expand_ids), changelog)
    assert set(disk.rows) == {b"bkey", b"d" + b"d" * 16, b"d" + b"e" * 16}


def test_what_a_failed_transaction_left_is_dropped() -> None:
    target = table(a="1")
    target.rows.write(b"a", b"uncommitted")
    restored(target, MemoryChangelog({}, 0, 6))
    assert target.rows.get(b"a") == b"1"


@pytest.mark.parametrize("end", [3, 5])
def test_a_disk_ahead_of_its_changelog_is_wiped(end: int, caplog: pytest.LogCaptureFixture) -> None:
    target = table(a="of a topic that is gone")
    with caplog.at_level(logging.WARNING):
        restored(target, MemoryChangelog({0: (b"b", b"2")}, 0, end))
    assert target.rows.get(b"a") is None
    assert target.rows.get(b"b") == b"2"
    assert f"it is ahead of the changelog (5 >= {end})" in caplog.text


@pytest.mark.parametrize(("beyond_ms", "wiped"), [(0, 0), (1, 1)])
def test_a_disk_older_than_the_tombstones_is_wiped(beyond_ms: int, wiped: int) -> None:
    disk = MemoryDisk()
    written_at_ms = NOW_MS - TOMBSTONES_KEPT_MS - beyond_ms
    disk.write({b"a": b"deleted since, and its tombstone too"}, 5, written_at_ms)
    changelog = MemoryChangelog({6: (b"b", b"2")}, 0, 8)
    restored(TaskTable(PLACE, disk, as_is), changelog)
    assert disk.wiped == wiped
    assert changelog.read_from == [0 if wiped else 6]


def test_a_restore_that_cannot_write_closes_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    class Changelog(MemoryChangelog):
        async def read(
            self, partition: TopicPartition, start: int, end: int
        ) -> AsyncGenerator[Sequence[ChangelogRecord], None]:
            try:
                async for part in super().read(partition, start, end):
                    yield part
            finally:
                closed.append(True)

    def full(*_: Any) -> None:
        raise DiskError("no space left")

    async def run() -> None:
        target = table()
        monkeypatch.setattr(target.disk, "write", full)
        with pytest.raises(DiskError):
            await restore(target, Changelog({0: (b"a", b"1")}, 0, 1), NOW_MS)
        # At once, not when the reader is collected.
        assert closed == [True]

    asyncio.run(run())
