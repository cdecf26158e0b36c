"""Records as they are fetched, made into what their reader needs and nothing else.

aiokafka makes a record of eleven fields of each, half of them for nobody here: that took as long
as all the rest of reading. Where the compiled half is in use it reads the bytes of a batch; what
is left of aiokafka's is which batches there are, and which of them count.
"""

from collections.abc import Iterator, Sequence
from inspect import GEN_CREATED, getgeneratorstate
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher as fetching
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from edo_stream.core.native import IS_COMPILED
from edo_stream.core.record import PlainRecord, Record
from edo_stream.engine.odd_names import AnyBatch
from edo_stream.engine.ports import ChangelogRecord
from edo_stream.engine.record_batch import (
    AFTER_CRC,
    AFTER_LENGTH,
    APPENDED,
    CODEC_MASK,
    CRC_AT,
    DECODERS,
    HEADER,
    LENGTH_AT,
    MAGIC,
    MAGIC_AT,
    checksum,
)

if IS_COMPILED:
    from edo_stream.core._native import Corrupt, read_records, size_of

for owner, name in (
    (Fetcher, "_proc_fetch_request"),
    (PartitionRecords, "_consumer_record"),
    (PartitionRecords, "_unpack_records"),
    (fetching, "MemoryRecords"),
):
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: pin the versions we know"


_RECORD_OVERHEAD_BYTES: Final = 64


def bytes_in_hand(records: Sequence[Record]) -> int:
    """What records take of a task's bounds: keys, values and something for each."""
    if IS_COMPILED:
        return size_of(records, _RECORD_OVERHEAD_BYTES)
    return sum([len(r.value or b"") + len(r.key or b"") + _RECORD_OVERHEAD_BYTES for r in records])


class FetchedBytes:
    """The client's batches of a fetch, and their bytes; the next of both is the same batch."""

    def __init__(self, data: bytes) -> None:
        self._records: Any = MemoryRecords(data)
        self._data = data
        self._at = self._next = 0

    def size_in_bytes(self) -> int:
        """As the client has it."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The client's next batch."""
        self._at = self._next
        length = self._data[self._at + LENGTH_AT : self._at + AFTER_LENGTH]
        self._next += AFTER_LENGTH + int.from_bytes(length)
        return AnyBatch(self._records.next_batch(), self._data, self._at, self._next)

    def is_intact(self, batch: Any) -> bool:
        """Whether the checksum of the batch that :meth:`next_batch` gave is right."""
        if self._data[self._at + MAGIC_AT] != MAGIC:
            return bool(batch.validate_crc())
        wanted = self._data[self._at + CRC_AT : self._at + AFTER_CRC]
        content = memoryview(self._data)[self._at + AFTER_CRC : self._next]
        return checksum(content) == int.from_bytes(wanted)

    def read(self, partition: TopicPartition, from_offset: int) -> Sequence[Record] | None:
        """Records of the batch that :meth:`next_batch` gave; ``None``: the client is to read it.

        That is so for an old format, and without the compiled half.

        Raises:
            CorruptRecordException: its bytes are not what the format says.
        """
        if not IS_COMPILED or self._data[self._at + MAGIC_AT] != MAGIC:
            return None
        header = HEADER.unpack_from(self._data, self._at)
        base, _, _, _, _, attributes, _, first_ms, max_ms, _, _, _, count = header
        data: Any = memoryview(self._data)[self._at + HEADER.size : self._next]
        appended_ms = max_ms if attributes & APPENDED else -1
        try:
            if attributes & CODEC_MASK:
                data = _decompressed(attributes & CODEC_MASK, data)
            return read_records(
                partition.topic, partition.partition, data, count, base, first_ms, appended_ms,
                from_offset,
            )  # fmt: skip
        except Corrupt as error:
            place = f"{partition.topic}-{partition.partition} at {base}"
            raise CorruptRecordException(f"{place}: {error}") from None


def _decompressed(codec: int, data: memoryview) -> bytes:
    try:
        return DECODERS[codec](data.tobytes())
    except Exception as error:
        # Each codec's package has errors of its own.
        raise Corrupt(f"codec {codec} cannot read it: {type(error).__name__}: {error}") from error


setattr(fetching, "MemoryRecords", FetchedBytes)  # noqa: B010 - the client's own name


class PlainRecords(PartitionRecords):  # type: ignore[misc]
    """What a fetch has brought of a source's partition."""

    def __iter__(self) -> Iterator[Any]:
        records: Iterator[Any] = self._records_iterator
        return records

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        fetched: FetchedBytes = self._records
        while (batch := self._next_batch(fetched)) is not None:
            records = fetched.read(self._tp, self.next_fetch_offset)
            yield from self._given(self._read_slowly(batch) if records is None else records)
            # The last offset stays in a batch whose last record was compacted away.
            self.next_fetch_offset = batch.next_offset

    def _given(self, records: Any) -> Iterator[Any]:
        for record in records:
            self.next_fetch_offset = record.offset + 1
            yield record

    def _next_batch(self, fetched: FetchedBytes) -> Any:
        """The next batch with records that count, as the client sees it; ``None`` at the end."""
        while fetched.has_next():
            batch = fetched.next_batch()
            if self._check_crcs and not fetched.is_intact(batch):
                place = f"{self._tp.topic}-{self._tp.partition}"
                raise CorruptRecordException(f"{place} at {batch.base_offset}: wrong checksum")
            is_aborted = False
            if self._isolation_level == fetching.READ_COMMITTED and batch.producer_id is not None:
                self._consume_aborted_up_to(batch.base_offset)
                if batch.is_control_batch and self._contains_abort_marker(batch):
                    self._aborted_producers.discard(batch.producer_id)
                is_aborted = batch.is_transactional and batch.producer_id in self._aborted_producers
            if not (is_aborted or batch.is_control_batch):
                return batch
            self.next_fetch_offset = batch.next_offset
        return None

    def _read_slowly(self, batch: Any) -> Iterator[Any]:
        for record in batch:
            if record.offset >= self.next_fetch_offset:
                yield self._consumer_record(self._tp, record)

    def _consumer_record(self, partition: TopicPartition, record: Any) -> Any:
        return PlainRecord(
            partition.topic,
            partition.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            record.headers,
        )


class ChangelogRecords(PlainRecords):
    """What a fetch has brought of a changelog's partition."""

    def _given(self, records: Any) -> Iterator[Any]:
        for record in records:
            self.next_fetch_offset = record.offset + 1
            yield ChangelogRecord(record.offset, record.key, record.value)

    def _consumer_record(self, partition: TopicPartition, record: Any) -> ChangelogRecord:
        return ChangelogRecord(record.offset, record.key, record.value)


def read_as(kind: type[PlainRecords], fetcher: Any) -> None:
    """Have a started client's fetcher give out records of a kind."""
    process = fetcher._proc_fetch_request

    async def process_so(*args: Any) -> Any:
        needs_wakeup = await process(*args)
        # Before anybody is woken for it. What was there already is of the kind already.
        for result in fetcher._records.values():
            records: Any = getattr(result, "_partition_records", None)
            if type(records) is PartitionRecords and _is_unread(records):
                records.__class__ = kind
                records._records_iterator = records._unpack_records()
        return needs_wakeup

    fetcher._proc_fetch_request = process_so


def _is_unread(records: PartitionRecords) -> bool:
    iterator = records._records_iterator
    return iterator is not None and getgeneratorstate(iterator) == GEN_CREATED
