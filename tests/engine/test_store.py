"""Rows on a real RocksDB: atomic with their offset, there after any end of the process."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edo_stream.core.state import FORMAT
from edo_stream.engine.ports import DiskError
from edo_stream.engine.process import UnusableError
from edo_stream.engine.store import DiskMemory, RocksDisk

#: Writes batches whose rows all carry the batch's offset, and says each that is done.
WRITER = """
import sys
from pathlib import Path
from edo_stream.engine.store import DiskMemory, RocksDisk
disk = RocksDisk(Path(sys.argv[1]))
offset = disk.offset() or 0
while True:
    offset += 1
    disk.write({b"r%03d" % n: b"%d" % offset for n in range(200)}, offset, offset)
    print(offset, flush=True)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RocksDisk]:
    disk = RocksDisk(tmp_path / "table-0")
    yield disk
    disk.close()


def test_an_empty_disk_stands_for_nothing(disk: RocksDisk) -> None:
    assert (disk.offset(), disk.written_at_ms(), disk.get(b"a")) == (None, None, None)


def test_rows_are_written_and_deleted_with_their_offset(disk: RocksDisk) -> None:
    disk.write({b"a": b"1", b"b": b"2"}, 7, 1_000)
    disk.write({b"a": None}, 9, 2_000)
    assert (disk.get(b"a"), disk.get(b"b")) == (None, b"2")
    assert (disk.offset(), disk.written_at_ms()) == (9, 2_000)


def test_rows_without_an_offset_leave_the_offset_as_it_is(disk: RocksDisk) -> None:
    disk.write({b"a": b"1"}, 7, 1_000)
    disk.write({b"a": None}, None, 2_000)
    assert disk.offset() == 7


def test_many_rows_are_read_in_the_order_asked_for(disk: RocksDisk) -> None:
    disk.write({b"a": b"1", b"b": b"", b"c": b"3"}, 1, 0)
    assert list(disk.get_many((b"c", b"missing", b"a", b"b"))) == [b"3", None, b"1", b""]
    assert list(disk.get_many([])) == []


def test_a_scan_has_its_start_and_not_its_end(disk: RocksDisk) -> None:
    disk.write({key: key for key in (b"a", b"b", b"b\x00", b"b\xff", b"c")}, 1, 0)
    assert [key for key, _ in disk.scan(b"b", b"c")] == [b"b", b"b\x00", b"b\xff"]
    assert [key for key, _ in disk.scan(b"bb", b"c")] == [b"b\xff"]
    assert list(disk.scan(b"d", b"z")) == []


def test_a_scan_of_everything_shows_no_row_of_the_store_itself(disk: RocksDisk) -> None:
    disk.write({b"a": b"1"}, 1, 0)
    assert list(disk.scan(b"\x01", b"\xff")) == [(b"a", b"1")]


def test_a_wiped_disk_is_empty_and_usable(disk: RocksDisk) -> None:
    disk.write({b"a": b"1"}, 1, 0)
    disk.wipe()
    assert (disk.get(b"a"), disk.offset(), disk.written_at_ms()) == (None, None, None)
    disk.write({b"b": b"2"}, 2, 0)
    assert disk.get(b"b") == b"2"


@pytest.mark.parametrize("end", [RocksDisk.close, RocksDisk.wipe])
def test_a_scan_that_was_left_half_way_does_not_hold_the_disk(
    tmp_path: Path, end: Callable[[RocksDisk], None]
) -> None:
    disk = RocksDisk(tmp_path / "d")
    disk.write({b"a": b"1", b"b": b"2"}, 1, 0)
    rows = disk.scan(b"a", b"z")
    assert next(rows) == (b"a", b"1")
    end(disk)
    assert list(rows) == []
    if end is RocksDisk.close:
        disk = RocksDisk(tmp_path / "d")
    disk.close()


def test_rows_survive_a_close(tmp_path: Path) -> None:
    first = RocksDisk(tmp_path / "table-0")
    first.write({b"a": b"1"}, 5, 1_000)
    first.close()

    second = RocksDisk(tmp_path / "table-0")
    assert (second.get(b"a"), second.offset(), second.written_at_ms()) == (b"1", 5, 1_000)
    second.close()


def test_a_disk_that_is_opened_again_has_the_shared_cache_and_filters(tmp_path: Path) -> None:
    first = RocksDisk(tmp_path / "table-0")
    first.write({b"r%03d" % n: bytes([n % 256]) * 4_000 for n in range(200)}, 1, 0)
    first._db.flush()
    first.close()

    memory = DiskMemory()
    again = RocksDisk(tmp_path / "table-0", memory)
    assert again.get(b"r000-") is None
    filter_bytes = memory.cache.get_usage()
    # What a filter does not know is not looked for among the rows.
    assert again.get_many([b"r%03d-" % n for n in range(199)]) == [None] * 199
    assert memory.cache.get_usage() < filter_bytes + 100_000
    assert None not in again.get_many([b"r%03d" % n for n in range(200)])
    assert memory.cache.get_usage() > filter_bytes + 500_000
    again.close()


