"""Histories of correlation under every fault of the simulation."""

from collections import Counter

import pytest

from tests.simulation.joins import JoinWorld

_SEEDS = 90
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_what_fires_follows_from_when_events_came(first: int) -> None:
    failures = {}
    counts: Counter[str] = Counter()
    for seed in range(first, first + _PART):
        outcome = JoinWorld(seed).run()
        counts["resets"] += outcome.resets
        counts["transactions"] += outcome.transactions
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert counts["resets"] > _PART
    assert counts["transactions"] > 20 * _PART
