"""What must come out of a burst, against a pipeline written in the simplest way."""

from collections import defaultdict
from itertools import islice

from load.expect import Comparison, compare, expect
from load.plan import Kind, event_id, plan
from load.profile import Profile

PROFILE = Profile(
    events=3_000,
    keys=30,
    duplicates=0.1,
    reorder=0.1,
    gaps_fill=0.02,
    gap_fill_distance=200,
    gaps_never=0.01,
    undecodable=0.02,
)
EXPECTED = expect(PROFILE)


def emitted_by_a_patient_pipeline() -> list[tuple[bytes, str]]:
    """Drop duplicates, then sort each key: what waiting for ever comes to."""
    numbers = defaultdict(set)
    for record in plan(PROFILE):
        if record.kind is not Kind.UNDECODABLE and record.number is not None:
            numbers[record.key].add(record.number)
    return [(key, event_id(key, number)) for key in numbers for number in sorted(numbers[key])]


def judged(emitted: list[tuple[bytes, str]]) -> Comparison:
    return compare(EXPECTED, emitted, EXPECTED.undecodable)


def test_a_pipeline_that_does_its_work_is_exact() -> None:
    assert judged(emitted_by_a_patient_pipeline()).is_exact


def test_every_record_is_an_event_a_duplicate_or_undecodable() -> None:
    assert EXPECTED.records == EXPECTED.events + EXPECTED.duplicates + EXPECTED.undecodable


def test_the_burst_has_each_fault_that_was_asked_for() -> None:
    assert min(EXPECTED.duplicates, EXPECTED.undecodable, len(EXPECTED.never_filled)) > 0


def test_ids_of_a_key_come_in_the_order_of_their_numbers() -> None:
    key = next(iter(EXPECTED.emitted))
    assert [event_id(key, number) for number in (1, 2)] == list(islice(EXPECTED.ids(key), 2))


def test_an_event_that_did_not_come_out_is_missing() -> None:
    assert judged(emitted_by_a_patient_pipeline()[1:]).missing == 1


def test_an_event_that_came_out_twice_is_repeated() -> None:
    emitted = emitted_by_a_patient_pipeline()
    assert judged([*emitted, emitted[-1]]).repeated == 1


def test_two_events_that_changed_places_are_out_of_order() -> None:
    first, second, *rest = emitted_by_a_patient_pipeline()
    assert judged([second, first, *rest]).out_of_order == 1


def test_an_id_that_was_never_sent_is_unexpected() -> None:
    emitted = emitted_by_a_patient_pipeline()
    assert judged([*emitted, (emitted[0][0], "made-up")]).unexpected == 1


def test_a_dead_letter_too_few_is_missing() -> None:
    found = compare(EXPECTED, emitted_by_a_patient_pipeline(), EXPECTED.undecodable - 1)
    assert found.dead_letters_missing == 1
