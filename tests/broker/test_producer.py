"""A task's producer is dropped in the middle of anything: soon, and without leaving anything."""

import asyncio
import time

import pytest

from edo_stream.core.effects import Publish
from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.compression import Compression
from edo_stream.engine.producer import producer_factory
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction import Transaction
from edo_stream.engine.transaction_v2.choice import TransactionProtocol
from edo_stream.local.kafka import LocalKafka
from load.proxy.rules import Api
from load.proxy.server import Proxy
from tests.broker.bench import PATIENCE_S, Bench, wait_for

FIRST, SECOND = TransactionProtocol.FIRST, TransactionProtocol.SECOND


@pytest.mark.parametrize(
    ("protocol", "api"),
    [
        (FIRST, Api.PRODUCE),
        (FIRST, Api.ADD_PARTITIONS_TO_TXN),
        (FIRST, Api.END_TXN),
        (SECOND, Api.PRODUCE),
        (SECOND, Api.END_TXN),
    ],
    ids=lambda one: one.name,
)
def test_a_producer_that_waits_for_an_answer_is_dropped_soon(
    protocol: TransactionProtocol, api: Api, bench: Bench, kafka: LocalKafka
) -> None:
    topic = bench.declare("dropped")
    bench.apply()
    assert bench.read(topic) == []

    async def run(proxy: Proxy) -> float:
        make = producer_factory(BrokerAccess(proxy.bootstrap), 600_000, Compression(), protocol)
        producer = make(f"id-{topic}")
        await producer.start()
        await producer.begin_transaction()
        rule = proxy.on(api).black_hole().once()
        batch = producer.create_batch(topic)
        batch.fill([Publish(topic, 0, b"k", b"v", (), 1_000)], 0)
        delivery = asyncio.ensure_future(await producer.send_batch(batch, topic, partition=0))
        committing = asyncio.create_task(producer.commit_transaction())
        await asyncio.to_thread(wait_for, lambda: rule.times_triggered, rule.name)
        committing.cancel()
        start_s = time.monotonic()
        await producer.stop()
        took_s = time.monotonic() - start_s
        delivery.cancel()
        await asyncio.to_thread(wait_for, lambda: not proxy.connections, "connections to end")
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            await asyncio.wait(left, timeout=PATIENCE_S)
        assert [task for task in left if not task.done()] == []
        return took_s

    with Proxy(kafka.bootstrap) as proxy:
        # A flush of a second at most, and not the ten minutes that the answer may take.
        assert asyncio.run(run(proxy)) < PATIENCE_S


@pytest.mark.parametrize("protocol", TransactionProtocol, ids=lambda one: one.name)
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_what_a_task_compresses_is_read_by_a_broker_that_compresses_otherwise(
    codec: str, protocol: TransactionProtocol, bench: Bench
) -> None:
    topic = bench.topic(codec)
    sizes = [1, 10, 500, 3_000]  # Of one block each, the last of the largest batch.
    values = [[b"%d of %d" % (n, size) * 20 for n in range(size)] for size in sizes]

    async def write() -> None:
        # Its records come uncompressed into the log, so the broker has to read ours.
        wanted = Wanted(topic, 1, config={"compression.type": "uncompressed"})
        async with Admin(BrokerAccess(bench.broker)) as admin:
            await admin.create([wanted])
        make = producer_factory(BrokerAccess(bench.broker), 10_000, Compression(codec), protocol)
        producer = make(f"id-{topic}")
        await producer.start()
        try:
            for each in values:
                items = [Publish(topic, 0, b"k", value, (), 1_000) for value in each]
                changes = Transaction(producer, "group", 10.0)
                await changes.run(items, [], {}, 1_000)
        finally:
            await producer.stop()

    asyncio.run(write())
    assert [record.value for record in bench.read(topic)] == [v for each in values for v in each]
