"""Histories of the act plane under every fault of the simulation."""

from collections import Counter

import pytest

from tests.simulation.act import ActWorld

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
