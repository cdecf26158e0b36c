"""Breakers, rates and the guard against floods of dead letters."""

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.act.breaker import Breaker, BreakerPolicy, BreakerState
from edo_stream.core.act.limits import FloodGuard, RateLimit, TokenBucket

POLICY = BreakerPolicy(0.5, window=4, consecutive=3, open_ms=100, open_max_ms=400, probes=2)


def run(breaker: Breaker, *failures: bool, now_ms: int = 0) -> None:
    for is_failure in failures:
        assert breaker.admits(now_ms)
        breaker.begin()
        breaker.end(is_failure, now_ms)


def test_it_opens_on_failures_in_a_row_and_on_their_share() -> None:
    row, share = Breaker(POLICY), Breaker(POLICY)
    run(row, True, True, True)
    run(share, True, False, False)
    assert (row.state, share.state) == (BreakerState.OPEN, BreakerState.CLOSED)
    run(share, True)
    assert share.state is BreakerState.OPEN


def test_it_probes_one_at_a_time_and_closes_after_enough() -> None:
    breaker = Breaker(POLICY)
    run(breaker, True, True, True)
    assert not breaker.admits(99)
    assert breaker.admits(100)
    breaker.begin()
    assert not breaker.admits(101), "one probe at a time"
    breaker.end(False, 101)
    assert breaker.state is BreakerState.HALF_OPEN
    run(breaker, False, now_ms=102)
    assert breaker.state is BreakerState.CLOSED


def test_a_failed_probe_opens_it_for_longer_up_to_a_bound() -> None:
    breaker, now_ms, waits = Breaker(POLICY), 0, []
    run(breaker, True, True, True)
    for _ in range(4):
        assert breaker.until_ms is not None
        waits.append(breaker.until_ms - now_ms)
        now_ms = breaker.until_ms
        run(breaker, True, now_ms=now_ms)
    assert waits == [100, 200, 400, 400]


def test_a_cancelled_probe_lets_another_one_try() -> None:
    breaker = Breaker(POLICY)
    run(breaker, True, True, True)
    assert breaker.admits(100)
    breaker.begin()
    breaker.abandon()
    assert breaker.admits(100)


def test_an_operator_opens_it_until_further_notice() -> None:
    breaker = Breaker(POLICY)
    breaker.force(is_open=True)
    assert not breaker.admits(10**15)
    breaker.force(is_open=False)
    assert breaker.admits(0)


@given(st.lists(st.integers(0, 500), max_size=200), st.integers(1, 20), st.integers(1, 50))
def test_no_span_of_time_has_more_calls_than_the_limit(
    pauses_ms: list[int], burst: int, per_s: int
) -> None:
    bucket, now_ms, calls = TokenBucket(RateLimit(per_s, burst)), 0, []
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        if bucket.wait_ms(now_ms) == 0:
            bucket.take(now_ms)
            calls.append(now_ms)
    for index, begin_ms in enumerate(calls):
        for count, end_ms in enumerate(calls[index:], start=1):
            assert count <= burst + (end_ms - begin_ms) / 1000 * per_s + 1e-6


def test_a_wait_is_long_enough_and_a_clock_that_runs_back_gains_nothing() -> None:
    bucket = TokenBucket(RateLimit(per_s=3))
    bucket.take(1_000)
    wait_ms = bucket.wait_ms(1_000)
    assert bucket.wait_ms(500) == wait_ms
    assert bucket.wait_ms(1_000 + wait_ms - 2) > 0
    assert bucket.wait_ms(1_000 + wait_ms) == 0


def test_a_flow_that_only_fails_is_stopped_and_one_that_mostly_works_is_not() -> None:
    guard = FloodGuard(letters_max=5, successes_per_letter=10)
    for _ in range(5):
        assert not guard.is_tripped
        guard.gave_up()
    assert guard.is_tripped
    guard.reset()
    for _ in range(1_000):
        for _ in range(10):
            guard.succeeded()
        guard.gave_up()
    assert not guard.is_tripped
