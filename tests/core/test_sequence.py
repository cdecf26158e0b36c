"""Order of numbered events: gaps, timers, bounds, late ones and operators."""

import pytest

from edo_stream.core.contract import OnFull, OnLate, OnTimeout, SequenceOrder
from edo_stream.core.event import Event
from tests.core.bench import NOW_MS, TOPIC, Bench, contract, numbered, operation, record

WAIT_MS = 1_000
POLICY = SequenceOrder(start=1, gap_timeout_ms=WAIT_MS)


def bench(**policy: object) -> Bench:
    fields = {"start": 1, "gap_timeout_ms": WAIT_MS, **policy}
    return Bench([contract(SequenceOrder(**fields))])  # type: ignore[arg-type]


def test_events_in_order_go_on_at_once() -> None:
    task = bench()
    task.feed(numbered(0, 1), numbered(1, 2))
    assert task.outputs() == [("emit", 0), ("emit", 1)]
    assert task.pipeline.next_due_ms() is None


def test_an_event_before_its_turn_is_held_until_the_missing_one_comes() -> None:
    task = bench()
    task.feed(numbered(0, 1), numbered(1, 3))
    assert task.outputs() == [("emit", 0)]
    assert task.fates() == {0: "e", 1: "h"}
    task.feed(numbered(2, 2))
    assert task.outputs() == [("emit", 0), ("emit", 2), ("emit", 1)]
    assert task.fates() == {0: "e", 1: "e", 2: "e"}


def test_a_number_held_and_released_in_one_step_counts_once_and_leaves_no_row() -> None:
    task = bench()
    effects = task.feed(numbered(0, 2), numbered(1, 1))
    assert [
        [(run.offset, run.length, run.fate) for run in account.runs] for account in effects.accounts
    ] == [[(0, 2, "e")]]
    assert effects.counts == {(TOPIC, "e"): 2}
    assert {key[:1] for key in task.state_rows.rows} == {b"o", b"s"}
    assert {key[:1] for key, _ in task.state_log.records} == {b"o", b"s"}


def test_a_released_event_keeps_its_own_bytes_and_position() -> None:
    task = bench()
    held = numbered(0, 2, headers=[("ce_x", b"1"), ("null", None)])
    task.feed(held)
    task.open()
    task.feed(numbered(1, 1))
    released = task.published[-2]
    assert released.value == held.value
    assert dict(released.headers)["ce_edoposition"] == b"shop.order.placed/5/0"


def test_the_first_number_seen_begins_a_key_without_a_declared_start() -> None:
    task = bench(start=None)
    task.feed(numbered(0, 7), numbered(1, 8), numbered(2, 6))
    assert task.outputs() == [("emit", 0), ("emit", 1), ("dead", 2, "late")]


def test_a_gap_is_skipped_when_its_time_is_over() -> None:
    task = bench()
    task.feed(numbered(0, 3))
    assert task.pipeline.next_due_ms() == NOW_MS + WAIT_MS
    assert task.tick(NOW_MS + WAIT_MS - 1).publish == []
    task.tick(NOW_MS + WAIT_MS)
    assert task.outputs() == [("gap", "k", 1, 2, "gap-timeout"), ("emit", 0)]
    assert task.fates() == {0: "e"}
    assert task.pipeline.next_due_ms() is None


def test_more_arrivals_do_not_restart_the_clock_of_a_gap() -> None:
    task = bench()
    task.feed(numbered(0, 3))
    task.feed(numbered(1, 4), now_ms=NOW_MS + 900)
    assert task.pipeline.next_due_ms() == NOW_MS + WAIT_MS


def test_the_next_gap_has_the_clock_of_its_own_first_event() -> None:
    task = bench()
    task.feed(numbered(0, 2))
    task.feed(numbered(1, 4), now_ms=NOW_MS + 300)
    task.feed(numbered(2, 6), now_ms=NOW_MS + 200)
    task.feed(numbered(3, 1), now_ms=NOW_MS + 500)
    assert task.outputs() == [("emit", 3), ("emit", 0)]
    assert task.pipeline.next_due_ms() == NOW_MS + 200 + WAIT_MS


