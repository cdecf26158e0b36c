"""The real producers of tasks, one per transactional id.

By the first version of the transaction protocol they are aiokafka's; by the second our own
(:mod:`edo_stream.engine.transaction_v2`).
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, cast

from aiokafka import AIOKafkaProducer
from aiokafka.codec import zstd_encode
from aiokafka.producer import sender
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from edo_stream.engine.batches import AppendedBatch, WrittenBatch, empty_batch
from edo_stream.engine.compression import Compression
from edo_stream.engine.guard import pace_metadata
from edo_stream.engine.lz4_frame import lz4_encode
from edo_stream.engine.ports import Producer
from edo_stream.engine.record_batch import ZSTD_LEVEL
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction import BATCH_BYTES_MAX
from edo_stream.engine.transaction_v2.choice import TransactionProtocol
from edo_stream.engine.transaction_v2.producer import SecondProducer

#: A transaction that begins right after the last one meets a coordinator that is still writing
#: that one's markers, and is told to try again. They are written within milliseconds; the
#: client's own pause of 20 would be the longest part of a small transaction.
_MARKERS_PAUSE_S = 0.003
assert sender.BACKOFF_OVERRIDE == 0.02, "the client's pause has changed: measure ours again"
sender.BACKOFF_OVERRIDE = _MARKERS_PAUSE_S

_builders = sys.modules[DefaultRecordBatchBuilder.__module__]
for name, encode in (
    ("lz4_encode", lz4_encode),
    ("zstd_encode", partial(zstd_encode, level=ZSTD_LEVEL)),
):
    assert hasattr(_builders, name), "the client compresses elsewhere now"
    setattr(_builders, name, encode)

#: A healthy broker has answered by then; an unhealthy one would hold up a rebalance.
_FLUSH_S = 1.0


class TaskProducer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer that may be dropped in the middle of a failed transaction."""

    def __init__(self, compression: Compression, **client: Any) -> None:
        super().__init__(**client)
        self._compression = compression

    def create_batch(self, topic: str) -> AppendedBatch | WrittenBatch:
        """Give an empty batch to fill, for a topic."""
        return empty_batch(BATCH_BYTES_MAX, self._compression.codec(topic))

    async def stop(self) -> None:
        """Flush if that is quick, and close the connections whatever is unfinished.

        aiokafka's own waits for requests that nobody answers, and leaves tasks and connections
        behind when it is not waited for.
        """
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await super().stop()
        finally:
            left = list(_tasks_of(self._sender, self._message_accumulator))
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self.client.close()
            # The task knows of the failure already; asyncio would log it as never retrieved.
            waiter = self._txn_manager._transaction_waiter
            if waiter is not None and waiter.done() and not waiter.cancelled():
                waiter.exception()


def _tasks_of(*owners: object) -> Iterator[asyncio.Task[Any]]:
    """Tasks that run methods of the objects; aiokafka keeps no list of all of them."""
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        # A coroutine without a ``self`` is none of theirs, nor of an owner that is not there yet.
        owner = None if frame is None else frame.f_locals.get("self")
        if owner is not None and any(owner is one for one in owners):
            yield task


def producer_factory(
    access: BrokerAccess,
    transaction_timeout_ms: int,
    compression: Compression,
    protocol: TransactionProtocol,
) -> Callable[[str], Producer]:
    """Make producers for transactional ids; they connect at ``start``."""

    def make(transactional_id: str) -> Producer:
        if protocol is TransactionProtocol.SECOND:
            return SecondProducer(access, transactional_id, transaction_timeout_ms, compression)
        producer = TaskProducer(
            compression,
            **access.client(
                transactional_id=transactional_id,
                client_id=transactional_id,
                transaction_timeout_ms=transaction_timeout_ms,
                request_timeout_ms=transaction_timeout_ms,
                acks="all",
                linger_ms=0,
                max_batch_size=BATCH_BYTES_MAX,
            ),
        )
        pace_metadata(producer.client)
        return cast(Producer, producer)

    return make
