"""What is wrong in aiokafka 0.14, reproduced without our code: the reasons for ``engine/guard``.

When one of these fails, a new version may have mended it, and its part of the guard can go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from edo_stream.engine.changelog import BrokerChangelog
from edo_stream.engine.guard import pace_metadata
from edo_stream.engine.security import BrokerAccess
from edo_stream.local.kafka import LocalKafka
from load.proxy.rules import Api, Code
from load.proxy.server import Proxy
from tests.broker.bench import Bench


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
    proxy: Proxy, topic: str, act: Callable[[AIOKafkaConsumer], Awaitable[None]]
) -> None:
    """A member of a group that nobody asks for records, as the drain loop of the engine."""

    async def run() -> None:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=proxy.bootstrap,
            group_id=f"group-{topic}",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            request_timeout_ms=9_000,
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


@pytest.mark.parametrize("api", [Api.HEARTBEAT, Api.JOIN_GROUP, Api.SYNC_GROUP])
def test_an_unknown_error_of_the_group_stops_the_heartbeats_in_silence(
    api: Api, proxy: Proxy, topic: str
) -> None:
    async def act(consumer: AIOKafkaConsumer) -> None:
        assert await heartbeats_within(proxy, 1.0) >= 2
        rule = proxy.on(api).error(Code.UNKNOWN_SERVER_ERROR).once()
        proxy.on(Api.HEARTBEAT).error(Code.REBALANCE_IN_PROGRESS).once()
        while not rule.times_triggered:  # noqa: ASYNC110 - it is counted in another thread
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert await heartbeats_within(proxy, 2.0) == 0
        with pytest.raises(KafkaError):
            consumer._coordinator.check_errors()
        if api is not Api.HEARTBEAT:
            await asyncio.sleep(0.5)
            assert await heartbeats_within(proxy, 1.0) >= 2

    with_member(proxy, topic, act)


def test_a_heartbeat_that_nobody_answers_outlasts_the_session(proxy: Proxy, topic: str) -> None:
    async def act(_: AIOKafkaConsumer) -> None:
        rule = proxy.on(Api.HEARTBEAT).black_hole().once()
        while not rule.times_triggered:  # noqa: ASYNC110 - it is counted in another thread
            await asyncio.sleep(0.05)
        # Its timeout is that of all requests, 40 s unless set; the session ends after 6.
        assert await heartbeats_within(proxy, 7.0) == 0

    with_member(proxy, topic, act)


@pytest.mark.parametrize(
    ("is_paced", "expected"), [(False, range(50, 99_999)), (True, range(1, 10))]
)
def test_a_broker_that_refuses_connections_is_asked_in_a_tight_loop(
    is_paced: bool, expected: range, kafka: LocalKafka, topic: str
) -> None:
    asked = 0

    async def count_and_update(*args: object) -> bool:
        nonlocal asked
        asked += 1
        return await update(*args)

    async def run() -> None:
        nonlocal asked, update
        with Proxy(kafka.bootstrap) as proxy:
            producer = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap)
            update = producer.client._metadata_update
            producer.client._metadata_update = count_and_update
            if is_paced:
                pace_metadata(producer.client)
            await producer.start()
            await producer.send_and_wait(topic, b"before")
        # The proxy is gone and its port refuses; the leader has gone too, as an only broker says
        # of its partitions when it shuts down.
        partitions = producer.client.cluster._partitions[topic]
        partitions[0] = partitions[0]._replace(leader=-1)
        asked = 0
        delivery = await producer.send(topic, b"after")
        await asyncio.sleep(1.0)
        producer._sender._sender_task.cancel()
        await asyncio.wait([producer._sender._sender_task])
        delivery.cancel()
        producer._closed = True
        await producer.client.close()

    update: Callable[..., Awaitable[bool]]
    asyncio.run(run())
    assert asked in expected


def test_a_question_that_nobody_answers_leaves_the_connection_dead(
    proxy: Proxy, topic: str
) -> None:
    place = TopicPartition(topic, 0)

    async def run() -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=proxy.bootstrap, request_timeout_ms=1_000)
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
