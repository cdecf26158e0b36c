"""Histories of lookups in tables that each worker has in full, under every fault."""

import msgspec
import pytest
from aiokafka import TopicPartition

from tests.simulation.global_lookups import GlobalLookupGroup, GlobalLookupWorld
from tests.simulation.histories import assert_all_hold
from tests.simulation.lookups import (
    FLOWS,
    commands_of,
    scenario_of_a_table_that_is_read_late,
)

_SEEDS = 90
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_a_row_is_found_by_every_task_wherever_it_lies(first: int) -> None:
    fired = assert_all_hold(GlobalLookupWorld, range(first, first + _PART))
    assert fired["grow"] == _PART
    assert fired["kill"]
    assert fired["wipe"]


def test_events_wait_until_the_worker_has_read_what_there_was_when_they_began() -> None:
    scenario = scenario_of_a_table_that_is_read_late(5.0, GlobalLookupGroup)
    world = GlobalLookupWorld(1, scenario=scenario)
    outcome = world.run()
    assert [] == outcome.failures
    for flow in FLOWS:
        commands = world.broker.logs[TopicPartition(commands_of(flow), 0)].committed()
        rows = [msgspec.json.decode(one.value or b"")["row"]["v"] for one in commands]
        assert [2, 2, 2] == rows
