"""Partitions of keys, as Java's producer finds them."""

import pytest

from edo_stream.core.partitioner import murmur2, partition_of

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items())
def test_murmur2_hashes_as_java_does(key: bytes, expected: int) -> None:
    assert expected == murmur2(key)


def test_a_negative_hash_keeps_its_lower_bits() -> None:
    assert partition_of(b"21", 7) == (-973932308 & 0x7FFFFFFF) % 7
