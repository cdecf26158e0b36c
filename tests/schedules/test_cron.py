"""Cron expressions: what they mean, what is refused, and the same answers as another library."""

from datetime import UTC, date, datetime, timedelta

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.schedules.cron import parse_cron
from edo_stream.schedules.errors import ScheduleError
from edo_stream.schedules.rule import CronRule
from edo_stream.schedules.zones import zone


def days(expression: str, first: str, count: int) -> list[str]:
    """Days in UTC that an expression falls on."""
    rule = CronRule(parse_cron(expression), zone("UTC"))
    at, found = datetime.fromisoformat(first).replace(tzinfo=UTC) - timedelta(seconds=1), []
    for _ in range(count):
        due = rule.next_after(at)
        assert due is not None
        found.append(due.date().isoformat())
        at = due
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 L-2 * *", ["2026-01-29", "2026-02-26", "2026-03-29"]),
        ("0 0 LW * *", ["2026-01-30", "2026-02-27", "2026-03-31"]),
        ("0 0 15W * *", ["2026-01-15", "2026-02-16", "2026-03-16"]),
        ("0 0 1W 8 *", ["2026-08-03", "2027-08-02", "2028-08-01"]),
        ("0 0 31W 1,5 *", ["2026-01-30", "2026-05-29", "2027-01-29"]),
        ("0 0 * * FRI#2", ["2026-01-09", "2026-02-13", "2026-03-13"]),
        ("0 0 * * 5#5", ["2026-01-30", "2026-05-29", "2026-07-31"]),
        ("0 0 * * 5L", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * L5", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * fri#l", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 ? jan,Mar-apr sun", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("0 0 * * 7", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("0 0 * * SAT-SUN", ["2026-01-03", "2026-01-04", "2026-01-10"]),
        ("0 0 * * SUN-SUN", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("0 0 13 * FRI", ["2026-01-02", "2026-01-09", "2026-01-13"]),
        ("0 0 */13 * THU", ["2026-01-01", "2026-05-14", "2026-08-27"]),
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("@monthly", ["2026-01-01", "2026-02-01", "2026-03-01"]),
        ("@Weekly", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("@yearly", ["2026-01-01", "2027-01-01", "2028-01-01"]),
    ],
)
def test_days_of_an_expression(expression: str, expected: list[str]) -> None:
    assert expected == days(expression, "2026-01-01", len(expected))


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("60 * * * *", "minute '60' is not there"),
        ("* 24 * * *", "hour '24' is not there"),
        ("* * 0 * *", "day of month '0' is not there"),
        ("* * 32 * *", "day of month '32' is not there"),
        ("* * * 13 *", "month '13' is not there"),
        ("* * * * 8", "day of week '8' is not there"),
        ("* * * FOO *", "month 'FOO' is not there"),
        ("* * * * 1#6", "is not understood"),
        ("* * L-31 * *", "no day so far from its end"),
        ("5-1 * * * *", "runs backwards: write 5-59,0-1"),
        ("*/0 * * * *", "a step is 1 to 60"),
        ("*/90 * * * *", "write an interval such as every 90m"),
        ("1,,2 * * * *", "has an empty part"),
        ("-1 * * * *", "is not understood"),
        ("1.5 * * * *", "is not understood"),
        ("٣ * * * *", "is not understood"),
        ("L * * * *", "is not understood"),
        ("@reboot", "is not known"),
        ("0 " * 600, "characters"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_field(expression: str, said: str) -> None:
    with pytest.raises(ScheduleError) as raised:
        parse_cron(expression)
    assert said in str(raised.value)


def test_a_day_that_no_year_has_is_never() -> None:
    assert parse_cron("0 0 30 2 *").day_at_or_after(date(2026, 1, 1)) is None


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.integers(2, 7).map("*/{}".format),
        # croniter takes 0-0 for all there is.
        st.lists(number, min_size=2, max_size=2, unique=True).map(
            lambda ends: "{}-{}".format(*sorted(ends))
        ),
        st.lists(number, min_size=2, max_size=4).map(lambda items: ",".join(map(str, items))),
    )


@given(
    minute=field(0, 59),
    hour=field(0, 23),
    month=field(1, 12),
    day=field(1, 28),
    weekday=field(0, 6),
    is_by_week=st.booleans(),
    start=st.integers(0, 2_800_000_000),
)
def test_times_in_utc_are_those_of_croniter(
    minute: str, hour: str, month: str, day: str, weekday: str, is_by_week: bool, start: int
) -> None:
    day, weekday = ("*", weekday) if is_by_week else (day, "*")
    expression = f"{minute} {hour} {day} {month} {weekday}"
    at = datetime.fromtimestamp(start, UTC)
    other = croniter(expression, at, ret_type=datetime)
    expected = [other.get_next() for _ in range(5)]
    rule = CronRule(parse_cron(expression), zone("UTC"))
    found = []
    for _ in range(5):
        due = rule.next_after(at)
        assert due is not None
        found.append(due)
        at = due
    assert expected == found


@given(st.text(max_size=40) | st.from_regex(r"[0-9*/,LW#@a-z -]{1,30}", fullmatch=True))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        cron = parse_cron(text)
    except ScheduleError:
        return
    assert len(text.split()) in (1, 5, 6)
    assert cron.minutes
