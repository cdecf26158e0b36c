"""Transactions of a worker are spaced by its budget, and only those of tasks that go on and on."""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from edo_stream.engine.pace import Pace
from edo_stream.testing.loop import VirtualLoop


def in_virtual_time(test: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop(Random(1), steps_max=100_000)
    try:
        loop.run_until_complete(test)
    finally:
        loop.dispose()


async def turns(pace: Pace, task: object, until_s: float) -> int:
    loop = asyncio.get_running_loop()
    taken = 0
    while loop.time() < until_s:
        await pace.turn(task)
        taken += 1
    return taken


def test_a_task_s_first_transaction_starts_at_once() -> None:
    async def test() -> None:
        pace = Pace(1)
        for task in range(100):
            await pace.turn(task)
        assert asyncio.get_running_loop().time() == 0

    in_virtual_time(test())


def test_a_task_that_rested_starts_at_once() -> None:
    async def test() -> None:
        loop, pace = asyncio.get_running_loop(), Pace(1)
        await pace.turn("task")
        await asyncio.sleep(2)
        await pace.turn("task")
        assert loop.time() == 2

    in_virtual_time(test())


def test_one_busy_task_has_the_whole_budget() -> None:
    async def test() -> None:
        assert abs(await turns(Pace(100), "task", until_s=10) - 1_000) <= 10

    in_virtual_time(test())


def test_busy_tasks_share_the_budget_evenly() -> None:
    async def test() -> None:
        pace = Pace(100)
        taken = await asyncio.gather(*(turns(pace, task, until_s=10) for task in range(5)))
        assert abs(sum(taken) - 1_000) <= 20
        assert max(taken) - min(taken) <= 2

    in_virtual_time(test())


def test_tasks_that_rest_have_no_share_of_the_budget() -> None:
    async def test() -> None:
        pace = Pace(100)
        for task in range(50):
            await pace.turn(task)
        await asyncio.sleep(2)
        assert abs(await turns(pace, "busy", until_s=12) - 1_000) <= 10

    in_virtual_time(test())
