"""Which version of the transaction protocol is spoken: what the cluster has agreed upon, at most 2.

The brokers of a cluster agree on a feature's level once all of them know it ("finalized"); it does
not sink again by itself. So it is asked for once, when the worker starts.

Brokers of Kafka 4.0 speak the second version as well; but in 4.0.0 a transactional id whose epochs
are used up while it is taken over cannot be initialised any more (KAFKA-19367), and nothing that
they say of themselves tells 4.0.1 from it. So it is the first there, and until the cluster has
agreed upon the metadata of a later release.
"""

import logging
from collections.abc import Mapping
from enum import Enum
from io import BytesIO
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError, RequestTimedOutError

from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction_v2.requests import (
    FINALIZED_FEATURES,
    FINALIZED_FEATURES_TAG,
    SPOKEN,
    ApiVersionsRequest,
)

log = logging.getLogger(__name__)

_FEATURE: Final = "transaction.version"
_METADATA: Final = "metadata.version"
_METADATA_4_1: Final = 26
"""``4.1-IV0``, which brokers of 4.0 do not know."""
_SOFTWARE: Final = ("edo-stream", "1")


class TransactionProtocol(Enum):
    """A version of the protocol; see KIP-890."""

    FIRST = 1
    SECOND = 2


async def choose_protocol(access: BrokerAccess, wanted: str) -> TransactionProtocol:
    """The protocol for a setting, ``auto`` or ``1``.

    Raises:
        KafkaError: no broker answers.
    """
    chosen = TransactionProtocol.FIRST
    if wanted == "auto" and await _knows_second(access):
        chosen = TransactionProtocol.SECOND
    log.info("transactions by version %d of the protocol", chosen.value)
    return chosen


async def _knows_second(access: BrokerAccess) -> bool:
    answer = await _api_versions(access)
    if answer.error_code:
        return False
    known = {key: range(low, high + 1) for key, low, high, _ in answer.versions}
    levels = _finalized(answer.tags)
    if levels.get(_FEATURE, 0) < TransactionProtocol.SECOND.value:
        return False
    if levels.get(_METADATA, 0) < _METADATA_4_1:
        log.info(
            "the second version of transactions is left out: %s is %d, and only from %d on no "
            "broker has KAFKA-19367 (kafka-features.sh upgrade, once all brokers are of 4.1)",
            _METADATA,
            levels.get(_METADATA, 0),
            _METADATA_4_1,
        )
        return False
    return all(one.API_VERSION in known.get(one.API_KEY, ()) for one in SPOKEN)


async def _api_versions(access: BrokerAccess) -> Any:
    """What a broker says of itself; an error from one that is too old to say it."""
    client: Any = AIOKafkaClient(**access.client(client_id="edo-features"))
    try:
        await client.bootstrap()
        connection = await _connection(client)
        return await connection.send(ApiVersionsRequest.by(*_SOFTWARE))
    except TimeoutError as error:
        raise RequestTimedOutError(f"no broker has answered: {error}") from error
    finally:
        await client.close()


async def _connection(client: Any) -> Any:
    """To the first node that takes one; what the cluster has agreed upon each of them knows."""
    for node in client.cluster.brokers():
        connection = await client._get_conn(node.nodeId)
        if connection is not None:
            return connection
    raise NodeNotReadyError("no node of the cluster takes a connection")


def _finalized(tags: Mapping[int, bytes]) -> dict[str, int]:
    """Levels by feature; empty where nothing is agreed upon."""
    found: Any = FINALIZED_FEATURES.decode(BytesIO(tags.get(FINALIZED_FEATURES_TAG, b"\x01")))
    return {name: level for name, level, *_ in found or ()}
