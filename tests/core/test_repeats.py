"""A step that is done again after an abort, later: what it publishes has the same ids."""

from edo_stream.core.contract import SequenceOrder
from edo_stream.core.effects import Effects
from edo_stream.core.record import StoredRecord
from tests.core.bench import INTERNAL, NOW_MS, Bench, contract, header, numbered

WAIT_MS = 1_000


def _names(effects: Effects) -> list[tuple[str, str | None]]:
    return [
        (publish.topic, header(publish, "ce_id") or header(publish, "edo-id"))
        for publish in effects.publish
        if publish.topic != INTERNAL.accounts
    ]


def _bench() -> Bench:
    return Bench([contract(SequenceOrder(start=1, gap_timeout_ms=WAIT_MS))])


def _twice(task: Bench, *records: StoredRecord, at_ms: int) -> list[tuple[str, str | None]]:
    first = _names(task.step(*records, now_ms=at_ms))
    task.pipeline.discard()
    again = _names(task.step(*records, now_ms=at_ms + 60_000))
    assert first == again
    assert None not in {name for _, name in first}
    return first


def test_results_and_dead_letters_have_the_same_ids_when_they_are_made_again() -> None:
    names = _twice(_bench(), numbered(0, 1), numbered(1, 2, bad="broken"), at_ms=NOW_MS)
    assert 2 == len({name for _, name in names})


def test_notices_have_the_same_ids_when_they_are_made_again() -> None:
    task = _bench()
    task.feed(numbered(0, 3))
    names = _twice(task, at_ms=NOW_MS + WAIT_MS)
    assert [INTERNAL.gaps] == [topic for topic, _ in names if topic == INTERNAL.gaps]
