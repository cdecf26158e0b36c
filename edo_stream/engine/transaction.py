"""One transaction of a task: outputs, changelogs and offsets, all or nothing (invariant 1).

aiokafka commits a transaction although one of its batches failed to be produced; so every
delivery is awaited before the offsets are sent, and any failure aborts. What is raised says what
is known of the outcome:

- :class:`TransactionAbortedError`: nothing of it is or will be visible. A :class:`TooLargeError`
  is one that says why it would be so again.
- :class:`OutcomeUnknownError`: the commit was asked for and not confirmed.
- :class:`FencedError`: another producer has initialised the transactional id.

After each of the three the producer is spent: the task resets, which initialises the
transactional id anew and reads back what was really committed.
"""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
)

from edo_stream.core.effects import Publish, WireRecords
from edo_stream.core.native import IS_COMPILED
from edo_stream.engine.ports import BatchBuilder, Delivered, Producer

if IS_COMPILED:
    from edo_stream.core._native import by_place

#: A batch larger than its topic's ``max.message.bytes`` is refused as a whole.
BATCH_BYTES_MAX = 900_000


class TransactionError(Exception):
    """The transaction did not, or may not have, committed."""


class TransactionAbortedError(TransactionError):
    """Nothing of the transaction is visible to a ``read_committed`` reader, now or later."""


class TooLargeError(TransactionAbortedError):
    """A topic takes no batch as large as one of these; says what to do."""


class OutcomeUnknownError(TransactionError):
    """The commit was requested but not confirmed: only the log can tell."""


class FencedError(TransactionError):
    """Another producer has taken over the transactional id."""


class Change(msgspec.Struct, frozen=True):
    """What a table wants on its changelog partition."""

    topic: str
    partition: int
    rows: Mapping[bytes, bytes | None]


class _Sent(NamedTuple):
    """A batch on its way."""

    partition: TopicPartition
    records: int
    size_bytes: int
    delivered: Awaitable[Delivered]