def test_a_timer_does_not_fire_before_the_task_has_caught_up() -> None:
    task = bench()
    task.feed(numbered(0, 2))
    late_ms = NOW_MS + 10 * WAIT_MS
    assert task.tick(late_ms, caught_up_ms=NOW_MS).publish == []
    task.feed(numbered(1, 1), now_ms=late_ms)
    assert task.outputs() == [("emit", 1), ("emit", 0)]


def test_batches_come_before_timers_that_are_due() -> None:
    task = bench()
    task.feed(numbered(0, 2))
    task.feed(numbered(1, 1), now_ms=NOW_MS + WAIT_MS)
    assert task.outputs() == [("emit", 1), ("emit", 0)]


def test_a_timed_out_key_is_dead_lettered_where_the_contract_says_so() -> None:
    task = bench(on_timeout=OnTimeout.DEAD_LETTER)
    task.feed(numbered(0, 2), numbered(1, 4))
    task.tick(NOW_MS + WAIT_MS)
    assert task.outputs() == [
        ("gap", "k", 1, 1, "dead-letter"),
        ("dead", 0, "gap-timeout"),
        ("gap", "k", 3, 3, "dead-letter"),
        ("dead", 1, "gap-timeout"),
    ]
    task.feed(numbered(2, 5), numbered(3, 3))
    assert task.outputs()[4:] == [("emit", 2), ("dead", 3, "late")]


def test_hold_waits_for_ever() -> None:
    task = bench(on_timeout=OnTimeout.HOLD)
    task.feed(numbered(0, 2))
    assert task.pipeline.next_due_ms() is None
    task.feed(numbered(1, 1), now_ms=NOW_MS + 10**9)
    assert task.outputs() == [("emit", 1), ("emit", 0)]


@pytest.mark.parametrize(
    ("policy", "output"),
    [(OnLate.DEAD_LETTER, [("dead", 1, "late")]), (OnLate.EMIT, [("late", 1)]), (OnLate.DROP, [])],
)
def test_a_late_event_meets_the_policy_for_late_ones(policy: OnLate, output: object) -> None:
    task = bench(on_late=policy)
    task.feed(numbered(0, 3))
    task.tick(NOW_MS + WAIT_MS)
    task.published.clear()
    task.feed(numbered(1, 1))
    assert task.outputs() == output


def test_a_late_number_is_emitted_once() -> None:
    task = bench(on_late=OnLate.EMIT)
    task.feed(numbered(0, 4))
    task.tick(NOW_MS + WAIT_MS)
    task.feed(numbered(1, 2), numbered(2, 2), numbered(3, 1))
    assert task.outputs()[2:] == [("late", 1), ("dead", 2, "sequence-reused"), ("late", 3)]


def test_a_number_used_before_is_reused_not_late() -> None:
    task = bench()
    task.feed(numbered(0, 1), numbered(1, 1))
    assert task.outputs() == [("emit", 0), ("dead", 1, "sequence-reused")]


def test_a_used_number_is_dropped_where_late_ones_are() -> None:
    task = bench(on_late=OnLate.DROP)
    task.feed(numbered(0, 1), numbered(1, 1))
    assert task.fates() == {0: "e", 1: "l"}


def test_two_ids_with_one_held_number_conflict() -> None:
    task = bench()
    task.feed(numbered(0, 2), numbered(1, 2), numbered(2, 1))
    assert task.outputs() == [("dead", 1, "sequence-conflict"), ("emit", 2), ("emit", 0)]


@pytest.mark.parametrize("number", [None, -1, 2**63, 10**5000], ids=["none", "-1", "2^63", "huge"])
def test_a_number_out_of_range_is_invalid(number: int | None) -> None:
    event = Event(id="1", source="/shop", type="t", key=b"k", data=None, position=number)
    task = Bench([contract(POLICY)], decode=lambda _: event)
    task.feed(record(0))
    assert task.outputs() == [("dead", 0, "invalid")]
    assert task.pipeline.next_due_ms() is None


