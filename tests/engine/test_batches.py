"""Batches as they are read and written, against the client's own."""

import asyncio
import threading
from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher as fetching
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from edo_stream.core.effects import Publish
from edo_stream.core.native import IS_COMPILED
from edo_stream.engine.batches import AppendedBatch, WrittenBatch
from edo_stream.engine.fetched import ChangelogRecords, PlainRecords
from edo_stream.engine.ports import ChangelogRecord
from edo_stream.engine.record_batch import ENCODERS

PLACE = TopicPartition("shop.order.placed", 3)
CODECS = [0, 1, 2, 3, 4]
_TRANSACTIONAL, _CONTROL = 0x10, 0x20


def batch(
    base: int, count: int, *, codec: int = 0, producer: int = -1, is_transactional: bool = False
) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, codec, is_transactional, producer, 0, 0, 1 << 30)
    for at in range(count):
        headers = [("ce_id", b"%d" % at), ("none", None)]
        builder.append(at, 1_000 + at, b"key-%d" % at, b"value " * 20, headers)
    data = bytearray(builder.build())
    data[:8] = pack(">q", base)
    return data


def marker(base: int, producer: int, is_commit: bool) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, True, producer, 0, 0, 1 << 30)
    builder.append(0, 1_000, pack(">hh", 0, int(is_commit)), b"\0\0\0\0\0\0", [])
    data = bytearray(builder.build())
    data[:8] = pack(">q", base)
    data[21:23] = pack(">h", _TRANSACTIONAL | _CONTROL)
    data[17:21] = pack(">I", calc_crc32c(bytes(data[21:])))
    return data


def legacy(base: int) -> bytes:
    builder = LegacyRecordBatchBuilder(0, 0, 1 << 20)
    builder.append(base, timestamp=1_000, key=b"old", value=b"format", headers=[])
    return bytes(builder.build())


def read(
    kind: type[PartitionRecords], data: bytes, start: int, aborted: list[tuple[int, int]]
) -> tuple[list[tuple[Any, ...]], int]:
    records = fetching.MemoryRecords(data)
    partition = PartitionRecords(PLACE, records, aborted, start, None, None, True, READ_COMMITTED)
    if kind is not PartitionRecords:
        partition.__class__ = kind
        partition._records_iterator = partition._unpack_records()
    found = [(r.offset, r.key, r.value) for r in partition]
    return found, partition.next_fetch_offset


def fetches() -> Iterator[tuple[str, bytes, int, list[tuple[int, int]]]]:
    for codec in CODECS:
        yield f"codec {codec}", bytes(batch(10, 5, codec=codec) + batch(20, 3, codec=codec)), 10, []
    yield "begun in the middle", bytes(batch(10, 5) + batch(15, 2)), 13, []
    yield "old format", legacy(4) + legacy(5), 4, []
    open_then_aborted = batch(10, 4, producer=7, is_transactional=True) + marker(14, 7, False)
    committed = batch(15, 2, producer=8, is_transactional=True) + marker(17, 8, True)
    again = batch(18, 2, producer=7, is_transactional=True) + marker(20, 7, True)
    yield "aborted", bytes(open_then_aborted + committed + again), 10, [(7, 10)]
    yield "cut off", bytes(batch(10, 5) + batch(15, 2)[:-3]), 10, []


@pytest.mark.parametrize("kind", [PlainRecords, ChangelogRecords])
@pytest.mark.parametrize(
    ("data", "start", "aborted"), [pytest.param(*f[1:], id=f[0]) for f in fetches()]
)
def test_a_fetch_is_read_as_the_client_reads_it(
    kind: type[PlainRecords], data: bytes, start: int, aborted: list[tuple[int, int]]
) -> None:
    theirs = read(PartitionRecords, data, start, list(aborted))
    assert read(kind, data, start, list(aborted)) == theirs
    assert theirs[0]


def test_a_changelog_is_read_as_its_records() -> None:
    records = fetching.MemoryRecords(bytes(batch(10, 2)))
    partition = PartitionRecords(PLACE, records, [], 10, None, None, True, READ_COMMITTED)
    partition.__class__ = ChangelogRecords
    partition._records_iterator = partition._unpack_records()
    assert [(type(one), one.offset) for one in partition] == [
        (ChangelogRecord, 10),
        (ChangelogRecord, 11),
    ]


def test_the_time_that_the_broker_gives_is_the_time_of_all() -> None:
    data = batch(10, 3)
    data[21:23] = pack(">h", 0x08)
    data[35:43] = pack(">q", 77_000)
    data[17:21] = pack(">I", calc_crc32c(bytes(data[21:])))
    records = fetching.MemoryRecords(bytes(data))
    partition = PartitionRecords(PLACE, records, [], 10, None, None, True, READ_COMMITTED)
    partition.__class__ = PlainRecords
    partition._records_iterator = partition._unpack_records()
    assert [record.timestamp for record in partition] == [77_000] * 3


