"""What a broker tells of itself: nodes, protocol, settings, replicas, group, clock. Not judged."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError

from edo_stream.engine.security import BrokerAccess

_CONNECT_S = 3.0
_GROUP_TRIES = 20
_GROUP_PAUSE_S = 0.25


class Node(msgspec.Struct, frozen=True):
    """A broker, as the cluster names it to its clients."""

    node: int
    host: str
    port: int
    is_reachable: bool


class Partition(msgspec.Struct, frozen=True):
    """One partition's replicas."""

    topic: str
    partition: int
    leader: int
    """-1: none, nothing can be read or written."""
    replicas: int
    in_sync: int


class Facts(msgspec.Struct, frozen=True):
    """What was told."""

    nodes: tuple[Node, ...]
    apis: Mapping[int, tuple[int, int]]
    """Protocol versions of each API, from and to."""
    settings: Mapping[str, str]
    """Of one broker."""
    partitions: tuple[Partition, ...]
    group: str
    """State of the consumer group, in Kafka's words; ``Dead`` when there is none."""
    members: int
    ahead: tuple[str, ...]
    """Topics with records that are later than the time asked for."""


async def ask(access: BrokerAccess, topics: Sequence[str], group: str, ahead_of_ms: int) -> Facts:
    """Ask the cluster; of ``topics`` those that are there.

    Raises:
        KafkaError: nobody answers.
    """
    admin = AIOKafkaAdminClient(**access.client())
    await admin.start()
    try:
        described = await admin.describe_cluster()
        there = set(await admin.list_topics())
        known = sorted(set(topics) & there)
        partitions = await _partitions(admin, known)
        state, members = await _group(admin, group)
        settings = await _settings(admin, int(described["brokers"][0]["node_id"]))
        apis = _apis(admin)
    finally:
        await admin.close()
    nodes = await asyncio.gather(
        *(
            _node(int(one["node_id"]), str(one["host"]), int(one["port"]))
            for one in described["brokers"]
        )
    )
    ahead = await _ahead(access, partitions, ahead_of_ms)
    return Facts(tuple(nodes), apis, settings, partitions, state, members, ahead)


async def accepts(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        return False
    return True


async def _node(node: int, host: str, port: int) -> Node:
    return Node(node, host, port, await accepts(host, port))


async def _partitions(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> tuple[Partition, ...]:
    if not topics:
        return ()
    return tuple(
        Partition(
            topic["topic"],
            one["partition"],
            one["leader"],
            len(one["replicas"]),
            len(one["isr"]),
        )
        for topic in await admin.describe_topics(list(topics))
        for one in topic["partitions"]
    )


async def _group(admin: AIOKafkaAdminClient, group: str) -> tuple[str, int]:
    for _ in range(_GROUP_TRIES):
        try:
            responses = await admin.describe_consumer_groups([group])
        except GroupCoordinatorNotAvailableError:
            # The first who asks makes the broker create the topic of the groups.
            await asyncio.sleep(_GROUP_PAUSE_S)
        else:
            for response in responses:
                for found in response.groups:
                    return str(found[2]), len(found[5])
    return "Dead", 0


async def _settings(admin: AIOKafkaAdminClient, node: int) -> dict[str, str]:
    asked = ConfigResource(ConfigResourceType.BROKER, str(node), configs=None)
    found: dict[str, str] = {}
    for response in await admin.describe_configs([asked]):
        for resource in response.resources:
            found |= {entry[0]: str(entry[1]) for entry in resource[4]}
    return found


def _apis(admin: AIOKafkaAdminClient) -> dict[int, tuple[int, int]]:
    connections: Any = admin._client._conns.values()
    for connection in connections:
        if connection._versions:
            return dict(connection._versions)
    return {}


async def _ahead(
    access: BrokerAccess, partitions: Sequence[Partition], at_ms: int
) -> tuple[str, ...]:
    asked = {
        TopicPartition(one.topic, one.partition): at_ms for one in partitions if one.leader >= 0
    }
    if not asked:
        return ()
    consumer = AIOKafkaConsumer(**access.client(enable_auto_commit=False))
    try:
        await consumer.start()
        found = await consumer.offsets_for_times(asked)
    finally:
        await consumer.stop()
    return tuple(sorted({place.topic for place, offset in found.items() if offset is not None}))
