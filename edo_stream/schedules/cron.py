"""Cron expressions: which days, and which times of such a day. Local times, no zones in here.

Fields are ``minute hour day-of-month month day-of-week``; a sixth, in front, is ``second``.

- ``*`` all, ``5`` one, ``1-5`` a range, ``1,15`` a list, ``*/15``, ``10-50/10`` and ``5/10`` steps
- months and days of the week by name too (``JAN``, ``MON``, any case); Sunday is 0, 7 or ``SUN``
- day of month: ``L`` the last, ``L-2`` two before it, ``15W`` the weekday nearest to the 15th
  within the month, ``LW`` the last weekday
- day of week: ``5#2`` or ``FRI#2`` the second Friday, ``5L`` or ``FRI#L`` the last one
- ``?`` in either of them is ``*``

Day of month and day of week, both restricted: a day that meets either (as cron has it); a field
that begins with ``*`` restricts nothing by itself, so that both must be met.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from functools import lru_cache
from typing import Final

from edo_stream.schedules.errors import ScheduleError

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_CHARACTERS_MAX: Final = 1_000
#: The Gregorian calendar repeats after 400 years, the rarest of days within 40.
_YEARS_MAX: Final = 50
_LAST_YEAR: Final = 9_998
_MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT")
_DAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NUMBER: Final = r"[0-9]{1,4}|[A-Z]{3}"
_RANGE: Final = re.compile(rf"(?:(\*)|({_NUMBER})(?:-({_NUMBER}))?)(?:/([0-9]{{1,4}}))?")
_LAST_DAY: Final = re.compile(r"L(?:-([0-9]{1,2}))?(W)?")
_NEAREST_WEEKDAY: Final = re.compile(r"([0-9]{1,2})W")
_NTH_DAY: Final = re.compile(r"([0-7]|[A-Z]{3})#([1-5L])")
_LAST_OF_WEEK: Final = re.compile(r"([0-7]|[A-Z]{3})L|L([0-7])")
_SATURDAY: Final = 5

DayRule = Callable[[int, int], frozenset[int]]
"""Days of a month, by year and month."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: Mapping[str, int]


_NO_NAMES: Final[Mapping[str, int]] = {}
_SECOND: Final = _Field("second", 0, 59, _NO_NAMES)
_MINUTE: Final = _Field("minute", 0, 59, _NO_NAMES)
_HOUR: Final = _Field("hour", 0, 23, _NO_NAMES)
_DAY: Final = _Field("day of month", 1, 31, _NO_NAMES)
_MONTH: Final = _Field(
    "month", 1, 12, {name: at for at, name in enumerate((*_MONTH_NAMES, "NOV", "DEC"), start=1)}
)
_WEEKDAY: Final = _Field("day of week", 0, 7, {name: at for at, name in enumerate(_DAY_NAMES)})


@dataclass(frozen=True, slots=True, eq=False)
class Cron:
    """A parsed expression."""

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    days_of: DayRule
    is_interval: bool
    """Minute or hour begins with ``*``: it means "every so often" rather than a time of day."""

    def day_at_or_after(self, day: date) -> date | None:
        """First day that matches; ``None`` when there is none within 50 years."""
        year, month, first = day.year, day.month, day.day
        while year <= min(day.year + _YEARS_MAX, _LAST_YEAR):
            if month in self.months:
                later = [number for number in self.days_of(year, month) if number >= first]
                if later:
                    return date(year, month, min(later))
            year, month, first = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)
        return None

    def matches(self, day: date) -> bool:
        """Whether the expression has times on a day."""
        return day.month in self.months and day.day in self.days_of(day.year, day.month)

    def first_time(self) -> time:
        """First time of a day that matches."""
        return time(self.hours[0], self.minutes[0], self.seconds[0])

    def time_at_or_after(self, at: time) -> time | None:
        """First time that matches on the same day; ``None`` when the day has no more."""
        for hour in self.hours[bisect_left(self.hours, at.hour) :]:
            if hour > at.hour:
                return time(hour, self.minutes[0], self.seconds[0])
            for minute in self.minutes[bisect_left(self.minutes, at.minute) :]:
                if minute > at.minute:
                    return time(hour, minute, self.seconds[0])
                index = bisect_left(self.seconds, at.second)
                if index < len(self.seconds):
                    return time(hour, minute, self.seconds[index])
        return None


@lru_cache(maxsize=1_024)
def parse_cron(text: str) -> Cron:
    """Parse an expression.

    Raises:
        ScheduleError: it is none; says which field and what to write.
    """
    if len(text) > _CHARACTERS_MAX:
        raise ScheduleError(f"expression has {len(text)} characters: {_CHARACTERS_MAX} at most")
    expression = text.strip()
    if expression.startswith("@"):
        expression = _macro(expression)
    fields = expression.upper().split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise ScheduleError(
            f"expression has {len(fields)} fields: write 5 (minute, hour, day of month, month, "
            "day of week), or 6 with the second in front"
        )
    second, minute, hour, day, month, weekday = fields
    return Cron(
        text=text,
        seconds=_numbers(_SECOND, second),
        minutes=_numbers(_MINUTE, minute),
        hours=_numbers(_HOUR, hour),
        months=_numbers(_MONTH, month),
        days_of=_days(day, weekday),
        is_interval=minute.startswith("*") or hour.startswith("*"),
    )


def _macro(text: str) -> str:
    expression = _MACROS.get(text.lower())
    if expression is None:
        known = ", ".join(_MACROS)
        raise ScheduleError(f"{text[:60]!r} is not known: there are {known}, and every 15m")
    return expression


