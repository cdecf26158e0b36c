"""Other services that read topics of which a service's workers must be the only readers.

Topics of commands, of retries and of orders to a group are named after flows and groups, without
the service. Where two services of one broker have a flow, a group or a source topic of one name,
each reads what the other has written: work is done twice, or is a dead letter of a flow that is
unknown.
"""

from collections.abc import Collection
from typing import Final

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from edo_stream.engine.keepers import GROUP as KEEPERS
from edo_stream.engine.security import BrokerAccess
from edo_stream.registry import control_topic
from edo_stream.registry.names import INTERNAL_PREFIX

_SUFFIX: Final = "-decide"
_DEAD: Final = ("Dead", "Empty")


class Sharer(msgspec.Struct, frozen=True):
    """Another service with workers, and what it reads besides us."""

    group: str
    topics: tuple[str, ...]


async def sharers(access: BrokerAccess, app: str, names: Collection[str]) -> list[Sharer]:
    """Find them, by group; ``names`` are the topics that the service has.

    Raises:
        KafkaError: the broker cannot be reached.
    """
    # Those of shared quotas every service has; no name of a file can keep them apart.
    own = {name for name in names if name.startswith(INTERNAL_PREFIX)} - {control_topic(KEEPERS)}
    admin = AIOKafkaAdminClient(**access.client())
    await admin.start()
    try:
        listed = {str(group) for group, *_ in await admin.list_consumer_groups()}
        others = sorted(group for group in listed - {app} if group.endswith(_SUFFIX))
        return [
            Sharer(group, read)
            for group in others
            if (read := await _read(admin, group, own)) and await _works(admin, group)
        ]
    finally:
        await admin.close()


async def _read(admin: AIOKafkaAdminClient, group: str, own: Collection[str]) -> tuple[str, ...]:
    committed = await admin.list_consumer_group_offsets(group)
    return tuple(sorted({place.topic for place in committed} & {*own}))


async def _works(admin: AIOKafkaAdminClient, group: str) -> bool:
    described = await admin.describe_consumer_groups([group])
    return any(found[2] not in _DEAD for response in described for found in response.groups)
