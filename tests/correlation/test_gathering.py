"""Gathering the ends of a split event's commands, against the plainest account of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.correlation.ends import RESULTS, SPLIT
from edo_stream.core.correlation.spec import Counted, OnFailed, OnTimeout
from tests.correlation.bench import NOW_MS, Bench, correlation, event

GATHERED = Counted(manifest=SPLIT, is_gathered=True)
WITHIN_MS = 10_000


def gathering(failed: OnFailed) -> Bench:
    wanted = correlation(
        GATHERED, [RESULTS], failed=failed, within_ms=WITHIN_MS, on_timeout=OnTimeout.PARTIAL
    )
    return Bench([wanted])


@given(
    count=st.integers(0, 4),
    ends=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8),
    failed=st.sampled_from(OnFailed),
    crashes=st.sets(st.integers(0, 8)),
)
def test_all_ends_make_one_result_whatever_is_sent_again(
    count: int, ends: list[tuple[int, bool]], failed: OnFailed, crashes: set[int]
) -> None:
    bench = gathering(failed)
    ends = [(member, is_failed) for member, is_failed in ends if member < count]
    bench.feed(event(0, SPLIT, NOW_MS, expect=count))
    there: dict[int, bool] = {}
    reason = "complete" if not count else ""
    for number, (member, is_failed) in enumerate(ends):
        bench.feed(
            event(number + 1, RESULTS, NOW_MS, member=str(member), expect=count,
                  is_failed=is_failed)
        )  # fmt: skip
        if not reason:
            there[member] = is_failed
            counted = [one for one in there.values() if failed is not OnFailed.WAIT or not one]
            if len(counted) == count:
                reason = "complete" if not any(there.values()) else "partial"
        if number in crashes:
            bench.open()
    bench.tick(NOW_MS + WITHIN_MS + 1)

    (result,) = bench.results()
    if reason == "partial" and failed is OnFailed.FAILURE:
        reason = "failed"
    assert (reason or "timeout") == result["reason"]
    assert (reason == "complete") == result["complete"]
    assert sorted(str(one) for one, is_failed in there.items() if is_failed) == sorted(
        result["failed"]
    )
    assert [one for one in range(count) if one not in there] == result["missing"]
    assert count == result["expected"]
    assert set(bench.fates().values()) <= set("eslf")
    assert {0, *range(1, len(ends) + 1)} == set(bench.fates())


@pytest.mark.parametrize(
    ("counts", "reason"), [([2, 2], "complete"), ([3, 3], "timeout"), ([2, 3], "timeout")]
)
def test_each_event_may_say_how_many_there_are(counts: list[int], reason: str) -> None:
    wanted = correlation(Counted(), ["lines"], on_timeout=OnTimeout.PARTIAL)
    bench = Bench([wanted])
    for number, count in enumerate(counts):
        bench.feed(event(number, "lines", NOW_MS, member=str(number), expect=count))
    bench.tick(NOW_MS + WITHIN_MS + 1)
    (result,) = bench.results()
    assert reason == result["reason"]
    odd = [(f"e{n}", "unexpected-count") for n, one in enumerate(counts) if one != counts[0]]
    assert odd == bench.letters()


def test_an_event_that_does_not_say_how_many_is_a_dead_letter() -> None:
    bench = Bench([correlation(Counted(), ["lines"])])
    bench.feed(event(0, "lines", NOW_MS))
    assert [("e0", "no-count")] == bench.letters()
