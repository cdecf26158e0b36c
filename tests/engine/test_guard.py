"""Fetches to a node are spaced while they bring records, in virtual time."""

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from edo_stream.engine.guard import FETCH_SPACING_S, ConsumerGuard, Patience
from edo_stream.testing.loop import VirtualLoop

_ANSWER_S = 0.001


class Client:
    """A consumer with one connection, which answers after a millisecond and notes when."""

    def __init__(self, records: bytes) -> None:
        self.asked_at: list[float] = []
        self._client = self._coordinator = self._fetcher = self._subscription = self
        self._records = records

    async def _get_conn(self, node_id: int, *, group: ConnectionGroup) -> Any:
        return SimpleNamespace(send=self._ask, _request_timeout=40.0)

    async def _metadata_update(self) -> bool:
        return True

    async def _ask(self, request: Any) -> Any:
        self.asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(_ANSWER_S)
        empty, found = (0, 0, 5, 5, 0, [], -1, b""), (1, 0, 5, 5, 0, [], -1, self._records)
        return SimpleNamespace(topics=[("t", [empty, found])])


def fetch() -> FetchRequest:
    return FetchRequest(500, 1, 1 << 20, 1, [("t", [(0, 5, 1 << 20)])], rack_id="")


def sent_at(records: bytes, *calls: tuple[int, Any]) -> list[float]:
    """When each of the calls, made one after another, went out."""

    async def run() -> list[float]:
        client: Any = Client(records)
        ConsumerGuard(client, Patience(1.0, 1.0, 1.0), lambda _: None)
        for node_id, request in calls:
            await client.send(node_id, request)
        return [round(at, 6) for at in client.asked_at]

    loop = VirtualLoop(Random(1), steps_max=1_000)
    try:
        return loop.run_until_complete(run())
    finally:
        loop.dispose()


def test_a_fetch_after_one_that_brought_records_waits_its_time_from_when_that_was_sent() -> None:
    assert sent_at(b"batch", *[(1, fetch())] * 3) == [0.0, FETCH_SPACING_S, 2 * FETCH_SPACING_S]


def test_a_fetch_after_one_that_brought_nothing_goes_out_at_once() -> None:
    assert sent_at(b"", *[(1, fetch())] * 3) == [0.0, _ANSWER_S, 2 * _ANSWER_S]


def test_other_nodes_and_other_requests_do_not_wait() -> None:
    calls = (1, fetch()), (2, fetch()), (1, MetadataRequest([])), (1, fetch())

    assert sent_at(b"batch", *calls) == [0.0, _ANSWER_S, 2 * _ANSWER_S, FETCH_SPACING_S]
