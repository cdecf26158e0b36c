"""Commands that wait where nobody reads any more: of flows and waits that are not declared now.

A flow that was removed or renamed leaves its topic behind, and a ladder that has changed its tiers.
What has not run there would wait for ever without a word, so a worker does not start while there is
any. What was *parked* is in the state of its group, which refuses it in the same way
(:mod:`edo_stream.engine.act_plans`).
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    GroupCoordinatorNotAvailableError,
    KafkaTimeoutError,
    NotCoordinatorForGroupError,
)
from aiokafka.structs import OffsetAndMetadata

from edo_stream.engine.security import BrokerAccess
from edo_stream.registry.names import INTERNAL_PREFIX

_COMMANDS: Final = f"{INTERNAL_PREFIX}commands."
_TIERS: Final = f"{INTERNAL_PREFIX}retry."
_PATIENCE_S: Final = 60.0
_POLL_MS: Final = 200
_NO_COORDINATOR: Final = (
    CoordinatorLoadInProgressError,
    GroupCoordinatorNotAvailableError,
    NotCoordinatorForGroupError,
)
_ASKED_TIMES: Final = 30
_ASK_AGAIN_S: Final = 0.5


class Leftover(msgspec.Struct, frozen=True):
    """Commands on a topic that no declared flow has."""

    topic: str
    commands: int

    @property
    def found(self) -> str:
        """What is wrong."""
        are = "1 command waits" if self.commands == 1 else f"{self.commands:,} commands wait"
        return f"{are} on {self.topic}, {self._why}"

    @property
    def advice(self) -> str:
        """What to do."""
        group, _, wait = self.topic.removeprefix(_TIERS).rpartition(".")
        give_up = f"or, to give them up, delete the topic {self.topic}"
        if self.topic.startswith(_COMMANDS):
            flow = self.topic.removeprefix(_COMMANDS)
            return f"declare flow {flow} again, with draining: true, until they have run; {give_up}"
        return (
            f"write former_waits: [{wait}] in a flow of group {group} until they have run; "
            f"{give_up}"
        )

    @property
    def _why(self) -> str:
        if self.topic.startswith(_COMMANDS):
            return f"and there is no flow {self.topic.removeprefix(_COMMANDS)}"
        return "and no flow's retries wait there any more"


async def leftovers(access: BrokerAccess, app: str, declared: Collection[str]) -> list[Leftover]:
    """Find them, by topic; ``declared`` are the topics that flows have now.

    Raises:
        KafkaError: the broker cannot be reached, or does not give the records that it has.
    """
    stand = await _stand(access, app, declared)
    if not stand:
        return []
    counts = await _count(access, stand)
    return [Leftover(topic, count) for topic, count in sorted(counts.items()) if count]


async def _stand(
    access: BrokerAccess, app: str, declared: Collection[str]
) -> dict[TopicPartition, int]:
    """Where the workers' group stands on topics that are there and not declared."""
    admin = AIOKafkaAdminClient(**access.client())
    try:
        await admin.start()
        strange = {
            topic
            for topic in await admin.list_topics()
            if topic.startswith((_COMMANDS, _TIERS)) and topic not in declared
        }
        committed = await _committed(admin, app) if strange else {}
    finally:
        await admin.close()
    return {place: told.offset for place, told in committed.items() if place.topic in strange}


async def _committed(
    admin: AIOKafkaAdminClient, app: str
) -> Mapping[TopicPartition, OffsetAndMetadata]:
    found: Mapping[TopicPartition, OffsetAndMetadata] | None = None
    for _ in range(_ASKED_TIMES):
        with suppress(*_NO_COORDINATOR):
            # A new cluster has none before the first group asks.
            found = await admin.list_consumer_group_offsets(app)
            break
        await asyncio.sleep(_ASK_AGAIN_S)
    if found is None:
        raise GroupCoordinatorNotAvailableError(f"no coordinator of group {app}")
    return found


async def _count(access: BrokerAccess, stand: Mapping[TopicPartition, int]) -> dict[str, int]:
    """Committed records from there on: to the end, transaction markers are offsets too."""
    consumer = AIOKafkaConsumer(
        **access.client(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
    )
    counts: dict[str, int] = {}
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await consumer.start()
            ends = await consumer.end_offsets(list(stand))
            left = {place for place, offset in stand.items() if offset < ends[place]}
            consumer.assign(sorted(left))
            for place in left:
                consumer.seek(place, stand[place])
            while left:
                for place, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                    counts[place.topic] = counts.get(place.topic, 0) + len(records)
                left = {place for place in left if await consumer.position(place) < ends[place]}
    except TimeoutError as error:
        raise KafkaTimeoutError(f"not read within {_PATIENCE_S:.0f} s: {_names(stand)}") from error
    finally:
        await consumer.stop()
    return counts


def _names(places: Iterable[TopicPartition]) -> str:
    return ", ".join(sorted({place.topic for place in places}))
