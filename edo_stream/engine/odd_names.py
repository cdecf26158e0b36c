"""Batches of which some header has a name that is no text: brokers take it, the client does not.

The client stops at such a record, and so would its partition. Here it is read with what of the name
is text, as the compiled half reads it; what becomes of it is for the contract to say.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from aiokafka.errors import CorruptRecordException
from aiokafka.record.util import decode_varint

from edo_stream.engine.record_batch import APPENDED, CODEC_MASK, DECODERS, HEADER, MAGIC, MAGIC_AT

_CREATED: Final = 0
_BY_BROKER: Final = 1


class ReadRecord(NamedTuple):
    """A record, as the client's own are."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class AnyBatch:
    """A batch of the client's whose records can be read whatever the names of their headers."""

    def __init__(self, batch: Any, data: bytes, start: int, end: int) -> None:
        """``data`` is what was fetched, in which the batch is from ``start`` to ``end``."""
        self._batch = batch
        self._data = data
        self._place = slice(start, end)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except (UnicodeDecodeError, CorruptRecordException):
            data = self._data[self._place]
            if data[MAGIC_AT] != MAGIC:
                raise
        return iter(list(read_batch(data)))


def read_batch(batch: bytes) -> Iterator[ReadRecord]:
    """Records of a batch of format 2.

    Raises:
        CorruptRecordException: its bytes are not what the format says.
    """
    base, _, _, _, _, attributes, _, first_ms, max_ms, _, _, _, count = HEADER.unpack_from(batch)
    data = bytearray(memoryview(batch)[HEADER.size :])
    if attributes & CODEC_MASK:
        data = bytearray(DECODERS[attributes & CODEC_MASK](bytes(data)))
    at = 0
    for _ in range(count):
        length, start = _number(data, at)
        at = start + 1
        delta_ms, at = _number(data, at)
        delta, at = _number(data, at)
        key, at = _bytes(data, at)
        value, at = _bytes(data, at)
        headers_count, at = _number(data, at)
        headers = []
        for _ in range(headers_count):
            name, at = _bytes(data, at)
            content, at = _bytes(data, at)
            headers.append(((name or b"").decode("utf-8", "replace"), content))
        if at != start + length:
            raise CorruptRecordException(f"{base + delta}: expected {length} bytes of a record")
        is_appended = bool(attributes & APPENDED)
        at_ms = max_ms if is_appended else first_ms + delta_ms
        kind = _BY_BROKER if is_appended else _CREATED
        yield ReadRecord(base + delta, at_ms, kind, key, value, headers)


def _number(data: bytearray, at: int) -> tuple[int, int]:
    try:
        number, at = decode_varint(data, at)
    except (IndexError, ValueError) as error:
        raise CorruptRecordException(f"expected a number at byte {at}") from error
    return number, at


def _bytes(data: bytearray, at: int) -> tuple[bytes | None, int]:
    size, at = _number(data, at)
    if size < 0:
        return None, at
    if at + size > len(data):
        raise CorruptRecordException(f"expected {size} bytes at byte {at}")
    return bytes(data[at : at + size]), at + size
