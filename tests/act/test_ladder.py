"""Delays, tiers and jitter."""

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.act.ladder import Ladder, RetryPolicy


def test_the_default_waits_one_to_sixteen_seconds_after_five_attempts() -> None:
    assert [RetryPolicy().delay_ms(n) for n in range(1, 6)] == [1000, 2000, 4000, 8000, 16000]
    assert RetryPolicy().delays_ms() == (1000, 2000, 4000, 8000, 16000)
    assert RetryPolicy().delay_ms(1_000_000) == 30_000


@given(st.integers(1, 10**9), st.integers(1, 40))
def test_a_tier_is_never_shorter_unless_none_is_long_enough(delay_ms: int, attempt: int) -> None:
    ladder = Ladder(RetryPolicy().delays_ms())
    tier_ms = ladder.tier_of(delay_ms)
    assert tier_ms >= delay_ms or tier_ms == 16_000
    assert all(other >= tier_ms for other in ladder.delays_ms if other >= delay_ms)


@given(st.integers(1, 40), st.floats(0, 1), st.text())
def test_jitter_is_only_added_within_the_maximum_and_the_same_again(
    attempt: int, jitter: float, cause: str
) -> None:
    policy = RetryPolicy(jitter=jitter)
    delay_ms = policy.delay_ms(attempt)
    added_ms = policy.jitter_ms(delay_ms, cause)
    assert 0 <= added_ms <= delay_ms * jitter
    assert delay_ms + added_ms <= policy.max_ms
    assert added_ms == policy.jitter_ms(delay_ms, cause)
