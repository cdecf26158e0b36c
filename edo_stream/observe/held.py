"""What waits in gap buffers, read from the state's changelogs while workers go on.

A changelog partition holds whole transactions, so a row that speaks of held events and the held
events themselves are of one moment. The records that are held are not kept: a buffer may have
gigabytes of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaTimeoutError

from edo_stream.core.held import HELD, parse_held
from edo_stream.core.idle import SEQUENCE
from edo_stream.core.sequence import SequenceRow, decode_sequence

_FETCH_BYTES: Final = 4 << 20
#: A read that gets no further for so long fails.
_STALL_S: Final = 30.0


class HeldKey(msgspec.Struct, frozen=True, order=True):
    """A key whose events wait for a number before theirs."""

    topic: str
    partition: int
    key: bytes
    group: str
    next: int
    """The number that is waited for."""
    held: int
    lowest: int
    highest: int
    since_ms: int
    """When the event that waits longest was held, epoch ms."""
    due_ms: int | None
    """When the wait ends by itself; ``None``: never."""


class HeldRows:
    """The rows of one changelog partition that tell what is held; takes records in log order."""

    def __init__(self) -> None:
        self._sequences: dict[bytes, SequenceRow] = {}
        self._numbers: dict[bytes, dict[int, int]] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row, which may never have been seen."""
        match key[:1]:
            case kind if kind == SEQUENCE:
                row = None if value is None else decode_sequence(value)
                if row is None or not row.held:
                    self._sequences.pop(key[1:], None)
                else:
                    self._sequences[key[1:]] = row
            case kind if kind == HELD:
                name, number, held_at_ms = parse_held(key, value)
                if held_at_ms is None:
                    self._forget(name, number)
                else:
                    self._numbers.setdefault(name, {})[number] = held_at_ms

    def _forget(self, name: bytes, number: int) -> None:
        numbers = self._numbers.get(name, {})
        numbers.pop(number, None)
        if not numbers:
            self._numbers.pop(name, None)

    def keys(self, group: str, partition: int) -> list[HeldKey]:
        """Keys that wait, as of the last record taken."""
        found = []
        for name, row in self._sequences.items():
            numbers = self._numbers.get(name)
            if numbers is None:
                # Compaction took the rows while they were read: the key has moved on since.
                continue
            topic, _, key = name.partition(b"\0")
            found.append(
                HeldKey(
                    topic=topic.decode(),
                    partition=partition,
                    key=key,
                    group=group,
                    next=row.next,
                    held=len(numbers),
                    lowest=min(numbers),
                    highest=max(numbers),
                    since_ms=min(numbers.values()),
                    due_ms=row.due_ms,
                )
            )
        return found


async def read_held(changelogs: Mapping[str, str], broker: Mapping[str, Any]) -> list[HeldKey]:
    """Read what is held now in all groups; ``changelogs`` are their state's topics, by group.

    A group whose changelog does not exist has never run and holds nothing. ``broker`` is what a
    client needs to connect.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    groups = await _partitions(changelogs, broker)
    if not groups:
        return []
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
        rows = await _read(consumer, list(groups))
    finally:
        await consumer.stop()
    return sorted(
        key
        for partition, held in rows.items()
        for key in held.keys(groups[partition], partition.partition)
    )


async def _partitions(
    changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> dict[TopicPartition, str]:
    """Partitions of the changelogs that exist, with their groups."""
    admin = AIOKafkaAdminClient(**broker)
    try:
        await admin.start()
        described = await admin.describe_topics(list(changelogs.values()))
    finally:
        await admin.close()
    numbers = {
        topic["topic"]: [partition["partition"] for partition in topic["partitions"]]
        for topic in described
        if topic["error_code"] == 0
    }
    return {
        TopicPartition(topic, number): group
        for group, topic in changelogs.items()
        for number in numbers.get(topic, ())
    }


async def _read(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, HeldRows]:
    rows = {partition: HeldRows() for partition in partitions}
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
                    rows[partition].apply(record.key, record.value)
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
    return rows
