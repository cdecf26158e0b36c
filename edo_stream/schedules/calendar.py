"""Calendars: on which days a schedule has ticks at all, and where the others go."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from typing import Final

from edo_stream.schedules.errors import ScheduleError

_DAY: Final = timedelta(days=1)
#: A tick rolls over no more closed days than this; one that would is left out.
ROLL_DAYS_MAX: Final = 62
_LATEST: Final = date(9_998, 12, 31)
_SEARCH_DAYS_MAX: Final = 50 * 366
_YEARLY: Final = re.compile(r"[0-9]{2}-[0-9]{2}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Roll(Enum):
    """What becomes of the ticks of a closed day."""

    SKIP = "skip"
    FORWARD = "forward"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days that are closed: by date, every year, and by day of the week."""

    dates: frozenset[date] = frozenset()
    yearly: frozenset[tuple[int, int]] = frozenset()
    """Month and day."""
    weekdays: frozenset[int] = frozenset()
    """From Monday, 0."""
    roll: Roll = Roll.SKIP

    def is_open(self, day: date) -> bool:
        """Whether a day has ticks."""
        return not (
            day in self.dates
            or day.weekday() in self.weekdays
            or (day.month, day.day) in self.yearly
        )

    def open_at_or_after(self, day: date) -> date | None:
        """First open day; ``None`` when there is none within the days that a tick may roll."""
        return self._open(day, _DAY)

    def open_at_or_before(self, day: date) -> date | None:
        """Last open day; ``None`` when there is none within the days that a tick may roll."""
        return self._open(day, -_DAY)

    def _open(self, day: date, step: timedelta) -> date | None:
        for _ in range(ROLL_DAYS_MAX + 1):
            if self.is_open(day):
                return day
            day += step
        return None


NextDay = Callable[[date], date | None]
"""First day at or after a day; ``None`` when there is none."""


def on_open_days(days: NextDay, calendar: Calendar) -> NextDay:
    """The days of a schedule, moved or left out as the calendar says."""
    match calendar.roll:
        case Roll.SKIP:
            return _moved(days, lambda day: day if calendar.is_open(day) else None, timedelta(0))
        case Roll.FORWARD:
            return _moved(days, calendar.open_at_or_after, timedelta(days=ROLL_DAYS_MAX))
        case Roll.BACK:
            return _moved(days, calendar.open_at_or_before, timedelta(0))


def _moved(days: NextDay, move: NextDay, reach: timedelta) -> NextDay:
    """Days after a move that keeps their order, by at most ``reach`` forward."""

    def at_or_after(day: date) -> date | None:
        found = days(day - reach)
        while found is not None and found < _LATEST:
            moved = move(found)
            if moved is not None and moved >= day:
                return moved
            if (found - day).days > _SEARCH_DAYS_MAX:
                return None
            found = days(found + _DAY)
        return None

    return at_or_after


def parse_day(text: str) -> date | tuple[int, int]:
    """A date such as ``2026-12-24``, or a day of every year such as ``12-25``.

    Raises:
        ScheduleError: it is neither.
    """
    try:
        if _YEARLY.fullmatch(text):
            # A leap year, so that 29 February is a day.
            yearly = date.fromisoformat(f"2024-{text}")
            return yearly.month, yearly.day
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ScheduleError(
        f"{text[:60]!r} is not a day: write a date such as 2026-12-24, or 12-25 for every year"
    )
