"""LZ4 at its fastest level, in the frames that Kafka reads: of blocks that stand for themselves.

The client compresses at level 9, which takes ten times as long for a tenth less
(docs/benchmarks.md), and what it calls keeps other threads from running; this does not.
"""

from typing import Any, Final

import cramjam

_MIB: Final = 1 << 20
#: Largest block and the header that announces it: magic, flags (version 1, independent blocks, no
#: checksums), size of blocks, and the header's own checksum.
_HEADERS: Final = (
    (64 << 10, bytes.fromhex("04224d18604082")),
    (256 << 10, bytes.fromhex("04224d186050fb")),
    (1 * _MIB, bytes.fromhex("04224d18606051")),
    (4 * _MIB, bytes.fromhex("04224d18607073")),
)
_END: Final = bytes(4)
_IS_STORED: Final = 1 << 31
"""Of a block's size: it is as it was, for it would not get smaller."""


def lz4_encode(data: bytes | memoryview) -> bytes:
    """Compress; in one block where that is possible: each takes the interpreter anew."""
    block_bytes, header = next(
        (size, header) for size, header in _HEADERS if len(data) <= size or size == _HEADERS[-1][0]
    )
    parts: list[bytes | memoryview] = [header]
    for start in range(0, len(data), block_bytes):
        block = data if len(data) <= block_bytes else data[start : start + block_bytes]
        packed: Any = cramjam.lz4.compress_block(block, store_size=False)
        if len(packed) < len(block):
            parts += (len(packed).to_bytes(4, "little"), packed)
        else:
            parts += ((len(block) | _IS_STORED).to_bytes(4, "little"), block)
    parts.append(_END)
    return b"".join(parts)
