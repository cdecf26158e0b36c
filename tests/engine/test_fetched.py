"""Batches as brokers have them, whole and damaged: read as the client reads them, or refused."""

from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from edo_stream.core.native import IS_COMPILED
from edo_stream.engine.fetched import FetchedBytes
from edo_stream.engine.record_batch import AFTER_CRC, HEADER, LENGTH_AT, MAGIC, MAGIC_AT

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason="no C compiler when installed")

PLACE = TopicPartition("in", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_ATTRIBUTES_AT = AFTER_CRC + 1


def batch(codec: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for offset in range(8):
        headers = [("ce_id", b"id-%d" % offset), ("ce_type", b"order.placed"), ("none", None)]
        builder.append(offset, 1_000 + offset, b"k%d" % (offset % 3), b"value " * offset, headers)
    return bytes(builder.build())


def read(data: bytes) -> list[Any]:
    fetched = FetchedBytes(data)
    assert fetched.has_next()
    fetched.next_batch()
    records = fetched.read(PLACE, 0)
    assert records is not None
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]


def read_by_client(data: bytes) -> list[Any]:
    records = DefaultRecordBatch(data)
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_batch_is_read_as_the_client_reads_it(codec: int) -> None:
    data = batch(codec)
    assert 8 == len(read(data))
    assert read(data) == read_by_client(data)


def damaged(chance: Random, whole: bytes) -> bytes:
    """Some bytes are others; length and format stay what they are."""
    data = bytearray(whole)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(AFTER_CRC, len(data))
        data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256), data[at] ^ 1))
    if chance.random() < 0.2:
        del data[chance.randrange(HEADER.size, len(data)) :]
        data[LENGTH_AT : LENGTH_AT + 4] = (len(data) - LENGTH_AT - 4).to_bytes(4)
    assert data[MAGIC_AT] == MAGIC
    return bytes(data)


def judge_damaged(chance: Random, codec: int, rounds: int) -> int:
    """Read damaged batches; how many were refused, as a reader may expect it."""
    whole, refused = batch(codec), 0
    for _ in range(rounds):
        try:
            read(damaged(chance, whole))
        except CorruptRecordException:
            refused += 1
    return refused


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_damaged_batch_is_read_or_refused(codec: int) -> None:
    assert judge_damaged(Random(codec), codec, 2_000) > 500


def test_a_codec_that_nobody_knows_is_refused_with_its_place() -> None:
    data = bytearray(batch(0))
    data[_ATTRIBUTES_AT] |= 7
    with pytest.raises(CorruptRecordException, match="in-0 at 0: codec 7 cannot read it"):
        read(bytes(data))
