"""The proxy before a real Kafka: each kind of fault fires, and a plain aiokafka client sees it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced

from edo_stream.local.kafka import LocalKafka
from load.proxy.rules import Api, Code
from load.proxy.server import Proxy
from tests.broker.bench import PATIENCE_S, Bench, wait_for


@pytest.fixture
def proxy(kafka: LocalKafka) -> Iterator[Proxy]:
    with Proxy(kafka.bootstrap) as proxy:
        yield proxy
    assert proxy.failures == []


@pytest.fixture
def topic(bench: Bench) -> str:
    name = bench.declare("proxied")
    bench.apply()
    # Answered by its leader: until there is one, a rule could be spent on the broker's own errors.
    assert bench.read(name) == []
    return name


def with_producer(
    proxy: Proxy, act: Callable[[AIOKafkaProducer], Awaitable[None]], **more: object
) -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap, **more)
        await producer.start()
        try:
            await act(producer)
        finally:
            await producer.stop()

    asyncio.run(run())


def read_back(proxy: Proxy, topic: str, **more: object) -> list[bytes]:
    async def run() -> list[bytes]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=proxy.bootstrap, auto_offset_reset="earliest", **more
        )
        await consumer.start()
        try:
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            found = []
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record.value for record in records]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(run())


def test_everything_passes_and_every_client_stays_on_the_proxy(proxy: Proxy, topic: str) -> None:
    async def act(producer: AIOKafkaProducer) -> None:
        await producer.send_and_wait(topic, b"one")
        addresses = {(one.host, one.port) for one in producer.client.cluster.brokers()}
        assert [f"{host}:{port}" for host, port in addresses] == [proxy.bootstrap]

    with_producer(proxy, act)

    assert read_back(proxy, topic) == [b"one"]
    assert proxy.calls[Api.PRODUCE] >= 1
    assert proxy.calls[Api.FETCH] >= 1


def test_an_error_that_can_be_retried_is_retried(proxy: Proxy, topic: str) -> None:
    rule = proxy.on(Api.PRODUCE).error(Code.NOT_LEADER_OR_FOLLOWER).times(2)

    with_producer(proxy, lambda producer: producer.send_and_wait(topic, b"one"))

    assert rule.times_triggered == 2
    assert rule.calls >= 3
    assert read_back(proxy, topic) == [b"one"]


def test_an_error_that_cannot_be_retried_reaches_the_caller(proxy: Proxy, topic: str) -> None:
    proxy.on(Api.PRODUCE).error(Code.INVALID_PRODUCER_EPOCH).once()

    async def act(producer: AIOKafkaProducer) -> None:
        with pytest.raises(ProducerFenced):
            await producer.send_and_wait(topic, b"one")

    with_producer(proxy, act)

    assert read_back(proxy, topic) == []


def test_an_error_after_the_call_leaves_what_the_broker_has_done(proxy: Proxy, topic: str) -> None:
    rule = proxy.on(Api.PRODUCE).error_after(Code.REQUEST_TIMED_OUT).once()

    # Without idempotence, the retry is a second record.
    with_producer(
        proxy, lambda producer: producer.send_and_wait(topic, b"one"), enable_idempotence=False
    )

    assert rule.times_triggered == 1
    assert read_back(proxy, topic) == [b"one", b"one"]


@pytest.mark.parametrize(("is_after", "expected"), [(False, [b"1"]), (True, [b"1", b"1"])])
def test_a_disconnect_loses_the_call_or_the_answer(
    is_after: bool, expected: list[bytes], proxy: Proxy, topic: str
) -> None:
    rule = proxy.on(Api.PRODUCE).once()
    rule.disconnect_after() if is_after else rule.disconnect_before()

    async def act(producer: AIOKafkaProducer) -> None:
        try:
            await producer.send_and_wait(topic, b"1")
        except KafkaConnectionError:
            await producer.send_and_wait(topic, b"1")

    with_producer(proxy, act)

    assert rule.times_triggered == 1
    assert read_back(proxy, topic) == expected


def test_a_delayed_call_takes_longer(proxy: Proxy, topic: str) -> None:
    rule = proxy.on(Api.PRODUCE).delay(0.7).once()
    took_s = []

    async def act(producer: AIOKafkaProducer) -> None:
        start_s = time.monotonic()
        await producer.send_and_wait(topic, b"one")
        took_s.append(time.monotonic() - start_s)

    with_producer(proxy, act)

    assert rule.times_triggered == 1
    assert took_s[0] >= 0.7


def test_a_black_hole_ends_with_the_client_s_patience(proxy: Proxy, topic: str) -> None:
    rule = proxy.on(Api.PRODUCE).black_hole().once()
    took_s = []

    async def act(producer: AIOKafkaProducer) -> None:
        start_s = time.monotonic()
        await producer.send_and_wait(topic, b"one")
        took_s.append(time.monotonic() - start_s)

    with_producer(proxy, act, request_timeout_ms=3_000, enable_idempotence=True)

    assert rule.times_triggered == 1
    assert took_s[0] >= 3.0
    assert read_back(proxy, topic) == [b"one"]


def test_rules_choose_clients_and_calls(proxy: Proxy, topic: str) -> None:
    rule = proxy.on(Api.PRODUCE, client_id="chosen").error(Code.UNKNOWN_SERVER_ERROR).on_call(2)

    async def act(producer: AIOKafkaProducer) -> None:
        await producer.send_and_wait(topic, b"one")
        with pytest.raises(KafkaError):
            await producer.send_and_wait(topic, b"two")

    with_producer(proxy, lambda producer: producer.send_and_wait(topic, b"zero"), client_id="other")
    with_producer(proxy, act, client_id="chosen-one")

    assert (rule.calls, rule.times_triggered) == (2, 1)
    assert read_back(proxy, topic) == [b"zero", b"one"]


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (Api.FIND_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE),
        (Api.JOIN_GROUP, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Api.SYNC_GROUP, Code.REBALANCE_IN_PROGRESS),
        (Api.HEARTBEAT, Code.UNKNOWN_MEMBER_ID),
        (Api.OFFSET_FETCH, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Api.FETCH, Code.NOT_LEADER_OR_FOLLOWER),
    ],
    ids=lambda one: one.name,
)
def test_a_group_s_member_outlives_errors_of_the_coordinator(
    api: Api, code: Code, proxy: Proxy, topic: str
) -> None:
    with_producer(proxy, lambda producer: producer.send_and_wait(topic, b"one"))
    rule = proxy.on(api).error(code).once()

    async def read() -> bytes | None:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=proxy.bootstrap,
            group_id=f"g-{topic}",
            auto_offset_reset="earliest",
            heartbeat_interval_ms=200,
        )
        await consumer.start()
        try:
            value = (await asyncio.wait_for(consumer.getone(), PATIENCE_S)).value
            await asyncio.to_thread(wait_for, lambda: rule.times_triggered, rule.name)
            return value
        finally:
            await consumer.stop()

    assert asyncio.run(read()) == b"one"


@pytest.mark.parametrize(
    "api",
    [
        Api.INIT_PRODUCER_ID,
        Api.ADD_PARTITIONS_TO_TXN,
        Api.ADD_OFFSETS_TO_TXN,
        Api.TXN_OFFSET_COMMIT,
        Api.END_TXN,
    ],
    ids=lambda one: one.name,
)
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_a_transaction_outlives_a_lost_coordinator(
    is_after: bool, api: Api, proxy: Proxy, topic: str
) -> None:
    rule = proxy.on(api).once()
    rule.disconnect_after() if is_after else rule.error(Code.NOT_COORDINATOR)

    async def act(producer: AIOKafkaProducer) -> None:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"one")
            await producer.send_offsets_to_transaction({TopicPartition(topic, 0): 1}, "group")

    with_producer(proxy, act, transactional_id=f"id-{topic}")

    assert rule.times_triggered == 1

    def committed() -> list[bytes]:
        return read_back(proxy, topic, isolation_level="read_committed")

    # The coordinator answers before it has written the markers.
    assert wait_for(committed, "the transaction's markers") == [b"one"]


def test_connections_end_on_both_sides(proxy: Proxy, topic: str) -> None:
    with_producer(proxy, lambda producer: producer.send_and_wait(topic, b"one"))

    wait_for(lambda: proxy.connections == 0, "the proxy to let go of its connections")
