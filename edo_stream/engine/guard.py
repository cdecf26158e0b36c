"""Keep aiokafka's clients going where they would stand still, or run wild, without a word.

Found with the protocol proxy (docs/faults.md), reproduced in tests/broker/test_aiokafka.py:

- An error of the group that aiokafka does not know is handed to the user, and coordination stops
  until somebody takes it: no heartbeat, no rejoin. Its own ``getmany`` takes it; the drain loop
  here goes past that. So it is taken here, and what has ended by it is started again.
- One timeout serves all requests. It must outlast a rebalance, whose answers come late, and so
  a fetch or a heartbeat that nobody answers is waited for as long. Each kind gets its own.
- A broker that refuses connections is asked for metadata in a tight loop, thousands of times a
  second by each producer with something to send. Now there is a pause.
- The next fetch goes out the moment the last one is drained, so that a steady flow is read in
  many fetches of a few records each. Now they are spaced, and larger.

What cannot be started again is told to ``on_lost``: the process ends, and another takes over.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError, NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

log = logging.getLogger(__name__)

for owner, name in (
    (AIOKafkaClient, "_get_conn"),
    (AIOKafkaClient, "_metadata_update"),
    (AIOKafkaConnection, "send"),
    (GroupCoordinator, "check_errors"),
    (GroupCoordinator, "request_rejoin"),
    (GroupCoordinator, "start_commit_offsets_refresh_task"),
):
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: pin the versions we know"

_WATCH_S = 0.5
_METADATA_PAUSE_S = 0.25

#: From fetch to fetch of a node, while they bring records. What a fetch brings is at least a
#: transaction for each partition, however few records it is: without a pause a steady flow is read
#: in as many fetches as broker and worker can make, and their CPU goes into those.
FETCH_SPACING_S = 0.02


def pace_metadata(client: Any) -> None:
    """Have a client pause when it could not get metadata from any broker."""
    update = client._metadata_update

    async def update_or_pause(*args: Any) -> Any:
        is_updated = await update(*args)
        if not is_updated:
            await asyncio.sleep(_METADATA_PAUSE_S)
        return is_updated

    client._metadata_update = update_or_pause


class Patience(msgspec.Struct, frozen=True):
    """How long an answer is waited for, in seconds."""

    request_s: float
    heartbeat_s: float
    """Short enough for another try before the session ends."""
    rebalance_s: float
    """Of the requests that the coordinator answers when all members have done their part."""

    def of(self, request: Any) -> float:
        """For one request."""
        if isinstance(request, JoinGroupRequest | SyncGroupRequest):
            return self.rebalance_s
        return self.heartbeat_s if isinstance(request, HeartbeatRequest) else self.request_s


class FetchSpacing:
    """When the next fetch may go to a node: at once, unless the last one has brought records."""

    def __init__(self) -> None:
        self._next_at: dict[object, float] = {}

    async def turn(self, node_id: object) -> float:
        """Wait until the node may be asked; the time at which it is."""
        now = asyncio.get_running_loop().time
        wait_s = self._next_at.pop(node_id, 0.0) - now()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        return now()

    def answered(self, node_id: object, sent_at: float, answer: Any) -> None:
        """Hear what came of the fetch that was sent at a time."""
        if any(records for _, partitions in answer.topics for *_, records in partitions):
            self._next_at[node_id] = sent_at + FETCH_SPACING_S


class ConsumerGuard:
    """Guards one started consumer with a group; lives in the consumer's loop."""

    def __init__(
        self, consumer: AIOKafkaConsumer, patience: Patience, on_lost: Callable[[str], None]
    ) -> None:
        self._client: Any = consumer._client
        self._coordinator: Any = consumer._coordinator
        self._fetcher: Any = consumer._fetcher
        self._subscription: Any = consumer._subscription
        self._patience = patience
        self._on_lost = on_lost
        self._spacing = FetchSpacing()
        self._client.send = self._send
        pace_metadata(self._client)

    async def _send(
        self, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT
    ) -> Any:
        if not isinstance(request, FetchRequest):
            return await self._send_patiently(node_id, request, group)
        sent_at = await self._spacing.turn(node_id)
        answer = await self._send_patiently(node_id, request, group)
        self._spacing.answered(node_id, sent_at, answer)
        return answer

    async def _send_patiently(self, node_id: Any, request: Any, group: Any) -> Any:
        """Do what ``AIOKafkaClient.send`` does, with a patience for each kind of request."""
        connection = await self._client._get_conn(node_id, group=group)
        if connection is None:
            raise NodeNotReadyError(f"no connection to node {node_id}")
        # It is read when the request is made, before anything awaits.
        usual, connection._request_timeout = (
            connection._request_timeout,
            self._patience.of(request),
        )
        try:
            answer = connection.send(request)
        finally:
            connection._request_timeout = usual
        try:
            return await answer
        except TimeoutError as error:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise RequestTimedOutError from error

    async def watch(self) -> None:
        """Take errors and start again what they have ended, until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for task, what in (
                (self._coordinator._coordination_task, "consumer group"),
                (self._fetcher._fetch_task, "fetcher"),
            ):
                if task.done():
                    self._on_lost(f"the client's {what} has ended: {_failure(task)!r}")
                    return
            try:
                self._coordinator.check_errors()
            except KafkaError as error:
                log.warning("consumer group: %s: %s; going on", type(error).__name__, error)
            # In the same breath: coordination goes on with what is in place by then.
            self._revive()

    def _revive(self) -> None:
        coordinator, subscription = self._coordinator, self._subscription.subscription
        if _failure(coordinator._heartbeat_task) is not None:
            coordinator.request_rejoin()
        if _failure(coordinator._commit_refresh_task) is not None and (
            subscription is not None and subscription.assignment is not None
        ):
            coordinator.start_commit_offsets_refresh_task(subscription.assignment)


def _failure(task: asyncio.Task[None] | None) -> BaseException | None:
    return None if task is None or not task.done() or task.cancelled() else task.exception()
