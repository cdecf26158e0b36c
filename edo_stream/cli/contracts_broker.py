"""The broker as the verbs of `edo contracts` see it: topics as they are, and changes of them."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from edo_stream.cli.contracts_plan import Action, Seen, Step
from edo_stream.engine.admin import Wanted
from edo_stream.engine.security import BrokerAccess

#: Where Kafka says a value comes from: set for this topic.
_OF_THE_TOPIC: Final = 1
#: A request for more would be larger than some brokers answer.
_TOPICS_PER_REQUEST: Final = 500
_COORDINATED_WITHIN_S: Final = 30.0
_KNOWN_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.1


class Broker:
    """A connection; an async context manager."""

    def __init__(self, access: BrokerAccess) -> None:
        self._client = AIOKafkaAdminClient(**access.client())

    async def __aenter__(self) -> "Broker":
        await self._client.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()

    async def names(self) -> list[str]:
        """All topics but Kafka's own."""
        return sorted(name for name in await self._client.list_topics() if name[:2] != "__")

    async def seen(self, names: Iterable[str]) -> dict[str, Seen]:
        """Describe those of the topics that exist."""
        there = set(await self.names())
        wanted = sorted(set(names) & there)
        found: dict[str, Seen] = {}
        for start in range(0, len(wanted), _TOPICS_PER_REQUEST):
            found |= await self._described(wanted[start : start + _TOPICS_PER_REQUEST])
        return found

    async def _described(self, names: list[str]) -> dict[str, Seen]:
        configs = await self._configs(names)
        return {
            topic["topic"]: Seen(
                len(topic["partitions"]),
                min(len(partition["replicas"]) for partition in topic["partitions"]),
                *configs.get(topic["topic"], ({}, {})),
            )
            for topic in await self._client.describe_topics(names)
            if topic["error_code"] == 0
        }

    async def _configs(self, names: list[str]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
        """Effective values, and those set for the topic, by topic."""
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, configs=None) for name in names]
        found = {}
        for response in await self._client.describe_configs(asked):
            for _, _, _, name, entries in (tuple(one[:5]) for one in response.resources):
                values = {entry[0]: str(entry[1]) for entry in entries}
                own = {e[0]: str(e[1]) for e in entries if e[3] == _OF_THE_TOPIC}
                found[name] = (values, own)
        return found

    async def settled(self, partitions: Mapping[str, int]) -> None:
        """Wait until all brokers know of what was done, a while at most; 0 stands for deleted."""
        deadline_s = asyncio.get_running_loop().time() + _KNOWN_WITHIN_S
        while partitions and asyncio.get_running_loop().time() < deadline_s:
            there = set(await self.names()) & partitions.keys()
            described = await self._client.describe_topics(sorted(there)) if there else []
            counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
            if all(counts.get(name, 0) == count for name, count in partitions.items()):
                return
            await asyncio.sleep(_POLL_S)

    async def members(self, group: str) -> int:
        """How many members a consumer group has."""
        deadline_s = asyncio.get_running_loop().time() + _COORDINATED_WITHIN_S
        while True:
            try:
                responses = await self._client.describe_consumer_groups([group])
            except GroupCoordinatorNotAvailableError:
                # The first who asks makes the broker create the topic of the groups.
                if asyncio.get_running_loop().time() > deadline_s:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                return sum(len(one[5]) for response in responses for one in response.groups)

    async def create(self, topics: Iterable[Wanted]) -> dict[str, str | None]:
        """Create topics; what went wrong by topic, ``None`` where nothing did."""
        new = [
            NewTopic(
                name=topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                topic_configs=dict(topic.config),
            )
            for topic in topics
        ]
        results: dict[str, str | None] = {}
        for start in range(0, len(new), _TOPICS_PER_REQUEST):
            response: Any = await self._client.create_topics(
                new[start : start + _TOPICS_PER_REQUEST]
            )
            results |= {name: _why(code, message) for name, code, *message in response.topic_errors}
        return results

    async def carry_out(self, step: Step, wanted: Mapping[str, Wanted], seen: Seen) -> str | None:
        """Do one step on a topic that is there; what went wrong, or ``None``."""
        try:
            match step.action:
                case Action.GROW:
                    counts = {step.topic: NewPartitions(wanted[step.topic].partitions)}
                    await self._client.create_partitions(counts)
                case Action.CONFIGURE:
                    return await self._configure(step, seen)
                case Action.DELETE:
                    response: Any = await self._client.delete_topics([step.topic])
                    return _why(response.topic_error_codes[0][1], [])
                case Action.CREATE | Action.NONE:
                    raise AssertionError(f"{step} is not done here")
        except KafkaError as error:
            return str(error)
        return None

    async def _configure(self, step: Step, seen: Seen) -> str | None:
        # This request replaces all that was set for the topic, so all of it is sent.
        values = {**seen.overrides, **dict(step.config)}
        asked = ConfigResource(ConfigResourceType.TOPIC, step.topic, configs=values)
        for response in await self._client.alter_configs([asked]):
            for code, message, *_ in response.resources:
                return _why(code, [message])
        return None


def _why(code: int, message: list[Any]) -> str | None:
    error = cast(type[KafkaError], for_code(code))
    if code == 0 or error is TopicAlreadyExistsError:
        return None
    said = " ".join(str(part) for part in message if part)
    return f"{error.__name__} {said}".strip()
