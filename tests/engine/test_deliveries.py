"""What becomes of batches under way when they are given up."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from edo_stream.engine.transaction_v2.deliveries import Deliveries

PLACE = TopicPartition("out", 0)


class SlowLeader:
    """A client whose request is under way until it is let go, even if it is cancelled before."""

    def __init__(self) -> None:
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1)
        self.is_sending, self.is_cancelled = asyncio.Event(), asyncio.Event()
        self.may_end = asyncio.Event()

    async def send(self, _leader: int, _request: Any) -> None:
        try:
            self.is_sending.set()
            await asyncio.Event().wait()
        finally:
            self.is_cancelled.set()
            await self.may_end.wait()


def test_who_gives_batches_up_can_be_cancelled_meanwhile_and_they_are_given_up() -> None:
    async def test() -> None:
        client = SlowLeader()
        deliveries = Deliveries(client, "id", 1_000)
        landed = deliveries.add(PLACE, b"")
        await client.is_sending.wait()
        (rounds,) = (task for task in asyncio.all_tasks() if task.get_name() == "deliveries")
        dropping = asyncio.create_task(deliveries.drop())
        await client.is_cancelled.wait()

        dropping.cancel()

        with pytest.raises(asyncio.CancelledError):
            await dropping
        assert landed.cancelled()
        client.may_end.set()
        await asyncio.wait([rounds])
        await deliveries.settle()

    asyncio.run(test())
