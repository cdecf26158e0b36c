"""Topics at the broker: what is there, what is missing, what contradicts the contracts."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
    for_code,
)

from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction import BATCH_BYTES_MAX

#: With one of three nodes away, each try meets it with a chance of a third.
_ASKED_TIMES = 5
_ASK_AGAIN_S = 0.5
_APPEARS_WITHIN_S = 10.0
_APPEARS_POLL_S = 0.1


_SIZE = "max.message.bytes"


class Wanted(msgspec.Struct, frozen=True):
    """A topic as the contracts, or the engine, want it."""

    name: str
    partitions: int
    replication: int = 1
    config: Mapping[str, str] = {}
    is_internal: bool = False
    """The engine's own: created where it is missing."""
    why: str = ""
    """What needs it, for messages."""


class Present(msgspec.Struct, frozen=True):
    """A topic as it is."""

    partitions: int
    message_bytes_max: int


class PreparationError(Exception):
    """The cluster does not fit the contracts; ``findings`` says all that is wrong."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("\n".join(findings))
        self.findings = list(findings)


class Admin:
    """A connection for questions about, and changes of, topics; an async context manager."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access
        self._client = AIOKafkaAdminClient(**access.client())

    async def __aenter__(self) -> "Admin":
        await self._client.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()

    async def present(self, names: Iterable[str]) -> dict[str, Present]:
        """Describe those of the topics that exist."""
        described = await self._client.describe_topics(sorted(set(names)))
        counts = {
            topic["topic"]: len(topic["partitions"])
            for topic in described
            if topic["error_code"] == 0
        }
        sizes = await self._message_bytes_max(list(counts)) if counts else {}
        return {name: Present(count, sizes[name]) for name, count in counts.items()}

    async def _message_bytes_max(self, names: Sequence[str]) -> dict[str, int]:
        asked = [
            ConfigResource(ConfigResourceType.TOPIC, name, configs={_SIZE: None}) for name in names
        ]
        sizes = dict.fromkeys(names, BATCH_BYTES_MAX)
        for response in await self._client.describe_configs(asked):
            for _, _, _, name, entries in (tuple(r[:5]) for r in response.resources):
                for entry in entries:
                    if entry[0] == _SIZE:
                        sizes[name] = int(entry[1])
        return sizes

    async def create(self, topics: Iterable[Wanted]) -> list[str]:
        """Create topics; those that somebody else has just created are fine.

        Raises:
            PreparationError: the broker refused some; the others are created.
        """
        new = [
            NewTopic(
                name=topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                topic_configs=dict(topic.config),
            )
            for topic in topics
        ]
        if not new:
            return []
        created, findings = [], []
        response: Any = await self._client.create_topics(new)
        for name, code, *message in response.topic_errors:
            error = cast(type[KafkaError], for_code(code))
            if code == 0:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                findings.append(f"topic {name} cannot be created: {error.__name__} {message}")
        if findings:
            raise PreparationError(findings)
        return created


async def prepare(access: BrokerAccess, topics: Sequence[Wanted]) -> dict[str, int]:
    """Create the engine's own topics and check all of them; done at every start.

    Returns the topics whose batches must stay smaller than the default, and by how much.

    Raises:
        PreparationError: topics are missing or have other partition counts than the contracts.
        KafkaError: the broker cannot be reached.
    """
    for _ in range(_ASKED_TIMES - 1):
        try:
            return await _prepare(access, topics)
        except NodeNotReadyError:
            # The client asks any node of the cluster, which may be the one that is away.
            await asyncio.sleep(_ASK_AGAIN_S)
    return await _prepare(access, topics)


async def _prepare(access: BrokerAccess, topics: Sequence[Wanted]) -> dict[str, int]:
    async with Admin(access) as admin:
        present = await admin.present(topic.name for topic in topics)
        created = await admin.create(t for t in topics if t.is_internal and t.name not in present)
        present |= await _appeared(admin, created)
        findings = [
            f"topic {t.name} does not exist ({t.why}): create it, or all of them with "
            "'edo topics apply'"
            for t in topics
            if not t.is_internal and t.name not in present
        ]
        findings += [
            f"topic {t.name} has {present[t.name].partitions} partitions but {t.why} wants "
            f"{t.partitions}: topics of a group must have the same number, or the parts of one "
            "key do not meet in one task"
            for t in topics
            if t.name in present and present[t.name].partitions != t.partitions
        ]
        findings += [
            f"topic {t.name} takes records of at most {present[t.name].message_bytes_max} bytes "
            f"but {t.why} needs {t.config[_SIZE]}: a larger one would be tried again for ever. "
            f"Raise its {_SIZE}"
            for t in topics
            if t.name in present and present[t.name].message_bytes_max < int(t.config.get(_SIZE, 0))
        ]
    if findings:
        raise PreparationError(findings)
    return {
        name: topic.message_bytes_max
        for name, topic in present.items()
        if topic.message_bytes_max < BATCH_BYTES_MAX
    }


async def _appeared(admin: Admin, created: Sequence[str]) -> dict[str, Present]:
    """Describe topics that were just created, whose limits may be smaller than asked for.

    Brokers learn of a new topic a little later; what is still unknown then is left out.
    """
    present: dict[str, Present] = {}
    deadline_s = asyncio.get_running_loop().time() + _APPEARS_WITHIN_S
    while len(present) < len(created):
        present = await admin.present(created)
        if asyncio.get_running_loop().time() > deadline_s:
            break
        await asyncio.sleep(_APPEARS_POLL_S)
    return present
