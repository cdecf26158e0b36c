"""How many runs at once a receiver can bear, found out by how long they take."""

import heapq

from edo_stream.core.act.adaptive import AdaptiveLimit


def simulated(limit: AdaptiveLimit, capacity: int, runs: int, least_ms: int = 100) -> list[int]:
    """Run against a receiver that works on so many at once, and queues the rest."""
    ends: list[tuple[float, float]] = []
    limits, now_ms, done, places = [], 0.0, 0, [0.0] * capacity
    while done < runs:
        while len(ends) < limit.limit:
            begin_ms = max(now_ms, heapq.heappop(places))
            heapq.heappush(places, begin_ms + least_ms)
            heapq.heappush(ends, (begin_ms + least_ms, now_ms))
        now_ms, began_ms = heapq.heappop(ends)
        limit.ended(now_ms - began_ms, len(ends) + 1)
        limits.append(limit.limit)
        done += 1
    return limits


def test_it_grows_to_the_bound_while_runs_take_no_longer() -> None:
    limits = simulated(AdaptiveLimit(64), capacity=1_000, runs=5_000)
    assert limits[0] == 4
    assert {16, 64} == set(limits[2_000:]), "it rests now and then"
    assert limits.count(16) < 0.1 * len(limits)


def test_it_settles_where_runs_begin_to_queue_at_the_receiver() -> None:
    limits = simulated(AdaptiveLimit(1_000), capacity=20, runs=20_000)
    settled = limits[5_000:]
    assert sum(limit >= 20 for limit in settled) > 0.85 * len(settled), "it is used in full"
    assert max(settled) <= 60, "and not flooded"


def test_it_finds_a_receiver_s_new_strength() -> None:
    limit = AdaptiveLimit(1_000)
    simulated(limit, capacity=50, runs=5_000)
    strong = limit.limit
    simulated(limit, capacity=5, runs=5_000)
    weak = limit.limit
    assert weak <= 15 < 50 <= strong
    simulated(limit, capacity=50, runs=10_000)
    assert limit.limit >= 50


def test_a_push_back_counts_once_for_all_that_ran_then() -> None:
    limit = AdaptiveLimit(100)
    simulated(limit, capacity=1_000, runs=5_000)
    assert limit.limit == 100
    for _ in range(50):
        limit.pushed_back(now_ms=1_000)
    assert limit.limit == 70
    limit.pushed_back(now_ms=1_100)
    assert limit.limit == 49
    for number in range(100):
        limit.pushed_back(now_ms=10_000 * number)
    assert limit.limit == 1


def test_what_is_not_used_is_not_learnt_from() -> None:
    limit = AdaptiveLimit(100)
    for _ in range(1_000):
        limit.ended(took_ms=10, running=1)
    assert limit.limit == 4
