"""Rows of one table and partition in RocksDB: committed ones only (invariant 2).

Written once per transaction, after its commit, together with the changelog offset that the rows
correspond to. A crash at any instruction leaves rows and offset of some committed transaction,
and a restore reads the changelog from there; so the write-ahead log needs no fsync.
"""

import logging
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import rocksdict

from edo_stream.core.state import FORMAT
from edo_stream.engine.ports import DiskError
from edo_stream.engine.process import UnusableError

#: Write-ahead logs are not among the files: they are as large as the memtables at most.
_FILE_BYTES = ("rocksdb.total-sst-files-size",)
_MEMORY_BYTES = (
    "rocksdb.cur-size-all-mem-tables",
    "rocksdb.estimate-table-readers-mem",
)

log = logging.getLogger(__name__)

#: Keys of the store itself; rows of tables start with a letter.
_OFFSET = b"\x00offset"
_WRITTEN_AT = b"\x00written-at"
_FORMAT = b"\x00format"

_MIB = 1 << 20
#: Small ones: what was overwritten or has expired goes when a memtable does, and the pages of a
#: new one are the kernel's to clear.
_MEMTABLE_BYTES = 2 * _MIB
_ARENA_BYTES = 64 << 10


#: What a disk's memtables and their filters take, however little is in them. With less for each
#: every write would find too much of them, and flush: five times as many files of 250 disks.
_MEMTABLES_MIN_BYTES = 256 << 10


class DiskMemory:
    """What the disks of a process share: block cache and memtables.

    Of memtables there is as much as is given, and more once there are too many disks for that.
    """

    def __init__(self, cache_bytes: int = 32 * _MIB, memtables_bytes: int = 16 * _MIB) -> None:
        self.cache = rocksdict.Cache(cache_bytes)
        self._memtables_bytes = memtables_bytes
        # Beyond it the disk that is written to flushes early; nobody is held up.
        self.memtables = rocksdict.WriteBufferManager(memtables_bytes, False)
        self.disks = 0
        """How many are open."""

    def count(self, more: int) -> None:
        """Some disks were opened, or closed."""
        self.disks += more
        least_bytes = self.disks * _MEMTABLES_MIN_BYTES
        self.memtables.set_buffer_size(max(self._memtables_bytes, least_bytes))


def _options(memory: DiskMemory) -> Any:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_arena_block_size(_ARENA_BYTES)
    options.set_write_buffer_manager(memory.memtables)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(64)
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    # Nearly every id that is looked for is a new one.
    options.set_memtable_prefix_bloom_ratio(0.03)
    options.set_memtable_whole_key_filtering(True)
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(memory.cache)
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    # In parts: that of a whole file is larger than a shard of the cache, and would be read from the
    # disk for each row that is looked for.
    table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    options.set_block_based_table_factory(table)
    return options


class RocksDisk:
    """One RocksDB; see :class:`edo_stream.engine.ports.Disk`.

    Rows of formats from ``oldest`` on are built upon as they are; ``None``: of ``format_`` only.
    """

    def __init__(
        self,
        path: Path,
        memory: DiskMemory | None = None,
        format_: int = FORMAT,
        oldest: int | None = None,
    ) -> None:
        self._path = path
        self._format = format_
        self._oldest = format_ if oldest is None else oldest
        assert self._oldest <= format_, f"{path}: format {format_}, the oldest {oldest}"
        self._memory = memory or DiskMemory()
        self._scans: WeakSet[Generator[tuple[bytes, bytes], None, None]] = WeakSet()
        try:
            self._db = self._open()
        except Exception as error:
            if not _is_damaged(error):
                raise
            # Only a copy: the changelog has the rows.
            log.warning("disk damaged, restoring in full: %s: %s", path, error)
            _remove(path)
            self._db = self._open()
        self._check_format()

    def _open(self) -> Any:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        options = _options(self._memory)
        # By its name as well: else a disk that is there goes on with what its options file says,
        # which knows neither of the shared cache nor of filters.
        columns = {"default": options}
        db = rocksdict.Rdict(str(self._path), options=options, column_families=columns)
        self._memory.count(1)
        if db.get(_OFFSET) is None:
            db.put(_FORMAT, b"%d" % self._format)
        return db

    def _check_format(self) -> None:
        """Build upon rows that are known only: of what was before, the changelog has them all."""
        # Before there were format rows there was one format.
        found = int(self._db.get(_FORMAT) or 1)
        if found > self._format:
            self._db.close()
            raise UnusableError(
                f"{self._path} has format {found}, and this version of edo_stream knows formats up "
                f"to {self._format}: a later version has written it. Start that one again; or, if "
                "the state is older, remove the directory to have it restored"
            )
        if found < self._oldest:
            log.warning("disk of format %d, restoring in full: %s", found, self._path)
            self.wipe()
        elif found < self._format:
            # From here on it has rows that an earlier version does not know.
            self._db.put(_FORMAT, b"%d" % self._format)

    def get(self, key: bytes) -> bytes | None:
        return self._db.get(key)  # type: ignore[no-any-return]

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return self._db.get(keys if isinstance(keys, list) else list(keys))  # type: ignore[no-any-return]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows = self._scan(start, end)
        self._scans.add(rows)
        return rows

    def _scan(self, start: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        read = rocksdict.ReadOptions()
        read.set_iterate_upper_bound(end)
        yield from self._db.items(from_key=start, read_opt=read)

    def offset(self) -> int | None:
        raw = self._db.get(_OFFSET)
        return None if raw is None else int(raw)

    def written_at_ms(self) -> int | None:
        raw = self._db.get(_WRITTEN_AT)
        return None if raw is None else int(raw)

    def write(self, rows: Mapping[bytes, bytes | None], offset: int | None, now_ms: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if offset is not None:
            batch.put(_OFFSET, b"%d" % offset)
        batch.put(_WRITTEN_AT, b"%d" % now_ms)
        try:
            self._db.write(batch)
        except Exception as error:
            # The package has no type of its own for what RocksDB says.
            raise DiskError(f"{self._path} cannot be written: {error}") from error

    def usage(self) -> tuple[int, int]:
        # The cache is everybody's; a share each, so that the sum is what it is.
        cached = self._memory.cache.get_usage() // self._memory.disks
        return self._sum_of(_FILE_BYTES), self._sum_of(_MEMORY_BYTES) + cached

    def _sum_of(self, properties: Sequence[str]) -> int:
        return sum(self._db.property_int_value(name) or 0 for name in properties)

    def wipe(self) -> None:
        self.close()
        _remove(self._path)
        self._db = self._open()

    def close(self) -> None:
        # Explicitly: a reference kept anywhere would hold the lock of the directory. A scan that
        # was not read to its end is one.
        for rows in list(self._scans):
            rows.close()
        self._db.close()
        self._memory.count(-1)


def _is_damaged(error: Exception) -> bool:
    """Whether RocksDB says that files are missing or broken; it has no types for what it says."""
    text = str(error)
    return text.startswith("Corruption") or "No such file or directory" in text


def _remove(path: Path) -> None:
    # Moved away first: half-removed, it could not be opened any more.
    aside = path.with_name(f"{path.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
