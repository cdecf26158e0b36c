"""The way between a worker's gates and the owners of targets: two topics of the broker.

It is opened when there is something to send first. What is lost on it is asked again, so a failure
is not repaired but left behind: connections are made anew, and answers are read from now on.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from edo_stream.core.act.keeper import TargetPolicy
from edo_stream.core.partitioner import partition_of
from edo_stream.engine.fleet import Fleet
from edo_stream.engine.guard import pace_metadata
from edo_stream.engine.keepers import ANSWERS, PARTITIONS, REQUESTS
from edo_stream.engine.security import BrokerAccess

log = logging.getLogger(__name__)

_QUEUED_MAX: Final = 1_000
_RETRY_S: Final = 1.0
_STOP_S: Final = 5.0
_POLL_MS: Final = 1_000


class FleetLink:
    """Sends requests, and hands over answers; ``topics`` are those of requests and of answers."""

    fleet: Fleet

    def __init__(self, access: BrokerAccess, topics: tuple[str, str], partitions: int) -> None:
        self._access = access
        self._requests, self._answers = topics
        self._partitions = partitions
        self._queue: asyncio.Queue[tuple[str, bytes]] | None = None
        self._running: asyncio.Task[None] | None = None

    def send(self, target: str, value: bytes) -> None:
        """Send a request to the owner of a target, or lose it; call it in the event loop."""
        if self._queue is None:
            self._queue = asyncio.Queue(_QUEUED_MAX)
            self._running = asyncio.create_task(self._run(self._queue), name="fleet link")
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait((target, value))

    async def close(self) -> None:
        """Close the connections."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running], timeout=_STOP_S)

    async def _run(self, queue: asyncio.Queue[tuple[str, bytes]]) -> None:
        while True:
            try:
                await self._converse(queue)
            except (KafkaError, OSError) as error:
                log.warning("no way to the owners of targets: %s: %s", type(error).__name__, error)
            await asyncio.sleep(_RETRY_S)
            while not queue.empty():
                # Its time is over: what still matters is said again.
                queue.get_nowait()

    async def _converse(self, queue: asyncio.Queue[tuple[str, bytes]]) -> None:
        consumer = AIOKafkaConsumer(
            **self._access.client(
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="latest",
            )
        )
        producer = AIOKafkaProducer(**self._access.client(acks="all", linger_ms=0))
        pace_metadata(producer.client)
        try:
            await consumer.start()
            places = [TopicPartition(self._answers, n) for n in range(self._partitions)]
            # Before the first question: its answer lies behind these ends.
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            for place, end in ends.items():
                consumer.seek(place, end)
            await producer.start()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(producer, queue))
                both.create_task(self._listen(consumer))
        except* (KafkaError, OSError) as errors:
            raise _first(errors) from None
        finally:
            for client in (consumer, producer):
                with suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(_STOP_S):
                        await client.stop()

    async def _ask(
        self, producer: AIOKafkaProducer, queue: asyncio.Queue[tuple[str, bytes]]
    ) -> None:
        while True:
            target, value = await queue.get()
            key = target.encode()
            place = partition_of(key, self._partitions)
            sent = await producer.send(self._requests, value, key=key, partition=place)
            sent.add_done_callback(_lost)

    async def _listen(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    self.fleet.hear(record.value)


def _lost(sent: "asyncio.Future[object]") -> None:
    if not sent.cancelled() and (error := sent.exception()) is not None:
        log.info("a word to the owner of a target was lost: %s", type(error).__name__)


def join_fleet(
    access: BrokerAccess, app: str, worker: str, policies: Mapping[str, TargetPolicy]
) -> tuple[Fleet, FleetLink]:
    """The gates of a worker, and their way to the owners of the targets."""
    link = FleetLink(access, (REQUESTS, ANSWERS), PARTITIONS)
    fleet = link.fleet = Fleet(app, worker, policies, link.send)
    return fleet, link


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
