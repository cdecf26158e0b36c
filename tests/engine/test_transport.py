"""The consumer's side of tasks: a real second thread, and a client that does as it is told."""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException

from edo_stream.core.record import PlainRecord
from edo_stream.engine import transport
from edo_stream.engine.ports import Handed
from edo_stream.engine.transport import TaskConsumer, TaskConsumerThread

PLACE = TopicPartition("topic", 0)
OTHER = TopicPartition("topic", 1)


class Client:
    """Fetcher and subscription of two partitions, at offset 100 each."""

    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()
        self._max_poll_records = 2_000
        self._fetcher = self
        self._fetch_max_wait_ms = transport.FETCH_WAIT_MS
        state = SimpleNamespace(position=100, has_valid_position=True)
        assignment = SimpleNamespace(tps={PLACE, OTHER}, state_value=lambda _: state)
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))

    def assignment(self) -> set[TopicPartition]:
        return {PLACE, OTHER}

    def pause(self, *places: TopicPartition) -> None:
        self.paused |= set(places)

    def resume(self, *places: TopicPartition) -> None:
        self.paused -= set(places)

    def seek(self, *_: Any) -> None:
        pass

    async def fetched_records(self, *_: Any, **__: Any) -> Any:
        # What was drained of other partitions before this one goes with the error.
        raise CorruptRecordException("Invalid CRC")


@pytest.fixture
def thread_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def consumer_on(loop: asyncio.AbstractEventLoop) -> tuple[Any, Client, list[Handed]]:
    consumer: Any = TaskConsumer.__new__(TaskConsumer)
    client, arrived = Client(), []

    class Queue:
        async def put(self, batch: Handed) -> None:
            arrived.append(batch)

    consumer._client = lambda: client
    consumer._thread = SimpleNamespace(thread_loop=loop)
    consumer._chain, consumer._epochs = {PLACE: 99}, {PLACE: 1}
    consumer._wanted = {PLACE: 1}
    consumer._outstanding, consumer._paused, consumer._resuming = {}, set(), set()
    consumer._to_message = lambda *_: SimpleNamespace(incref=lambda: None)
    index = {PLACE: [SimpleNamespace(queue=Queue())]}
    consumer.app = SimpleNamespace(
        consumer_generation_id=1,
        create_event=lambda _key, value, *_: value,
        topics=SimpleNamespace(_tp_index=index),
    )
    return consumer, client, arrived


def batch(epoch: int, records: int = 3_000, size_bytes: int = 150_000) -> Handed:
    return Handed(PLACE, [SimpleNamespace(offset=0)] * records, epoch, 0, size_bytes=size_bytes)


@pytest.mark.parametrize(
    "large", [batch(1, records=transport.RECORDS_HIGH), batch(1, 1, transport.BYTES_HIGH)]
)
def test_fetching_pauses_at_a_mark_and_goes_on_below_the_other(
    thread_loop: asyncio.AbstractEventLoop, large: Handed
) -> None:
    async def run() -> None:
        consumer, client, _ = consumer_on(thread_loop)
        await consumer._hand_over(batch(1, 1, 1))
        assert client.paused == set()
        await consumer._hand_over(large)
        assert client.paused == {PLACE}
        consumer.credit(batch(1, 1, 1))
        assert consumer._resuming == set()
        consumer.credit(large)
        await asyncio.gather(*consumer._resuming)
        assert client.paused == set()

    asyncio.run(run())


def test_a_batch_that_is_handed_over_during_a_seek_leaves_no_debt(
    thread_loop: asyncio.AbstractEventLoop,
) -> None:
    async def run() -> tuple[Any, Client]:
        consumer, client, arrived = consumer_on(thread_loop)
        # In one turn of the loop: the task moves, the drain hands over what it had before.
        await asyncio.gather(consumer.move_to(PLACE, 100, 2), consumer._hand_over(batch(1)))
        for stale in arrived:
            consumer.credit(stale)
        arrived.clear()
        for _ in range(3):
            await consumer._hand_over(batch(2))
        assert client.paused == {PLACE}
        for done in arrived:
            consumer.credit(done)
        await asyncio.gather(*consumer._resuming)
        return consumer, client

    consumer, client = asyncio.run(run())

    assert consumer._outstanding[PLACE] == (0, 0)
    assert client.paused == set()


