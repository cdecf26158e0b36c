"""Two looks at the group, and what they tell of a partition."""

import pytest
from aiokafka import TopicPartition

from edo_stream.observe.group import GroupState, Member, Reading
from edo_stream.observe.lag import Pace, lags, pace_of

PLACE = TopicPartition("t.thing.done", 0)
OWNER = Member("client", "host", (PLACE,))
NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("was", "now", "is_owned", "expected"),
    [
        (Reading(5, 0, 5), Reading(5, 0, 5), False, Pace.OK),
        (Reading(5, 0, 9), Reading(7, 0, 9), True, Pace.OK),
        (Reading(5, 0, 6), Reading(7, 0, 99), True, Pace.WARN),
        (Reading(5, 0, 9), Reading(5, 0, 9), True, Pace.STALL),
        (Reading(5, 0, 9), Reading(5, 0, 9), False, Pace.STOP),
        (Reading(None, 0, 9), Reading(None, 0, 9), False, Pace.STOP),
        (Reading(5, 0, 9), Reading(2, 0, 9), True, Pace.REWIND),
    ],
)
def test_two_looks_tell_how_a_partition_gets_on(
    was: Reading, now: Reading, is_owned: bool, expected: Pace
) -> None:
    assert pace_of(was, now, now.lag, is_owned) is expected


def test_lag_is_in_records_and_in_the_age_of_the_first_one_unread() -> None:
    state = GroupState("Stable", (OWNER,), {PLACE: Reading(5, 0, 9)})
    (lag,) = lags(state, state, {PLACE: NOW_MS - 1_500}, NOW_MS)
    assert (lag.lag, lag.lag_ms, lag.pace) == (4, 1_500, Pace.STALL)


def test_what_an_operator_has_paused_stands_still_on_purpose() -> None:
    state = GroupState("Stable", (OWNER,), {PLACE: Reading(5, 0, 9)})
    (lag,) = lags(state, state, {}, NOW_MS, {PLACE})
    assert (lag.lag, lag.pace, lag.pace.is_well) == (4, Pace.PAUSED, True)
    (nobody,) = lags(GroupState("Empty", (), state.readings), state, {}, NOW_MS, {PLACE})
    assert nobody.pace is Pace.PAUSED
    alone = GroupState("Empty", (), state.readings)
    (stopped,) = lags(alone, alone, {}, NOW_MS, {PLACE})
    assert stopped.pace is Pace.STOP, "nobody would resume it"


def test_transaction_markers_alone_are_no_lag() -> None:
    state = GroupState("Empty", (), {PLACE: Reading(5, 0, 6)})
    (lag,) = lags(state, state, {PLACE: None}, NOW_MS)
    assert (lag.lag, lag.lag_ms, lag.pace) == (0, 0, Pace.OK)


def test_an_age_that_could_not_be_read_is_unknown() -> None:
    state = GroupState("Empty", (), {PLACE: Reading(5, 0, 6)})
    (lag,) = lags(state, state, {}, NOW_MS)
    assert (lag.lag, lag.lag_ms, lag.pace) == (1, None, Pace.STOP)


def test_records_that_retention_took_are_no_lag() -> None:
    assert Reading(committed=2, first=5, end=9).lag == 4
