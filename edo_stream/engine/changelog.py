"""Reads changelog partitions from the broker: committed records only."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    UnknownTopicOrPartitionError,
)

from edo_stream.core.record import Record
from edo_stream.engine.fetched import ChangelogRecords, PlainRecords, read_as
from edo_stream.engine.guard import pace_metadata
from edo_stream.engine.ports import ChangelogRecord, Grown
from edo_stream.engine.security import BrokerAccess

#: Restores that read at the same time; each has a connection of its own.
_READERS_MAX = 4
_PART_BYTES_MAX = 4 << 20
#: Short: what a disk lacks is often nothing but the marker of its last transaction, for which a
#: wait for records would last to its end.
_WAIT_MS = 20
#: A restore that gets nothing for so long fails, and the task starts over.
_STALL_S = 30.0
#: A broker that does not answer for so long is asked again on a new connection.
_ANSWER_MS = 10_000
#: What a follower may have in memory: of a partition, and of all those that one node leads.
_FOLLOWED_BYTES_MAX = 256 << 10
_FETCH_BYTES_MAX = 8 << 20
_FOLLOW_WAIT_MS = 500

Made = TypeVar("Made")


class BrokerChangelog:
    """See :class:`edo_stream.engine.ports.Changelog`; one object serves all tasks."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access
        self._asker: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()
        self._readers = asyncio.Semaphore(_READERS_MAX)

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """See :class:`edo_stream.engine.ports.Changelog`."""
        async with self._asking() as asker:
            first = await asker.beginning_offsets([partition])
            end = await asker.end_offsets([partition])
        return first[partition], end[partition]

    async def partitions(self, topic: str) -> int:
        """See :class:`edo_stream.engine.ports.Changelog`."""
        async with self._asking() as asker:
            # Asked for apart: what the client knows of it may be minutes old.
            cluster = ClusterMetadata()
            if not await asker._client._metadata_update(cluster, [topic]):
                raise KafkaConnectionError(f"no broker tells how many partitions {topic} has")
        found = cluster.partitions_for_topic(topic)
        if not found:
            raise UnknownTopicOrPartitionError(f"there is no topic {topic}")
        return len(found)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A client for questions."""
        async with self._starting:
            if self._asker is None:
                asker = self._consumer()
                await asker.start()
                self._asker = asker
        asker = self._asker
        try:
            yield asker
        except KafkaError:
            # A question that took too long leaves its connection as it is: were it dead, every
            # later question would take too long as well.
            if self._asker is asker:
                self._asker = None
                await asker.stop()
            raise

    async def read(
        self, partition: TopicPartition, start: int, end: int
    ) -> AsyncGenerator[Sequence[ChangelogRecord], None]:
        """See :class:`edo_stream.engine.ports.Changelog`."""
        if start >= end:
            return
        async with self._readers:
            consumer = self._consumer()
            try:
                await consumer.start()
                read_as(ChangelogRecords, consumer._fetcher)
                consumer.assign([partition])
                consumer.seek(partition, start)
                stalled_at = asyncio.get_running_loop().time() + _STALL_S
                position = start
                while position < end:
                    fetched = await consumer.getmany(partition, timeout_ms=_WAIT_MS)
                    part = _part(fetched.get(partition, ()), end)
                    if part:
                        yield part
                    # Transaction markers at the end move the position without a record.
                    moved = await consumer.position(partition)
                    now = asyncio.get_running_loop().time()
                    if moved > position:
                        position, stalled_at = moved, now + _STALL_S
                    elif now > stalled_at:
                        raise KafkaTimeoutError(
                            f"{partition.topic}-{partition.partition}: restore stands at offset "
                            f"{position} of {end} since {_STALL_S:.0f} s"
                        )
            finally:
                await consumer.stop()

    async def close(self) -> None:
        """Close the connection that asks for bounds."""
        if self._asker is not None:
            await self._asker.stop()
            self._asker = None

    def _consumer(self) -> AIOKafkaConsumer:
        return _consumer(
            self._access, max_partition_fetch_bytes=_PART_BYTES_MAX, fetch_max_wait_ms=50
        )


class _Follower(Generic[Made]):
    """See :class:`edo_stream.engine.ports.Follower`."""

    kind: type[PlainRecords]
    """What is made of a record."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access
        self._client: AIOKafkaConsumer | None = None

    async def follow(self, starts: Mapping[TopicPartition, int]) -> None:
        """See :class:`edo_stream.engine.ports.Follower`."""
        await self.close()
        client = self._client = _consumer(
            self._access,
            max_partition_fetch_bytes=_FOLLOWED_BYTES_MAX,
            fetch_max_bytes=_FETCH_BYTES_MAX,
            fetch_max_wait_ms=_FOLLOW_WAIT_MS,
        )
        await client.start()
        read_as(self.kind, client._fetcher)
        client.assign(list(starts))
        for partition, start in starts.items():
            client.seek(partition, start)

    async def next(self, records_max: int) -> Mapping[TopicPartition, Grown[Made]]:
        """See :class:`edo_stream.engine.ports.Follower`."""
        client = self._client
        assert client is not None, "nothing is followed"
        fetched = await client.getmany(timeout_ms=_FOLLOW_WAIT_MS, max_records=records_max)
        grown = {}
        for partition in client.assignment():
            told_ms = client.last_poll_timestamp(partition)
            end = client.last_stable_offset(partition)
            position = await client.position(partition)
            records = _part(fetched.get(partition, ()))
            grown[partition] = Grown(records, position, end, told_ms)
        return grown

    async def close(self) -> None:
        """See :class:`edo_stream.engine.ports.Follower`."""
        client, self._client = self._client, None
        if client is not None:
            await client.stop()


class BrokerFollower(_Follower[ChangelogRecord]):
    """Follows changelogs."""

    kind = ChangelogRecords


class BrokerTableFollower(_Follower[Record]):
    """Follows tables: their records as they are."""

    kind = PlainRecords


def _consumer(access: BrokerAccess, **more: int) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **access.client(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=_ANSWER_MS,
            **more,
        )
    )
    pace_metadata(consumer._client)
    return consumer


def _part(records: Sequence[Any], end: float = inf) -> list[Any]:
    return [record for record in records if record.offset < end and record.key is not None]
