"""Breakers, rates and the guard against floods of dead letters."""

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.act.breaker import Breaker, BreakerPolicy, BreakerState
from edo_stream.core.act.limits import (
    LEASE_MS,
    FloodGuard,
    KeyRates,
    Leases,
    RateLimit,
    Slots,
)

POLICY = BreakerPolicy(0.5, window=4, consecutive=3, open_ms=100, open_max_ms=400, probes=2)


def note(breaker: Breaker, *failures: bool, now_ms: int = 0) -> None:
    for is_failure in failures:
        breaker.note(is_failure, "http-503", now_ms)


def test_it_opens_on_failures_in_a_row_and_on_their_share() -> None:
    row, share = Breaker(POLICY), Breaker(POLICY)
    note(row, True, True, True)
    note(share, True, False, False)
    assert (row.state, share.state) == (BreakerState.OPEN, BreakerState.CLOSED)
    assert row.why == "3 failures in a row: http-503"
    note(share, True)
    assert (share.state, share.why) == (BreakerState.OPEN, "2 of the last 4 runs failed: http-503")


def test_probes_close_it_after_enough_in_a_row() -> None:
    breaker = Breaker(POLICY)
    note(breaker, True, True, True)
    breaker.tick(99)
    assert breaker.state is BreakerState.OPEN
    breaker.tick(100)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.probed(False, "", 101)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.probed(False, "", 102)
    assert (breaker.state, breaker.since_ms, breaker.why) == (BreakerState.CLOSED, 102, "")
    assert breaker.epoch == 4, "each state is an epoch of its own"


def test_a_failed_probe_opens_it_for_longer_up_to_a_bound() -> None:
    breaker, now_ms, waits = Breaker(POLICY), 0, []
    note(breaker, True, True, True)
    for _ in range(4):
        assert breaker.until_ms is not None
        waits.append(breaker.until_ms - now_ms)
        now_ms = breaker.until_ms
        breaker.tick(now_ms)
        breaker.probed(True, "timeout", now_ms)
    assert waits == [100, 200, 400, 400]
    assert breaker.why == "a probe failed: timeout"
    breaker.close(now_ms)
    note(breaker, True, True, True, now_ms=now_ms)
    assert breaker.until_ms == now_ms + 100, "closed, it begins anew"


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 30)), max_size=100),
    st.integers(1, 20),
    st.integers(1, 50),
)
def test_no_span_of_time_has_more_slots_than_the_limit(
    asks: list[tuple[int, int]], burst: int, per_s: int
) -> None:
    limit, now_ms = RateLimit(per_s, burst), 0
    slots, calls = Slots(limit, 0), []
    for pause_ms, tokens in asks:
        now_ms += pause_ms
        first_ms = now_ms + slots.reserve(tokens, now_ms)
        # Nobody can be earlier than it is.
        calls += [max(now_ms, first_ms + n * limit.interval_ms) for n in range(tokens)]
    for index, begin_ms in enumerate(calls):
        for count, end_ms in enumerate(calls[index:], start=1):
            assert count <= burst + (end_ms - begin_ms) / 1000 * per_s + 1e-6


def test_time_that_nobody_asked_for_is_lost() -> None:
    slots = Slots(RateLimit(10), 0)
    assert slots.reserve(1, 0) == 0
    assert slots.reserve(1, 10_000) == 0
    assert slots.reserve(2, 10_000) == 100
    assert slots.lead_ms(10_000) == 300


def test_a_token_is_used_at_its_time_or_lost() -> None:
    leases = Leases(100)
    assert leases.wait_ms(0) is None
    leases.add(2, 50)
    assert (leases.held(0), leases.wait_ms(0)) == (2, 50)
    leases.take()
    assert (leases.held(50), leases.wait_ms(50)) == (1, 100)
    assert leases.held(150 + LEASE_MS) == 1
    assert leases.held(151 + LEASE_MS) == 0


def test_a_key_rests_while_others_go_on() -> None:
    keys = KeyRates(RateLimit(per_s=10, burst=2))
    for key in (b"a", b"a"):
        assert keys.wait_ms(key, 1_000) == 0
        keys.take(key, 1_000)
    assert (keys.wait_ms(b"a", 1_000), keys.wait_ms(b"b", 1_000)) == (100, 0)
    assert keys.wait_ms(b"a", 1_100) == 0
    keys.take(b"a", 1_100)
    assert keys.wait_ms(b"a", 1_100) == 100


def test_keys_that_have_rested_are_forgotten() -> None:
    keys = KeyRates(RateLimit(per_s=1_000))
    for number in range(10_000):
        keys.take(b"%d" % number, number * 10)
    assert len(keys._free_ms) < 2_000


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
