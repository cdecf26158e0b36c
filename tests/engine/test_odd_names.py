"""Header names that are no UTF-8, as brokers take them: their records are read all the same."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from edo_stream.engine.fetched import FetchedBytes, PlainRecords
from edo_stream.engine.record_batch import AFTER_CRC, CODECS, CRC_AT, ENCODERS, HEADER, checksum

PLACE = TopicPartition("t", 3)
ODD, TEXT = b"od\xff\xfe", "od\ufffd\ufffd"


def batch(base: int, name: bytes, codec: str | None = None, count: int = 3) -> bytes:
    """A batch in which the second record has a header of a name, and others have one as well."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 1 << 20)
    for number in range(count):
        headers = [("same", b"s"), ("XXXX" if number == 1 else "else", b"v"), ("none", None)]
        builder.append(number, 1_700_000_000_000 + number, b"k%d" % number, b"v" * 100, headers)
    data = bytearray(bytes(builder.build()).replace(b"XXXX", name))
    if codec is not None:
        packed = ENCODERS[CODECS[codec]](bytes(data[HEADER.size :]))
        data = data[: HEADER.size] + packed
        data[22] |= CODECS[codec]
        data[8:12] = (len(data) - 12).to_bytes(4)
    data[:8] = base.to_bytes(8)
    data[CRC_AT:AFTER_CRC] = checksum(data[AFTER_CRC:]).to_bytes(4)
    return bytes(data)


def read(kind: type[PartitionRecords], data: bytes, start: int = 0) -> list[Any]:
    return list(kind(PLACE, FetchedBytes(data), [], start, None, None, True, READ_UNCOMMITTED))


@pytest.mark.parametrize("kind", [PlainRecords, PartitionRecords])
@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_records_with_odd_names_are_read_as_the_others(
    kind: type[PartitionRecords], codec: str | None
) -> None:
    data = batch(0, ODD, codec) + batch(3, b"name", codec) + batch(6, ODD, codec)
    wanted = batch(0, b"name", codec) + batch(3, b"name", codec) + batch(6, b"name", codec)
    found, others = read(kind, data, 1), read(kind, wanted, 1)
    assert list(range(1, 9)) == [one.offset for one in found]
    for one, other in zip(found, others, strict=True):
        is_odd = one.offset in (1, 7)
        names = [TEXT if is_odd and name == "name" else name for name, _ in other.headers]
        assert names == [name for name, _ in one.headers]
        assert [value for _, value in other.headers] == [value for _, value in one.headers]
        assert (other.timestamp, other.key, other.value) == (one.timestamp, one.key, one.value)


@pytest.mark.parametrize("kind", [PlainRecords, PartitionRecords])
@pytest.mark.parametrize("at", [61, 62, 70])
def test_what_is_no_batch_stays_none(kind: type[PartitionRecords], at: int) -> None:
    data = bytearray(batch(0, ODD))
    data[at] = 0xFF
    data[CRC_AT:AFTER_CRC] = checksum(data[AFTER_CRC:]).to_bytes(4)
    with pytest.raises(CorruptRecordException):
        read(kind, bytes(data))