def test_the_greatest_number_is_fine() -> None:
    task = bench(start=None)
    task.feed(numbered(0, 2**63 - 1), numbered(1, 0))
    task.open()
    task.feed(numbered(2, 2**63 - 1))
    assert task.outputs() == [("emit", 0), ("dead", 1, "late"), ("dead", 2, "sequence-reused")]


def test_an_invalid_record_fills_its_slot() -> None:
    task = bench()
    task.feed(numbered(0, 1, bad="no"), numbered(1, 2), numbered(2, 4))
    task.feed(numbered(3, 3, bad="no"))
    assert task.outputs() == [
        ("dead", 0, "invalid"),
        ("emit", 1),
        ("dead", 3, "invalid"),
        ("emit", 2),
    ]


def test_an_invalid_record_before_its_turn_fills_its_slot_later() -> None:
    task = bench()
    task.feed(numbered(0, 2, bad="no"), numbered(1, 3, bad="no"), numbered(2, 4))
    assert task.pipeline.next_due_ms() == NOW_MS + WAIT_MS
    task.feed(numbered(3, 1))
    assert task.outputs()[2:] == [("emit", 3), ("emit", 2)]
    assert task.pipeline.next_due_ms() is None


def test_an_event_with_a_number_that_a_dead_letter_filled_is_reused() -> None:
    task = bench()
    task.feed(numbered(0, 3, bad="no"), numbered(1, 3))
    assert task.outputs() == [("dead", 0, "invalid"), ("dead", 1, "sequence-reused")]


def test_an_invalid_record_without_a_number_fills_nothing() -> None:
    task = bench()
    task.feed(record(0, bad="no"), numbered(1, 1), numbered(2, -7, bad="no"))
    assert task.outputs() == [("dead", 0, "invalid"), ("emit", 1), ("dead", 2, "invalid")]


def test_an_invalid_copy_of_a_held_number_leaves_the_held_one() -> None:
    task = bench()
    task.feed(numbered(0, 2), numbered(1, 2, bad="no"), numbered(2, 1))
    assert task.outputs() == [("dead", 1, "invalid"), ("emit", 2), ("emit", 0)]


def test_a_full_key_skips_its_gap_early() -> None:
    task = bench(held_per_key_max=2)
    task.feed(numbered(0, 3), numbered(1, 6), numbered(2, 8))
    assert task.outputs() == [("gap", "k", 1, 2, "buffer-full"), ("emit", 0)]
    task.feed(numbered(3, 7))
    assert task.outputs()[2:] == [
        ("gap", "k", 4, 5, "buffer-full"),
        ("emit", 1),
        ("emit", 3),
        ("emit", 2),
    ]


def test_a_full_partition_skips_the_gap_of_the_key_that_arrives() -> None:
    task = bench(held_per_partition_max=1)
    task.feed(numbered(0, 2, b"a"))
    task.feed(numbered(1, 3, b"b"))
    assert task.outputs() == [("gap", "b", 1, 2, "buffer-full"), ("emit", 1)]
    assert task.fates() == {0: "h", 1: "e"}


def test_a_skip_before_the_first_mark_of_a_batch_settles_what_was_held() -> None:
    task = bench(held_per_key_max=1)
    task.feed(numbered(0, 2))
    task.feed(numbered(1, 4))
    assert task.fates() == {0: "e", 1: "h"}


def test_a_full_buffer_dead_letters_the_arrival_where_the_contract_says_so() -> None:
    task = bench(held_per_key_max=1, on_full=OnFull.DEAD_LETTER)
    task.feed(numbered(0, 2), numbered(1, 3), numbered(2, 1), numbered(3, 4))
    assert task.outputs() == [
        ("dead", 1, "buffer-full"),
        ("emit", 2),
        ("emit", 0),
        ("emit", 3),
    ]


def test_an_event_too_big_to_hold_is_dead_lettered_and_fills_its_slot() -> None:
    task = Bench([contract(POLICY, record_bytes_max=1_000)])
    task.feed(numbered(0, 2, pad="x" * 70_000), numbered(1, 3), numbered(2, 1))
    assert task.outputs() == [("dead", 0, "too-large"), ("emit", 2), ("emit", 1)]


