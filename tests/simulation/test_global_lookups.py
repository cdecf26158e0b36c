"""Histories of lookups in tables that each worker has in full, under every fault."""

from collections import Counter

import pytest

from tests.simulation.global_lookups import GlobalLookupWorld

_SEEDS = 90
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_a_row_is_found_by_every_task_wherever_it_lies(first: int) -> None:
    failures = {}
    counts: Counter[str] = Counter()
    for seed in range(first, first + _PART):
        outcome = GlobalLookupWorld(seed).run()
        counts["resets"] += outcome.resets
        counts["transactions"] += outcome.transactions
        counts += Counter(outcome.fired)
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert counts["resets"] > _PART
    assert counts["transactions"] > 20 * _PART
    assert counts["grow"] == _PART
    assert counts["kill"]
    assert counts["wipe"]
