"""What readers are told under every fault of the simulation."""

from collections import Counter

import pytest

from tests.simulation.reads import ReadWorld

_SEEDS = 60
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_what_is_read_is_committed_and_has_what_was_asked_for(first: int) -> None:
    failures = {}
    counts: Counter[int | str] = Counter()
    for seed in range(first, first + _PART):
        world = ReadWorld(seed)
        outcome = world.run()
        counts += world.answers
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert counts[200] > 20 * _PART, counts
    assert counts["awaited"] > 5 * _PART, counts
    assert {307, 503, 504} <= set(counts), counts
