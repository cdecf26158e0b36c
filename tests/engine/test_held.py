"""What is held, read from the rows of a state's changelog."""

from edo_stream.core.assembly import EVENTS
from edo_stream.core.contract import OnTimeout, SequenceOrder, TransactionOrder
from edo_stream.observe.held import HeldKey, HeldRows
from tests.core.bench import NOW_MS, TOPIC, Bench, contract, numbered, record

WAIT_MS = 1_000


def bench(**policy: object) -> Bench:
    fields = {"start": 1, "gap_timeout_ms": WAIT_MS, **policy}
    return Bench([contract(SequenceOrder(**fields))])  # type: ignore[arg-type]


def held(task: Bench) -> list[HeldKey]:
    """As read from the whole log, and the same from what compaction leaves of it."""
    whole, compacted = HeldRows(), HeldRows()
    for key, value in task.state_log.records:
        whole.apply(key, value)
    for key, value in dict(task.state_log.records).items():
        compacted.apply(key, value)
    found = whole.keys("shop", 5)
    assert sorted(compacted.keys("shop", 5)) == sorted(found)
    return found


def test_nothing_is_held_where_nothing_is_missing() -> None:
    task = bench()
    task.feed(numbered(0, 1), numbered(1, 2))
    assert held(task) == []


def test_a_key_that_waits_is_shown_with_its_numbers_and_times() -> None:
    task = bench()
    task.feed(numbered(0, 1), numbered(1, 3), numbered(2, 4), numbered(3, 8))
    (found,) = held(task)
    assert found == HeldKey(
        topic=TOPIC,
        partition=5,
        key=found.key,
        group="shop",
        next=2,
        held=3,
        lowest=3,
        highest=8,
        since_ms=NOW_MS,
        due_ms=NOW_MS + WAIT_MS,
    )


def test_a_wait_without_end_has_no_deadline() -> None:
    task = bench(on_timeout=OnTimeout.HOLD)
    task.feed(numbered(0, 2))
    assert [(found.next, found.due_ms) for found in held(task)] == [(1, None)]


def test_what_was_released_is_not_shown() -> None:
    task = bench()
    task.feed(numbered(0, 1), numbered(1, 3), numbered(2, 5))
    task.feed(numbered(3, 2))
    assert [(found.next, found.lowest, found.held) for found in held(task)] == [(4, 5, 1)]
    task.feed(numbered(4, 4))
    assert held(task) == []


def test_a_transaction_that_waits_is_shown_with_what_is_missing_of_it() -> None:
    task = Bench([contract(TransactionOrder(timeout_ms=WAIT_MS))])
    task.feed(numbered(0, 2))
    assert [(one.next, one.held, one.due_ms) for one in held(task)] == [(0, 1, NOW_MS + WAIT_MS)]

    task.feed(record(1, n=0, headers=[(EVENTS, b"2")]))
    assert [(one.next, one.held) for one in held(task)] == [(1, 2)]
    task.feed(numbered(2, 1))
    assert held(task) == []


def test_a_tombstone_of_a_row_that_was_never_seen_is_nothing() -> None:
    rows = HeldRows()
    rows.apply(b"sshop\0k", None)
    rows.apply(b"hshop\0\x00\x00\x00\x01k" + bytes(8), None)
    rows.apply(b"o", b"the task's own row")
    assert rows.keys("shop", 0) == []


def test_a_key_whose_events_compaction_took_meanwhile_is_left_out() -> None:
    task = bench()
    task.feed(numbered(0, 1), numbered(1, 3))
    rows = HeldRows()
    for key, value in task.state_log.records:
        if not key.startswith(b"h"):
            rows.apply(key, value)
    assert rows.keys("shop", 5) == []
