"""Rules in time zones and on calendars: clock changes, holidays, intervals."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.schedules.calendar import Calendar, Roll, parse_day
from edo_stream.schedules.errors import ScheduleError
from edo_stream.schedules.rule import Rule, parse_rule
from edo_stream.schedules.zones import changes, instant, wall, zone

NEW_YORK = "America/New_York"
WEEKEND = frozenset({5, 6})


def times(rule: Rule, after: str, count: int) -> list[str]:
    at, found = datetime.fromisoformat(after), []
    for _ in range(count):
        due = rule.next_after(at)
        assert due is not None
        found.append(due.astimezone(rule.zone).strftime("%d %H:%M%z"))
        at = due
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # 02:00 to 02:59 of 10 March 2024 do not exist.
        ("30 2 * * *", ["09 02:30-0500", "10 03:00-0400", "11 02:30-0400"]),
        ("0,30 2,3 * * *", ["09 02:00-0500", "09 02:30-0500", "09 03:00-0500", "09 03:30-0500",
                            "10 03:00-0400", "10 03:30-0400", "11 02:00-0400"]),
        ("0 3 * * *", ["09 03:00-0500", "10 03:00-0400", "11 03:00-0400"]),
    ],
)  # fmt: skip
def test_a_time_that_does_not_exist_runs_once_at_the_next_instant(
    expression: str, expected: list[str]
) -> None:
    rule = parse_rule(expression, zone(NEW_YORK))
    assert expected == times(rule, "2024-03-09T00:00:00-05:00", len(expected))


def test_a_time_that_occurs_twice_runs_at_its_first_occurrence_only() -> None:
    rule = parse_rule("0,30 1 * * *", zone(NEW_YORK))
    expected = ["03 01:00-0400", "03 01:30-0400", "04 01:00-0500"]
    assert expected == times(rule, "2024-11-02T12:00:00-04:00", 3)


def test_a_time_that_occurs_twice_is_over_in_its_second_occurrence() -> None:
    rule = parse_rule("30 1 * * *", zone(NEW_YORK))
    assert ["04 01:30-0500"] == times(rule, "2024-11-03T01:10:00-05:00", 1)


def test_every_so_often_keeps_its_distance_when_clocks_go_back() -> None:
    rule = parse_rule("*/30 * * * *", zone(NEW_YORK))
    expected = ["03 01:00-0400", "03 01:30-0400", "03 01:00-0500", "03 01:30-0500", "03 02:00-0500"]
    assert expected == times(rule, "2024-11-03T00:45:00-04:00", 5)


def test_every_so_often_keeps_its_distance_when_clocks_go_forward() -> None:
    rule = parse_rule("*/30 * * * *", zone(NEW_YORK))
    expected = ["10 01:30-0500", "10 03:00-0400", "10 03:30-0400"]
    assert expected == times(rule, "2024-03-10T01:00:00-05:00", 3)


def test_a_change_of_half_an_hour() -> None:
    rule = parse_rule("15 2 * * *", zone("Australia/Lord_Howe"))
    expected = ["05 02:15+1030", "06 02:30+1100", "07 02:15+1100"]
    assert expected == times(rule, "2024-10-04T20:00:00+10:30", 3)


def test_a_day_that_a_country_left_out() -> None:
    rule = parse_rule("0 12 * * *", zone("Pacific/Apia"))
    # The whole 30 December 2011 does not exist there.
    expected = ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"]
    assert expected == times(rule, "2011-12-29T00:00:00-10:00", 3)


def test_the_second_comes_first_of_six_fields() -> None:
    rule = parse_rule("*/20 0 12 * * *", zone("UTC"))
    at = rule.next_after(datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert datetime(2026, 1, 1, 12, 0, 20, tzinfo=UTC) == at


# The names that differ most: changes of half an hour, of two hours, in Ramadan, none.
ZONES = st.sampled_from(
    (
        *("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"),
        *("America/Asuncion", "Antarctica/Troll", "Asia/Kolkata", "UTC", "Pacific/Apia"),
    )
)


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[str, datetime]:
    name = draw(ZONES)
    year = draw(st.integers(2005, 2035))
    first, last = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    around = draw(st.sampled_from([*changes(zone(name), first, last), first]))
    return name, around + timedelta(minutes=draw(st.integers(-200, 200)))


EXPRESSIONS = st.tuples(
    st.sampled_from(["0", "5", "30", "0,45", "10-12", "*/15", "*", "*/7"]),
    st.sampled_from(["0", "1", "2", "3", "1,2", "0-4", "*", "*/2"]),
).map(lambda parts: "{} {} * * *".format(*parts))


def every_minute(start: datetime, hours: int) -> list[datetime]:
    return [start + timedelta(minutes=minute) for minute in range(1, hours * 60)]


@given(EXPRESSIONS, near_a_change())
def test_the_next_time_is_the_one_found_by_trying_every_minute(
    expression: str, place: tuple[str, datetime]
) -> None:
    name, start = place
    rule = parse_rule(expression, zone(name))
    minute_text, hour_text, *_ = expression.split()
    minutes, hours = rule.cron.minutes, rule.cron.hours  # type: ignore[attr-defined]
    is_interval = minute_text.startswith("*") or hour_text.startswith("*")

    def is_due(at: datetime) -> bool:
        local = wall(at, zone(name))
        if is_interval:
            return local.minute in minutes and local.hour in hours
        # A local time is due when the clocks get as far as it, for the first time: no clock has
        # shown as much before. Two days back are more than any change.
        before = max(
            wall(at - timedelta(minutes=back), zone(name)) for back in (1, *range(30, 181, 30))
        )
        passed = [
            before + timedelta(minutes=ahead)
            for ahead in range(1, int((local - before).total_seconds()) // 60 + 1)
        ]
        return any(one.minute in minutes and one.hour in hours for one in passed)

    expected = next(at for at in every_minute(start, 60) if is_due(at))
    assert expected == rule.next_after(start)


@given(ZONES, st.integers(200_000_000, 3_500_000_000))
def test_an_instant_is_the_first_at_which_clocks_have_reached_a_local_time(
    name: str, seconds: int
) -> None:
    local = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    at = instant(local, zone(name))
    assert wall(at, zone(name)) >= local
    assert wall(at - timedelta(seconds=1), zone(name)) < local


def test_an_interval_counts_elapsed_time_from_its_anchor() -> None:
    anchor = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    rule = parse_rule("every 1h30m", zone("UTC"), anchor=anchor)
    assert ["01 00:05+0000", "01 01:35+0000"] == times(rule, "2026-01-01T00:00:00+00:00", 2)
    assert ["31 22:35+0000"] == times(rule, "2025-12-31T22:00:00+00:00", 1)


@pytest.mark.parametrize("text", ["every 0s", "every 9999999d", "every 15", "every"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse_rule(text, zone("UTC"))


@pytest.mark.parametrize("roll", list(Roll))
def test_ticks_that_roll_onto_a_day_with_a_tick_are_one(roll: Roll) -> None:
    # Thursday 24 is open, Friday 25 a holiday, then the weekend.
    calendar = Calendar(frozenset({date(2026, 12, 25)}), weekdays=WEEKEND, roll=roll)
    rule = parse_rule("0 9 * * *", zone("UTC"), calendar)
    expected = ["24 09:00+0000", "28 09:00+0000", "29 09:00+0000"]
    assert expected == times(rule, "2026-12-24T00:00:00+00:00", 3)


@pytest.mark.parametrize(
    ("roll", "expected"),
    [
        (Roll.SKIP, ["04-01", "05-01", "06-01"]),
        (Roll.FORWARD, ["02-02", "03-02", "04-01"]),
        (Roll.BACK, ["01-30", "02-27", "04-01"]),
    ],
)
def test_the_first_of_a_month_on_business_days(roll: Roll, expected: list[str]) -> None:
    # 1 February and 1 March 2026 are Sundays, 1 April is a Wednesday.
    rule = parse_rule("0 6 1 * *", zone("UTC"), Calendar(weekdays=WEEKEND, roll=roll))
    at: datetime | None = datetime(2026, 1, 15, tzinfo=UTC)
    found = []
    for _ in range(3):
        assert at is not None
        at = rule.next_after(at)
        assert at is not None
        found.append(at.strftime("%m-%d"))
    assert expected == found


def test_an_interval_leaves_closed_days_out() -> None:
    calendar = Calendar(yearly=frozenset({(12, 25)}))
    rule = parse_rule("every 12h", zone("Europe/Berlin"), calendar)
    expected = ["24 13:00+0100", "26 01:00+0100"]
    assert expected == times(rule, "2026-12-24T02:00:00+01:00", 2)


def test_a_calendar_without_open_days_has_no_ticks() -> None:
    closed = Calendar(weekdays=frozenset(range(7)))
    for roll in Roll:
        calendar = Calendar(weekdays=frozenset(range(7)), roll=roll)
        rule = parse_rule("0 9 * * *", zone("UTC"), calendar)
        assert rule.next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None
    interval = parse_rule("every 1h", zone("UTC"), closed)
    assert interval.next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-12-24", date(2026, 12, 24)), ("12-25", (12, 25)), ("02-29", (2, 29))],
)
def test_days_of_calendars(text: str, expected: object) -> None:
    assert expected == parse_day(text)


@pytest.mark.parametrize("text", ["", "2026-02-30", "25-12", "20261224", "2026-W01-1", "13-01"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse_day(text)
