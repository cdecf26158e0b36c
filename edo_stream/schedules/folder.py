"""What is declared under ``schedules/``: read once at start, every mistake reported at once.

A file ``<name>.yaml`` declares one schedule. Its ticks go to a topic that has a contract, so that
what reads them, how many partitions it has and what is promised of it are declared as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from edo_stream.core.contract import Codec
from edo_stream.core.ticker import TICK_MEMBERS, CatchUpPolicy, OnMissed, TickSchedule
from edo_stream.registry import Finding, RegistryError
from edo_stream.registry.document import Document, read
from edo_stream.registry.entry import Entry
from edo_stream.registry.mistakes import find_mistake
from edo_stream.schedules.calendar import Calendar, Roll, parse_day
from edo_stream.schedules.declaration import WEEKDAYS, Days, ScheduleDeclaration
from edo_stream.schedules.errors import ScheduleError
from edo_stream.schedules.rule import LAST, IntervalRule, Rule, parse_rule
from edo_stream.schedules.zones import zone

#: Co-partition group of the task that lets schedules tick.
GROUP: Final = "edo.schedules"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DAYS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """One declared schedule."""

    declaration: ScheduleDeclaration
    rule: Rule
    file: Path

    @property
    def name(self) -> str:
        """Name of the schedule, and of its file."""
        return self.declaration.name

    @property
    def expression(self) -> str:
        """What the rule was made of."""
        return self.declaration.cron or self.declaration.every or ""

    def ticks(self, partitions: int) -> TickSchedule:
        """In the words of the core; ``partitions`` are those of the topic."""
        declared = self.declaration
        return TickSchedule(
            name=declared.name,
            topic=declared.topic,
            partitions=partitions,
            event_type=declared.type or declared.topic,
            next_after_ms=self._next_after_ms,
            local_time=self._local_time,
            catch_up=CatchUpPolicy(
                OnMissed(declared.catch_up.policy),
                declared.catch_up.window,
                declared.catch_up.late_after,
            ),
            start_ms=declared.start,
            data=declared.data,
        )

    def _next_after_ms(self, at_ms: int) -> int | None:
        due = self.rule.next_after(_EPOCH + at_ms * _MILLISECOND)
        return None if due is None or due >= LAST else (due - _EPOCH) // _MILLISECOND

    def _local_time(self, at_ms: int) -> str:
        return (_EPOCH + at_ms * _MILLISECOND).astimezone(self.rule.zone).isoformat()


def load_schedules(root: Path, topics: Mapping[str, Entry]) -> dict[str, Schedule]:
    """Read every ``<root>/<name>.yaml``; a folder that is not there has none.

    Raises:
        RegistryError: with every mistake of every file.
    """
    files = sorted(root.glob("*.yaml")) if root.is_dir() else []
    documents = [read(file) for file in files]
    found = [_schedule(document, topics) for document in documents]
    findings = [finding for document in documents for finding in document.findings]
    if root.is_dir():
        findings += [
            Finding(file, 1, f"is not read: name it {file.stem}.yaml")
            for file in sorted(root.glob("*.yml"))
        ]
    for entry in topics.values() if files else ():
        if entry.declaration.group == GROUP:
            line = entry.document.line(("group",))
            findings.append(Finding(entry.file, line, f"group {GROUP} is that of the schedules"))
    if findings:
        raise RegistryError(findings)
    return {schedule.name: schedule for schedule in found if schedule is not None}


def _schedule(document: Document, topics: Mapping[str, Entry]) -> Schedule | None:
    if document.findings and document.value is None:
        return None
    if not isinstance(document.value, dict):
        document.find((), "not a schedule: write its keys, such as name: reports-nightly")
        return None
    context = {"stem": document.file.stem}
    try:
        declared = ScheduleDeclaration.model_validate(document.value, context=context)
    except ValidationError as error:
        unread = {finding.line for finding in document.findings}
        for item in error.errors(include_url=False):
            # What could not be read has its finding already, and is missing for that reason.
            if item["input"] is not None or document.line(item["loc"]) not in unread:
                find_mistake(document, item, ScheduleDeclaration)
        return None
    _check(document, declared, topics)
    if document.findings:
        return None
    rule = _rule(document, declared)
    return None if rule is None else Schedule(declared, rule, document.file)


def _check(document: Document, declared: ScheduleDeclaration, topics: Mapping[str, Entry]) -> None:
    """Find what does not go together."""
    if (declared.cron is None) == (declared.every is None):
        document.find((), 'write cron, such as cron: "30 6 * * MON-FRI", or every: one of them')
    if "anchor" in declared.model_fields_set and declared.every is None:
        document.find(("anchor",), "anchor means nothing without every: remove it")
    calendar = declared.calendar
    if calendar is not None and calendar.roll != Roll.SKIP.value and declared.every is not None:
        document.find(
            ("calendar", "roll"),
            "an interval has no days that its ticks could roll from: write roll: skip, or cron",
        )
    if declared.catch_up.late_after > declared.catch_up.window:
        document.find(
            ("catch_up", "late_after"), "late_after is longer than window: write a shorter time"
        )
    for name in sorted(TICK_MEMBERS & set(declared.data)):
        document.find(("data", name), f"each tick says {name} itself: write another name")
    entry = topics.get(declared.topic)
    if entry is None:
        document.find(
            ("topic",),
            f"{declared.topic} has no contract: write topics/{declared.topic}/contract.yaml",
        )
    elif entry.declaration.codec != Codec.CLOUDEVENTS.value:
        document.find(
            ("topic",),
            f"{declared.topic} has codec {entry.declaration.codec}: ticks are cloudevents",
        )


def _rule(document: Document, declared: ScheduleDeclaration) -> Rule | None:
    zone_of = zone(declared.timezone)
    calendar = None
    if declared.calendar is not None:
        calendar = _calendar(document, declared.calendar)
    anchor = _EPOCH + declared.anchor * _MILLISECOND
    rule = parse_rule(declared.cron or declared.every or "", zone_of, calendar, anchor)
    start = _EPOCH if declared.start is None else _EPOCH + declared.start * _MILLISECOND
    if not document.findings and rule.next_after(start) is None:
        path = "every" if isinstance(rule, IntervalRule) else "cron"
        document.find((path,), "never: no day meets the expression and the calendar together")
    return None if document.findings else rule


def _calendar(document: Document, declared: Days) -> Calendar:
    dates: set[date] = set()
    yearly: set[tuple[int, int]] = set()
    for index, item in enumerate(declared.except_):
        place = ("calendar", "except", index)
        for text in _lines(document, place, item) if _is_file(item) else [item]:
            try:
                day = parse_day(text)
            except ScheduleError as error:
                document.find(place, str(error))
                continue
            if isinstance(day, date):
                dates.add(day)
            else:
                yearly.add(day)
    weekend = declared.weekend if declared.only == "business-days" else []
    return Calendar(
        frozenset(dates),
        frozenset(yearly),
        frozenset(WEEKDAYS.index(day) for day in weekend),
        Roll(declared.roll),
    )


def _is_file(item: str) -> bool:
    return item.endswith(".txt") or "/" in item


def _lines(document: Document, place: tuple[str | int, ...], name: str) -> list[str]:
    """Days of a file beside the schedules; ``#`` begins a comment."""
    try:
        text = (document.file.parent / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        document.find(place, f"{name} cannot be read: {error}")
        return []
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line][:_DAYS_MAX]
