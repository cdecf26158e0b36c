"""Which dead letters nobody has acknowledged, whatever the order in which all is read."""

from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from edo_stream.observe.dead_letters import ACKS, backlogs, letter_of
from edo_stream.observe.lateness import Lateness
from edo_stream.observe.letters_watch import Waiting
from edo_stream.observe.owners import Owners, Terms
from edo_stream.views import LettersView, RetriesView

HOUR_MS = 3_600_000
OWNERS = Owners(
    flows={"ship": Terms("shipping", HOUR_MS)},
    sources={"shop.order.placed": Terms("shop", None)},
    letters={"dead.shop": Terms("shop", None), "dead.ship": Terms("shipping", HOUR_MS)},
)


def letter(
    name: str, at_ms: int, *, topic: str = "dead.ship", offset: int = 0, **more: str
) -> ConsumerRecord:
    headers = {"edo-id": name, "edo-at": str(at_ms), **more}
    pairs = tuple((key.replace("_", "-"), value.encode()) for key, value in headers.items())
    # The time of the record is that of the event, long before.
    return ConsumerRecord(topic, 0, offset, 1, 0, b"k", b"{}", None, 1, 2, pairs)


def ack(name: str, value: bytes | None = b"{}") -> ConsumerRecord:
    return ConsumerRecord(ACKS, 0, 0, 1, 0, name.encode(), value, None, 1, 2, ())


def waiting(*records: ConsumerRecord, letters_max: int = 10) -> Waiting:
    found = Waiting(OWNERS, letters_max)
    for record in records:
        found.take(record)
    found.is_known = True
    return found


def of_shipping(found: Waiting, now_ms: int) -> LettersView:
    views = found.views(now_ms)
    assert views is not None
    assert ["shipping", "shop"] == [view.owner for view in views]
    return views[0]


TWO = (letter("a", 1_000), letter("b", 2_000, offset=1))


def test_letters_wait_until_they_are_acknowledged() -> None:
    found = waiting(*TWO)
    assert of_shipping(found, 5_000) == LettersView("shipping", 2, 4_000, 0)
    assert of_shipping(found, 1_000 + HOUR_MS + 1).overdue == 1
    found.take(ack("a"))
    assert of_shipping(found, 5_000) == LettersView("shipping", 1, 3_000, 0)
    found.take(ack("b"))
    assert of_shipping(found, 5_000) == LettersView("shipping", 0, 0, 0)


@pytest.mark.parametrize("records", [[ack("a"), *TWO], [TWO[0], ack("a"), TWO[1]]])
def test_an_acknowledgement_may_be_read_before_its_letter(
    records: Sequence[ConsumerRecord],
) -> None:
    assert of_shipping(waiting(*records), 5_000).waiting == 1


def test_an_acknowledgement_that_is_taken_back_counts_no_more() -> None:
    assert of_shipping(waiting(ack("a"), ack("a", None), *TWO), 5_000).waiting == 2


def test_nothing_is_told_until_all_is_read() -> None:
    found = waiting(*TWO)
    found.clear()
    assert found.views(5_000) is None


def test_what_retention_has_deleted_is_forgotten() -> None:
    found = waiting(*TWO)
    found.forget_before({TopicPartition("dead.ship", 0): 1, TopicPartition("dead.shop", 0): 9})
    assert of_shipping(found, 5_000).oldest_age_ms == 3_000


def test_the_owner_is_of_the_flow_then_of_the_source_then_of_the_topic() -> None:
    names = {"edo_flow": "ship", "edo_topic": "shop.order.placed"}
    found = waiting(
        letter("a", 1, topic="dead.shop", edo_flow="ship"),
        letter("b", 1, topic="dead.ship", edo_topic="shop.order.placed"),
        letter("c", 1, topic="dead.shop", edo_topic="gone", edo_flow="gone"),
        letter("d", 1, **names),
    )
    views = found.views(5_000)
    assert views is not None
    assert {"shipping": 2, "shop": 2} == {view.owner: view.waiting for view in views}


def test_beyond_its_bound_letters_are_counted_until_it_is_worth_reading_anew() -> None:
    found = waiting(*(letter(f"n{number}", number) for number in range(5)), letters_max=3)
    assert of_shipping(found, 5_000).waiting == 5
    assert not found.is_worn
    found.take(ack("n0"))
    found.take(ack("n1"))
    assert found.is_worn


def test_backlogs_are_by_owner_and_leave_out_what_is_acknowledged() -> None:
    letters = [letter_of(record, OWNERS) for record in TWO]
    (backlog,) = backlogs(letters, 1_000 + HOUR_MS + 1).values()
    assert (backlog.letters, backlog.oldest_ms, backlog.overdue) == (2, 1_000, 1)
    assert letters[0].due_ms == 1_000 + HOUR_MS


def test_what_a_command_is_from_its_beginning_goes_with_it_when_it_is_sent_again() -> None:
    headers = {"edo_replay": "r1", "edo_position": "t/0/1", "edo_error": "x"}
    found = letter_of(letter("a", 1, **headers), OWNERS)
    assert found.headers == (("edo-replay", b"r1"), ("edo-position", b"t/0/1"))


def test_the_last_retries_tell_how_late_a_flow_is() -> None:
    lateness = Lateness()
    for late_ms in (9_999, *range(1_000)):
        lateness.retried("ship", late_ms)
    # The first is the one too many.
    assert lateness.views() == (RetriesView("ship", 1_001, 499, 989, 999),)
