"""Faust's transport with one Faust event per partition batch, and the task's ports onto it.

The broker connection, group membership, rebalance and assignor stay Faust's and aiokafka's. What
changes is the drain loop: instead of a message, event and queue hop per record, a batch of raw
records travels as the value of one event. The batches are linked (see
:class:`edo_stream.engine.ports.Handed`), so that one that is dropped on the way, by Faust or by a
cancelled fetch, is noticed by its task.

Two threads: aiokafka's consumer lives in Faust's consumer thread, tasks live in the main loop.
What is written at a drain or a seek (``_chain``, ``_epochs``) is written in the consumer thread
only, without an await in between.

Private names of Faust and aiokafka are used here; the packages are pinned, and the names are
asserted at import.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, TypeVar, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher as AiokafkaFetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from faust.transport.conductor import Conductor
from faust.transport.drivers import aiokafka as driver
from faust.types import ConsumerMessage
from mode.threads import ServiceThread

from edo_stream.engine.fetched import PlainRecords, bytes_in_hand, read_as
from edo_stream.engine.guard import ConsumerGuard, Patience, pace_metadata
from edo_stream.engine.ports import Handed, Standing

log = logging.getLogger(__name__)

for owner, name in (
    (driver.Consumer, "_drain_messages"),
    (driver.Consumer, "_new_consumer_thread"),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (AiokafkaFetcher, "fetched_records"),
    (GroupCoordinator, "_do_heartbeat"),
    (Conductor, "acks_enabled_for"),
    (ServiceThread, "on_thread_stop"),
):
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: pin the versions we know"

#: How long a fetch waits at the broker for data (Faust has 1,500 ms). A partition that is
#: resumed waits behind the fetch in flight, so this bounds the latency of a resume.
FETCH_WAIT_MS = 100
#: And while there is nothing to resume: with many partitions, asking is what idling costs.
IDLE_WAIT_MS = 500
_FETCH_WAIT_S = 1.0
_NEVER_MS = 2**31 - 1
_NOTHING_TO_FETCH_S = 0.02

#: Marks of backpressure per partition: records and bytes handed over and not yet done with.
RECORDS_HIGH, RECORDS_LOW = 8_000, 4_000
BYTES_HIGH, BYTES_LOW = 8 << 20, 2 << 20

#: How much later than its timeout a rebalance may be answered.
_REBALANCE_ANSWER_S = 5.0

T = TypeVar("T")


class TaskConsumerThread(driver.AIOKafkaConsumerThread):
    """Consumer thread that reads committed records only and remembers its heartbeats."""

    #: When the last accepted heartbeat was sent, and its generation.
    heartbeat: tuple[float, int] = (0.0, -1)
    _guarding: asyncio.Task[None] | None = None

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        # Faust's own would read uncommitted records and wait 1.5 s at the broker.
        app: Any = self.app
        conf = app.conf
        self._assignor = app.assignor
        return AIOKafkaConsumer(
            **app.worker_settings.access.client(
                client_id=conf.broker_client_id,
                group_id=conf.id,
                group_instance_id=conf.consumer_group_instance_id,
                partition_assignment_strategy=[self._assignor],
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_poll_records=conf.broker_max_poll_records,
                # Never leave the group for not polling: aiokafka counts only polls by its own
                # methods, and a worker without a task rightly polls nothing. A worker that
                # hangs is found by its health page.
                max_poll_interval_ms=_NEVER_MS,
                max_partition_fetch_bytes=conf.consumer_max_fetch_size,
                fetch_max_wait_ms=FETCH_WAIT_MS,
                # Connecting and asking for metadata; for all else see the guard.
                request_timeout_ms=int(conf.broker_session_timeout * 1000),
                session_timeout_ms=int(conf.broker_session_timeout * 1000),
                rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
                heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            )
        )

    async def on_start(self) -> None:
        await super().on_start()
        client: Any = self._consumer
        if not isinstance(client._coordinator, GroupCoordinator):
            return  # A client without a group: there is nothing to remember.
        send_heartbeat = client._coordinator._do_heartbeat

        async def do_heartbeat() -> bool:
            sent_at, generation = monotonic(), client._coordinator.generation
            try:
                accepted = await send_heartbeat()
            except GroupAuthorizationFailedError:
                raise
            except KafkaError as error:
                # aiokafka would send no more heartbeats after an error that it does not know.
                log.warning("heartbeat refused, trying again: %s", error)
                return False
            if accepted:
                self.heartbeat = (sent_at, generation)
            return cast(bool, accepted)

        client._coordinator._do_heartbeat = do_heartbeat
        read_as(PlainRecords, client._fetcher)
        guard = ConsumerGuard(client, _patience(self.app), self._on_lost)
        self._guarding = asyncio.create_task(guard.watch(), name="consumer guard")

    def _on_lost(self, why: str) -> None:
        cast(TaskConsumer, self.consumer).on_lost(why)

    async def on_thread_stop(self) -> None:
        if self._guarding is not None:
            self._guarding.cancel()
        await super().on_thread_stop()


def _patience(app: Any) -> Patience:
    """What the settings say about waiting: a broker is as good as gone after a session timeout."""
    conf = app.conf
    return Patience(
        # Less than the client's own, by which a question ends and leaves its connection as it is.
        request_s=conf.broker_session_timeout * 2 / 3,
        heartbeat_s=conf.broker_session_timeout / 3,
        rebalance_s=conf.broker_rebalance_timeout + _REBALANCE_ANSWER_S,
    )


class TaskConsumer(driver.Consumer):
    """Faust's consumer with a drain loop of batches; the ports ``Intake`` and ``Membership``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chain: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = {}
        #: Epochs as the main loop knows them; ``_epochs`` follows in the consumer thread.
        self._wanted: dict[TopicPartition, int] = {}
        self._outstanding: dict[TopicPartition, tuple[int, int]] = {}
        self._asker: AIOKafkaConsumer | None = None
        self._asker_begins = asyncio.Lock()
        self._paused: set[TopicPartition] = set()
        self._resuming: set[asyncio.Task[None]] = set()
        #: When the drain loop last came round, on the event loop's clock.
        self.fetched_at: float | None = None
        #: Called when the log no longer has the offset that a partition stands at.
        self.on_out_of_range: Callable[[TopicPartition], None] = lambda partition: None
        #: Called, in the consumer thread, when the client cannot go on; says why.
        self.on_lost: Callable[[str], None] = log.critical

    def _new_consumer_thread(self) -> TaskConsumerThread:
        return TaskConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Do nothing: tasks seek, to the offsets that their state was written at."""

    # -- assignment

    async def hold_all(self) -> None:
        """Own nothing and fetch nothing of what is assigned, until tasks seek."""

        async def hold() -> None:
            self._epochs.clear()
            self._chain.clear()
            client = self._client()
            client.pause(*client.assignment())
            self._pace_fetches(client)

        self._wanted.clear()
        await self._in_thread(hold)
        self._outstanding.clear()
        self._paused.clear()

    # -- the drain loop

    async def _drain_messages(self, fetcher: Any) -> None:
        services: list[Any] = [self, fetcher]
        loop = asyncio.get_running_loop()
        while not any(service.should_stop for service in services):
            self.fetched_at = loop.time()
            if not (self.flow_active and self._epochs):
                await self.sleep(_NOTHING_TO_FETCH_S)
                continue
            try:
                batches = await self._in_thread(self._fetch)
            except ConsumerStoppedError:
                return
            # Drained before a rebalance, they are void by their epoch. Drained after it, by a
            # fetch that began before, they are linked to the new epoch and must not be dropped.
            for batch in batches:
                await self._hand_over(batch)
            await asyncio.sleep(0)

    async def _fetch(self) -> list[Handed]:
        """Drain what is fetched; in the consumer thread, so linked before anything awaits."""
        client = self._client()
        try:
            drained = await client._fetcher.fetched_records(
                # As they are by then: a partition that is moved to meanwhile does not wait for
                # others to have records.
                self._epochs.keys(),
                timeout=_FETCH_WAIT_S,
                max_records=client._max_poll_records,
            )
        except OffsetOutOfRangeError as error:
            for partition in error.args[0]:
                self._lose(client, TopicPartition(*partition))
            return []
        except NoOffsetForPartitionError:
            return []  # Not positioned yet: its task is about to move it.
        except ConsumerStoppedError:
            raise
        except KafkaError as error:
            log.error("fetch failed: %s: %s", type(error).__name__, error)
            self._break_chains(client)
            await asyncio.sleep(1.0)
            return []
        batches = []
        for partition, records in drained.items():
            epoch = self._epochs.get(partition)
            if epoch is None:
                continue
            size_bytes = bytes_in_hand(records)
            batches.append(Handed(partition, records, epoch, self._chain[partition], size_bytes))
            self._chain[partition] = records[-1].offset
        return batches

    def _break_chains(self, client: Any) -> None:
        """Have every task look for a hole: records drained before the error went with it."""
        assignment = client._subscription.subscription.assignment
        for partition in self._epochs:
            if assignment is not None and partition in assignment.tps:
                state = assignment.state_value(partition)
                if state.has_valid_position:
                    self._chain[partition] = state.position - 1

    def _lose(self, client: Any, partition: TopicPartition) -> None:
        """Fetch no more of a partition whose position is gone; its task moves it, or stops."""
        # Without the pause the fetcher would ask again at once, a thousand times a second.
        if partition in client.assignment():
            client.pause(partition)
        if self._epochs.pop(partition, None) is not None:
            self.loop.call_soon_threadsafe(self.on_out_of_range, partition)

    async def _hand_over(self, batch: Handed) -> None:
        partition = batch.partition
        if batch.epoch != self._wanted.get(partition):
            return
        records, size_bytes = self._outstanding.get(partition, (0, 0))
        records, size_bytes = records + len(batch.records), size_bytes + batch.size_bytes
        self._outstanding[partition] = (records, size_bytes)
        if (records >= RECORDS_HIGH or size_bytes >= BYTES_HIGH) and partition not in self._paused:
            self._paused.add(partition)
            await self._in_thread(lambda: self._pause_or_resume(partition))
        # What Faust's queues are made for: nobody reads more of it than where it is from.
        message = ConsumerMessage(
            partition.topic,
            partition.partition,
            batch.records[-1].offset,
            timestamp=0.0,
            timestamp_type=0,
            headers=None,
            key=None,
            value=None,
            checksum=None,
            tp=cast(Any, partition),
            generation_id=self.app.consumer_generation_id,
        )
        event = self.app.create_event(None, batch, None, message)
        conductor = cast(Conductor, self.app.topics)
        for channel in conductor._tp_index[partition]:
            message.incref()
            await channel.queue.put(event)

    async def _pause_or_resume(self, partition: TopicPartition) -> None:
        """Do as ``_paused`` says by now: of two calls, whichever comes last does the right thing.

        A resume that was asked for earlier may come later than a pause.
        """
        # aiokafka's own pause: Faust's loses what was already fetched.
        client = self._client()
        if partition in client.assignment():
            (client.pause if partition in self._paused else client.resume)(partition)
            self._pace_fetches(client)

    def _pace_fetches(self, client: Any) -> None:
        """Wait longer at the broker while no partition is left out of the fetch in flight."""
        is_complete = not self._paused and len(self._epochs) == len(client.assignment())
        assert hasattr(client._fetcher, "_fetch_max_wait_ms")
        client._fetcher._fetch_max_wait_ms = IDLE_WAIT_MS if is_complete else FETCH_WAIT_MS

    # -- port Intake

    async def move_to(self, partition: TopicPartition, offset: int, epoch: int) -> None:
        """See :class:`edo_stream.engine.ports.Intake`."""

        async def move() -> None:
            client = self._client()
            if partition not in client.assignment():
                return
            client.seek(partition, offset)
            self._chain[partition] = offset - 1
            self._epochs[partition] = epoch
            client.resume(partition)
            self._pace_fetches(client)

        # From here on, what is still on its way counts for nothing: neither handed nor credited.
        self._wanted[partition] = epoch
        self._outstanding.pop(partition, None)
        self._paused.discard(partition)
        await self._in_thread(move)

    def credit(self, handed: Handed) -> None:
        """See :class:`edo_stream.engine.ports.Intake`."""
        partition = handed.partition
        if handed.epoch != self._wanted.get(partition):
            return
        records, size_bytes = self._outstanding.get(partition, (0, 0))
        records, size_bytes = records - len(handed.records), size_bytes - handed.size_bytes
        self._outstanding[partition] = (records, size_bytes)
        if partition in self._paused and records <= RECORDS_LOW and size_bytes <= BYTES_LOW:
            self._paused.discard(partition)
            resume = asyncio.ensure_future(
                self._in_thread(lambda: self._pause_or_resume(partition))
            )
            self._resuming.add(resume)
            resume.add_done_callback(self._resuming.discard)

    def last_handed(self, partition: TopicPartition) -> int | None:
        """See :class:`edo_stream.engine.ports.Intake`."""
        return self._chain.get(partition)

    async def fetch_position(self, partition: TopicPartition) -> int | None:
        """See :class:`edo_stream.engine.ports.Intake`."""

        # In the consumer thread, where a drain moves position and chain in one go: read from
        # here, a position could be ahead of a batch that is still on its way.
        async def ask() -> int | None:
            subscription = self._client()._subscription.subscription
            assignment = None if subscription is None else subscription.assignment
            if assignment is None or partition not in assignment.tps:
                return None
            state = assignment.state_value(partition)
            return cast(int, state.position) if state.has_valid_position else None

        return await self._in_thread(ask)

    def standing(self, partition: TopicPartition) -> Standing | None:
        """See what the last fetch told, from the main loop and without waiting.

        The consumer thread may change it meanwhile: right to within one fetch, for metrics.
        """
        client = self._thread._consumer
        if client is None or (subscription := client._subscription.subscription) is None:
            return None
        assignment = subscription.assignment
        if assignment is None or partition not in assignment.tps:
            return None
        state = assignment.state_value(partition)
        return Standing(state._position, state.lso, self._chain.get(partition))

    async def committed(self, partitions: Sequence[TopicPartition]) -> list[int | None]:
        """See :class:`edo_stream.engine.ports.Intake`."""

        async def ask() -> list[int | None]:
            client = self._client()
            return [await client.committed(partition) for partition in partitions]

        return await self._in_thread(ask)

    async def log_bounds(self, partitions: Sequence[TopicPartition]) -> list[tuple[int, int]]:
        """See :class:`edo_stream.engine.ports.Intake`."""

        async def ask() -> list[tuple[int, int]]:
            client = self._client()
            first = await client.beginning_offsets(partitions)
            end = await client.end_offsets(partitions)
            return [(first[partition], end[partition]) for partition in partitions]

        return await self._in_thread(ask)

    async def high_watermarks(self, partitions: Sequence[TopicPartition]) -> list[int]:
        """See :class:`edo_stream.engine.ports.Intake`."""
        asker = await self._open_asker()
        try:
            ends = await asker.end_offsets(partitions)
        except KafkaError:
            # Its connection may be dead; the next question gets a new one.
            await self._close_asker()
            raise
        return [ends[partition] for partition in partitions]

    async def _open_asker(self) -> AIOKafkaConsumer:
        """On the main loop, with a connection of its own: the consumer sees stable ends only."""
        async with self._asker_begins:  # Tasks ask side by side, and have one between them.
            if self._asker is None:
                app: Any = self.app
                asker = AIOKafkaConsumer(
                    **app.worker_settings.access.client(
                        isolation_level="read_uncommitted",
                        enable_auto_commit=False,
                        request_timeout_ms=int(app.conf.broker_session_timeout * 1000),
                    )
                )
                pace_metadata(asker._client)
                try:
                    await asker.start()
                except BaseException:
                    await asker.stop()
                    raise
                self._asker = asker
            return self._asker

    async def _close_asker(self) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            await asker.stop()

    async def on_stop(self) -> None:
        await self._close_asker()
        await super().on_stop()

    async def offset_at(self, partition: TopicPartition, at_ms: int) -> int | None:
        """See :class:`edo_stream.engine.ports.Intake`."""

        async def ask() -> int | None:
            found = await self._client().offsets_for_times({partition: at_ms})
            return None if found[partition] is None else cast(int, found[partition].offset)

        return await self._in_thread(ask)

    # -- port Membership

    async def confirmed_since(self, moment: float, timeout_s: float) -> bool:
        """See :class:`edo_stream.engine.ports.Membership`."""
        generation = self.app.consumer_generation_id
        deadline = monotonic() + timeout_s
        while monotonic() < deadline:
            sent_at, of_generation = cast(TaskConsumerThread, self._thread).heartbeat
            if sent_at > moment and of_generation == generation:
                return self.app.consumer_generation_id == generation
            await asyncio.sleep(0.1)
        return False

    def heard_at(self) -> float:
        """See :class:`edo_stream.engine.ports.Membership`."""
        return cast(TaskConsumerThread, self._thread).heartbeat[0]

    # -- threads

    def _client(self) -> Any:
        client = self._thread._consumer
        if client is None:
            raise ConsumerStoppedError
        return client

    async def _in_thread(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        # Past Faust's method queue, whose two workers a waiting fetch could occupy.
        loop = self._thread.thread_loop
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop))


class TaskTransport(driver.Transport):
    """Plugs the consumer in: ``app.transport = TaskTransport(url, app)``."""

    Consumer = TaskConsumer
