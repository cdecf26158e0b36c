"""Histories of debounce and batch under every fault of the simulation."""

from collections import Counter

import pytest

from tests.simulation.combine import CombineWorld

_SEEDS = 90
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_which_events_are_one_command_follows_from_when_they_came(first: int) -> None:
    failures = {}
    counts: Counter[str] = Counter()
    for seed in range(first, first + _PART):
        outcome = CombineWorld(seed).run()
        counts["resets"] += outcome.resets
        counts["transactions"] += outcome.transactions
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert counts["resets"] > _PART
    assert counts["transactions"] > 20 * _PART