def test_a_result_too_big_for_its_topic_is_dead_lettered_and_the_key_goes_on() -> None:
    task = Bench([contract(POLICY, record_bytes_max=1_000)])
    task.feed(numbered(0, 1, pad="x" * 70_000), numbered(1, 2))
    assert task.outputs() == [("dead", 0, "too-large"), ("emit", 1)]
    letter = task.published[0]
    assert letter.value is None
    assert dict(letter.headers)["edo-reference"] == b"true"


def test_an_idle_key_starts_anew() -> None:
    task = bench(start=None, idle_ttl_ms=16_000)
    task.feed(numbered(0, 5))
    later_ms = NOW_MS + 17_001
    task.feed(numbered(1, 1, timestamp=later_ms), now_ms=later_ms)
    assert task.outputs() == [("emit", 0), ("emit", 1)]


def test_a_key_is_not_forgotten_before_its_time() -> None:
    task = bench(start=None, idle_ttl_ms=16_000)
    task.feed(numbered(0, 5))
    later_ms = NOW_MS + 17_000
    task.feed(numbered(1, 1, timestamp=later_ms), now_ms=later_ms)
    assert task.outputs() == [("emit", 0), ("dead", 1, "late")]


def test_a_key_that_is_seen_by_late_events_only_is_not_idle() -> None:
    task = bench(start=None, idle_ttl_ms=16_000)
    task.feed(numbered(0, 5))
    for offset in range(1, 4):
        later_ms = NOW_MS + offset * 10_000
        task.feed(numbered(offset, 1, timestamp=later_ms), now_ms=later_ms)
    assert task.outputs()[1:] == [("dead", offset, "late") for offset in range(1, 4)]


def test_a_key_with_held_events_is_never_idle() -> None:
    task = bench(idle_ttl_ms=16_000, on_timeout=OnTimeout.HOLD)
    task.feed(numbered(0, 2))
    later_ms = NOW_MS + 10**8
    task.feed(numbered(1, 1, b"other", timestamp=later_ms), now_ms=later_ms)
    task.feed(numbered(2, 1, b"other", timestamp=later_ms + 1000), now_ms=later_ms + 1000)
    task.feed(numbered(3, 1), now_ms=later_ms + 1000)
    assert task.outputs()[-2:] == [("emit", 3), ("emit", 0)]


def test_rows_of_idle_keys_are_deleted_on_disk_and_changelog() -> None:
    task = bench(start=None, idle_ttl_ms=16_000)
    task.feed(*(numbered(offset, 1, b"key-%03d" % offset) for offset in range(150)))
    for step in range(6):
        later_ms = NOW_MS + 20_000 + step * 1_000
        task.feed(numbered(150 + step, step, b"live", timestamp=later_ms), now_ms=later_ms)
    names = {key for key in task.state_rows.rows if key[:1] == b"s"}
    assert names == {b"s" + TOPIC.encode() + b"\0live"}
    assert task.state_log.restored().rows == task.state_rows.rows


def test_the_look_for_idle_keys_goes_on_behind_the_live_ones() -> None:
    task = bench(start=None, idle_ttl_ms=16_000)
    live = [b"a-%03d" % index for index in range(100)]
    task.feed(*(numbered(offset, 1, key) for offset, key in enumerate([*live, b"b-idle"])))
    offset = 101
    for step in range(6):
        later_ms = NOW_MS + 16_000 + step * 1_000
        again = (
            numbered(offset + i, 2 + step, key, timestamp=later_ms) for i, key in enumerate(live)
        )
        task.feed(*again, now_ms=later_ms)
        offset += len(live)
    assert b"s" + TOPIC.encode() + b"\0b-idle" not in task.state_rows.rows
    assert sum(key[:1] == b"s" for key in task.state_rows.rows) == 100


