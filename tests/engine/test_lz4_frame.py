"""LZ4 frames: what Kafka's readers find in them, by the client's decoder and by the format."""

import os
import random

import pytest
from aiokafka import codec

from edo_stream.engine.lz4_frame import lz4_encode

_MIB = 1 << 20
SIZES = [0, 1, 64 << 10, (64 << 10) + 1, 900_000, _MIB, _MIB + 1, 4 * _MIB, 4 * _MIB + 1, 9 * _MIB]


def words(size: int) -> bytes:
    """What compresses somewhat, and never the same way."""
    chance = random.Random(size)
    texts = [b"%x " % chance.getrandbits(60) for _ in range(50)]
    return b"".join(chance.choice(texts) for _ in range(size // 10 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [words, os.urandom], ids=["words", "noise"])
def test_what_was_compressed_is_read_again(size: int, make: object) -> None:
    assert callable(make)
    data = make(size)
    assert codec.lz4_decode(lz4_encode(data)) == data


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_frame_has_independent_blocks_no_larger_than_it_says(size: int) -> None:
    frame = lz4_encode(words(size))
    assert frame[:5] == bytes.fromhex("04224d1860")
    block_bytes = {0x40: 64 << 10, 0x50: 256 << 10, 0x60: _MIB, 0x70: 4 * _MIB}[frame[5]]
    at, blocks = 7, 0
    while (block := int.from_bytes(frame[at : at + 4], "little")) != 0:
        assert block & 0x7FFF_FFFF <= block_bytes
        at, blocks = at + 4 + (block & 0x7FFF_FFFF), blocks + 1
    assert at + 4 == len(frame)
    assert blocks == -(-size // block_bytes)


def test_noise_is_kept_as_it_is() -> None:
    data = os.urandom(100_000)
    assert len(lz4_encode(data)) == len(data) + 7 + 4 + 4
