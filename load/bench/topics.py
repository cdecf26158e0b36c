"""The bench's broker: inputs that all programs share, and what a program left at the broker."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from edo_stream.local.kafka import LocalKafka
from load.bench.programs import PARTITIONS

INPUTS: Final = "bench.records."
"""Topics that begin so stay from run to run."""
_KEPT: Final = (INPUTS, "__")
_SETTLE_S: Final = 1.0


class Topics:
    """A connection for questions about topics; an async context manager."""

    def __init__(self, kafka: LocalKafka) -> None:
        self._kafka = kafka
        self._stack = AsyncExitStack()
        self._admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        self._askers = {
            level: AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level=level)
            for level in ("read_committed", "read_uncommitted")
        }

    async def __aenter__(self) -> Self:
        await self._admin.start()
        self._stack.push_async_callback(self._admin.close)
        for asker in self._askers.values():
            await asker.start()
            self._stack.push_async_callback(asker.stop)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def create(self, topic: str) -> None:
        """Create a topic with the job's partitions."""
        await self._admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        await asyncio.sleep(_SETTLE_S)

    async def ends(self, topic: str, isolation: str = "read_committed") -> list[int]:
        """End of each partition: what a reader of that isolation can see."""
        partitions = _partitions(topic)
        ends: Mapping[TopicPartition, int] = await self._askers[isolation].end_offsets(partitions)
        return [ends[partition] for partition in partitions]

    async def group_offsets(self, group: str, topic: str) -> list[int]:
        """How far a group has committed; 0 where it has not."""
        offsets = await self._admin.list_consumer_group_offsets(
            group, partitions=_partitions(topic)
        )
        return [max(0, offsets[partition].offset) for partition in _partitions(topic)]

    async def clear(self) -> None:
        """Delete all topics but the inputs."""
        left = [one for one in await self._admin.list_topics() if not one.startswith(_KEPT)]
        if left:
            await self._admin.delete_topics(left)
            await asyncio.sleep(_SETTLE_S)

    async def sizes_bytes(self) -> dict[str, int]:
        """Size on disk of each topic."""
        return sizes_on_disk(self._kafka.directory / "data", await self._admin.list_topics())


def sizes_on_disk(data: Path, topics: Iterable[str]) -> dict[str, int]:
    """Bytes of the records of each topic; indices are left out."""
    return {
        topic: sum(
            log.stat().st_size
            for partition in data.glob(f"{topic}-*")
            if partition.name.removeprefix(f"{topic}-").isdecimal()
            for log in partition.glob("*.log")
        )
        for topic in topics
    }


def _partitions(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(PARTITIONS)]
