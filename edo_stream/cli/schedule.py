"""`edo schedule`: when schedules are due."""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment
from edo_stream.cli.screen import screen
from edo_stream.core.lines import id_of
from edo_stream.engine.clock import now_ms
from edo_stream.schedules.errors import ScheduleError
from edo_stream.schedules.folder import Schedule
from edo_stream.schedules.probe import (
    COUNT_DEFAULT,
    COUNT_MAX,
    ZONE_DEFAULT,
    answer,
    next_times,
    start_of,
)

app = typer.Typer(no_args_is_help=True, help="When schedules are due.")

_USAGE = 2


@app.callback()
def schedule() -> None:
    """When schedules are due."""


@app.command("next")
def next_(  # noqa: PLR0913 - the command line
    expression: Annotated[
        str | None,
        typer.Argument(metavar="EXPR", help="Cron expression, or an interval: 'every 15m'."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="A declared schedule, instead of EXPR and --tz.")
    ] = None,
    tz: Annotated[str, typer.Option(help="Time zone, such as Europe/Berlin.")] = ZONE_DEFAULT,
    after: Annotated[
        str | None,
        typer.Option("--from", help="Times later than this one, ISO 8601; without it, than now."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=COUNT_MAX)] = COUNT_DEFAULT,
    as_jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl",
            help='Read {"id", "expr", "tz", "from", "count"}, one a line; write {"id", "times"}, '
            'or {"id", "error"}.',
        ),
    ] = False,
) -> None:
    """Show the next times of an expression or of a declared schedule, one a line."""
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    if as_jsonl:
        _answer_lines(now)
        return
    if (expression is None) == (name is None):
        raise CommandError("write EXPR, such as '30 6 * * MON-FRI', or --name: one of them", _USAGE)
    if name is not None:
        times = _times_of(name, after, count, now)
    else:
        found = answer({"expr": expression, "tz": tz, "from": after, "count": count}, now)
        if "error" in found:
            raise CommandError(str(found["error"]), _USAGE)
        times = found["times"]
    for time in times:
        print(time)


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the declared schedules, and when each is due next."""
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    found = [_shown(schedule, now) for schedule in Environment.read().schedules.values()]
    if as_json:
        print(json.dumps(found))
        return
    table = Table("schedule", "when", "time zone", "next", "topic")
    for one in found:
        table.add_row(*(str(value) for value in one.values()))
    screen().print(table)


def _shown(schedule: Schedule, now: datetime) -> dict[str, str | None]:
    due = schedule.rule.next_after(now)
    declared = schedule.declaration
    return {
        "name": schedule.name,
        "when": schedule.expression,
        "timezone": declared.timezone,
        "next": None if due is None else due.astimezone(schedule.rule.zone).isoformat(),
        "topic": declared.topic,
    }


def _times_of(name: str, after: str | None, count: int, now: datetime) -> list[str]:
    schedules = Environment.read().schedules
    schedule = schedules.get(name)
    if schedule is None:
        known = ", ".join(schedules) or "none"
        raise CommandError(f"{name} is not declared: there are {known}", _USAGE)
    try:
        start = now if after is None else start_of(after, schedule.rule)
        return next_times(schedule.rule, start, count)
    except ScheduleError as error:
        raise CommandError(str(error), _USAGE) from error


def _answer_lines(now: datetime) -> None:
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            answered = answer(None, now) | {"id": id_of(line)}
        else:
            answered = answer(question, now)
        try:
            text = json.dumps(answered, allow_nan=False)
        except (ValueError, RecursionError):
            text = json.dumps({"id": None, "error": "id is neither a text nor a number"})
        print(text, flush=True)
