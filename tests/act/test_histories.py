"""Random histories of the act plane, with crashes and aborts at any moment."""

import pytest

from tests.act.world import History


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_every_command_ends_once_in_order_and_never_early(first: int) -> None:
    for seed in range(first, first + 50):
        history = History(seed)
        try:
            history.play()
            history.judge()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
