"""The consumer of one process and what lies between it and the tasks, as the transport has it.

A fetch drains several partitions at once: positions and chain move with it, in the consumer's
thread. The batches reach the main loop later, are handed over one by one, and travel through a
queue per topic to the task. On that way some get lost, as in Faust.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaConnectionError

from edo_stream.core.record import Record
from edo_stream.engine.ports import ChangelogRecord, Grown, Handed
from edo_stream.testing.broker import Entry
from edo_stream.testing.loop import START_MS
from edo_stream.testing.producer import Machinery

Answer = TypeVar("Answer")
Made = TypeVar("Made")
_RECORDS_HIGH, _RECORDS_LOW = 24, 6


class SimulatedIntake:
    """The port ``Intake``; see :class:`edo_stream.engine.transport.TaskConsumer`."""

    def __init__(self, machinery: Machinery, records_max: int, topics: Sequence[str]) -> None:
        self.offer: Callable[[Handed], None] = lambda handed: None
        self.on_out_of_range: Callable[[TopicPartition], None] = lambda partition: None
        self.generation = 0
        self._m = machinery
        self._records_max = records_max
        self._assigned: dict[TopicPartition, None] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._chain: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = {}
        self._outstanding: dict[TopicPartition, int] = {}
        self._paused: dict[TopicPartition, None] = {}
        self._news = asyncio.Event()
        self._queues: dict[str, deque[Handed]] = {topic: deque() for topic in topics}
        self._arrivals = {topic: asyncio.Event() for topic in topics}

    def begin(self) -> Callable[[], None]:
        """Start to fetch and to pass on what was fetched; the result ends the listening."""
        m = self._m
        listen = self._news.set
        m.broker.listeners.append(listen)
        m.process.start(self._drain())
        for topic in self._queues:
            m.process.start(self._pass_on(topic))
        return lambda: m.broker.listeners.remove(listen)

    def hold_all(self, assigned: Sequence[TopicPartition], generation: int) -> None:
        """A new assignment: own nothing and fetch nothing until tasks seek."""
        self.generation = generation
        self._assigned = dict.fromkeys(assigned)
        for memory in (self._positions, self._chain, self._epochs):
            memory.clear()
        self._outstanding.clear()
        self._paused.clear()
        for queue in self._queues.values():
            # Faust empties its queues when it resumes after a rebalance; stale batches may
            # also have got through before that.
            if queue and not self._m.faults.strikes("stale-batches"):
                queue.clear()

    # -- what the port has

    async def committed(self, partitions: Sequence[TopicPartition]) -> list[int | None]:
        broker = self._m.broker
        return await self._ask(lambda: [broker.offsets.get(place) for place in partitions])

    async def log_bounds(self, partitions: Sequence[TopicPartition]) -> list[tuple[int, int]]:
        logs = [self._m.broker.logs[place] for place in partitions]
        return await self._ask(lambda: [(log.start, log.last_stable) for log in logs])

    async def high_watermarks(self, partitions: Sequence[TopicPartition]) -> list[int]:
        logs = [self._m.broker.logs[place] for place in partitions]
        return await self._ask(lambda: [log.end for log in logs])

    async def offset_at(self, partition: TopicPartition, at_ms: int) -> int | None:
        log = self._m.broker.logs[partition]
        later = (entry.offset for entry in log.entries if entry.timestamp >= at_ms)
        return await self._ask(lambda: next(later, None))

    async def move_to(self, partition: TopicPartition, offset: int, epoch: int) -> None:
        m = self._m
        m.faults.enter(m.process)
        self._outstanding.pop(partition, None)
        self._paused.pop(partition, None)
        await asyncio.sleep(0.0005)
        if partition in self._assigned:
            self._positions[partition] = offset
            self._chain[partition] = offset - 1
            self._epochs[partition] = epoch
            self._news.set()
        m.faults.leave(m.process)

    def credit(self, handed: Handed) -> None:
        partition = handed.partition
        if handed.epoch != self._epochs.get(partition):
            return
        records = self._outstanding.get(partition, 0) - len(handed.records)
        self._outstanding[partition] = records
        if partition in self._paused and records <= _RECORDS_LOW:
            del self._paused[partition]
            self._news.set()

    def last_handed(self, partition: TopicPartition) -> int | None:
        return self._chain.get(partition)

    async def fetch_position(self, partition: TopicPartition) -> int | None:
        return self._positions.get(partition)

    # -- the consumer's thread, and the way to the tasks

    async def _drain(self) -> None:
        m = self._m
        while True:
            while not (wanted := self._wanted()):
                self._news.clear()
                await self._news.wait()
            records_max = 1 + int(m.faults.between(0, self._records_max))
            delay_s = 8 ** m.faults.between(-1, 1) if m.faults.strikes("fetch-slow") else 0.0
            found = await m.network.call(
                m.process, self._fetch, wanted, records_max, delay_s=delay_s
            )
            batches = self._linked(wanted, found)
            # From the consumer's thread to the main loop.
            await asyncio.sleep(m.faults.between(0, 0.002))
            for batch in batches:
                await self._hand_over(batch)

    def _wanted(self) -> dict[TopicPartition, int]:
        """Positions of the partitions that have something to read, and may be read."""
        return {
            place: position
            for place, position in self._positions.items()
            if place not in self._paused
            and place in self._epochs
            and position < self._m.broker.logs[place].last_stable
        }

    def _fetch(
        self, wanted: dict[TopicPartition, int], records_max: int
    ) -> dict[TopicPartition, tuple[list[Entry], int] | None]:
        found: dict[TopicPartition, tuple[list[Entry], int] | None] = {}
        for place, position in wanted.items():
            log = self._m.broker.logs[place]
            found[place] = None if position < log.start else log.read(position, records_max)
        return found

    def _linked(
        self,
        wanted: dict[TopicPartition, int],
        found: dict[TopicPartition, tuple[list[Entry], int] | None],
    ) -> list[Handed]:
        batches = []
        for place, part in found.items():
            if self._positions.get(place) != wanted[place] or place not in self._epochs:
                continue  # It was sought meanwhile.
            if part is None:
                self._positions.pop(place)
                self._epochs.pop(place)
                self.on_out_of_range(place)
                continue
            records, self._positions[place] = part
            if records:
                epoch, previous = self._epochs[place], self._chain[place]
                batches.append(Handed(place, records, epoch, previous))
                self._chain[place] = records[-1].offset
        return batches

    async def _hand_over(self, batch: Handed) -> None:
        partition, faults = batch.partition, self._m.faults
        if batch.epoch != self._epochs.get(partition):
            return
        records = self._outstanding.get(partition, 0) + len(batch.records)
        self._outstanding[partition] = records
        if records >= _RECORDS_HIGH:
            self._paused[partition] = None
            await asyncio.sleep(faults.between(0, 0.002))
        if faults.strikes("queue-full"):
            await asyncio.sleep(faults.between(0, 1))
        if not faults.strikes("batch-dropped"):
            self._queues[partition.topic].append(batch)
            self._arrivals[partition.topic].set()

    async def _pass_on(self, topic: str) -> None:
        queue, arrival, faults = self._queues[topic], self._arrivals[topic], self._m.faults
        while True:
            arrival.clear()
            while queue:
                if faults.strikes("delivery-slow"):
                    await asyncio.sleep(8 ** faults.between(-2, 1))
                if queue:
                    self.offer(queue.popleft())
            await arrival.wait()

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        m = self._m
        m.faults.enter(m.process)
        if m.faults.strikes("consumer-stopped"):
            raise ConsumerStoppedError
        if m.faults.strikes("ask-fails"):
            await asyncio.sleep(m.faults.between(0, 1))
            raise KafkaConnectionError("simulated: no answer")
        answer: Answer = await m.network.call(m.process, question)
        m.faults.leave(m.process)
        return answer


class SimulatedChangelog:
    """See :class:`edo_stream.engine.ports.Changelog`."""

    def __init__(self, machinery: Machinery, records_max: int) -> None:
        self._m = machinery
        self._records_max = records_max

    async def partitions(self, topic: str) -> int:
        m = self._m
        m.faults.enter(m.process)
        count: int = await m.network.call(
            m.process, lambda: sum(place.topic == topic for place in m.broker.logs)
        )
        m.faults.leave(m.process)
        return count

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        m = self._m
        m.faults.enter(m.process)
        log = m.broker.logs[partition]
        bounds: tuple[int, int] = await m.network.call(
            m.process, lambda: (log.start, log.last_stable)
        )
        m.faults.leave(m.process)
        return bounds

    def read(self, partition: TopicPartition, start: int, end: int) -> "_Reading":
        return _Reading(self._m, partition, start, end, self._records_max)


class _Reading:
    """A read under way; no generator, whose end would depend on the garbage collector."""

    def __init__(
        self,
        machinery: Machinery,
        partition: TopicPartition,
        start: int,
        end: int,
        records_max: int,
    ) -> None:
        self._m = machinery
        self._log = machinery.broker.logs[partition]
        self._position = start
        self._end = end
        self._records_max = records_max

    def __aiter__(self) -> "_Reading":
        return self

    async def __anext__(self) -> Sequence[ChangelogRecord]:
        m = self._m
        while self._position < self._end:
            m.faults.enter(m.process)
            if m.faults.strikes("restore-fails"):
                await asyncio.sleep(m.faults.between(0, 1))
                raise KafkaConnectionError("simulated: restore broken off")
            records_max = 1 + int(m.faults.between(0, self._records_max))
            found, self._position = await m.network.call(
                m.process, self._log.read, self._position, records_max
            )
            m.faults.leave(m.process)
            part = [
                ChangelogRecord(each.offset, each.key, each.value)
                for each in found
                if each.offset < self._end
            ]
            if part:
                return part
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is held."""


