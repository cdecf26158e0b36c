"""What is wrong in aiokafka 0.14, reproduced without our code: the reasons for what is done here.

When one of these fails, a new version may have mended it, and what stands against it can go:
``engine/guard``, the awaited deliveries of ``engine/transaction``, a producer for each task, the
``stop`` of ``engine/producer``, the poll interval without an end of ``engine/transport``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from inspect import signature
from itertools import pairwise

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from aiokafka.producer import sender

from edo_stream.engine.changelog import BrokerChangelog
from edo_stream.engine.guard import pace_metadata
from edo_stream.engine.producer import _tasks_of
from edo_stream.engine.security import BrokerAccess
from edo_stream.local.kafka import LocalKafka
from load.proxy.rules import Api, Code
from load.proxy.server import Proxy
from tests.broker.bench import PATIENCE_S, Bench


@pytest.fixture
def proxy(kafka: LocalKafka) -> Iterator[Proxy]:
    with Proxy(kafka.bootstrap) as proxy:
        yield proxy


@pytest.fixture
def topic(bench: Bench) -> str:
    name = bench.declare("plain")
    bench.apply()
    return name


def with_member(
    proxy: Proxy,
    topic: str,
    act: Callable[[AIOKafkaConsumer], Awaitable[None]],
    request_timeout_ms: int = 9_000,
) -> None:
    """A member of a group that nobody asks for records, as the drain loop of the engine."""

    async def run() -> None:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=proxy.bootstrap,
            group_id=f"group-{topic}",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            request_timeout_ms=request_timeout_ms,
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            await act(consumer)
        finally:
            # Whatever is still pending would be waited for.
            consumer._coordinator._pending_exception = None
            await consumer.stop()

    asyncio.run(run())


async def heartbeats_within(proxy: Proxy, seconds: float) -> int:
    before = proxy.calls[Api.HEARTBEAT]
    await asyncio.sleep(seconds)
    return proxy.calls[Api.HEARTBEAT] - before


async def until(look: Callable[[], object]) -> None:
    """Wait for what another thread, or another task, brings about."""
    async with asyncio.timeout(PATIENCE_S):
        while not look():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.05)


async def two_heartbeats(proxy: Proxy) -> None:
    before = proxy.calls[Api.HEARTBEAT]
    await until(lambda: proxy.calls[Api.HEARTBEAT] >= before + 2)


@pytest.mark.parametrize("api", [Api.HEARTBEAT, Api.JOIN_GROUP, Api.SYNC_GROUP])
def test_an_unknown_error_of_the_group_stops_the_heartbeats_in_silence(
    api: Api, proxy: Proxy, topic: str
) -> None:
    async def act(consumer: AIOKafkaConsumer) -> None:
        await two_heartbeats(proxy)
        rule = proxy.on(api).error(Code.UNKNOWN_SERVER_ERROR).once()
        proxy.on(Api.HEARTBEAT).error(Code.REBALANCE_IN_PROGRESS).once()
        await until(lambda: rule.times_triggered)
        await until(lambda: consumer._coordinator._pending_exception)
        assert await heartbeats_within(proxy, 2.0) == 0
        with pytest.raises(KafkaError):
            consumer._coordinator.check_errors()
        if api is not Api.HEARTBEAT:
            await two_heartbeats(proxy)

    with_member(proxy, topic, act)


def test_a_heartbeat_that_nobody_answers_outlasts_the_session(proxy: Proxy, topic: str) -> None:
    async def act(_: AIOKafkaConsumer) -> None:
        rule = proxy.on(Api.HEARTBEAT).black_hole().once()
        await until(lambda: rule.times_triggered)
        # Its timeout is that of all requests, 40 s unless set; the session ends after 6.
        assert await heartbeats_within(proxy, 7.0) == 0

    with_member(proxy, topic, act, request_timeout_ms=20_000)


@pytest.mark.parametrize("is_paced", [False, True])
def test_a_broker_that_refuses_connections_is_asked_in_a_tight_loop(
    is_paced: bool, kafka: LocalKafka, topic: str
) -> None:
    asked_s: list[float] = []

    async def note_and_update(*args: object) -> bool:
        asked_s.append(time.monotonic())
        return await update(*args)

    async def run() -> None:
        nonlocal update
        with Proxy(kafka.bootstrap) as proxy:
            producer = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap)
            update = producer.client._metadata_update
            producer.client._metadata_update = note_and_update
            if is_paced:
                pace_metadata(producer.client)
            await producer.start()
            await producer.send_and_wait(topic, b"before")
        # The proxy is gone and its port refuses; the leader has gone too, as an only broker says
        # of its partitions when it shuts down.
        partitions = producer.client.cluster._partitions[topic]
        partitions[0] = partitions[0]._replace(leader=-1)
        asked_s.clear()
        delivery = await producer.send(topic, b"after")
        await until(lambda: len(asked_s) >= 6)
        producer._sender._sender_task.cancel()
        await asyncio.wait([producer._sender._sender_task])
        delivery.cancel()
        producer._closed = True
        await producer.client.close()

    update: Callable[..., Awaitable[bool]]
    asyncio.run(run())
    pauses_s = [later - sooner for sooner, later in pairwise(asked_s)]
    if is_paced:
        assert min(pauses_s) >= 0.2
    else:
        assert min(pauses_s) < 0.05


def test_an_unknown_error_of_the_offsets_ends_their_refresh_in_silence(
    proxy: Proxy, topic: str
) -> None:
    async def act(consumer: AIOKafkaConsumer) -> None:
        await two_heartbeats(proxy)
        rule = proxy.on(Api.OFFSET_FETCH).error(Code.UNKNOWN_SERVER_ERROR).once()
        proxy.on(Api.HEARTBEAT).error(Code.REBALANCE_IN_PROGRESS).once()
        await until(lambda: rule.times_triggered)
        refresh = consumer._coordinator._commit_refresh_task
        await asyncio.wait([refresh], timeout=PATIENCE_S)
        assert isinstance(refresh.exception(), KafkaError)

    with_member(proxy, topic, act)


def test_a_member_that_polls_by_other_methods_is_taken_out_of_its_group(
    proxy: Proxy, topic: str
) -> None:
    async def run() -> None:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=proxy.bootstrap,
            group_id=f"group-{topic}",
            heartbeat_interval_ms=200,
            max_poll_interval_ms=1_000,
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            places = frozenset(consumer.assignment())
            async with asyncio.timeout(PATIENCE_S):
                while not proxy.calls[Api.LEAVE_GROUP]:
                    # As the drain loop does.
                    await consumer._fetcher.fetched_records(places, timeout=0.2, max_records=10)
        finally:
            await consumer.stop()

    asyncio.run(run())


def test_a_transaction_commits_although_one_of_its_batches_was_refused(
    bench: Bench, topic: str
) -> None:
    place, group = TopicPartition(topic, 0), f"group-{topic}"

    async def run() -> int:
        producer = AIOKafkaProducer(
            bootstrap_servers=bench.broker,
            transactional_id=f"id-{topic}",
            max_request_size=4 << 20,
        )
        await producer.start()
        try:
            await producer.begin_transaction()
            delivery = await producer.send(topic, bytes(2 << 20), partition=0)
            await producer.send_offsets_to_transaction({place: 777}, group)
            await producer.commit_transaction()
            with pytest.raises(MessageSizeTooLargeError):
                await delivery
        finally:
            await producer.stop()
        return await _committed(bench.broker, group, place)

    assert asyncio.run(run()) == 777
    assert bench.read(topic) == []


def test_a_transaction_commits_offsets_for_a_group_that_it_is_no_member_of(
    bench: Bench, proxy: Proxy, topic: str
) -> None:
    place = TopicPartition(topic, 0)

    async def act(consumer: AIOKafkaConsumer) -> None:
        assert place in consumer.assignment()
        producer = AIOKafkaProducer(bootstrap_servers=bench.broker, transactional_id=f"id-{topic}")
        await producer.start()
        try:
            async with producer.transaction():
                # Neither member nor generation can be told: a zombie's offsets are as good.
                await producer.send_offsets_to_transaction({place: 5}, f"group-{topic}")
        finally:
            await producer.stop()
        assert await _committed(bench.broker, f"group-{topic}", place) == 5

    with_member(proxy, topic, act)
    assert list(signature(AIOKafkaProducer.send_offsets_to_transaction).parameters) == [
        "self",
        "offsets",
        "group_id",
    ]


@pytest.mark.parametrize("api", [Api.ADD_PARTITIONS_TO_TXN, Api.ADD_OFFSETS_TO_TXN])
def test_a_transaction_that_comes_too_soon_after_the_last_waits_for_a_fixed_time(
    api: Api, proxy: Proxy, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker says so often, right after a commit; a transaction takes 2 ms otherwise."""
    # The engine's own is in its place, since it was imported.
    monkeypatch.setattr(sender, "BACKOFF_OVERRIDE", 0.02)
    wait_s = {Api.ADD_PARTITIONS_TO_TXN: 0.020, Api.ADD_OFFSETS_TO_TXN: 0.100}[api]

    async def run() -> float:
        producer = AIOKafkaProducer(
            bootstrap_servers=proxy.bootstrap, transactional_id=f"id-{topic}"
        )
        await producer.start()
        try:
            proxy.on(api).error(Code.CONCURRENT_TRANSACTIONS).once()
            began = asyncio.get_running_loop().time()
            async with producer.transaction():
                await producer.send_and_wait(topic, b"v", partition=0)
                await producer.send_offsets_to_transaction({TopicPartition(topic, 0): 1}, topic)
            return asyncio.get_running_loop().time() - began
        finally:
            await producer.stop()

    assert asyncio.run(run()) >= wait_s


