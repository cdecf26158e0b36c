"""A rule says when: a cron expression or an interval, in a time zone, on the days of a calendar.

What happens when clocks change:

- *Times of day* (neither minute nor hour begins with ``*``, such as ``30 2 * * *``): once for
  each local time. A local time that does not exist is the first instant after it, when the clocks
  go forward; one that occurs twice is its first occurrence.
- *Every so often* (minute or hour begins with ``*``, such as ``*/15 * * * *``): whenever clocks
  show a time that matches. What does not exist does not run, what occurs twice runs twice, so
  that the distance stays the same.
- *Intervals* (``every 15m``) count elapsed time from their anchor, whatever clocks show.

The same instant is one tick, whichever local times lead to it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from edo_stream.schedules.calendar import Calendar, NextDay, on_open_days
from edo_stream.schedules.cron import Cron, parse_cron
from edo_stream.schedules.errors import ScheduleError
from edo_stream.schedules.zones import changes, instant, wall

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EVERY: Final = re.compile(r"@?every\s+((?:[0-9]{1,9}[smhd])+)", re.IGNORECASE)
_PART: Final = re.compile(r"([0-9]+)([smhd])", re.IGNORECASE)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_INTERVAL_MAX: Final = timedelta(days=3_660)
_CLOSED_DAYS_MAX: Final = 50 * 366

FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9_900, 1, 1, tzinfo=UTC)


class Rule(Protocol):
    """When something is due."""

    @property
    def zone(self) -> ZoneInfo:
        """Where its local times are."""

    def next_after(self, at: datetime) -> datetime | None:
        """First instant later than ``at``, UTC, whole seconds; ``None`` when there is none."""


def parse_rule(
    text: str, zone: ZoneInfo, calendar: Calendar | None = None, anchor: datetime = _EPOCH
) -> Rule:
    """Parse a cron expression, or an interval such as ``every 15m``.

    Raises:
        ScheduleError: it is neither.
    """
    every = _EVERY.fullmatch(text.strip())
    if every is None:
        return CronRule(parse_cron(text), zone, calendar)
    seconds = sum(
        int(number) * _UNIT_S[unit.lower()] for number, unit in _PART.findall(every.group(1))
    )
    return IntervalRule(check_interval(seconds), anchor, zone, calendar)


def is_interval(text: str) -> bool:
    """Whether a rule is an interval rather than a cron expression."""
    return _EVERY.fullmatch(text.strip()) is not None


def check_interval(seconds: int) -> timedelta:
    """An interval of so many seconds.

    Raises:
        ScheduleError: it is too short or too long.
    """
    if not 1 <= seconds <= _INTERVAL_MAX.total_seconds():
        raise ScheduleError(f"an interval is 1s to {_INTERVAL_MAX.days}d")
    return timedelta(seconds=seconds)


@dataclass(frozen=True)
class CronRule:
    """Times of a cron expression."""

    cron: Cron
    zone: ZoneInfo
    calendar: Calendar | None = None

    def next_after(self, at: datetime) -> datetime | None:
        """See :class:`Rule`."""
        start = _whole(at) + _SECOND
        return self._next_so_often(start) if self.cron.is_interval else self._next_time(start)

    def _next_time(self, start: datetime) -> datetime | None:
        """First instant not before ``start``, one for each local time.

        Local times up to what clocks showed just before ``start`` have had their instant.
        """
        local = self._local_at_or_after(wall(start - _SECOND, self.zone) + _SECOND)
        while local is not None:
            due = instant(local, self.zone)
            if due >= start:
                return due
            local = self._local_at_or_after(local + _SECOND)
        return None

    def _next_so_often(self, start: datetime) -> datetime | None:
        """First instant not before ``start`` whose local time matches.

        Between two changes of the offset the local time runs evenly: a match found with one
        offset holds unless a change comes first; then it is looked for again from there.
        """
        while True:
            showing = wall(start, self.zone)
            local = self._local_at_or_after(showing)
            if local is None:
                return None
            due = start + (local - showing)
            change = next(changes(self.zone, start, due), None)
            if change is None:
                return due
            start = change

    def _local_at_or_after(self, local: datetime) -> datetime | None:
        day = self._days(local.date())
        if day == local.date():
            at = self.cron.time_at_or_after(local.time())
            if at is not None:
                return datetime.combine(day, at)
            day = self._days(day + _DAY)
        return None if day is None else datetime.combine(day, self.cron.first_time())

    @cached_property
    def _days(self) -> NextDay:
        days = self.cron.day_at_or_after
        return days if self.calendar is None else on_open_days(days, self.calendar)


@dataclass(frozen=True)
class IntervalRule:
    """Every so much elapsed time, counted from an anchor both ways; none on closed days."""

    every: timedelta
    anchor: datetime
    zone: ZoneInfo
    calendar: Calendar | None = None

    def next_after(self, at: datetime) -> datetime | None:
        """See :class:`Rule`."""
        due = self._at_or_after(_whole(at) + _SECOND)
        if self.calendar is None:
            return due
        for _ in range(_CLOSED_DAYS_MAX):
            day = wall(due, self.zone).date()
            if self.calendar.is_open(day):
                return due
            opening = instant(datetime.combine(_following(day), time()), self.zone)
            due = self._at_or_after(opening)
        return None

    def _at_or_after(self, start: datetime) -> datetime:
        return self.anchor + -((self.anchor - start) // self.every) * self.every


def _following(day: date) -> date:
    return day + _DAY


def _whole(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)
