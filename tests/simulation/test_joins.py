"""Histories of correlation under every fault of the simulation."""

import pytest

from tests.simulation.histories import assert_all_hold
from tests.simulation.joins import JoinWorld

_SEEDS = 90
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_what_fires_follows_from_when_events_came(first: int) -> None:
    assert_all_hold(JoinWorld, range(first, first + _PART))
