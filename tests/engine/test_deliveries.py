"""What becomes of batches under way when they are given up."""

import asyncio
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from edo_stream.engine.transaction_v2.deliveries import Deliveries
from edo_stream.engine.transaction_v2.fates import retry_of
from edo_stream.testing.loop import VirtualLoop

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


class Leaders:
    """A client of two leaders: one is slow, and the other answers with what nobody asked for."""

    def __init__(self) -> None:
        self.cluster = SimpleNamespace(leader_for_partition=lambda place: place.partition)
        self.has_answered, self.may_end = asyncio.Event(), asyncio.Event()
        self.ended = 0

    async def send(self, leader: int, _request: Any) -> Any:
        if leader == 0:
            self.has_answered.set()
            return SimpleNamespace(topics=[])
        await self.may_end.wait()
        self.ended += 1
        return SimpleNamespace(topics=[("out", [(1, 0, 7)])])


def test_what_one_leader_does_leaves_nothing_under_way_at_another() -> None:
    async def test() -> None:
        client = Leaders()
        deliveries = Deliveries(client, "id", 1_000)
        lost = deliveries.add(TopicPartition("out", 0), b"")
        landed = deliveries.add(TopicPartition("out", 1), b"")
        settling = asyncio.create_task(deliveries.settle())
        await client.has_answered.wait()
        await asyncio.sleep(0)
        assert not settling.done(), "one is under way"
        client.may_end.set()
        with pytest.raises(KeyError):
            await settling
        with pytest.raises(KeyError):
            await lost
        assert 1 == client.ended
        assert (await landed).offset == 7

    asyncio.run(test())


def test_what_nobody_sends_any_more_is_not_settled() -> None:
    async def test() -> None:
        client = SlowLeader()
        deliveries = Deliveries(client, "id", 1_000)
        deliveries.add(PLACE, b"")
        await client.is_sending.wait()
        client.may_end.set()
        (rounds,) = (task for task in asyncio.all_tasks() if task.get_name() == "deliveries")
        rounds.cancel()
        with pytest.raises(KafkaError, match="nobody sends them"):
            await deliveries.settle()
        await deliveries.drop()
        await deliveries.settle()

    asyncio.run(test())


def test_who_waits_for_the_markers_of_the_last_transaction_asks_less_and_less() -> None:
    pauses_ms = [round(1_000 * retry_of(51, tried).after_s) for tried in range(8)]
    assert pauses_ms == [3, 6, 12, 24, 48, 96, 100, 100]
    assert retry_of(51, 100_000).after_s == 0.1


class Busy:
    """A client whose broker writes markers for ever, by a clock of its own."""

    def __init__(self) -> None:
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1)
        self.asked_at: list[float] = []

    async def send(self, _leader: int, _request: Any) -> Any:
        self.asked_at.append(asyncio.get_running_loop().time())
        code = 0 if len(self.asked_at) == 9 else 51
        return SimpleNamespace(topics=[("out", [(0, code, 1)])])


def test_a_batch_is_sent_again_after_longer_and_longer_pauses() -> None:
    loop, client = VirtualLoop(Random(1), 10_000), Busy()

    async def test() -> None:
        deliveries = Deliveries(client, "id", 1_000)
        await deliveries.add(PLACE, b"")

    try:
        loop.run_until_complete(test())
    finally:
        loop.dispose()
    pauses_ms = [round(1_000 * (b - a)) for a, b in pairwise(client.asked_at)]
    assert pauses_ms == [3, 6, 12, 24, 48, 96, 100, 100]
