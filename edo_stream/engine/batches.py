"""Batches of a task's producer: filled with what the core wants published, in one call each.

aiokafka's own builder takes a record and its headers at a time; where the compiled half is in
use, it writes a batch's records itself, and all that is left here is the batch's header.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiokafka.producer.message_accumulator import BatchBuilder

from edo_stream.core.effects import Publish, WireRecords
from edo_stream.core.native import IS_COMPILED
from edo_stream.engine.ports import Row
from edo_stream.engine.record_batch import (
    AFTER_CRC,
    AFTER_LENGTH,
    CRC_AT,
    ENCODERS,
    HEADER,
    MAGIC,
    NO_LEADER_EPOCH,
    TRANSACTIONAL,
    Packable,
    checksum,
)

if IS_COMPILED:
    from edo_stream.core._native import RecordsWriter

assert hasattr(BatchBuilder, "_serialize"), "the client fills batches in another way now"
for name in ("_set_producer_state", "_build", "record_count", "size", "close", "closed"):
    assert hasattr(BatchBuilder, name), f"BatchBuilder.{name} is gone: pin the versions we know"

_RECORD_OVERHEAD_BYTES: Final = 128
_PACKED_ASIDE_BYTES: Final = 64 << 10
"""From this size on compressing takes longer than having another thread do it."""
_PACKERS: Final = ThreadPoolExecutor(2, thread_name_prefix="packer")


class ByAppending:
    """Fills a batch record by record; for batches that know ``append`` and ``record_count``."""

    def fill(self, items: Sequence[Publish], start: int, bytes_max: int | None = None) -> int:
        """See :class:`edo_stream.engine.ports.BatchBuilder`."""
        batch: Any = self
        size = 0
        for index in range(start, len(items)):
            item = items[index]
            if bytes_max is not None:
                size += _size_of(item)
                if size > bytes_max and batch.record_count():
                    return index
            added = batch.append(
                timestamp=item.timestamp_ms,
                key=item.key,
                value=item.value,
                # The client's record builder takes lists only.
                headers=item.headers if type(item.headers) is list else list(item.headers),
            )
            if added is None:
                return index
        return len(items)

    def adopt(self, records: WireRecords, bytes_max: int | None = None) -> bool:
        """See :class:`edo_stream.engine.ports.BatchBuilder`."""
        return self.fill(records.records(), 0, bytes_max) == len(records)

    def fill_rows(
        self, rows: Sequence[Row], start: int, now_ms: int, bytes_max: int | None = None
    ) -> int:
        """See :class:`edo_stream.engine.ports.BatchBuilder`."""
        items = [Publish("", 0, key, value, (), now_ms) for key, value in rows[start:]]
        return start + self.fill(items, 0, bytes_max)

    async def pack(self) -> None:
        """See :class:`edo_stream.engine.ports.BatchBuilder`; the client does it on its own."""


def _size_of(item: Publish) -> int:
    size = _RECORD_OVERHEAD_BYTES + len(item.key or b"") + len(item.value or b"")
    return size + sum(len(name) + len(content or b"") for name, content in item.headers)


class AppendedBatch(ByAppending, BatchBuilder):  # type: ignore[misc]
    """The client's batch, of what is bytes already: without a thought of serializers."""

    def append(
        self,
        *,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes | None]],
    ) -> object | None:
        """Add a record; ``None`` when the batch is full, or closed."""
        if self._closed:
            return None
        added: object = self._builder.append(self._relative_offset, timestamp, key, value, headers)
        if added is None:
            self.close()
            return None
        self._relative_offset += 1
        return added


def empty_batch(bytes_max: int, codec: int) -> "AppendedBatch | WrittenBatch":
    """A batch of a transaction, to be filled; its codec by number."""
    if IS_COMPILED:
        return WrittenBatch(bytes_max, codec)
    return AppendedBatch(bytes_max, codec, is_transactional=True)


class WrittenBatch:
    """A batch that the compiled half writes; used by the client as if it were its own."""

    def __init__(self, batch_bytes_max: int, compression: int) -> None:
        self._writer = RecordsWriter()
        self._bytes_max = batch_bytes_max - HEADER.size
        self._compression = compression
        self._producer = (-1, -1, 0)
        self._packed: tuple[Packable, int] | None = None
        self._buffer: bytearray | None = None
        self._closed = False

    def fill(self, items: Sequence[Publish], start: int, bytes_max: int | None = None) -> int:
        """See :class:`edo_stream.engine.ports.BatchBuilder`."""
        if self._closed:
            return start
        end = self._writer.fill(items, start, self._most(bytes_max))
        if end < len(items):
            self.close()
        return end

    def fill_rows(
        self, rows: Sequence[Row], start: int, now_ms: int, bytes_max: int | None = None
    ) -> int:
        """See :class:`edo_stream.engine.ports.BatchBuilder`."""
        end = self._writer.fill_rows(rows, start, now_ms, self._most(bytes_max))
        if end < len(rows):
            self.close()
        return end

    def adopt(self, records: WireRecords, bytes_max: int | None = None) -> bool:
        """See :class:`edo_stream.engine.ports.BatchBuilder`."""
        if records.size_bytes > self._most(bytes_max) and len(records) > 1:
            return False
        self._writer.adopt(records)
        return True

    def _most(self, bytes_max: int | None) -> int:
        """Bytes of records that it takes."""
        return self._bytes_max if bytes_max is None else min(bytes_max, self._bytes_max)

    def size(self) -> int:
        """Bytes so far."""
        return HEADER.size + self._writer.size if self._buffer is None else len(self._buffer)

    def record_count(self) -> int:
        """Records so far."""
        return self._writer.count

    def close(self) -> None:
        """Take no more."""
        self._closed = True

    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    async def pack(self) -> None:
        """See :class:`edo_stream.engine.ports.BatchBuilder`."""
        self.close()
        if self._compression and self._writer.size >= _PACKED_ASIDE_BYTES:
            loop = asyncio.get_running_loop()
            self._packed = await loop.run_in_executor(_PACKERS, self._compressed)

    def _compressed(self) -> tuple[Packable, int]:
        """The records, and the codec that they are compressed by; 0 if that would not pay."""
        records = self._writer.view()
        encode = ENCODERS.get(self._compression)
        packed = records if encode is None else encode(records)
        return (packed, self._compression) if len(packed) < len(records) else (records, 0)

    def _set_producer_state(self, producer_id: int, epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, epoch, base_sequence)

    def _build(self) -> bytearray:
        self.close()
        if self._buffer is None:
            # Once: what is sent again is the same, to the byte.
            self._buffer = self._built()
            self._packed = None
        return self._buffer

    def _built(self) -> bytearray:
        writer = self._writer
        records, codec = self._packed or self._compressed()
        batch = bytearray(HEADER.size)
        length = HEADER.size - AFTER_LENGTH + len(records)
        last = writer.count - 1
        times = (writer.first_ms, writer.max_ms)
        HEADER.pack_into(
            batch, 0, 0, length, NO_LEADER_EPOCH, MAGIC, 0, TRANSACTIONAL | codec, last, *times,
            *self._producer, writer.count,
        )  # fmt: skip
        batch += records
        batch[CRC_AT:AFTER_CRC] = checksum(memoryview(batch)[AFTER_CRC:]).to_bytes(4)
        return batch
