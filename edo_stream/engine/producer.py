"""The real producers of tasks: aiokafka's, one per transactional id."""

from collections.abc import Callable
from typing import cast

from aiokafka import AIOKafkaProducer

from edo_stream.engine.guard import pace_metadata
from edo_stream.engine.ports import Producer
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction import BATCH_BYTES_MAX


class TaskProducer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer that may be dropped in the middle of a failed transaction."""

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            # The task knows of the failure already; asyncio would log it as never retrieved.
            waiter = self._txn_manager._transaction_waiter
            if waiter is not None and waiter.done() and not waiter.cancelled():
                waiter.exception()


def producer_factory(
    access: BrokerAccess, transaction_timeout_ms: int, compression: str | None
) -> Callable[[str], Producer]:
    """Make producers for transactional ids; they connect at ``start``."""

    def make(transactional_id: str) -> Producer:
        producer = TaskProducer(
            **access.client(
                transactional_id=transactional_id,
                client_id=transactional_id,
                transaction_timeout_ms=transaction_timeout_ms,
                request_timeout_ms=transaction_timeout_ms,
                acks="all",
                linger_ms=0,
                max_batch_size=BATCH_BYTES_MAX,
                compression_type=compression,
            )
        )
        pace_metadata(producer.client)
        return cast(Producer, producer)

    return make
