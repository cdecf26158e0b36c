"""Histories of the act plane under every fault of the simulation."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition

from edo_stream.core.act.breaker import BreakerPolicy
from edo_stream.core.act.keeper import TargetPolicy
from edo_stream.core.act.ladder import Ladder, RetryPolicy
from edo_stream.core.act.policy import ActSpec, Delivery
from edo_stream.engine.keepers import GROUP
from edo_stream.testing.broker import NewRecord
from tests.simulation.act import FLOWS, TIERS, ActGroup, ActWorld, policy_of
from tests.simulation.load import START_MS, Arrival, Group
from tests.simulation.world import Scenario

_SEEDS = 200
_PART = 50


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_no_command_is_lost_early_disordered_or_ended_twice(first: int) -> None:
    failures = {}
    counts: Counter[str] = Counter()
    for seed in range(first, first + _PART):
        world = ActWorld(seed)
        outcome = world.run()
        counts["runs"] += len(world.runs)
        counts["resets"] += outcome.resets
        counts["probes"] += len(world.probes)
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert counts["runs"] > 10 * _PART
    assert counts["resets"] > _PART
    assert counts["probes"] > _PART


class _First(Random):
    """Chooses the first: one run at a time, which takes no time; some fail at first."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__(0)
        self._fails = fails

    def choice(self, seq: Sequence[Any]) -> Any:
        return seq[0]

    def choices(self, population: Any, *_: Any, **__: Any) -> Any:
        self._fails -= 1
        return [population[1 if self._fails >= 0 else 0]]

    def random(self) -> float:
        return 0.5


def _narrow_scenario(parked_max: int = 10_000) -> Scenario:
    """Keys of a flow whose starts are committed wait for its one slot, beside a key of another."""
    retry = RetryPolicy(300, 2, 1_200, 2)
    flows = {
        flow: policy_of(flow, delivery=delivery, retry=retry)
        for flow, delivery in zip(FLOWS, reversed(Delivery), strict=True)
    }
    spec = ActSpec(flows, Ladder(tuple(TIERS)), TIERS, "edo.dead", parked_max=parked_max)
    policies = {flow: TargetPolicy(BreakerPolicy(), None) for flow in FLOWS}
    group = ActGroup("act", 1, (), spec, policies, dict(zip(FLOWS, FLOWS, strict=True)))
    arrivals = [
        Arrival(at_s, TopicPartition(f"edo.commands.{flow}", 0), [_command(flow, key, number)])
        for number, at_s in enumerate((0.5, 0.5, 0.5, 0.5, 0.6, 0.7))
        for flow, key in (("ship", f"k{number}"), ("bill", "k0"))
    ]
    return Scenario(1, [group, Group(GROUP, 1, ())], arrivals, machines=1, hurts_until_s=5.0)


def _command(flow: str, key: str, number: int) -> NewRecord:
    headers = (("ce_id", f"{flow}/{key}/{number}".encode()), ("ce_type", b"t"))
    return NewRecord(START_MS, key.encode(), b"{}", headers)


@pytest.mark.parametrize("nth", range(10))
def test_a_commit_that_fails_lets_nothing_begin_that_it_would_have_let(nth: int) -> None:
    world = ActWorld(1, scenario=_narrow_scenario())
    world.executors = _First()
    world.faults.at = {"commit-not-asked": nth}
    outcome = world.run()
    assert [] == outcome.failures
    assert {"commit-not-asked": 1} == outcome.fired
    assert (1, 12) == (outcome.resets, len(world.runs))


@pytest.mark.parametrize("nth", range(10))
def test_a_retry_that_never_arrived_is_missed_while_others_have_no_room(nth: int) -> None:
    world = ActWorld(1, scenario=_narrow_scenario(parked_max=1))
    world.executors = _First(fails=1)
    world.faults.at = {"batch-dropped": nth}
    outcome = world.run()
    assert [] == outcome.failures
    assert {"batch-dropped": 1} == outcome.fired
    assert 12 + 1 == len(world.runs)
