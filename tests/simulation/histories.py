"""Many histories at once: none fails, and enough happens in them."""

from collections import Counter
from collections.abc import Callable, Sequence

from tests.simulation.world import World


def assert_all_hold(make_world: Callable[[int], World], seeds: Sequence[int]) -> Counter[str]:
    """Run a history of each seed; there are resets and transactions in them, not rarely.

    Gives how often each fault has happened.
    """
    failures = {}
    fired: Counter[str] = Counter()
    resets = transactions = 0
    for seed in seeds:
        outcome = make_world(seed).run()
        resets += outcome.resets
        transactions += outcome.transactions
        fired.update(outcome.fired)
        if outcome.failures:
            failures[seed] = outcome.failures
    assert failures == {}
    assert resets > len(seeds)
    assert transactions > 20 * len(seeds)
    return fired
