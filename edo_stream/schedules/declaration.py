"""What a file in ``schedules/`` may say: its keys, their values, their defaults."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from edo_stream.core.contract import DAY_MS
from edo_stream.registry.declaration import Declared
from edo_stream.registry.names import Text, TopicName
from edo_stream.registry.quantity import Duration, time_ms
from edo_stream.schedules.calendar import Roll
from edo_stream.schedules.cron import parse_cron
from edo_stream.schedules.rule import is_interval, parse_rule
from edo_stream.schedules.zones import zone

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _own_name(value: object, info: ValidationInfo) -> str:
    stem = (info.context or {})["stem"]
    if value != stem:
        raise ValueError(f"{value} is not the name of its file: write {stem}, or rename the file")
    return str(value)


def _cron(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{value} is not a cron expression: write one such as "30 6 * * MON-FRI"')
    parse_cron(value)
    return value


def _every(value: object) -> str:
    rule = f"every {value}"
    if not is_interval(rule):
        raise ValueError(
            f"{value} is not an interval of whole seconds: write one such as 15m or 1h30m"
        )
    parse_rule(rule, zone("UTC"))
    return rule


def _zone(value: object) -> str:
    zone(str(value))
    return str(value)


def _time(value: object) -> int:
    return time_ms(str(value))


def _days(value: object) -> list[str]:
    items = [value] if isinstance(value, str) else value
    if isinstance(items, list) and all(isinstance(item, str) and item for item in items):
        return items
    raise ValueError("write days such as [2026-12-24, 12-25], or a file that has one on each line")


class CatchUp(Declared):
    policy: Literal["all", "latest", "none"] = Field(
        default="latest", description="What becomes of ticks that were missed: all come, the last."
    )
    window: Duration = Field(default=DAY_MS, description="What is older is left out.")
    late_after: Duration = Field(
        default=60_000, description="A tick this late is missed; below that, it always comes."
    )


class Days(Declared):
    except_: Annotated[list[str], BeforeValidator(_days)] = Field(
        default=[],
        alias="except",
        description="Closed days: dates, days of every year (12-25), files with one on each line.",
    )
    only: Literal["business-days", "all-days"] = Field(
        default="all-days", description="business-days closes the weekend."
    )
    weekend: list[Weekday] = Field(default=["sat", "sun"], description="What the weekend is.")
    roll: Literal["skip", "forward", "back"] = Field(
        default=Roll.SKIP.value, description="Where a tick of a closed day goes."
    )


class ScheduleDeclaration(Declared):
    """A whole file."""

    name: Annotated[str, BeforeValidator(_own_name)] = Field(examples=["reports-nightly"])
    owner: Text = Field(examples=["team-reports"], description="Whom to ask.")
    description: Text = Field(examples=["The nightly report is due."], description="What is due.")
    topic: TopicName = Field(
        examples=["shop.report.due"], description="Where ticks go; it has a contract."
    )
    cron: Annotated[str, BeforeValidator(_cron)] | None = Field(
        default=None, description="A cron expression of 5 fields, or 6 with the second in front."
    )
    every: Annotated[str, BeforeValidator(_every)] | None = Field(
        default=None, description="An interval, such as 15m or 1h30m."
    )
    anchor: Annotated[int, BeforeValidator(_time)] = Field(
        default=0, description="An instant that intervals are counted from."
    )
    timezone: Annotated[str, BeforeValidator(_zone)] = Field(
        default="UTC", description="Whose clocks count, such as Europe/Berlin."
    )
    calendar: Days | None = Field(default=None, description="On which days.")
    catch_up: CatchUp = Field(default=CatchUp(), description="What becomes of missed ticks.")
    start: Annotated[int, BeforeValidator(_time)] | None = Field(
        default=None, description="The first tick is later; default: later than it is first seen."
    )
    type: Text | None = Field(default=None, description="Type of the events; default: the topic.")
    data: dict[str, Any] = Field(default={}, description="Members that each tick repeats.")
