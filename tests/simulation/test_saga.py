"""Histories of sagas under every fault of the simulation."""

from collections import Counter

import pytest

from tests.simulation.saga import SagaWorld

_SEEDS = 120
_PART = 60


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_each_transition_is_made_once_and_told_once(first: int) -> None:
    failures = {}
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for seed in range(first, first + _PART):
        world = SagaWorld(seed)
        outcome = world.run()
        counts["resets"] += outcome.resets
        for number in range(world.group.partitions):
            kinds.update(event["change"] for event in world.events(number))
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert counts["resets"] > _PART
    assert {"completed", "compensated", "abandoned", "stuck", "late-reply"} <= set(kinds)
    assert kinds["step-sent"] > 5 * _PART
