"""The broker, warmed up: in its first minute most of its CPU goes into compiling its own code.

Whoever runs first would pay for that, with events/s as well, for broker and worker share the cores.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from load.bench.programs import PARTITIONS
from load.bench.topics import Topics

WARM_S: Final = 20.0
_TOPIC: Final = "bench.warm"
_GROUP: Final = "bench-warm"
_RECORDS: Final = 500
_VALUE: Final = b'{"account": "warm", "note": "%s"}' % (b"abcdefgh" * 30)


async def warm_broker(topics: Topics, bootstrap: str, seconds: float = WARM_S) -> int:
    """Do for so long what programs will do; the number of transactions.

    Each of the partitions' producers writes transactions with offsets, each as its own client would
    compress them, and all of it is read, committed or not.
    """
    await topics.create(_TOPIC)
    until_s = time.monotonic() + seconds
    readers = [_read(bootstrap, level, until_s) for level in ("read_committed", "read_uncommitted")]
    writers = [_write(bootstrap, partition, until_s) for partition in range(PARTITIONS)]
    done = await asyncio.gather(*writers, *readers)
    await topics.clear()
    return sum(done[:PARTITIONS])


async def _write(bootstrap: str, partition: int, until_s: float) -> int:
    codecs = cycle([None, "lz4", "zstd"])
    transactions = 0
    while time.monotonic() < until_s:
        codec = next(codecs)
        name = f"{_GROUP}-{partition}"
        producer: Any = AIOKafkaProducer(
            bootstrap_servers=bootstrap, transactional_id=name, compression_type=codec
        )
        async with _started(producer):
            for _ in range(50):
                await _transact(producer, partition, transactions)
                transactions += 1
                if time.monotonic() >= until_s:
                    break
    return transactions


async def _transact(producer: Any, partition: int, number: int) -> None:
    place = TopicPartition(_TOPIC, partition)
    await producer.begin_transaction()
    batch = producer.create_batch()
    for at in range(_RECORDS):
        headers = [("ce_id", b"%d-%d" % (number, at)), ("ce_source", b"/warm")]
        batch.append(key=b"key-%d" % at, value=_VALUE, timestamp=None, headers=headers)
    delivered = await producer.send_batch(batch, _TOPIC, partition=partition)
    await delivered
    offsets = {place: number}
    await producer.send_offsets_to_transaction(offsets, f"{_GROUP}-{partition}")
    await producer.commit_transaction()


async def _read(bootstrap: str, isolation: str, until_s: float) -> int:
    consumer: Any = AIOKafkaConsumer(
        _TOPIC,
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        group_id=f"{_GROUP}-{isolation}",
    )
    read = 0
    async with _started(consumer):
        while time.monotonic() < until_s:
            found = await consumer.getmany(timeout_ms=200)
            read += sum(len(records) for records in found.values())
    return read


@asynccontextmanager
async def _started(client: Any) -> AsyncIterator[None]:
    try:
        await client.start()
        yield
    finally:
        await client.stop()
