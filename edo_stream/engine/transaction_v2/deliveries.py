"""Batches of a transaction on their way to the leaders of their partitions."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import DuplicateSequenceNumber, KafkaError

from edo_stream.engine.gathering import all_ended
from edo_stream.engine.transaction_v2.fates import NO_ERROR, RETRY_S, retry_of
from edo_stream.engine.transaction_v2.requests import ProduceRequest

log = logging.getLogger(__name__)

_DUPLICATE = DuplicateSequenceNumber.errno
_NO_LEADER = (None, -1)


class Landed(NamedTuple):
    """See :class:`edo_stream.engine.ports.Delivered`."""

    offset: int


class _Parcel(NamedTuple):
    place: TopicPartition
    data: bytes | bytearray
    landed: "asyncio.Future[Landed]"


class Deliveries:
    """Sends what is added, in rounds: the next batch of each partition, one request a leader.

    A partition's batches go one after another, so that none can overtake an earlier one that is
    sent again. What is sent again is the same to the byte: the broker knows it by its sequence.
    """

    def __init__(self, client: Any, transactional_id: str, timeout_ms: int) -> None:
        self._client = client
        self._transactional_id = transactional_id
        self._timeout_ms = timeout_ms
        self._waiting: dict[TopicPartition, deque[_Parcel]] = {}
        self._tried: dict[TopicPartition, int] = {}
        """How often the first batch of a partition was sent again."""
        self._rounds: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    def add(self, place: TopicPartition, data: bytes | bytearray) -> "asyncio.Future[Landed]":
        """Send a batch whose header is complete; the future fails when its delivery does."""
        landed: asyncio.Future[Landed] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(place, deque()).append(_Parcel(place, data, landed))
        if self._rounds is None:
            # It begins when the caller first awaits: what is added until then goes together.
            self._rounds = asyncio.create_task(self._run(), name="deliveries")
        return landed

    async def settle(self) -> None:
        """Wait until nothing is under way.

        Raises:
            KafkaError: a batch was not delivered; the transaction must not commit.
        """
        while self._rounds is not None:
            await asyncio.wait([self._rounds])
        if self._failure is not None:
            raise self._failure
        if self._waiting:
            # Who sent them was ended from outside.
            raise KafkaError(f"batches for {sorted(self._waiting)} wait, and nobody sends them")

    async def drop(self) -> None:
        """Send no more, and forget all of it."""
        rounds, self._rounds = self._rounds, None
        try:
            if rounds is not None:
                rounds.cancel()
                await asyncio.wait([rounds])
        finally:
            for parcels in self._waiting.values():
                for parcel in parcels:
                    parcel.landed.cancel()
            self._waiting.clear()
            self._tried.clear()
            self._failure = None

    async def _run(self) -> None:
        try:
            while self._waiting:
                pause_s = await self._round()
                if pause_s:
                    await asyncio.sleep(pause_s)
        except Exception as error:  # noqa: BLE001 - told to those who wait for the batches
            for parcels in list(self._waiting.values()):
                for parcel in list(parcels):
                    self._fail(parcel, error)
        finally:
            self._rounds = None

    async def _round(self) -> float:
        """Send the first batch of every partition; how long to wait before the next round."""
        by_leader: dict[Any, list[_Parcel]] = defaultdict(list)
        for place, parcels in self._waiting.items():
            by_leader[self._client.cluster.leader_for_partition(place)].append(parcels[0])
        homeless = [one for leader in _NO_LEADER for one in by_leader.pop(leader, ())]
        sending = [self._send(leader, parcels) for leader, parcels in by_leader.items()]
        pauses = [await sending[0]] if len(sending) == 1 else await all_ended(sending)
        if homeless:
            await self._client.force_metadata_update()
            pauses.append(RETRY_S)
        return max(pauses)

    async def _send(self, leader: Any, parcels: Sequence[_Parcel]) -> float:
        topics: dict[str, list[tuple[int, bytes | bytearray]]] = defaultdict(list)
        for place, data, _ in parcels:
            topics[place.topic].append((place.partition, data))
        request = ProduceRequest.of(self._transactional_id, self._timeout_ms, topics)
        try:
            answer = await self._client.send(leader, request)
        except KafkaError as error:
            if not error.retriable:
                for parcel in parcels:
                    self._fail(parcel, error)
                return 0.0
            log.warning("produce to node %s, trying again: %s", leader, error)
            self._client.force_metadata_update()
            return RETRY_S
        told = {
            TopicPartition(topic, number): (code, offset)
            for topic, parts, *_ in answer.topics
            for number, code, offset, *_ in parts
        }
        return max(self._hear(parcel, *told[parcel.place]) for parcel in parcels)

    def _hear(self, parcel: _Parcel, code: int, offset: int) -> float:
        """Take up what a broker says of a batch; how long to wait before it is sent again."""
        if code in (NO_ERROR, _DUPLICATE):
            self._done(parcel)
            if not parcel.landed.done():
                parcel.landed.set_result(Landed(offset))
            return 0.0
        try:
            tried = self._tried.get(parcel.place, 0)
            retry = retry_of(code, tried)
        except KafkaError as error:
            self._fail(parcel, error)
            return 0.0
        self._tried[parcel.place] = tried + 1
        if retry.is_elsewhere:
            self._client.force_metadata_update()
        return retry.after_s

    def _fail(self, parcel: _Parcel, error: BaseException) -> None:
        self._done(parcel)
        self._failure = self._failure or error
        if not parcel.landed.done():
            parcel.landed.set_exception(error)
            # Who added it may have failed for another one's sake, and not wait for this one.
            parcel.landed.exception()

    def _done(self, parcel: _Parcel) -> None:
        parcels = self._waiting[parcel.place]
        assert parcels[0] is parcel
        parcels.popleft()
        self._tried.pop(parcel.place, None)
        if not parcels:
            del self._waiting[parcel.place]


for name in ("send", "force_metadata_update"):
    assert hasattr(AIOKafkaClient, name), f"AIOKafkaClient.{name} is gone: pin the versions we know"