def test_rows_and_offset_are_of_one_transaction_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "table-0"
    for written in (3, 20, 60):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            done = [int(writer.stdout.readline()) for _ in range(written)][-1]
            writer.kill()

        disk = RocksDisk(path)
        offset = disk.offset()
        rows = dict(disk.scan(b"r", b"s"))
        disk.close()

        assert offset is not None
        assert offset >= done
        assert rows == {b"r%03d" % n: b"%d" % offset for n in range(200)}


def write_until_full(disk: RocksDisk, written: list[int]) -> None:
    for offset in range(1, 100):
        disk.write({b"r%03d" % n: bytes(100) for n in range(200)}, offset, 0)
        written.append(offset)


def test_a_disk_that_cannot_grow_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    disk = RocksDisk(tmp_path / "table-0")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written: list[int] = []
    # Python ignores the signal: the write fails, as it does when there is no space.
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, hard))
    try:
        with pytest.raises(DiskError, match=r"table-0 cannot be written: .*too large"):
            write_until_full(disk, written)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # The process ends by it; here it has to let go of the files, which says the same once more.
    with suppress(Exception):
        disk.close()

    reopened = RocksDisk(tmp_path / "table-0")
    assert len(written) == reopened.offset() > 1
    assert len(list(reopened.scan(b"r", b"s"))) == 200
    reopened.close()


def test_a_disk_of_an_earlier_format_is_emptied_for_a_restore(tmp_path: Path) -> None:
    first = RocksDisk(tmp_path / "table-0")
    first.write({b"a": b"1"}, 5, 1_000)
    first.close()

    upgraded = RocksDisk(tmp_path / "table-0", format_=FORMAT + 1)
    assert (upgraded.get(b"a"), upgraded.offset()) == (None, None)
    upgraded.write({b"a": b"2"}, 6, 2_000)
    upgraded.close()

    again = RocksDisk(tmp_path / "table-0", format_=FORMAT + 1)
    assert (again.get(b"a"), again.offset()) == (b"2", 6)
    again.close()


def test_a_disk_of_an_earlier_format_that_is_known_is_kept_and_marked(tmp_path: Path) -> None:
    first = RocksDisk(tmp_path / "table-0")
    first.write({b"a": b"1"}, 5, 1_000)
    first.close()

    upgraded = RocksDisk(tmp_path / "table-0", format_=FORMAT + 1, oldest=FORMAT)
    assert (upgraded.get(b"a"), upgraded.offset()) == (b"1", 5)
    upgraded.close()

    with pytest.raises(UnusableError, match=rf"format {FORMAT + 1}.*up to {FORMAT}"):
        RocksDisk(tmp_path / "table-0")


def test_a_disk_of_a_later_format_is_refused_and_kept(tmp_path: Path) -> None:
    later = RocksDisk(tmp_path / "table-0", format_=FORMAT + 1)
    later.write({b"a": b"1"}, 5, 1_000)
    later.close()

    with pytest.raises(UnusableError, match=rf"format {FORMAT + 1}.*up to {FORMAT}"):
        RocksDisk(tmp_path / "table-0")

    kept = RocksDisk(tmp_path / "table-0", format_=FORMAT + 1)
    assert kept.offset() == 5
    kept.close()


def test_disks_that_share_their_memory_stay_within_it(tmp_path: Path) -> None:
    memory = DiskMemory(cache_bytes=1 << 20, memtables_bytes=4 << 20)
    disks = [RocksDisk(tmp_path / f"table-{number}", memory) for number in range(4)]
    for offset in range(200):
        for disk in disks:
            disk.write({b"%04d%03d" % (offset, n): bytes(1_000) for n in range(20)}, offset, 0)
    # 16 MB were written; without a bound all of it would stay in the memtables. What is flushed
    # is let go of by and by, and only a write looks whether there is too much.
    deadline, offset = time.monotonic() + 120, 200
    while sum(disk.usage()[1] for disk in disks) > 8 << 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        offset += 1
        for disk in disks:
            disk.write({b"last": b""}, offset, 0)
    for disk in disks:
        disk.close()
    assert 0 == memory.disks


def test_the_more_disks_share_memory_the_more_there_is_of_it_for_memtables(tmp_path: Path) -> None:
    memory = DiskMemory(memtables_bytes=1 << 20)
    disks = [RocksDisk(tmp_path / f"table-{number}", memory) for number in range(4)]
    assert 1 << 20 == memory.memtables.get_buffer_size()
    more = [RocksDisk(tmp_path / f"more-{number}", memory) for number in range(4)]
    more[0].wipe()
    assert 2 << 20 == memory.memtables.get_buffer_size()
    for disk in more:
        disk.close()
    assert 1 << 20 == memory.memtables.get_buffer_size()
    for disk in disks:
        disk.close()


def test_a_row_is_looked_for_in_the_part_of_a_filter_that_may_have_it(tmp_path: Path) -> None:
    """A filter read as a whole takes 1.25 bytes of each row of its file, for every look."""
    disk = RocksDisk(tmp_path / "table-0")
    for offset in range(100):
        disk.write({b"%02d%04d" % (offset, n): b"1" for n in range(2_000)}, offset, 0)
    disk._db.compact_range(None, None)
    disk.close()

    memory = DiskMemory()
    disk = RocksDisk(tmp_path / "table-0", memory)
    assert disk.get(b"500500 is not there") is None
    assert disk.get(b"500500") == b"1"
    assert memory.cache.get_usage() < 64 << 10
    disk.close()
