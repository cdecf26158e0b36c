"""Read what came out of a burst: the ids per key, as a ``read_committed`` reader sees them."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.structs import ConsumerRecord

_FETCH_BYTES = 4 << 20


async def read_ids(
    topic: str, broker: Mapping[str, Any], keys: Collection[bytes]
) -> list[tuple[bytes, str]]:
    """Ids with one of the keys, in the order of their partitions, up to the end of now.

    A result has an id of its own and names its event as its cause; any other record is itself.
    """
    found: list[tuple[bytes, str]] = []
    async for record in records(topic, broker, lambda record: record.key in keys):
        headers = dict(record.headers)
        id_ = headers.get("ce_causationid") or headers.get("ce_id") or b""
        found.append((record.key, id_.decode()))
    return found


async def count_records(topic: str, broker: Mapping[str, Any], keys: Collection[bytes]) -> int:
    """How many records have one of the keys."""
    found = 0
    async for _ in records(topic, broker, lambda record: record.key in keys):
        found += 1
    return found


async def records(
    topic: str, broker: Mapping[str, Any], wanted: Callable[[ConsumerRecord], bool]
) -> AsyncIterator[ConsumerRecord]:
    partitions = await _partitions(topic, broker)
    consumer = AIOKafkaConsumer(
        **broker,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_bytes=4 * _FETCH_BYTES,
    )
    try:
        await consumer.start()
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        left = set(partitions)
        while left:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    if wanted(record):
                        yield record
            for partition in list(left):
                if await consumer.position(partition) >= ends[partition]:
                    left.discard(partition)
                    consumer.pause(partition)
    finally:
        await consumer.stop()


async def _partitions(topic: str, broker: Mapping[str, Any]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**broker)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if described["error_code"]:
        raise for_code(described["error_code"])(topic)
    return [TopicPartition(topic, one["partition"]) for one in described["partitions"]]
