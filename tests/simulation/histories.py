"""Many histories at once: none fails, and enough happens in them."""

from collections.abc import Callable, Sequence

from tests.simulation.world import World


def assert_all_hold(make_world: Callable[[int], World], seeds: Sequence[int]) -> None:
    """Run a history of each seed; there are resets and transactions in them, not rarely."""
    failures = {}
    resets = transactions = 0
    for seed in seeds:
        outcome = make_world(seed).run()
        resets += outcome.resets
        transactions += outcome.transactions
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert resets > len(seeds)
    assert transactions > 20 * len(seeds)
