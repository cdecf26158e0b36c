"""The producer of a task by the second version of the protocol; on aiokafka's connections."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import count
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.transaction import InitProducerIdRequest

from edo_stream.engine.batches import AppendedBatch, WrittenBatch, empty_batch
from edo_stream.engine.compression import Compression
from edo_stream.engine.guard import pace_metadata
from edo_stream.engine.ports import BatchBuilder
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction import BATCH_BYTES_MAX
from edo_stream.engine.transaction_v2.deliveries import Deliveries, Landed
from edo_stream.engine.transaction_v2.fates import NO_ERROR, RETRY_S, Retry, retry_of
from edo_stream.engine.transaction_v2.requests import EndTxnRequest, TxnOffsetCommitRequest

log = logging.getLogger(__name__)

for owner, name in (
    (AIOKafkaClient, "_wait_on_metadata"),
    (AIOKafkaClient, "coordinator_lookup"),
):
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: pin the versions we know"

_NOBODY: Final = (-1, -1)


class SecondProducer:
    """See :class:`edo_stream.engine.ports.Producer`."""

    def __init__(
        self, access: BrokerAccess, transactional_id: str, timeout_ms: int, compression: Compression
    ) -> None:
        self.client: Any = AIOKafkaClient(
            **access.client(client_id=transactional_id, request_timeout_ms=timeout_ms)
        )
        pace_metadata(self.client)
        self._transactional_id = transactional_id
        self._timeout_ms = timeout_ms
        self._compression = compression
        self._identity = _NOBODY
        """Id and epoch: of one transaction only."""
        self._sequences: dict[TopicPartition, int] = {}
        self._deliveries = Deliveries(self.client, transactional_id, timeout_ms)
        self._coordinators: dict[CoordinationType, Any] = {}
        self._is_open = False
        self._has_sent = False

    async def start(self) -> None:
        """See :class:`edo_stream.engine.ports.Producer`."""
        await self.client.bootstrap()
        request = InitProducerIdRequest(self._transactional_id, self._timeout_ms)
        self._take_over(await self._ask_transactions(request, _code_of))

    async def stop(self) -> None:
        """See :class:`edo_stream.engine.ports.Producer`; waits for no answer."""
        try:
            await self._deliveries.drop()
        finally:
            await self.client.close()

    async def begin_transaction(self) -> None:
        """See :class:`edo_stream.engine.ports.Producer`."""
        assert self._identity != _NOBODY, "a transaction before the start, or after one that failed"
        assert not self._is_open, "a transaction within another"
        self._is_open = True
        self._has_sent = False

    def create_batch(self, topic: str) -> AppendedBatch | WrittenBatch:
        """See :class:`edo_stream.engine.ports.Producer`."""
        return empty_batch(BATCH_BYTES_MAX, self._compression.codec(topic))

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> Awaitable[Landed]:
        """See :class:`edo_stream.engine.ports.Producer`."""
        assert isinstance(batch, AppendedBatch | WrittenBatch), "a batch of another producer"
        partitions = await self.client._wait_on_metadata(topic)
        assert self._is_open, "no transaction is open"
        assert partition in partitions, f"{topic} has no partition {partition}"
        place = TopicPartition(topic, partition)
        sequence = self._sequences.get(place, 0)
        self._sequences[place] = sequence + batch.record_count()
        batch._set_producer_state(*self._identity, sequence)
        self._has_sent = True
        return self._deliveries.add(place, batch._build())

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None:
        """See :class:`edo_stream.engine.ports.Producer`."""
        assert self._is_open, "no transaction is open"
        topics: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for (topic, partition), offset in sorted(offsets.items()):
            topics[topic].append((partition, offset))
        self._has_sent = True
        request = TxnOffsetCommitRequest.of(
            self._transactional_id, group_id, self._identity, topics
        )
        await self._ask(CoordinationType.GROUP, group_id, request, _codes_of_partitions)

    async def commit_transaction(self) -> None:
        """See :class:`edo_stream.engine.ports.Producer`; not over a delivery that failed."""
        assert self._is_open, "no transaction is open"
        await self._deliveries.settle()
        await self._end(is_commit=True)

    async def abort_transaction(self) -> None:
        """See :class:`edo_stream.engine.ports.Producer`."""
        assert self._is_open, "no transaction is open"
        await self._deliveries.drop()
        await self._end(is_commit=False)

    async def _end(self, is_commit: bool) -> None:
        self._is_open = False
        if not self._has_sent:
            return  # The broker knows of no transaction.
        identity, self._identity = self._identity, _NOBODY
        request = EndTxnRequest.of(self._transactional_id, identity, is_commit)
        # Asked again with the same epoch when the answer is lost: a broker that has ended the
        # transaction tells that epoch's successor once more.
        self._take_over(await self._ask_transactions(request, _code_of))

    def _take_over(self, answer: Any) -> None:
        """Go on as the broker says; a new epoch's sequences begin at 0."""
        self._identity = (answer.producer_id, answer.producer_epoch)
        self._sequences.clear()

    async def _ask_transactions(
        self, request: Any, codes_of: Callable[[Any], Iterable[int]]
    ) -> Any:
        kind = CoordinationType.TRANSACTION
        return await self._ask(kind, self._transactional_id, request, codes_of)

    async def _ask(
        self,
        kind: CoordinationType,
        key: str,
        request: Any,
        codes_of: Callable[[Any], Iterable[int]],
    ) -> Any:
        """Ask a coordinator until it has done what is asked; the caller's patience bounds it.

        Raises:
            ProducerFenced: another producer has the transactional id.
            KafkaError: the transaction cannot go on.
        """
        for tried in count():
            retry = Retry(RETRY_S, is_elsewhere=True)
            try:
                if kind not in self._coordinators:
                    self._coordinators[kind] = await self.client.coordinator_lookup(kind, key)
                answer = await self.client.send(
                    self._coordinators[kind], request, group=ConnectionGroup.COORDINATION
                )
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("%s of %s, trying again: %s", type(request).__name__, key, error)
            else:
                failed = [code for code in codes_of(answer) if code != NO_ERROR]
                if not failed:
                    return answer
                # Of all of them: one that cannot be retried is raised.
                retry = min(retry_of(code, tried) for code in failed)
            if retry.is_elsewhere:
                self._coordinators.pop(kind, None)
            await asyncio.sleep(retry.after_s)
        raise AssertionError("it is tried without end")


def _code_of(answer: Any) -> Iterable[int]:
    return (answer.error_code,)


def _codes_of_partitions(answer: Any) -> Iterable[int]:
    return (code for _, parts, *_ in answer.topics for _, code, *_ in parts)
