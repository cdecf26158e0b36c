"""Deduplication: keys, expiry in stream time, and what goes on the changelog."""

from itertools import pairwise

import pytest

from edo_stream.core.contract import DedupePolicy, NoOrder
from edo_stream.core.dedupe import Expiry, digest_of, expand_ids, spread
from edo_stream.core.event import Event, Violation
from tests.core.bench import NOW_MS, TOPIC, Bench, contract, record
from tests.core.limits import Limits

TTL_MS = 10_000


def bench(*fields: str, ttl_ms: int = TTL_MS) -> Bench:
    return Bench([contract(NoOrder(), DedupePolicy(fields or ("source", "id"), ttl_ms))])


def test_a_double_is_dropped_in_its_batch_and_later() -> None:
    task = bench()
    task.feed(record(0, id=1), record(1, id=1))
    task.feed(record(2, id=1))
    task.open()
    task.feed(record(3, id=1))
    assert task.fates() == {0: "e", 1: "d", 2: "d", 3: "d"}


def test_an_id_comes_back_after_its_time_to_live_in_stream_time() -> None:
    task = bench()
    task.feed(record(0, id=1))
    task.feed(record(1, id=1, timestamp=NOW_MS + TTL_MS - 1), now_ms=NOW_MS + 10**6)
    task.feed(record(2, id=1, timestamp=NOW_MS + TTL_MS), now_ms=NOW_MS + 10**6)
    assert task.fates() == {0: "e", 1: "d", 2: "e"}


def test_time_without_records_expires_nothing() -> None:
    task = bench()
    task.feed(record(0, id=1))
    task.feed(record(1, id=1), now_ms=NOW_MS + 10**9)
    assert task.fates() == {0: "e", 1: "d"}


def test_an_id_expires_within_one_batch() -> None:
    task = bench()
    later_ms = NOW_MS + TTL_MS
    task.feed(record(0, id=1), record(1, id=1, timestamp=later_ms), now_ms=later_ms)
    assert task.fates() == {0: "e", 1: "e"}


def test_a_record_from_the_future_moves_time_by_five_minutes_at_most() -> None:
    task = bench(ttl_ms=600_000)
    task.feed(record(0, id=1), record(1, timestamp=NOW_MS + 10**12), record(2, id=1))
    assert task.fates() == {0: "e", 1: "e", 2: "d"}
    task.feed(record(3, id=3, timestamp=NOW_MS + 10**12), now_ms=NOW_MS - 10**6)
    task.feed(record(4, id=1), now_ms=NOW_MS)
    assert task.fates()[4] == "d"


def test_a_batch_writes_one_record_for_all_that_it_has_seen_first() -> None:
    task = bench()
    task.feed(*(record(offset) for offset in range(100)))
    assert len(task.ids_log.records) == 1
    key, value = task.ids_log.records[0]
    assert value is not None
    assert len(value) == 4 + 100 * 16
    assert key.endswith(TOPIC.encode())
    assert len(list(expand_ids(key, value))) == 101


def test_a_batch_of_doubles_writes_no_ids() -> None:
    task = bench()
    task.feed(record(0, id=1))
    task.feed(record(1, id=1))
    assert len(task.ids_log.records) == 1


def test_a_big_batch_is_split_into_records_that_fit() -> None:
    task = bench()
    with Limits(records=20_001):
        task.feed(*(record(offset) for offset in range(20_000)))
    assert [len(value or b"") for _, value in task.ids_log.records] == [
        4 + 16_384 * 16,
        4 + (20_000 - 16_384) * 16,
    ]


def test_expired_rows_leave_the_disk_without_a_tombstone() -> None:
    task = bench()
    for offset in range(40):
        later_ms = NOW_MS + offset * 1_000
        task.feed(record(offset, timestamp=later_ms), now_ms=later_ms)
    live = [key for key in spread(task.ids_rows.rows) if key[:1] == b"d"]
    assert len(live) in (10, 11, 12)
    assert all(value is not None for _, value in task.ids_log.records)


def test_a_sweep_catches_up_in_bounded_steps() -> None:
    task = bench()
    for offset in range(40):
        task.feed(record(offset, timestamp=NOW_MS + offset))
    sizes = []
    for offset in range(40, 60):
        later_ms = NOW_MS + 100_000
        task.feed(record(offset, timestamp=later_ms), now_ms=later_ms)
        sizes.append(len(spread(task.ids_rows.rows)))
    # Four records' worth a step (two rows each), and one record more.
    assert {before - after for before, after in pairwise(sizes[1:])} == {6, -2}
    assert sizes[-1] == 2 * 20


def test_an_id_seen_again_after_its_expiry_outlives_the_sweep_of_the_first() -> None:
    task = bench()
    task.feed(record(0, id=1))
    later_ms = NOW_MS + TTL_MS
    task.feed(record(1, timestamp=later_ms), now_ms=later_ms)
    task.open()
    task.feed(record(2, id=1), now_ms=later_ms)
    task.feed(record(3, id=1), now_ms=later_ms)
    assert task.fates() == {0: "e", 1: "e", 2: "e", 3: "d"}


