"""Time zones: from the tzdata package, so that every machine of a fleet has the same rules.

The zone database of an operating system is as old as its last update; two workers with
different ones would disagree on when a tick is due.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

from edo_stream.schedules.errors import ScheduleError

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_LAST_YEAR: Final = 9_998


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """All names of the database, such as ``Europe/Berlin``."""
    return frozenset((files("tzdata") / "zones").read_text(encoding="utf-8").split())


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """Time zone by its name in the IANA database.

    Raises:
        ScheduleError: there is none of that name.
    """
    if name not in zone_names():
        near = get_close_matches(name[:100], zone_names(), n=1, cutoff=0.6)
        advice = f"did you mean {near[0]}?" if near else "write one such as Europe/Berlin or UTC"
        raise ScheduleError(f"{name[:60]!r} is not a time zone: {advice}")
    with (files("tzdata") / "zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def wall(at: datetime, zone: ZoneInfo) -> datetime:
    """What clocks on the wall show at an instant: local time without an offset."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def instant(local: datetime, zone: ZoneInfo) -> datetime:
    """First instant at which clocks on the wall show a local time, or have gone past it.

    A local time that occurs twice is its first occurrence; one that is left out when the clocks
    go forward is the instant of that change.
    """
    at = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if wall(at, zone) == local:
        return at
    # Before a gap the old offset holds (fold 0 uses it, and ends up behind the change), behind
    # it the new one (fold 1, and ends up before it).
    earlier = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change(min(earlier, at), max(earlier, at), zone)


def changes(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Instants at which the offset changes, later than ``after`` and at most ``until``, UTC."""
    for year in range(after.year, min(until.year, _LAST_YEAR) + 1):
        for change in _changes_of_year(zone, year):
            if after < change <= until:
                yield change


@lru_cache(maxsize=4_096)
def _changes_of_year(zone: ZoneInfo, year: int) -> tuple[datetime, ...]:
    found = []
    at, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    offset = at.astimezone(zone).utcoffset()
    while at < end:
        following = min(at + _DAY, end)
        next_offset = following.astimezone(zone).utcoffset()
        if next_offset != offset:
            found.append(_change(at, following, zone))
        at, offset = following, next_offset
    return tuple(found)


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """First second, later than ``before``, that has the offset of ``after``."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
