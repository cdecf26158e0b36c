"""Random histories of the act plane, with crashes and aborts at any moment."""

import pytest

from tests.act.world import History


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_every_command_ends_once_in_order_and_never_early(first: int) -> None:
    _play(range(first, first + 50))


def test_all_that_holds_also_where_flows_are_paused_again_and_again() -> None:
    _play(range(10_000, 10_150), pauses=1.5)


def _play(seeds: range, pauses: float = 0.2) -> None:
    for seed in seeds:
        history = History(seed, pauses)
        try:
            history.play()
            history.judge()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