class _SimulatedFollower(Generic[Made]):
    """See :class:`edo_stream.engine.ports.Follower`."""

    def _made(self, entry: Entry) -> Made:
        """What is made of a record."""
        raise NotImplementedError

    def __init__(self, machinery: Machinery, records_max: int) -> None:
        self._m = machinery
        self._records_max = records_max
        self._positions: dict[TopicPartition, int] = {}

    async def follow(self, starts: Mapping[TopicPartition, int]) -> None:
        m = self._m
        m.faults.enter(m.process)
        self._positions = {}
        await asyncio.sleep(m.faults.between(0, 0.02))
        self._positions = dict(starts)
        m.faults.leave(m.process)

    async def next(self, records_max: int) -> Mapping[TopicPartition, Grown[Made]]:
        m = self._m
        m.faults.enter(m.process)
        if m.faults.strikes("restore-fails"):
            await asyncio.sleep(m.faults.between(0, 1))
            raise KafkaConnectionError("simulated: nothing to follow")
        await self._news()
        records_max = 1 + int(m.faults.between(0, min(records_max, self._records_max)))
        grown = {}
        for place, position in self._positions.items():
            found, end = await m.network.call(m.process, self._read, place, position, records_max)
            records = [self._made(each) for each in found[0] if each.key is not None]
            told_ms = START_MS + int(m.loop.time() * 1000)
            grown[place] = Grown(records, found[1], end, told_ms)
            self._positions[place] = found[1]
        m.faults.leave(m.process)
        return grown

    async def close(self) -> None:
        self._positions = {}

    def _read(
        self, place: TopicPartition, position: int, records_max: int
    ) -> tuple[tuple[list[Entry], int], int]:
        log = self._m.broker.logs[place]
        return log.read(position, records_max), log.last_stable

    async def _news(self) -> None:
        """Wait until there is something to read, half a second at most."""
        logs = self._m.broker.logs
        if any(position < logs[place].last_stable for place, position in self._positions.items()):
            return
        news = asyncio.Event()
        self._m.broker.listeners.append(news.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await news.wait()
        finally:
            self._m.broker.listeners.remove(news.set)


class SimulatedFollower(_SimulatedFollower[ChangelogRecord]):
    """Follows changelogs."""

    def _made(self, entry: Entry) -> ChangelogRecord:
        return ChangelogRecord(entry.offset, entry.key or b"", entry.value)


class SimulatedTableFollower(_SimulatedFollower[Record]):
    """Follows tables."""

    def _made(self, entry: Entry) -> Record:
        return entry