class Transaction:
    """Begin, produce, await every delivery, offsets, commit; used once.

    ``batch_bytes_max`` gives the largest batch of topics that allow less than the default.
    """

    def __init__(
        self,
        producer: Producer,
        group_id: str,
        timeout_s: float,
        batch_bytes_max: Mapping[str, int] | None = None,
    ) -> None:
        self._producer = producer
        self._group_id = group_id
        self._timeout_s = timeout_s
        self._batch_bytes_max = batch_bytes_max or {}
        self._sent: list[_Sent] = []

    async def run(
        self,
        publish: Sequence[Publish],
        changes: Sequence[Change],
        offsets: Mapping[TopicPartition, int],
        now_ms: int,
        wire: Sequence[WireRecords] = (),
    ) -> dict[TopicPartition, int]:
        """Carry it out; returns the last offset that each changelog partition has got.

        Of a partition, ``wire`` goes before ``publish``.
        An offset is -1 where the broker confirmed a repeated batch without telling where the
        first copy landed.

        Raises:
            TransactionError: see the subclasses; the producer is spent.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                last = await self._write(publish, changes, now_ms, wire)
                if offsets:
                    await self._producer.send_offsets_to_transaction(offsets, self._group_id)
        except (ProducerFenced, IllegalOperation) as error:
            # The latter: its sender has met the fence between two transactions.
            raise FencedError(str(error)) from error
        except TooLargeError:
            await self._abort()
            raise
        except (KafkaError, TimeoutError) as error:
            await self._abort()
            raise TransactionAbortedError(f"{type(error).__name__}: {error}") from error
        await self._commit()
        return last

    async def _write(
        self,
        publish: Sequence[Publish],
        changes: Sequence[Change],
        now_ms: int,
        wire: Sequence[WireRecords],
    ) -> dict[TopicPartition, int]:
        await self._producer.begin_transaction()
        for partition, batch in self._filled(publish, changes, now_ms, wire):
            await self._hand_over(batch, partition)
        # Every delivery, before anything else: aiokafka would commit over a failed one.
        outcomes = await asyncio.gather(
            *(sent.delivered for sent in self._sent), return_exceptions=True
        )
        last: dict[TopicPartition, int] = {}
        for (partition, count, size_bytes, _), outcome in zip(self._sent, outcomes, strict=True):
            if isinstance(outcome, MessageSizeTooLargeError | RecordListTooLargeError):
                raise TooLargeError(
                    f"{partition.topic}-{partition.partition} takes no batch of {count:,} records "
                    f"and {size_bytes:,} bytes, before compression. Raise max.message.bytes of "
                    f"{partition.topic} (and segment.bytes, if that is smaller)"
                ) from outcome
            if isinstance(outcome, BaseException):
                raise outcome
            last[partition] = -1 if outcome.offset < 0 else outcome.offset + count - 1
        return {
            partition: last[partition]
            for partition in (TopicPartition(c.topic, c.partition) for c in changes)
            if partition in last
        }

    def _filled(
        self,
        publish: Sequence[Publish],
        changes: Sequence[Change],
        now_ms: int,
        wire: Sequence[WireRecords],
    ) -> Iterator[tuple[TopicPartition, BatchBuilder]]:
        """All that is to be written, in batches that their topics take."""
        written: dict[TopicPartition, list[WireRecords]] = {}
        for records in wire:
            written.setdefault(TopicPartition(records.topic, records.partition), []).append(records)
        grouped = _grouped(publish)
        for partition in dict.fromkeys((*written, *grouped)):
            yield from self._batches(
                partition, grouped.get(partition, ()), written.get(partition, ())
            )
        for change in changes:
            yield from self._batches_of_rows(change, now_ms)

    def _batches(
        self,
        partition: TopicPartition,
        items: Sequence[Publish],
        wire: Sequence[WireRecords],
    ) -> Iterator[tuple[TopicPartition, BatchBuilder]]:
        bytes_max = self._batch_bytes_max.get(partition.topic)
        batch, taken = None, 0
        for index, records in enumerate(wire):
            if batch is not None:
                yield partition, batch
            batch = self._producer.create_batch(partition.topic)
            if not batch.adopt(records, bytes_max):
                batch = None
                items = [*chain.from_iterable(one.records() for one in wire[index:]), *items]
                break
        if batch is not None:
            if items:
                taken = batch.fill(items, taken, bytes_max)
            yield partition, batch
        while taken < len(items):
            batch = self._producer.create_batch(partition.topic)
            taken = batch.fill(items, taken, bytes_max)
            yield partition, batch

    def _batches_of_rows(
        self, change: Change, now_ms: int
    ) -> Iterator[tuple[TopicPartition, BatchBuilder]]:
        bytes_max = self._batch_bytes_max.get(change.topic)
        rows, taken = list(change.rows.items()), 0
        while taken < len(rows):
            batch = self._producer.create_batch(change.topic)
            taken = batch.fill_rows(rows, taken, now_ms, bytes_max)
            yield TopicPartition(change.topic, change.partition), batch

    async def _hand_over(self, batch: BatchBuilder, partition: TopicPartition) -> None:
        count, size_bytes = batch.record_count(), batch.size()
        await batch.pack()
        delivered = await self._producer.send_batch(
            batch, partition.topic, partition=partition.partition
        )
        self._sent.append(_Sent(partition, count, size_bytes, delivered))

    async def _commit(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._producer.commit_transaction()
        except ProducerFenced as error:
            raise FencedError(str(error)) from error
        except (KafkaError, TimeoutError) as error:
            raise OutcomeUnknownError(f"{type(error).__name__}: {error}") from error

    async def _abort(self) -> None:
        # A courtesy to readers, who would wait for the transaction to time out; what makes it
        # safe is that the producer is spent and the transactional id initialised anew.
        with suppress(KafkaError, TimeoutError, AssertionError):
            async with asyncio.timeout(1.0):
                await self._producer.abort_transaction()


def _grouped(publish: Sequence[Publish]) -> dict[TopicPartition, list[Publish]]:
    if IS_COMPILED:
        return {TopicPartition(*place): items for place, items in by_place(publish).items()}
    grouped: dict[TopicPartition, list[Publish]] = {}
    by_name: dict[tuple[str, int], list[Publish]] = {}
    items: list[Publish] = []
    topic, partition = "", -1
    for record in publish:
        if record.partition != partition or record.topic != topic:
            topic, partition = place = (record.topic, record.partition)
            if place not in by_name:
                by_name[place] = grouped[TopicPartition(*place)] = []
            items = by_name[place]
        items.append(record)
    return grouped
