"""Order of growing positions."""

from edo_stream.core.contract import MonotonicOrder
from tests.core.bench import NOW_MS, Bench, contract, numbered, record

HUGE = 2**200


def bench() -> Bench:
    return Bench([contract(MonotonicOrder(idle_ttl_ms=16_000))])


def test_a_position_that_is_not_later_is_stale() -> None:
    task = bench()
    task.feed(numbered(0, 5), numbered(1, 5), numbered(2, 4), numbered(3, 9))
    assert task.outputs() == [("emit", 0), ("emit", 3)]
    assert task.fates() == {0: "e", 1: "s", 2: "s", 3: "e"}


def test_positions_of_any_size_and_sign_survive_a_restore() -> None:
    task = bench()
    task.feed(numbered(0, -HUGE, b"a"), numbered(1, HUGE, b"b"))
    task.open()
    task.feed(numbered(2, -HUGE, b"a"), numbered(3, 1 - HUGE, b"a"), numbered(4, HUGE, b"b"))
    assert task.outputs() == [("emit", 0), ("emit", 1), ("emit", 3)]


def test_keys_do_not_mix() -> None:
    task = bench()
    task.feed(numbered(0, 5, b"a"), numbered(1, 1, b"b"))
    assert task.outputs() == [("emit", 0), ("emit", 1)]


def test_an_event_without_a_position_is_invalid() -> None:
    task = bench()
    task.feed(record(0))
    assert task.outputs() == [("dead", 0, "invalid")]


def test_an_idle_key_starts_anew_and_its_row_goes() -> None:
    task = bench()
    task.feed(numbered(0, 5))
    later_ms = NOW_MS + 17_001
    task.feed(numbered(1, 1, b"other", timestamp=later_ms), now_ms=later_ms)
    task.feed(numbered(2, 2, b"other", timestamp=later_ms), now_ms=later_ms)
    assert [key[-5:] for key in task.state_rows.rows if key[:1] == b"r"] == [b"other"]
    task.feed(numbered(3, 1), now_ms=later_ms)
    assert task.outputs()[-1] == ("emit", 3)


def test_an_idle_key_starts_anew_before_its_row_is_swept() -> None:
    task = bench()
    task.feed(numbered(0, 5))
    later_ms = NOW_MS + 17_001
    task.feed(numbered(1, 1, timestamp=later_ms), now_ms=later_ms)
    assert task.outputs() == [("emit", 0), ("emit", 1)]


def test_stale_events_keep_a_key_alive() -> None:
    task = bench()
    task.feed(numbered(0, 5))
    for offset in range(1, 4):
        later_ms = NOW_MS + offset * 10_000
        task.feed(numbered(offset, 5, timestamp=later_ms), now_ms=later_ms)
    assert task.fates() == {0: "e", 1: "s", 2: "s", 3: "s"}
