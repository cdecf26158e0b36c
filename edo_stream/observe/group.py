"""The consumer group as the broker has it: members, what they own, and how far they are."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code

#: Time for the first unread records of all partitions to come.
_FIRST_UNREAD_S: Final = 10.0
_FETCH_BYTES: Final = 64 << 10
_NO_GROUP: Final = "Dead"


class Member(msgspec.Struct, frozen=True, order=True):
    """A worker in the group."""

    client_id: str
    host: str
    partitions: tuple[TopicPartition, ...]


class Reading(msgspec.Struct, frozen=True):
    """Where one partition stands."""

    committed: int | None
    first: int
    """First offset of the log."""
    end: int
    """Last stable offset."""

    @property
    def lag(self) -> int:
        """Offsets to read; from the start of the log when nothing was ever committed."""
        next_ = self.first if self.committed is None else max(self.committed, self.first)
        return max(0, self.end - next_)


class GroupState(msgspec.Struct, frozen=True):
    """The group at one moment."""

    state: str
    """In Kafka's words: Stable, Empty, PreparingRebalance …"""
    members: tuple[Member, ...]
    readings: Mapping[TopicPartition, Reading]

    def owner(self, partition: TopicPartition) -> Member | None:
        """Worker that a partition is assigned to."""
        return next((one for one in self.members if partition in one.partitions), None)


class GroupReader:
    """A connection for questions about one group; an async context manager.

    ``broker`` is what a client needs to connect.
    """

    def __init__(self, group: str, topics: Sequence[str], broker: Mapping[str, Any]) -> None:
        self._group = group
        self._topics = list(topics)
        self._admin = AIOKafkaAdminClient(**broker)
        self._consumer = AIOKafkaConsumer(
            **broker,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
        )

    async def __aenter__(self) -> "GroupReader":
        try:
            await self._admin.start()
            await self._consumer.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def read(self) -> GroupState:
        """Ask for members, commits and ends; topics that do not exist are left out.

        Raises:
            KafkaError: the broker does not answer.
        """
        state, members = await self._members()
        partitions = await self._partitions()
        if not partitions:
            return GroupState(state, members, {})
        # Commits before ends, so that no commit lies behind its end.
        committed = await self._admin.list_consumer_group_offsets(self._group)
        first = await self._consumer.beginning_offsets(partitions)
        end = await self._consumer.end_offsets(partitions)
        offsets = {partition: found.offset for partition, found in committed.items()}
        readings = {
            one: Reading(offsets[one] if offsets.get(one, -1) >= 0 else None, first[one], end[one])
            for one in partitions
        }
        return GroupState(state, members, readings)

    async def first_unread_ms(
        self, readings: Mapping[TopicPartition, Reading]
    ) -> dict[TopicPartition, int | None]:
        """Time of the first record of each partition that is not processed; ``None``: no record.

        Partitions whose record does not come in time are missing.
        """
        found: dict[TopicPartition, int | None] = {}
        left = {one: reading for one, reading in readings.items() if reading.lag}
        if not left:
            return found
        self._consumer.assign(list(left))
        for partition, reading in left.items():
            self._consumer.seek(partition, max(reading.committed or 0, reading.first))
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _FIRST_UNREAD_S
        while left and loop.time() < deadline_s:
            batches = await self._consumer.getmany(*left, timeout_ms=200)
            for partition, records in batches.items():
                found[partition] = records[0].timestamp
            for partition in list(left):
                # Behind the last record there may be transaction markers only.
                if partition not in found and (
                    await self._consumer.position(partition) >= left[partition].end
                ):
                    found[partition] = None
                if partition in found:
                    del left[partition]
                    self._consumer.pause(partition)
        return found

    async def _members(self) -> tuple[str, tuple[Member, ...]]:
        (response,) = await self._admin.describe_consumer_groups([self._group])
        error, _, state, _, _, members, *_ = response.groups[0]
        if error:
            raise _error(error, self._group)
        found = [
            Member(client_id, host.lstrip("/"), _assigned(assignment))
            for _, client_id, host, _, assignment in (_plain(member) for member in members)
        ]
        return ("Empty" if state == _NO_GROUP else state), tuple(sorted(found))

    async def _partitions(self) -> list[TopicPartition]:
        described = await self._admin.describe_topics(self._topics)
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            if topic["error_code"] == 0
            for partition in sorted(topic["partitions"], key=lambda one: int(one["partition"]))
        ]


def _plain(member: Sequence[Any]) -> tuple[str, str, str, bytes, bytes]:
    """A member without what newer protocols add in between."""
    return member[0], member[-4], member[-3], member[-2], member[-1]


def _assigned(assignment: bytes) -> tuple[TopicPartition, ...]:
    if not assignment:
        return ()
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return tuple(sorted(TopicPartition(t, p) for t, numbers in decoded.assignment for p in numbers))


def _error(code: int, group: str) -> KafkaError:
    error: KafkaError = for_code(code)(f"group {group}")
    return error
