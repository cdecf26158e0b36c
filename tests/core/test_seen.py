"""What the core tells for metrics: fates, times of events, and since when events wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core import held
from edo_stream.core.contract import SequenceOrder
from tests.core.bench import NOW_MS, TOPIC, Bench, contract, numbered, record

ORDERED = contract(SequenceOrder(start=1, gap_timeout_ms=60_000))


def since(bench: Bench) -> tuple[int, int | None]:
    return bench.pipeline.held()[TOPIC]


def test_a_record_counts_when_read_and_again_when_it_is_settled() -> None:
    bench = Bench([ORDERED])
    first = bench.feed(numbered(0, 1), numbered(1, 3))
    assert (first.counts, first.settled) == ({(TOPIC, "e"): 1, (TOPIC, "h"): 1}, {})
    second = bench.feed(numbered(2, 2))
    assert (second.counts, second.settled) == ({(TOPIC, "e"): 1}, {(TOPIC, "e"): 1})


def test_results_tell_when_their_events_have_happened() -> None:
    bench = Bench([contract()])
    effects = bench.feed(record(0, time=5), record(1, timestamp=7), record(2, bad="no event"))
    assert effects.times_ms == {TOPIC: [5, 7]}
    assert bench.feed(record(3, id="id-0")).times_ms == {}


def test_times_of_a_step_that_was_broken_off_are_forgotten() -> None:
    bench = Bench([contract()])
    bench.step(record(0, time=5))
    bench.pipeline.discard()
    assert bench.feed(record(0, time=6)).times_ms == {TOPIC: [6]}


def test_nothing_waits_in_an_empty_buffer() -> None:
    bench = Bench([ORDERED])
    assert bench.pipeline.held() == {}
    assert bench.pipeline.stream_ms() is None
    bench.feed(numbered(0, 1))
    assert since(bench) == (0, None)
    assert bench.pipeline.stream_ms() == NOW_MS


def test_a_restored_task_knows_since_when_its_events_wait() -> None:
    bench = Bench([ORDERED])
    bench.feed(numbered(0, 3, b"a"), now_ms=NOW_MS)
    bench.feed(numbered(1, 3, b"b"), numbered(2, 4, b"a"), now_ms=NOW_MS + 10)
    assert since(bench) == (3, NOW_MS)
    bench.open()
    assert since(bench) == (3, NOW_MS)
    bench.feed(numbered(3, 1, b"a"), numbered(4, 2, b"a"), now_ms=NOW_MS + 20)
    assert since(bench) == (1, NOW_MS + 10)


def test_of_a_very_large_buffer_a_part_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench([ORDERED])
    bench.feed(numbered(0, 3, b"a"), now_ms=NOW_MS + 10)
    bench.feed(numbered(1, 3, b"b"), now_ms=NOW_MS)
    bench.open()
    monkeypatch.setattr(held, "_SURVEY_BYTES_MAX", 1)
    assert since(bench) == (2, NOW_MS + 10)


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([b"a", b"b"]), st.booleans())))
def test_looking_changes_nothing_and_is_right_at_any_time(
    steps: list[tuple[int, bytes, bool]],
) -> None:
    looked, plain = Bench([ORDERED]), Bench([ORDERED])
    for offset, (number, key, is_look) in enumerate(steps):
        now_ms = NOW_MS + offset
        if is_look:
            looked.pipeline.held()
        one = numbered(offset, number, key, id=f"{key!r}{number}")
        assert looked.feed(one, now_ms=now_ms) == plain.feed(one, now_ms=now_ms)
    plain.open()
    assert looked.pipeline.held() == plain.pipeline.held()
