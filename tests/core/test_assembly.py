"""Transactions of a source go on whole, in order and once, or are dead-lettered whole."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.core.assembly import EVENTS
from edo_stream.core.contract import OnTimeout, SequenceOrder, TransactionOrder
from edo_stream.core.record import StoredRecord
from tests.core.bench import NOW_MS, TOPIC, Bench, contract, numbered, operation, record

WHOLE = TransactionOrder(timeout_ms=1_000)
INCOMPLETE = "transaction-incomplete"


def end(offset: int, events: int | None, key: bytes = b"k", **parts: Any) -> StoredRecord:
    """The end of a transaction that says how many events it has."""
    headers = [] if events is None else [(EVENTS, b"%d" % events)]
    return record(offset, key, n=0, headers=headers, **parts)


def assembly(policy: TransactionOrder = WHOLE) -> Bench:
    return Bench([contract(policy)])


def test_transaction_goes_on_in_order_when_its_last_event_has_come() -> None:
    bench = assembly()
    bench.feed(numbered(0, 3), end(1, 3), numbered(2, 1))
    assert [] == bench.outputs()

    bench.feed(numbered(3, 2))

    assert [("emit", 2), ("emit", 3), ("emit", 0), ("emit", 1)] == bench.outputs()
    assert {0: "e", 1: "e", 2: "e", 3: "e"} == bench.fates()


def test_transaction_within_one_batch_leaves_nothing_behind_but_that_it_is_over() -> None:
    bench = assembly()

    effects = bench.step(numbered(0, 1), numbered(1, 2), end(2, 2))

    assert [0, 1, 2] == [int(one.headers[6][1].rpartition(b"/")[2]) for one in effects.publish[:3]]
    assert not [key for key in bench.state.changelog if key[:1] == b"h"]


def test_transactions_do_not_wait_for_each_other() -> None:
    bench = assembly()

    bench.feed(numbered(0, 1, b"a"), numbered(1, 1, b"b"), end(2, 1, b"b"))

    assert [("emit", 1), ("emit", 2)] == bench.outputs()


def test_transaction_is_put_together_over_a_crash() -> None:
    bench = assembly()
    bench.feed(numbered(0, 2), end(1, 2))
    bench.open()

    bench.feed(numbered(2, 1))

    assert [("emit", 2), ("emit", 0), ("emit", 1)] == bench.outputs()


def test_transaction_without_events_is_its_end_alone() -> None:
    bench = assembly()

    bench.feed(end(0, 0))

    assert [("emit", 0)] == bench.outputs()


def test_event_of_no_transaction_goes_on_at_once() -> None:
    bench = assembly()

    bench.feed(numbered(0, 2), record(1))

    assert [("emit", 1)] == bench.outputs()


def test_repeated_event_is_a_duplicate_and_another_of_its_number_ends_the_transaction() -> None:
    bench = assembly()

    bench.feed(numbered(0, 1), numbered(1, 1, id="id-0"), numbered(2, 1), end(3, 1))

    assert [
        ("dead", 2, "sequence-conflict"),
        ("dead", 0, INCOMPLETE),
        ("dead", 3, INCOMPLETE),
    ] == bench.outputs()
    assert "d" == bench.fates()[1]


def test_event_that_comes_after_its_transaction_is_late() -> None:
    bench = assembly()
    bench.feed(numbered(0, 1), end(1, 1))

    bench.feed(numbered(2, 2))

    assert ("dead", 2, "late") == bench.outputs()[-1]


def test_transaction_that_does_not_become_whole_in_time_is_dead_lettered_whole() -> None:
    bench = assembly()
    bench.feed(numbered(0, 2), end(1, 3))
    bench.tick(NOW_MS + 999)
    assert [] == bench.outputs()

    bench.tick(NOW_MS + 1_000)
    bench.feed(numbered(2, 1))

    assert [("dead", each, INCOMPLETE) for each in (0, 1, 2)] == bench.outputs()
    assert {0: "x", 1: "x", 2: "x"} == bench.fates()


def test_time_spent_behind_is_no_time_waited() -> None:
    bench = assembly()
    bench.feed(numbered(0, 2))

    bench.tick(NOW_MS + 60_000, caught_up_ms=NOW_MS + 999)

    assert [] == bench.outputs()


def test_transaction_may_be_held_for_ever_until_an_operator_releases_it() -> None:
    bench = assembly(TransactionOrder(1_000, OnTimeout.HOLD))
    bench.feed(numbered(0, 3), numbered(1, 1), end(2, 3))
    bench.tick(NOW_MS + 10**9)
    assert [] == bench.outputs()

    bench.feed(operation(0, op="gap.skip", topic=TOPIC, key="k", to=2, id="a"))
    bench.feed(operation(1, op="gap.release", topic=TOPIC, key="k", id="b"))

    assert ("refused", 0) == bench.outputs()[0]
    assert [("emit", 1), ("emit", 0), ("emit", 2), ("done", 1)] == bench.outputs()[1:]


def test_policy_that_holds_no_more_sets_the_timers_of_what_was_held() -> None:
    bench = assembly(TransactionOrder(1_000, OnTimeout.HOLD))
    bench.feed(numbered(0, 1))
    bench.contracts = [contract(WHOLE)]
    bench.open()

    bench.feed(record(1, b"other", timestamp=NOW_MS + 2_000), now_ms=NOW_MS + 2_000)
    bench.tick(NOW_MS + 2_000)

    assert [("emit", 1), ("dead", 0, INCOMPLETE)] == bench.outputs()


@pytest.mark.parametrize("n", [None, 2])
def test_record_that_is_no_event_takes_its_transaction_along(n: int | None) -> None:
    bench = assembly()

    bench.feed(numbered(0, 1), record(1, bad="broken", n=n), end(2, 2))

    assert [("dead", 1, "invalid"), ("dead", 0, INCOMPLETE), ("dead", 2, INCOMPLETE)] == sorted(
        bench.outputs(), key=lambda one: [1, 0, 2].index(one[1])
    )


@pytest.mark.parametrize(
    ("records", "policy"),
    [
        ([numbered(0, 1), numbered(1, 2), end(2, 1)], WHOLE),
        ([numbered(0, 1), numbered(1, 2), end(2, None)], WHOLE),
        ([numbered(0, 1), numbered(1, 2), end(2, 2)], TransactionOrder(held_per_key_max=2)),
        ([numbered(0, 1), numbered(1, 2), end(2, 2)], TransactionOrder(held_per_partition_max=1)),
        ([numbered(0, 1), numbered(1, 2, pad="x" * 1_200_000), end(2, 2)], WHOLE),
    ],
)
def test_transaction_that_cannot_become_whole_is_dead_lettered_whole(
    records: list[StoredRecord], policy: TransactionOrder
) -> None:
    bench = assembly(policy)

    bench.feed(*records)

    assert {0: "x", 1: "x", 2: "x"} == bench.fates()
    assert {INCOMPLETE} == {one[2] for one in bench.outputs()}


def test_transaction_that_is_over_is_forgotten_in_time() -> None:
    bench = assembly(TransactionOrder(idle_ttl_ms=1_000))
    bench.feed(numbered(0, 1), end(1, 1))

    for offset in range(2, 40):
        at_ms = NOW_MS + offset * 2_000
        bench.feed(record(offset, timestamp=at_ms), now_ms=at_ms)

    assert [] == list(bench.state_log.restored().scan(b"q", b"r"))


def test_what_another_policy_held_times_out_by_the_rules_of_that() -> None:
    bench = assembly()
    bench.feed(numbered(0, 2, b"a"))
    bench.contracts = [contract(SequenceOrder(start=1, gap_timeout_ms=1_000))]
    bench.open()
    bench.feed(numbered(1, 2, b"b"))
    bench.contracts = [contract(WHOLE)]
    bench.open()

    bench.tick(NOW_MS + 60_000)

    assert [
        ("dead", 0, INCOMPLETE),
        ("gap", "b", 1, 1, "gap-timeout"),
        ("emit", 1),
    ] == bench.outputs()


def test_timer_of_a_topic_that_is_read_no_more_is_put_off() -> None:
    other = contract(topic="shop.other.one")
    bench = Bench([contract(WHOLE), other])
    bench.feed(numbered(0, 1))
    bench.contracts = [other]
    bench.open()

    bench.tick(NOW_MS + 5_000)
    bench.contracts = [contract(WHOLE), other]
    bench.open()
    bench.tick(NOW_MS + 5 * 3_600_000)

    assert [("dead", 0, INCOMPLETE)] == bench.outputs()


transactions = st.lists(st.integers(0, 4), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(transactions, st.data())
def test_any_interleaving_with_repeats_and_crashes_gives_each_transaction_once_and_in_order(
    sizes: list[int], data: st.DataObject
) -> None:
    parts = [
        (f"t{which}".encode(), number)
        for which, size in enumerate(sizes)
        for number in range(size + 1)
    ]
    order = data.draw(st.permutations(parts + data.draw(st.lists(st.sampled_from(parts)))))
    bench = assembly()
    for offset, (key, number) in enumerate(order):
        name = f"{key.decode()}/{number}"
        size = sizes[int(key[1:])]
        made = numbered(offset, number, key, id=name) if number else end(offset, size, key, id=name)
        bench.feed(made)
        if data.draw(st.booleans()):
            bench.open()

    results = [one for one in bench.published if one.topic == f"{TOPIC}.results"]
    ids = [dict(one.headers)["ce_causationid"].decode() for one in results]
    for which, size in enumerate(sizes):
        expected = [f"t{which}/{number}" for number in (*range(1, size + 1), 0)]
        at = ids.index(expected[0])
        assert expected == ids[at : at + size + 1]
    assert len(parts) == len(ids)