def test_an_operator_skips_up_to_a_number() -> None:
    task = bench(on_timeout=OnTimeout.HOLD)
    task.feed(numbered(0, 3), numbered(1, 6))
    task.feed(operation(0, op="gap.skip", topic=TOPIC, key="k", to=4))
    assert task.outputs() == [
        ("gap", "k", 1, 2, "operator"),
        ("emit", 0),
        ("gap", "k", 4, 4, "operator"),
        ("done", 0),
    ]
    task.feed(numbered(2, 5))
    assert task.outputs()[4:] == [("emit", 2), ("emit", 1)]


def test_an_operator_releases_all_that_is_held() -> None:
    task = bench(on_timeout=OnTimeout.HOLD)
    task.feed(numbered(0, 3), numbered(1, 6))
    task.feed(operation(0, op="gap.release", topic=TOPIC, key="k"))
    assert task.outputs() == [
        ("gap", "k", 1, 2, "operator"),
        ("emit", 0),
        ("gap", "k", 4, 5, "operator"),
        ("emit", 1),
        ("done", 0),
    ]
    assert task.fates("edo.control") == {0: "a"}
    assert task.fates() == {0: "e", 1: "e"}


@pytest.mark.parametrize(
    "request_parts",
    [
        {},
        {"op": "gap.skip"},
        {"op": "gap.skip", "topic": TOPIC, "key": "k"},
        {"op": "gap.skip", "topic": TOPIC, "key": "k", "to": 0},
        {"op": "gap.skip", "topic": TOPIC, "key": "k", "to": 2**63},
        {"op": "gap.skip", "topic": TOPIC, "key": {"base64": "?"}, "to": 1},
        {"op": "gap.skip", "topic": TOPIC, "key": "unknown", "to": 1},
        {"op": "gap.release", "topic": TOPIC, "key": "k", "to": 1},
        {"op": "gap.release", "topic": TOPIC, "key": "k"},
        {"op": "gap.release", "topic": "other", "key": "k"},
        {"op": "gap.explode", "topic": TOPIC, "key": "k"},
        {"op": "gap.release", "topic": TOPIC, "key": "k", "unknown": 1},
    ],
)
def test_an_operation_that_makes_no_sense_is_refused(request_parts: dict[str, object]) -> None:
    task = bench()
    task.feed(numbered(0, 1))
    task.feed(operation(0, **request_parts))
    assert task.outputs() == [("emit", 0), ("refused", 0)]


def test_a_key_that_is_no_text_is_named_in_base64() -> None:
    task = bench()
    task.feed(numbered(0, 2, b"\xff\x00"))
    task.feed(operation(0, op="gap.release", topic=TOPIC, key={"base64": "/wA="}))
    assert task.outputs() == [
        ("gap", {"base64": "/wA="}, 1, 1, "operator"),
        ("emit", 0),
        ("done", 0),
    ]
    assert dict(task.published[1].headers)["ce_subject"] == b"/wA="


def test_what_was_held_under_another_policy_still_times_out() -> None:
    task = bench()
    task.feed(numbered(0, 2))
    task.contracts = [contract()]
    task.open()
    task.tick(NOW_MS + WAIT_MS)
    assert task.outputs() == [("gap", "k", 1, 1, "gap-timeout"), ("emit", 0)]


def test_a_timer_set_before_the_contract_said_hold_ends_quietly() -> None:
    task = bench()
    task.feed(numbered(0, 2))
    task.contracts = [contract(SequenceOrder(start=1, on_timeout=OnTimeout.HOLD))]
    task.open()
    task.tick(NOW_MS + WAIT_MS)
    assert task.outputs() == []
    assert task.pipeline.next_due_ms() is None


def test_a_topic_that_is_no_longer_read_keeps_its_held_events() -> None:
    task = bench()
    task.feed(numbered(0, 2))
    contracts, task.contracts = task.contracts, []
    task.open()
    task.tick(NOW_MS + WAIT_MS)
    assert task.outputs() == []
    task.contracts = contracts
    task.open()
    due_ms = task.pipeline.next_due_ms()
    assert due_ms is not None
    task.tick(due_ms)
    assert task.outputs() == [("gap", "k", 1, 1, "gap-timeout"), ("emit", 0)]