def test_an_id_seen_again_in_the_batch_that_outlived_it_survives_the_sweep_of_the_first() -> None:
    task = bench()
    task.feed(record(0, id=1))
    later_ms = NOW_MS + TTL_MS
    task.feed(record(1, id=1, timestamp=later_ms), now_ms=later_ms)
    task.feed(record(2, timestamp=later_ms), now_ms=later_ms)
    task.feed(record(3, id=1), now_ms=later_ms)
    assert task.fates() == {0: "e", 1: "e", 2: "e", 3: "d"}


def test_stream_time_never_runs_back() -> None:
    task = bench()
    later_ms = NOW_MS + TTL_MS
    ahead = record(1, timestamp=later_ms)
    task.feed(record(0, id=1), ahead, record(2), record(3, id=1), now_ms=later_ms)
    assert task.fates() == {0: "e", 1: "e", 2: "e", 3: "e"}


def test_a_restore_that_brings_expired_ids_back_changes_nothing() -> None:
    task = bench()
    task.feed(record(0, id=1))
    later_ms = NOW_MS + 2 * TTL_MS
    for offset in range(1, 5):
        task.feed(record(offset, timestamp=later_ms), now_ms=later_ms)
    task.open()
    task.feed(record(5, id=1), now_ms=later_ms)
    assert task.fates()[5] == "e"


def test_topics_do_not_share_ids() -> None:
    task = Bench([contract(), contract(topic="other")])
    task.feed(record(0, id=1), record(0, id=1, topic="other"))
    assert task.fates() == task.fates("other") == {0: "e"}


def test_without_a_policy_doubles_go_on() -> None:
    task = Bench([contract(dedupe=None)])
    task.feed(record(0, id=1), record(1, id=1))
    assert task.fates() == {0: "e", 1: "e"}
    assert not task.ids_log.records


def test_a_key_may_lie_in_the_data() -> None:
    task = bench("/order/number", "type")
    task.feed(
        record(0, order={"number": 1}),
        record(1, order={"number": 1}),
        record(2, order={"number": "1"}),
        record(3, order={"number": 12345678901234567890}),
        record(4, order={"number": 12345678901234567891}),
        record(5, order={"number": 1}, type="other"),
    )
    assert "".join(task.fates().values()) == "edeeee"


@pytest.mark.parametrize("order", [{}, {"number": None}, {"number": [1]}, {"number": {}}, 1])
def test_a_key_that_is_missing_is_a_violation(order: object) -> None:
    task = bench("/order/number")
    task.feed(record(0, order=order))
    assert task.outputs() == [("dead", 0, "invalid")]


def test_a_missing_attribute_is_a_violation_with_its_place() -> None:
    event = Event(id="1", source="s", type="t", key=b"k", data=None, position=3)
    violation = digest_of("topic", ("subject",))(event)
    assert isinstance(violation, Violation)
    assert (violation.key, violation.position) == (b"k", 3)


def test_values_do_not_run_into_each_other() -> None:
    digest = digest_of("topic", ("id", "subject"))
    one = Event(id="ab", source="s", type="t", key=b"k", data=None, subject="c")
    two = Event(id="a", source="s", type="t", key=b"k", data=None, subject="bc")
    assert digest(one) != digest(two)


def test_the_usual_key_has_one_digest_whichever_way_it_is_computed() -> None:
    event = Event(id="1", source="s", type="t", key=b"k", data=None, subject="1")
    assert digest_of("topic", ("source", "id"))(event) == digest_of("topic", ("source", "subject"))(
        event
    )


def test_a_topic_is_part_of_the_digest() -> None:
    event = Event(id="1", source="s", type="t", key=b"k", data=None)
    assert digest_of("a", ("source", "id"))(event) != digest_of("b", ("source", "id"))(event)


@pytest.mark.parametrize("ttl_ms", [1, 999, 1_000, 86_400_000, 7 * 86_400_000])
def test_an_expiry_is_never_early_and_little_late(ttl_ms: int) -> None:
    expiry = Expiry(DedupePolicy(ttl_ms=ttl_ms))
    for stream_ms in (NOW_MS, NOW_MS + 1, NOW_MS + 999):
        expiry_s, until_ms = expiry.at(stream_ms)
        assert 0 <= expiry_s * 1000 - stream_ms - ttl_ms <= max(1_000, ttl_ms // 1_000)
        assert expiry.at(until_ms - 1)[0] == expiry_s < expiry.at(until_ms)[0]


def test_a_tombstone_on_the_changelog_deletes_its_index_row() -> None:
    assert list(expand_ids(b"key", None)) == [(b"bkey", None)]