def test_a_producer_whose_stop_is_given_up_leaves_tasks_and_connections(
    proxy: Proxy, topic: str
) -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap)
        await producer.start()
        rule = proxy.on(Api.PRODUCE).black_hole().once()
        delivery = await producer.send(topic, b"v", partition=0)
        await until(lambda: rule.times_triggered)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await producer.stop()
        assert proxy.connections > 0
        left = list(_tasks_of(producer._sender, producer._message_accumulator))
        assert left
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        delivery.cancel()
        await producer.client.close()

    asyncio.run(run())


async def _committed(broker: str, group: str, place: TopicPartition) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                # The group's coordinator learns of a commit a moment later.
                offsets = await admin.list_consumer_group_offsets(group, partitions=[place])
                if offsets[place].offset >= 0:
                    return int(offsets[place].offset)
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


def test_a_question_that_nobody_answers_leaves_the_connection_dead(
    proxy: Proxy, topic: str
) -> None:
    place = TopicPartition(topic, 0)

    async def run() -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=proxy.bootstrap, request_timeout_ms=3_000)
        await consumer.start()
        try:
            proxy.on(Api.LIST_OFFSETS).black_hole().once()
            for _ in range(3):
                with pytest.raises(KafkaTimeoutError):
                    await consumer.end_offsets([place])
        finally:
            await consumer.stop()

    asyncio.run(run())


def test_a_restore_asks_again_on_a_new_connection(proxy: Proxy, topic: str) -> None:
    place = TopicPartition(topic, 0)

    async def run() -> tuple[int, int]:
        changelog = BrokerChangelog(BrokerAccess(proxy.bootstrap))
        proxy.on(Api.LIST_OFFSETS).black_hole().once()
        try:
            with pytest.raises(KafkaTimeoutError):
                await changelog.bounds(place)
            return await changelog.bounds(place)
        finally:
            await changelog.close()

    assert asyncio.run(run()) == (0, 0)
