"""The plan of a burst: the seed decides all of it, and the faults are what was asked for."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load.expect import expect
from load.plan import Kind, Planned, plan
from load.profile import PROFILES, Profile, Spike, spike_of

FAULTY = Profile(
    events=5_000,
    keys=40,
    skew=1.0,
    duplicates=0.1,
    reorder=0.1,
    gaps_fill=0.02,
    gap_fill_distance=300,
    gaps_never=0.01,
    undecodable=0.02,
)
CLEAN = Profile(events=2_000, keys=20, duplicates=0, reorder=0)


def numbers_by_key(planned: list[Planned]) -> dict[bytes, list[int]]:
    numbers: dict[bytes, list[int]] = {}
    for record in planned:
        if record.kind is not Kind.DUPLICATE and record.number is not None:
            numbers.setdefault(record.key, []).append(record.number)
    return numbers


def test_the_same_profile_gives_the_same_records() -> None:
    assert list(plan(FAULTY)) == list(plan(FAULTY))


def test_another_seed_shares_no_key() -> None:
    other = Profile(seed=8, events=100)
    keys = {record.key for record in plan(Profile(seed=7, events=100))}
    assert not keys & {record.key for record in plan(other)}


def test_an_undisturbed_burst_numbers_each_key_from_1_without_gaps() -> None:
    for numbers in numbers_by_key(list(plan(CLEAN))).values():
        assert list(range(1, len(numbers) + 1)) == numbers


def test_events_count_the_numbers_handed_out() -> None:
    assert CLEAN.events == sum(map(len, numbers_by_key(list(plan(CLEAN))).values()))


def test_the_first_number_of_a_key_is_never_disturbed() -> None:
    for numbers in numbers_by_key(list(plan(FAULTY))).values():
        assert numbers[0] == 1


def test_a_duplicate_repeats_a_record_sent_before_within_its_distance() -> None:
    sent: dict[tuple[bytes, int | None], int] = {}
    for index, record in enumerate(plan(FAULTY)):
        place = (record.key, record.number)
        if record.kind is Kind.DUPLICATE:
            assert index - sent[place] <= FAULTY.duplicate_distance_max + 50
        elif record.kind is not Kind.UNDECODABLE:
            sent[place] = index


def test_a_duplicate_has_the_bytes_of_its_original() -> None:
    originals = {(r.key, r.number): r for r in plan(FAULTY) if r.kind is not Kind.DUPLICATE}
    for record in plan(FAULTY):
        if record.kind is Kind.DUPLICATE:
            original = originals[record.key, record.number]
            assert (original.value, original.headers) == (record.value, record.headers)


def test_a_reordered_number_comes_after_its_successor() -> None:
    planned = list(plan(FAULTY))
    places = {
        (record.key, record.number): index
        for index, record in enumerate(planned)
        if record.kind in (Kind.EVENT, Kind.REORDERED, Kind.FILLED_LATE)
    }
    for (key, number), index in places.items():
        if planned[index].kind in (Kind.REORDERED, Kind.FILLED_LATE) and number is not None:
            assert places[key, number + 1] < index


def test_each_fault_is_about_as_frequent_as_asked() -> None:
    kinds = Counter(record.kind for record in plan(FAULTY))
    assert kinds[Kind.DUPLICATE] == pytest.approx(500, rel=0.25)
    assert kinds[Kind.REORDERED] == pytest.approx(450, rel=0.25)
    assert kinds[Kind.FILLED_LATE] == pytest.approx(90, rel=0.5)
    assert kinds[Kind.UNDECODABLE] == pytest.approx(90, rel=0.5)


def test_an_event_is_json_of_the_size_asked_for() -> None:
    record = next(plan(Profile(payload_bytes=300)))
    assert len(record.value) == 300
    assert json.loads(record.value)["number"] == 1


def test_an_event_carries_the_attributes_of_binary_mode() -> None:
    record = next(plan(CLEAN))
    assert {
        "ce_specversion": b"1.0",
        "ce_id": record.key + b"-1",
        "ce_source": b"/load/7",
        "ce_type": b"load.account.changed",
        "ce_subject": record.key,
        "ce_sequence": b"1",
        "content-type": b"application/json",
    } == dict(record.headers)


def test_with_a_fixed_base_the_event_time_follows_the_schedule() -> None:
    planned = list(plan(Profile(events=3, rate=2, base_ms=1_700_000_000_000, duplicates=0)))
    times = [dict(record.headers)["ce_time"] for record in planned]
    assert times[:2] == [b"2023-11-14T22:13:20.000Z", b"2023-11-14T22:13:20.500Z"]


def test_a_spike_multiplies_the_rate_for_its_time() -> None:
    profile = Profile(events=1_000, rate=100, spikes=(Spike(1, 1, 5),), duplicates=0, reorder=0)
    seconds = Counter(int(record.due_s + 1e-9) for record in plan(profile))
    assert (seconds[0], seconds[2]) == (100, 100)
    assert seconds[1] == pytest.approx(500, abs=2)


def test_due_times_never_run_back() -> None:
    profile = Profile(events=2_000, rate=500, spikes=(Spike(1, 1, 10),))
    dues = [record.due_s for record in plan(profile)]
    assert all(earlier <= later for earlier, later in pairwise(dues))


def test_a_spike_is_read_from_its_notation() -> None:
    assert Spike(10, 5, 10) == spike_of("10s:5s:x10")


@pytest.mark.parametrize("text", ["10:5:10", "10s:5s", "10s:0s:x2", ""])
def test_a_spike_in_another_notation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="spike"):
        spike_of(text)


def test_ratios_beyond_1_are_refused() -> None:
    with pytest.raises(ValueError, match="ratios"):
        Profile(reorder=0.6, gaps_fill=0.6)


def test_a_skew_prefers_few_keys() -> None:
    keys = Counter(record.key for record in plan(Profile(events=5_000, keys=100, skew=1.2)))
    assert keys.most_common(1)[0][1] > 5 * 5_000 / 100


@pytest.mark.parametrize("name", PROFILES)
def test_a_named_profile_can_be_planned(name: str) -> None:
    assert next(plan(PROFILES[name])).number == 1


@given(
    seed=st.integers(0, 99),
    events=st.integers(0, 300),
    keys=st.integers(1, 8),
    ratio=st.floats(0, 0.25),
)
def test_every_number_is_sent_once_or_expected_to_be_missing(
    seed: int, events: int, keys: int, ratio: float
) -> None:
    profile = Profile(
        seed=seed,
        events=events,
        keys=keys,
        duplicates=ratio,
        reorder=ratio,
        gaps_fill=ratio,
        gaps_never=ratio,
        undecodable=ratio,
    )
    numbers = numbers_by_key(list(plan(profile)))
    never = expect(profile).never_filled
    for key, sent in numbers.items():
        assert list(range(1, max(sent) + 1)) == sorted([*sent, *never.get(key, [])])
    assert events == sum(map(len, numbers.values())) + sum(map(len, never.values()))