def _numbers(field: _Field, text: str) -> tuple[int, ...]:
    return tuple(sorted({number for item in _items(field, text) for number in _range(field, item)}))


def _items(field: _Field, text: str) -> list[str]:
    items = text.split(",")
    if "" in items:
        raise ScheduleError(f"{field.name} {text!r} has an empty part: write 1,2 without gaps")
    return items


def _range(field: _Field, item: str) -> range:
    match = _RANGE.fullmatch(item)
    if match is None:
        raise ScheduleError(
            f"{field.name} {item[:40]!r} is not understood: write {_example(field)}"
        )
    star, first_text, last_text, step_text = match.groups()
    high = 6 if field is _WEEKDAY else field.high
    if star:
        first, last = field.low, high
    else:
        first = _number(field, first_text)
        last = first
        if last_text is not None:
            last = _number(field, last_text)
            # SUN is 0, and the 7 at the end of a week; SUN-SUN is one day.
            last = 7 if field is _WEEKDAY and last_text == "SUN" and first > 0 else last
        elif step_text is not None:
            last = high
    if last < first:
        raise ScheduleError(
            f"{field.name} {item!r} runs backwards: write {first_text}-{field.high},"
            f"{field.low}-{last_text}"
        )
    step = 1 if step_text is None else int(step_text)
    step_max = high - field.low + 1
    if not 1 <= step <= step_max:
        raise ScheduleError(
            f"{field.name} {item!r}: a step is 1 to {step_max}; for longer ones, write an "
            "interval such as every 90m"
        )
    return range(first, last + 1, step)


def _number(field: _Field, text: str) -> int:
    number = field.names.get(text) if text.isalpha() else int(text)
    if number is None or not field.low <= number <= field.high:
        raise ScheduleError(f"{field.name} {text!r} is not there: write {_example(field)}")
    return number


def _example(field: _Field) -> str:
    names = f", or {', '.join(list(field.names)[:2])} …" if field.names else ""
    return f"{field.low} to {field.high}{names}, a range, a list, or * with or without a step"


def _days(day: str, weekday: str) -> DayRule:
    """Days of a month that meet both fields."""
    of_month = [_day_rule(item) for item in _items(_DAY, _as_star(day))]
    of_week = [_weekday_rule(item) for item in _items(_WEEKDAY, _as_star(weekday))]
    is_either = not (day.startswith(("*", "?")) or weekday.startswith(("*", "?")))

    @lru_cache(maxsize=64)
    def days(year: int, month: int) -> frozenset[int]:
        by_month = frozenset[int]().union(*(rule(year, month) for rule in of_month))
        by_week = frozenset[int]().union(*(rule(year, month) for rule in of_week))
        return by_month | by_week if is_either else by_month & by_week

    return days


def _as_star(text: str) -> str:
    return "*" if text == "?" else text


def _day_rule(item: str) -> DayRule:
    last = _LAST_DAY.fullmatch(item)
    if last is not None:
        before, is_weekday = int(last[1] or 0), last[2] is not None
        if before > 30:
            raise ScheduleError(f"day of month {item!r}: a month has no day so far from its end")
        return lambda year, month: _one_day(
            year, month, _length(year, month) - before, is_nearest_weekday=is_weekday
        )
    nearest = _NEAREST_WEEKDAY.fullmatch(item)
    if nearest is not None:
        number = _number(_DAY, nearest[1])
        return lambda year, month: _one_day(year, month, number, is_nearest_weekday=True)
    numbers = frozenset(_range(_DAY, item))
    return lambda year, month: numbers & frozenset(range(1, _length(year, month) + 1))


def _one_day(year: int, month: int, day: int, is_nearest_weekday: bool) -> frozenset[int]:
    length = _length(year, month)
    if not 1 <= day <= length:
        return frozenset()
    weekday = date(year, month, day).weekday()
    if is_nearest_weekday and weekday >= _SATURDAY:
        # Saturday goes to Friday, Sunday to Monday, but never into another month.
        if weekday == _SATURDAY:
            day = day - 1 if day > 1 else day + 2
        else:
            day = day + 1 if day < length else day - 2
    return frozenset({day})


def _weekday_rule(item: str) -> DayRule:
    nth = _NTH_DAY.fullmatch(item)
    if nth is not None and nth[2] != "L":
        weekday, number = _iso_weekday(nth[1]), int(nth[2])
        return lambda year, month: frozenset(_on(weekday, year, month)[number - 1 : number])
    last = _LAST_OF_WEEK.fullmatch(item)
    if last is not None or nth is not None:
        weekday = _iso_weekday(nth[1] if nth is not None else _first_group(last))
        return lambda year, month: frozenset(_on(weekday, year, month)[-1:])
    weekdays = frozenset((number - 1) % 7 for number in _range(_WEEKDAY, item))
    return lambda year, month: frozenset(
        day for weekday in weekdays for day in _on(weekday, year, month)
    )


def _first_group(match: re.Match[str] | None) -> str:
    assert match is not None
    return match[1] or match[2]


def _iso_weekday(text: str) -> int:
    """From Monday, 0."""
    return (_number(_WEEKDAY, text) - 1) % 7


def _on(weekday: int, year: int, month: int) -> list[int]:
    """Days of a month that are a Monday (0), a Tuesday …, ascending."""
    first = 1 + (weekday - date(year, month, 1).weekday()) % 7
    return list(range(first, _length(year, month) + 1, 7))


def _length(year: int, month: int) -> int:
    following = date(year, month + 1, 1) if month < 12 else date(year + 1, 1, 1)
    return (following - timedelta(days=1)).day