def test_a_fetch_waits_longer_only_while_it_leaves_no_partition_out(
    thread_loop: asyncio.AbstractEventLoop,
) -> None:
    async def run() -> None:
        consumer, client, _ = consumer_on(thread_loop)
        await consumer.move_to(PLACE, 100, 1)
        assert client._fetch_max_wait_ms == transport.FETCH_WAIT_MS
        await consumer.move_to(OTHER, 100, 2)
        assert client._fetch_max_wait_ms == transport.IDLE_WAIT_MS
        await consumer._hand_over(batch(1, records=transport.RECORDS_HIGH))
        assert client._fetch_max_wait_ms == transport.FETCH_WAIT_MS
        consumer.credit(batch(1, records=transport.RECORDS_HIGH))
        await asyncio.gather(*consumer._resuming)
        assert client._fetch_max_wait_ms == transport.IDLE_WAIT_MS

    asyncio.run(run())


def test_a_fetch_that_fails_makes_every_task_look_for_a_hole(
    thread_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(_: float) -> None:
        pass

    async def run() -> Any:
        consumer, _, _ = consumer_on(thread_loop)
        consumer._chain, consumer._epochs = {PLACE: 49, OTHER: 99}, {PLACE: 1, OTHER: 1}
        monkeypatch.setattr(transport.asyncio, "sleep", at_once)
        assert await consumer._in_thread(consumer._fetch) == []
        return consumer

    # Offsets 50 to 99 were drained and are gone: the next batch must not link to 49.
    assert asyncio.run(run())._chain == {PLACE: 99, OTHER: 99}


def test_a_partition_that_is_moved_to_during_a_fetch_does_not_wait_for_others(
    thread_loop: asyncio.AbstractEventLoop,
) -> None:
    """A worker begins with partitions one by one, and those that were first may have nothing."""

    class Waiting(Client):
        async def fetched_records(self, partitions: Any, **_: Any) -> Any:
            while OTHER not in partitions:  # As the client's fetcher looks, each time it wakes.
                begun.set()
                await asyncio.sleep(0.001)
            return {OTHER: [record]}

    begun = threading.Event()
    record = PlainRecord(OTHER.topic, OTHER.partition, 100, 1, b"k", b"v", ())

    async def run() -> None:
        consumer, _, _ = consumer_on(thread_loop)
        client = Waiting()
        consumer._client = lambda: client
        fetching = asyncio.ensure_future(consumer._in_thread(consumer._fetch))
        assert await asyncio.to_thread(begun.wait, 5.0)
        await consumer.move_to(OTHER, 100, 2)
        (found,) = await asyncio.wait_for(fetching, 5.0)
        assert (OTHER, [record]) == (found.partition, found.records)
        assert (2, 99) == (found.epoch, found.previous)

    asyncio.run(run())


def test_a_worker_never_leaves_its_group_for_not_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(transport, "AIOKafkaConsumer", lambda **arguments: given.update(arguments))
    thread: Any = TaskConsumerThread.__new__(TaskConsumerThread)
    conf = SimpleNamespace(
        broker_client_id="c",
        id="edo-decide",
        consumer_group_instance_id=None,
        broker_max_poll_records=2_000,
        consumer_max_fetch_size=1 << 20,
        broker_session_timeout=10.0,
        broker_rebalance_timeout=30.0,
        broker_heartbeat_interval=1.0,
    )
    access = SimpleNamespace(client=lambda **arguments: arguments)
    settings = SimpleNamespace(access=access)
    thread.app = SimpleNamespace(conf=conf, assignor=None, worker_settings=settings)

    thread._create_worker_consumer(None)

    a_year_of_restarts_apart_ms = 20 * 86_400_000
    assert given["max_poll_interval_ms"] > a_year_of_restarts_apart_ms


async def _asked_at_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What becomes of the connections when several tasks ask for the ends of logs at once."""
    told = []

    class Asker:
        _client = None

        def __init__(self, **_: Any) -> None:
            pass

        async def start(self) -> None:
            told.append("start")
            await asyncio.sleep(0)

        async def stop(self) -> None:
            told.append("stop")

        async def end_offsets(self, places: Any) -> dict[TopicPartition, int]:
            return dict.fromkeys(places, 7)

    monkeypatch.setattr(transport, "AIOKafkaConsumer", Asker)
    monkeypatch.setattr(transport, "pace_metadata", lambda _: None)
    consumer: Any = TaskConsumer.__new__(TaskConsumer)
    consumer._asker, consumer._asker_begins = None, asyncio.Lock()
    settings = SimpleNamespace(access=SimpleNamespace(client=lambda **more: more))
    consumer.app = SimpleNamespace(
        worker_settings=settings, conf=SimpleNamespace(broker_session_timeout=10.0)
    )
    ends = await asyncio.gather(*(consumer.high_watermarks([PLACE]) for _ in range(3)))
    assert [[7]] * 3 == ends
    await consumer._close_asker()
    return told


def test_tasks_that_ask_at_once_have_one_connection_which_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ["start", "stop"] == asyncio.run(_asked_at_once(monkeypatch))