def test_a_wrong_checksum_is_told_with_its_place() -> None:
    data = batch(10, 3)
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException, match=r"shop\.order\.placed-3 at 10"):
        read(PlainRecords, bytes(data), 10, [])


@pytest.mark.skipif(not IS_COMPILED, reason="no C compiler when installed")
def test_bytes_that_are_no_records_are_told_with_their_place() -> None:
    data = batch(10, 3)
    data[61] = 0xFF
    data[17:21] = pack(">I", calc_crc32c(bytes(data[21:])))
    with pytest.raises(CorruptRecordException, match=r"shop\.order\.placed-3 at 10: "):
        read(PlainRecords, bytes(data), 10, [])


ITEMS = [
    Publish("t", 0, b"key", b"value " * 30 + b"%d" % at, [("a", b"b"), ("c", None)], 1_000 - at)
    for at in range(50)
]


def appended(codec: int) -> Any:
    builder: Any = BatchBuilder(900_000, codec, is_transactional=True)
    builder.__class__ = AppendedBatch
    return builder


@pytest.mark.skipif(not IS_COMPILED, reason="no C compiler when installed")
@pytest.mark.parametrize("codec", CODECS)
def test_a_written_batch_is_the_one_that_the_client_would_write(codec: int) -> None:
    written, builder = WrittenBatch(900_000, codec), appended(codec)
    for each in (written, builder):
        assert each.fill(ITEMS, 0) == len(ITEMS)
        assert each.record_count() == len(ITEMS)
        each._set_producer_state(7, 3, 40)
    # Compressed by the same encoders, at the same level as the client's is set to.
    records = [list(DefaultRecordBatch(bytes(each._build()))) for each in (written, builder)]
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records[0]] == [
        (r.offset, r.timestamp, r.key, r.value, r.headers) for r in records[1]
    ]
    heads = [DefaultRecordBatch(bytes(each._build())) for each in (written, builder)]
    for name in (
        "producer_id", "producer_epoch", "base_sequence", "is_transactional", "compression_type",
        "last_offset_delta", "first_timestamp", "max_timestamp", "magic",
    ):  # fmt: skip
        assert getattr(heads[0], name) == getattr(heads[1], name), name
    assert all(head.validate_crc() for head in heads)
    assert bytes(written._build()) == bytes(written._build())


@pytest.mark.parametrize(
    "is_written",
    [pytest.param(True, marks=pytest.mark.skipif(not IS_COMPILED, reason="no C compiler")), False],
)
def test_a_batch_takes_what_fits(is_written: bool) -> None:
    batches: list[Any] = []
    taken = 0
    while taken < len(ITEMS):
        batches.append(WrittenBatch(900_000, 0) if is_written else appended(0))
        taken = batches[-1].fill(ITEMS, taken, 2_000)
    assert sum(each.record_count() for each in batches) == len(ITEMS)
    assert 3 < len(batches) < 12
    assert all(each.size() <= 2_100 for each in batches)


@pytest.mark.skipif(not IS_COMPILED, reason="no C compiler when installed")
@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_is_the_same_packed_before_or_as_it_is_built(codec: int, times: int) -> None:
    packed, built = WrittenBatch(900_000, codec), WrittenBatch(900_000, codec)
    for each in (packed, built):
        assert each.fill(ITEMS * times, 0) == len(ITEMS) * times
        each._set_producer_state(7, 3, 40)
    asyncio.run(packed.pack())
    assert packed._build() == built._build()
    assert packed.fill(ITEMS, 0) == 0


@pytest.mark.skipif(not IS_COMPILED, reason="no C compiler when installed")
@pytest.mark.parametrize(("times", "is_aside"), [(1, False), (20, True)])
def test_only_a_large_batch_is_compressed_by_another_thread(
    times: int, is_aside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, threads = ENCODERS[4], []

    def noting(data: bytes) -> bytes:
        threads.append(threading.current_thread())
        return encode(data)

    monkeypatch.setitem(ENCODERS, 4, noting)
    written = WrittenBatch(900_000, 4)
    written.fill(ITEMS * times, 0)
    asyncio.run(written.pack())
    assert len(threads) == is_aside
    written._build()
    assert [thread is not threading.current_thread() for thread in threads] == [is_aside]


@pytest.mark.skipif(not IS_COMPILED, reason="no C compiler when installed")
def test_a_batch_that_was_built_takes_no_more() -> None:
    written = WrittenBatch(900_000, 0)
    assert written.fill(ITEMS, 0) == len(ITEMS)
    data = bytes(written._build())
    assert written.fill(ITEMS, 0) == 0
    assert (written.record_count(), written.size()) == (len(ITEMS), len(data))
