"""Kafka's record batch, format 2: its header, and what its records are compressed by.

Shared by those who read and write batches without the client's builders; the rest of the format
is the compiled half's (``core/_native.pyx``).
"""

from collections.abc import Callable, Mapping
from functools import partial
from struct import Struct
from typing import Final, TypeAlias

from aiokafka import codec
from aiokafka.record.util import calc_crc32c

from edo_stream.core.native import IS_COMPILED
from edo_stream.engine.lz4_frame import lz4_encode

if IS_COMPILED:
    from edo_stream.core._native import HAS_CRC32C, crc32c

Packable: TypeAlias = bytes | memoryview
"""What is compressed: records where they were written."""

HEADER: Final = Struct(">qiibIhiqqqhii")
"""Base offset, length, leader's epoch, magic, CRC, attributes, last offset's delta, first and last
time, producer's id, epoch and sequence, number of records."""
LENGTH_AT: Final = 8
AFTER_LENGTH: Final = 12
MAGIC_AT: Final = 16
CRC_AT: Final = 17
AFTER_CRC: Final = 21

MAGIC: Final = 2
NO_LEADER_EPOCH: Final = -1
CODEC_MASK: Final = 0x07
"""Of the attributes: the number of the codec, 0 for none."""
APPENDED: Final = 0x08
"""Of the attributes: the time of all records is the broker's."""
TRANSACTIONAL: Final = 0x10

#: Half the time of level 3, which the client has fixed, and as small (docs/benchmarks.md).
ZSTD_LEVEL: Final = 1
_GZIP, _SNAPPY, _LZ4, _ZSTD = range(1, 5)
CODECS: Final[Mapping[str, int]] = {"none": 0, "lz4": _LZ4, "zstd": _ZSTD}
"""Numbers of those that a producer may be told to use."""
DECODERS: Final[Mapping[int, Callable[[bytes], bytes]]] = {
    _GZIP: codec.gzip_decode,
    _SNAPPY: codec.snappy_decode,
    _LZ4: codec.lz4_decode,
    _ZSTD: codec.zstd_decode,
}
ENCODERS: Final[dict[int, Callable[[Packable], bytes]]] = {
    _GZIP: codec.gzip_encode,
    _SNAPPY: codec.snappy_encode,
    _LZ4: lz4_encode,
    _ZSTD: partial(codec.zstd_encode, level=ZSTD_LEVEL),
}


def checksum(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C of a batch behind its own."""
    # Without the instruction the client's is as fast.
    return crc32c(data) if IS_COMPILED and HAS_CRC32C else calc_crc32c(data)
