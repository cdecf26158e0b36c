"""`edo schedule`: when schedules are due."""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from edo_stream.cli.environment import CommandError
from edo_stream.engine.clock import now_ms
from edo_stream.schedules.probe import COUNT_DEFAULT, COUNT_MAX, ZONE_DEFAULT, answer

app = typer.Typer(no_args_is_help=True, help="When schedules are due.")

_USAGE = 2


@app.callback()
def schedule() -> None:
    """When schedules are due."""


@app.command("next")
def next_(
    expression: Annotated[
        str | None,
        typer.Argument(metavar="EXPR", help="Cron expression, or an interval: 'every 15m'."),
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
    """Show the next times of an expression, one a line."""
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    if as_jsonl:
        _answer_lines(now)
        return
    if expression is None:
        raise CommandError("EXPR is missing: write one such as '30 6 * * MON-FRI'", _USAGE)
    found = answer({"expr": expression, "tz": tz, "from": after, "count": count}, now)
    if "error" in found:
        raise CommandError(str(found["error"]), _USAGE)
    for time in found["times"]:
        print(time)


def _answer_lines(now: datetime) -> None:
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            question = None
        print(json.dumps(answer(question, now)), flush=True)
