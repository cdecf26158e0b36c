"""What an operator has sent again: past dedupe once, and behind its turn."""

import pytest

from edo_stream.core.contract import DedupePolicy, MonotonicOrder, NoOrder, OnLate, SequenceOrder
from edo_stream.core.record import StoredRecord
from tests.core.bench import Bench, contract, header, numbered, record

AGAIN = (("ce_x", b"1"), ("edo-redrive", b"1"))
TWICE = (("ce_x", b"1"), ("edo-redrive", b"2"))


def sent_again(offset: int, headers: tuple[tuple[str, bytes], ...] = AGAIN) -> StoredRecord:
    return record(offset, id="one", headers=headers)


def test_an_event_that_is_sent_again_is_no_double_of_itself() -> None:
    task = Bench([contract(NoOrder(), DedupePolicy())])
    task.feed(record(0, id="one"), sent_again(1))
    assert task.fates() == {0: "e", 1: "e"}


def test_it_goes_on_once_for_each_time_that_it_was_sent_again() -> None:
    task = Bench([contract(NoOrder(), DedupePolicy())])
    task.feed(record(0, id="one"))
    task.feed(sent_again(1), sent_again(2))
    task.open()
    task.feed(sent_again(3), sent_again(4, TWICE), sent_again(5, TWICE))
    assert task.fates() == {0: "e", 1: "e", 2: "d", 3: "d", 4: "e", 5: "d"}


def test_one_that_was_never_remembered_is_remembered_then() -> None:
    task = Bench([contract(NoOrder(), DedupePolicy())])
    task.feed(sent_again(0), record(1, id="one"))
    assert task.fates() == {0: "e", 1: "d"}


def test_the_header_counts_as_the_last_one_only() -> None:
    task = Bench([contract(NoOrder(), DedupePolicy())])
    task.feed(record(0, id="one"), sent_again(1, AGAIN[::-1]))
    assert task.fates() == {0: "e", 1: "d"}


@pytest.mark.parametrize("on_late", [OnLate.DEAD_LETTER, OnLate.EMIT])
def test_what_was_dead_lettered_in_its_turn_goes_on_behind_it_and_says_so(on_late: OnLate) -> None:
    task = Bench([contract(SequenceOrder(start=1, on_late=on_late), DedupePolicy())])
    # The second is invalid: its number is used up, and the third does not wait for it.
    task.feed(numbered(0, 1), numbered(1, 2, bad="it is"), numbered(2, 3))
    published = task.feed(numbered(3, 2, id="two", headers=AGAIN)).publish
    assert task.fates()[3] == "e"
    assert header(published[0], "ce_edolate") == "true"
    assert header(published[0], "edo-redrive") is None


def test_where_late_events_are_dropped_one_sent_again_is_too() -> None:
    task = Bench([contract(SequenceOrder(start=1, on_late=OnLate.DROP), DedupePolicy())])
    task.feed(numbered(0, 1), numbered(1, 2))
    task.feed(numbered(2, 1, id="id-0", headers=AGAIN))
    assert task.fates() == {0: "e", 1: "e", 2: "l"}


def test_a_position_that_was_passed_stays_passed() -> None:
    task = Bench([contract(MonotonicOrder(), DedupePolicy())])
    task.feed(numbered(0, 5), numbered(1, 4, headers=AGAIN))
    assert task.fates() == {0: "e", 1: "s"}
