"""Histories under every fault, in which a step writes next to nothing and leaves the rest."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.core.limits import Limits
from tests.simulation.act import ActWorld
from tests.simulation.joins import JoinWorld
from tests.simulation.lookups import LookupWorld
from tests.simulation.saga import SagaWorld
from tests.simulation.scenario import scenario_of
from tests.simulation.small import FATES, small_scenario
from tests.simulation.world import Outcome, World

_SEEDS = 15


def _decided(seed: int) -> Any:
    return World(scenario_of(seed))


@pytest.mark.parametrize("make", [_decided, JoinWorld, LookupWorld, SagaWorld, ActWorld])
@pytest.mark.parametrize("records", [1, 4])
def test_steps_that_leave_most_of_a_batch_lose_double_and_disorder_nothing(
    make: Callable[[int], Any], records: int
) -> None:
    failures, outcomes = {}, list[Outcome]()
    with Limits(records):
        for seed in range(_SEEDS):
            outcomes.append(outcome := make(seed).run())
            if outcome.failures:
                failures[seed] = outcome.failures
    assert failures == {}
    assert sum(outcome.resets for outcome in outcomes) > _SEEDS


def test_each_record_is_a_step_and_what_is_left_is_no_batch_that_was_lost() -> None:
    world = World(small_scenario())
    with Limits(1):
        outcome = world.run()
    assert outcome.failures == []
    assert outcome.transactions > len(FATES)
    for worker in world.workers.values():
        assert 0 == worker.stats("rewinds")
        assert {0} == set(worker.intake._outstanding.values())
