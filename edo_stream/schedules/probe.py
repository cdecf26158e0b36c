"""The next times of a rule, for people and scripts: what ``edo schedule next`` answers."""

from datetime import datetime
from typing import Any, Final

from edo_stream.schedules.errors import ScheduleError
from edo_stream.schedules.rule import FIRST, LAST, Rule, parse_rule
from edo_stream.schedules.zones import instant, zone

COUNT_DEFAULT: Final = 5
COUNT_MAX: Final = 10_000
ZONE_DEFAULT: Final = "UTC"


def answer(question: object, now: datetime) -> dict[str, Any]:
    """Answer ``{"id", "expr", "tz", "from", "count"}`` by ``{"id", "times"}`` or its ``"error"``.

    ``tz``, ``from`` and ``count`` may be left out: UTC, now, and 5.
    """
    if not isinstance(question, dict):
        return {"id": None, "error": 'not a JSON object: write {"id", "expr", "tz", "from"}'}
    identity = {"id": question.get("id")}
    try:
        return identity | {"times": _times(question, now)}
    except ScheduleError as error:
        return identity | {"error": str(error)}


def _times(question: dict[str, Any], now: datetime) -> list[str]:
    expression = _text(question, "expr", None)
    rule = parse_rule(expression, zone(_text(question, "tz", ZONE_DEFAULT)))
    start = question.get("from")
    after = now if start is None else start_of(start, rule)
    count = question.get("count")
    return next_times(rule, after, COUNT_DEFAULT if count is None else _count(count))


def next_times(rule: Rule, after: datetime, count: int) -> list[str]:
    """Up to so many instants later than ``after``: ISO 8601 in the rule's zone, with offset.

    Raises:
        ScheduleError: there is none at all.
    """
    times: list[str] = []
    while len(times) < count:
        due = rule.next_after(after)
        if due is None or due >= LAST:
            break
        times.append(due.astimezone(rule.zone).isoformat())
        after = due
    if not times:
        raise ScheduleError(
            "never: no day meets day of month, month, day of week and calendar together "
            "in the next 50 years"
        )
    return times


def start_of(text: object, rule: Rule) -> datetime:
    """Instant of an ISO 8601 time; one without an offset is local to the rule's zone.

    Raises:
        ScheduleError: it is none, or outside the years 1970 to 9899.
    """
    try:
        if not isinstance(text, str) or not text.isascii():
            raise ValueError
        at = datetime.fromisoformat(text)
        at = instant(at, rule.zone) if at.tzinfo is None else at
        if FIRST <= at < LAST:
            return at
    except (ValueError, OverflowError):
        raise ScheduleError(
            f"from {str(text)[:60]!r} is not a time: write one such as 2026-01-31T12:00:00Z"
        ) from None
    raise ScheduleError(f"from {text} is outside the years {FIRST.year} to {LAST.year - 1}")


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= COUNT_MAX:
        return value
    raise ScheduleError(f"count {str(value)[:20]} is not a number from 1 to {COUNT_MAX:,}")


def _text(question: dict[str, Any], name: str, default: str | None) -> str:
    value = question.get(name)
    value = default if value is None else value
    if isinstance(value, str) and value:
        return value
    raise ScheduleError(f"{name} is {'missing' if not value else 'not a text'}")
