"""Schedules tick: each instant once, in order, whatever dies; missed ones by policy."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.effects import Effects
from edo_stream.core.record import Batch, StoredRecord
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import TaskIdentity
from edo_stream.core.ticker import (
    TICK_MEMBERS,
    CatchUpPolicy,
    OnMissed,
    Ticker,
    TickerTopics,
    TickRow,
    TickSchedule,
    decide,
)
from tests.core.memory import Changelog, Memory

IDENTITY = TaskIdentity("edo-decide", "edo.schedules", 0)
TOPICS = TickerTopics("edo.accounts", 8, "edo.schedules")
CONTROL = "edo.control.edo.schedules"
SECOND = 1_000
HOUR = 3_600_000


def every(period_ms: int, until_ms: int | None = None) -> Callable[[int], int | None]:
    def next_after(at_ms: int) -> int | None:
        due_ms = (at_ms // period_ms + 1) * period_ms
        return None if until_ms is not None and due_ms > until_ms else due_ms

    return next_after


def schedule(
    policy: CatchUpPolicy | None = None,
    period_ms: int = HOUR,
    name: str = "hourly",
    start_ms: int | None = None,
) -> TickSchedule:
    return TickSchedule(
        name=name,
        topic="shop.report.due",
        partitions=4,
        event_type="shop.report.due",
        next_after_ms=every(period_ms),
        local_time=lambda at_ms: f"local {at_ms}",
        catch_up=policy or CatchUpPolicy(),
        start_ms=start_ms,
        data={"report": "sales"},
    )


def policy(on_missed: OnMissed, window_ms: int = 24 * HOUR) -> CatchUpPolicy:
    return CatchUpPolicy(on_missed, window_ms, late_after_ms=60 * SECOND)


def decided(one: TickSchedule, row: TickRow, now_ms: int) -> list[tuple[int, bool, int]]:
    decision = decide(one, row, now_ms)
    return [(tick.at_ms // HOUR, tick.is_caught_up, tick.left_out) for tick in decision.ticks]


@pytest.mark.parametrize(
    ("on_missed", "expected"),
    [
        (OnMissed.ALL, [(2, True, 0), (3, True, 0), (4, True, 0), (5, False, 0)]),
        (OnMissed.LATEST, [(4, True, 2), (5, False, 0)]),
        (OnMissed.NONE, [(5, False, 3)]),
    ],
)
def test_what_was_missed_comes_by_the_policy(
    on_missed: OnMissed, expected: list[tuple[int, bool, int]]
) -> None:
    now_ms = 5 * HOUR + 10 * SECOND
    assert expected == decided(schedule(policy(on_missed)), TickRow(HOUR), now_ms)


def test_only_the_last_that_was_missed_comes_when_none_is_on_time() -> None:
    now_ms = 5 * HOUR + HOUR // 2
    row = TickRow(HOUR)
    assert [(5, True, 3)] == decided(schedule(policy(OnMissed.LATEST)), row, now_ms)
    assert 5 * HOUR == row.position_ms


@pytest.mark.parametrize("on_missed", list(OnMissed))
def test_a_tick_that_is_merely_late_comes_whatever_the_policy(on_missed: OnMissed) -> None:
    now_ms = 2 * HOUR + 60 * SECOND
    assert [(2, False, 0)] == decided(schedule(policy(on_missed)), TickRow(HOUR), now_ms)


def test_what_is_older_than_the_window_is_left_out() -> None:
    row = TickRow(HOUR)
    one = schedule(policy(OnMissed.ALL, window_ms=2 * HOUR))
    decision = decide(one, row, 6 * HOUR + HOUR // 2)
    assert [2 * HOUR, 3 * HOUR, 4 * HOUR] == decision.left_out
    assert [5 * HOUR, 6 * HOUR] == [tick.at_ms for tick in decision.ticks]
    assert 3 == decision.ticks[0].left_out


@given(
    on_missed=st.sampled_from(OnMissed),
    steps=st.lists(st.integers(1, 3_000), min_size=1, max_size=12),
)
def test_every_instant_is_decided_once_and_in_order(on_missed: OnMissed, steps: list[int]) -> None:
    one = schedule(policy(on_missed, window_ms=900 * SECOND), period_ms=7 * SECOND)
    row, now_ms, seen = TickRow(0), 0, []
    ticks: list[int] = []
    for step in steps:
        now_ms += step * SECOND
        while (due_ms := one.next_after_ms(row.position_ms)) is not None and due_ms <= now_ms:
            decision = decide(one, row, now_ms)
            ticks += [tick.at_ms for tick in decision.ticks]
            seen += [*decision.left_out, *(tick.at_ms for tick in decision.ticks)]
    assert list(range(7 * SECOND, now_ms + 1, 7 * SECOND)) == sorted(seen)
    assert sorted(ticks) == ticks


class World:
    """A ticker with its table, and what it has committed; it may be killed at any moment."""

    def __init__(self, *schedules: TickSchedule) -> None:
        self.schedules = schedules
        self.changelog = Changelog(as_is)
        self.published: list[Any] = []
        self.take_over()
        self.commit(self.ticker.start(CONTROL, 0, 0))

    def take_over(self) -> None:
        """Another worker restores the table from its changelog."""
        self.memory = self.changelog.restored()
        self.table = Table(self.memory)
        self.ticker = Ticker(IDENTITY, self.schedules, self.table, TOPICS)

    def commit(self, effects: Effects) -> None:
        """The transaction of a step."""
        self.published += effects.publish
        self.changelog.commit(self.table, self.memory)

    def run(self, now_ms: int) -> None:
        """Step until nothing is due."""
        while (due_ms := self.ticker.next_due_ms()) is not None and due_ms <= now_ms:
            self.commit(self.ticker.step([], now_ms, now_ms))

    def to(self, topic: str) -> list[Any]:
        return [record for record in self.published if record.topic == topic]

    @property
    def ticks(self) -> list[str]:
        return [json.loads(record.value)["logicalTime"] for record in self.to("shop.report.due")]


def test_a_tick_is_an_event_that_says_of_which_instant_it_is() -> None:
    world = World(schedule(policy(OnMissed.LATEST)))
    world.run(HOUR // 2)
    world.run(HOUR)
    world.run(4 * HOUR + HOUR // 2)
    first, second = world.to("shop.report.due")
    assert (b"hourly", 0 <= first.partition < 4) == (first.key, True)
    headers = dict(second.headers)
    assert headers.pop("ce_id") != dict(first.headers)["ce_id"]
    assert {
        "ce_specversion": b"1.0",
        "ce_source": b"/edo/edo-decide/schedules",
        "ce_type": b"shop.report.due",
        "ce_subject": b"hourly",
        "ce_time": b"1970-01-01T04:00:00.000Z",
        "ce_sequence": b"2",
        "content-type": b"application/json",
    } == headers
    assert {
        "report": "sales",
        "schedule": "hourly",
        "logicalTime": "1970-01-01T04:00:00.000Z",
        "scheduledTime": f"local {4 * HOUR}",
        "previousTime": "1970-01-01T01:00:00.000Z",
        "isCatchUp": True,
        "leftOut": 2,
    } == json.loads(second.value)
    assert TICK_MEMBERS == set(json.loads(second.value)) - {"report"}
    assert 4 * HOUR + HOUR // 2 == second.timestamp_ms


def test_what_begins_and_what_is_left_out_is_a_notice() -> None:
    world = World(schedule(policy(OnMissed.LATEST)))
    world.run(HOUR // 2)
    world.run(4 * HOUR + HOUR // 2)
    began, left_out = world.to("edo.schedules")
    assert b"edo.schedule.began" == dict(began.headers)["ce_type"]
    assert b"edo.schedule.left-out" == dict(left_out.headers)["ce_type"]
    assert {
        "schedule": "hourly",
        "first": HOUR,
        "last": 3 * HOUR,
        "count": 3,
        "policy": "latest",
        "at": 4 * HOUR + HOUR // 2,
    } == json.loads(left_out.value)


def test_a_schedule_begins_when_it_is_first_seen_and_nothing_is_missed_from_then_on() -> None:
    world = World(schedule(policy(OnMissed.ALL)))
    world.run(10 * HOUR + 1)
    assert [] == world.ticks
    world.take_over()
    world.run(12 * HOUR)
    assert ["1970-01-01T11:00:00.000Z", "1970-01-01T12:00:00.000Z"] == world.ticks


def test_a_schedule_with_a_start_catches_up_from_there() -> None:
    world = World(schedule(policy(OnMissed.ALL), start_ms=7 * HOUR))
    world.run(10 * HOUR)
    assert [f"1970-01-01T{hour:02}:00:00.000Z" for hour in (8, 9, 10)] == world.ticks


def test_an_aborted_step_is_done_again_alike() -> None:
    world = World(schedule(policy(OnMissed.ALL)))
    world.run(1)
    aborted = world.ticker.step([], 3 * HOUR, 3 * HOUR)
    world.ticker.discard()
    repeated = world.ticker.step([], 3 * HOUR, 3 * HOUR)
    assert aborted == repeated


def test_a_clock_that_goes_back_makes_no_tick_twice() -> None:
    world = World(schedule(policy(OnMissed.ALL)))
    world.run(1)
    world.run(3 * HOUR)
    world.run(HOUR)
    world.run(4 * HOUR)
    assert [f"1970-01-01T{hour:02}:00:00.000Z" for hour in (1, 2, 3, 4)] == world.ticks


@given(st.lists(st.tuples(st.integers(0, 9_000), st.sampled_from("pkac")), max_size=40))
def test_every_tick_is_committed_once_and_in_order_through_crashes(
    blows: list[tuple[int, str]],
) -> None:
    names = ("a", "b")
    world = World(*(schedule(policy(OnMissed.ALL), period_ms=SECOND, name=name) for name in names))
    world.run(0)
    now_ms = 0
    for wait_ms, blow in blows:
        now_ms += wait_ms
        match blow:
            case "p":
                world.run(now_ms)
            case "k":
                # Killed with a transaction open: the broker aborts it.
                world.ticker.step([], now_ms, now_ms)
                world.take_over()
            case "a":
                world.ticker.step([], now_ms, now_ms)
                world.ticker.discard()
            case "c":
                # Killed behind the commit, before anything was written to the disk.
                effects = world.ticker.step([], now_ms, now_ms)
                world.published += effects.publish
                world.changelog.commit(world.table, Memory())
                world.take_over()
    world.run(now_ms)
    for name in names:
        ticks = [record for record in world.to("shop.report.due") if record.key == name.encode()]
        expected = list(range(1, now_ms // SECOND + 1))
        assert expected == [int(dict(record.headers)["ce_sequence"]) for record in ticks]
        assert len({dict(record.headers)["ce_id"] for record in ticks}) == len(ticks)


def test_a_schedule_that_is_not_declared_any_more_keeps_its_place() -> None:
    both = (schedule(policy(OnMissed.ALL)), schedule(policy(OnMissed.ALL), name="other"))
    world = World(*both)
    world.run(0)
    world.schedules = both[1:]
    world.take_over()
    world.run(HOUR)
    assert 1 == len(world.ticks)
    world.schedules = both
    world.take_over()
    world.run(HOUR)
    assert 2 == len(world.ticks)


def test_records_of_the_control_topic_are_accounted_for() -> None:
    world = World(schedule())
    record = StoredRecord(CONTROL, 0, 3, 0, None, b"{}")
    effects = world.ticker.step([Batch(CONTROL, 0, [record])], 1, 1)
    assert {CONTROL: 4} == world.ticker.positions()
    account = effects.accounts[0]
    assert [(3, 1, "a")] == [(run.offset, run.length, run.fate) for run in account.runs]


def test_a_rule_that_ends_has_no_timer_any_more() -> None:
    ending = TickSchedule("end", "t.t.t", 1, "x", every(HOUR, until_ms=HOUR), str)
    world = World(ending)
    world.run(HOUR // 2)
    world.run(2 * HOUR)
    assert world.ticker.next_due_ms() is None
    assert 1 == len(world.to("t.t.t"))
