"""Rows of state, read from its changelogs while workers go on.

A changelog partition holds whole transactions, so the rows that are read are of one moment.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import ConsumerRecord

_FETCH_BYTES: Final = 4 << 20
#: A read that gets no further for so long fails.
_STALL_S: Final = 30.0


class Rows(Protocol):
    """Takes the records of one changelog partition, in log order."""

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row, which may never have been seen."""


R = TypeVar("R", bound=Rows)


async def read_rows(
    changelogs: Mapping[str, str], broker: Mapping[str, Any], make: Callable[[], R]
) -> dict[tuple[str, int], R]:
    """Read the state of all groups, by group and partition.

    ``changelogs`` are their topics, by group; one that does not exist has no rows. ``broker`` is
    what a client needs to connect.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    groups = {topic: group for group, topic in changelogs.items()}
    rows: dict[tuple[str, int], R] = {}

    def take(record: ConsumerRecord) -> None:
        place = (groups[record.topic], record.partition)
        if place not in rows:
            rows[place] = make()
        rows[place].apply(record.key, record.value)

    await read_topics(list(groups), broker, take)
    return rows


async def read_topics(
    topics: Sequence[str], broker: Mapping[str, Any], take: Callable[[ConsumerRecord], None]
) -> None:
    """Read all committed records that the topics have now; one that does not exist has none.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    partitions = await _partitions(topics, broker)
    if not partitions:
        return
    consumer = AIOKafkaConsumer(
        **broker,
        isolation_level="read_committed",
        enable_auto_commit=False,
        # Where retention or compaction overtakes the read, it goes on behind.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_bytes=4 * _FETCH_BYTES,
    )
    try:
        # Within, because a client that did not get through wants to be stopped as well.
        await consumer.start()
        await _read(consumer, partitions, take)
    finally:
        await consumer.stop()


async def topics_of(prefix: str, broker: Mapping[str, Any]) -> set[str]:
    """Topics that exist, and whose names begin so."""
    admin = AIOKafkaAdminClient(**broker)
    try:
        await admin.start()
        return {topic for topic in await admin.list_topics() if topic.startswith(prefix)}
    finally:
        await admin.close()


async def _partitions(topics: Sequence[str], broker: Mapping[str, Any]) -> list[TopicPartition]:
    """Partitions of the topics that exist."""
    admin = AIOKafkaAdminClient(**broker)
    try:
        await admin.start()
        described = await admin.describe_topics(list(topics))
    finally:
        await admin.close()
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        if topic["error_code"] == 0
        for partition in topic["partitions"]
    ]


async def _read(
    consumer: AIOKafkaConsumer,
    partitions: list[TopicPartition],
    take: Callable[[ConsumerRecord], None],
) -> None:
    ends = await consumer.end_offsets(partitions)
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    positions = dict.fromkeys(partitions, -1)
    left = set(partitions)
    loop = asyncio.get_running_loop()
    stalled_at = loop.time() + _STALL_S
    while left:
        for partition, records in (await consumer.getmany(*left, timeout_ms=200)).items():
            for record in records:
                if record.offset < ends[partition]:
                    take(record)
        for partition in list(left):
            # Transaction markers and compaction move the position without a record.
            position = await consumer.position(partition)
            if position > positions[partition]:
                positions[partition], stalled_at = position, loop.time() + _STALL_S
            if position >= ends[partition]:
                left.discard(partition)
                consumer.pause(partition)
        if loop.time() > stalled_at:
            names = ", ".join(f"{p.topic}-{p.partition} at {positions[p]}" for p in sorted(left))
            raise KafkaTimeoutError(f"no more records for {_STALL_S:.0f} s: {names}")
