"""Histories of debounce and batch under every fault of the simulation."""

import pytest

from tests.simulation.combine import CombineWorld
from tests.simulation.histories import assert_all_hold

_SEEDS = 90
_PART = 30


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_which_events_are_one_command_follows_from_when_they_came(first: int) -> None:
    assert_all_hold(CombineWorld, range(first, first + _PART))
