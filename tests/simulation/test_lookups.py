"""Histories of lookups under every fault of the simulation."""

from collections import Counter

import msgspec
import pytest
from aiokafka import TopicPartition

from tests.simulation.lookups import (
    FLOWS,
    LookupWorld,
    RedeclaredWorld,
    commands_of,
    scenario_of_a_table_that_comes_back,
    scenario_of_a_table_that_is_read_late,
)

_SEEDS = 90
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_a_row_that_was_there_in_time_is_found(first: int) -> None:
    failures = {}
    counts: Counter[str] = Counter()
    for seed in range(first, first + _PART):
        outcome = LookupWorld(seed).run()
        counts["resets"] += outcome.resets
        counts["transactions"] += outcome.transactions
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert counts["resets"] > _PART
    assert counts["transactions"] > 20 * _PART


def test_events_wait_until_the_tables_are_read_to_the_ends_that_they_had() -> None:
    world = LookupWorld(1, scenario=scenario_of_a_table_that_is_read_late(5.0))
    outcome = world.run()
    assert [] == outcome.failures
    for flow in FLOWS:
        commands = world.broker.logs[TopicPartition(commands_of(flow), 0)].committed()
        rows = [msgspec.json.decode(one.value or b"")["row"]["v"] for one in commands]
        assert [2, 2, 2] == rows
    # What waited was not taken for lost, and read again and again.
    assert 0 == sum(worker.stats("rewinds") for worker in world.workers.values())


def test_a_table_that_is_looked_up_again_is_read_anew() -> None:
    world = RedeclaredWorld(1, scenario=scenario_of_a_table_that_comes_back())
    for at_s in (10.0, 30.0):
        world.loop.later(at_s, world.redeclare)
    outcome = world.run()
    assert [] == outcome.failures
    assert [1, 0, 1] == world.kept
    assert 0 == sum(worker.stats("resets") for worker in world.workers.values())
    for flow in FLOWS:
        commands = world.broker.logs[TopicPartition(commands_of(flow), 0)].committed()
        rows = [msgspec.json.decode(one.value or b"")["row"] for one in commands]
        assert [1, 1] == [None if row is None else row["v"] for row in rows]
