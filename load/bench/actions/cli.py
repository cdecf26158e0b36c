"""``python -m load.bench.actions``: how fast commands run, how ordered, and how late on retries.

One partition of commands that take 0 to 5 ms each. Ours with keys side by side against ours one at
a time is the same engine twice; a plain Faust application with a retry topic is what people write.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from load.bench.actions.contest import ONE_BY_ONE, PROGRAMS, Load, compete
from load.bench.actions.report import Found, rows_of, titles, write_json, write_page
from load.bench.machine import wait_until_quiet
from load.bench.pairs import rotated
from load.bench.peers import BUILD

REPORT: Final = Path("build/bench.json")
PAGE: Final = Path("docs/benchmarks.md")
COMMANDS: Final = 10_000
KEYS: Final = 1_000
_WIDTH: Final = 170

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def bench(  # noqa: PLR0913 - the options of a command
    commands: Annotated[int, typer.Option(min=100, help="Of each run.")] = COMMANDS,
    keys: Annotated[int, typer.Option(min=1, help="That they are of.")] = KEYS,
    pairs: Annotated[int, typer.Option(min=1, help="Rounds of runs.")] = 1,
    only: Annotated[str, typer.Option(help=f"Of {', '.join(PROGRAMS)}.")] = "",
    patience: Annotated[float, typer.Option(help="Seconds to wait for a quiet machine.")] = 20.0,
    page: Annotated[bool, typer.Option(help=f"Write the tables into {PAGE}.")] = False,
) -> None:
    """Run the same commands by each program, with and without failures."""
    console = Console(width=_WIDTH)
    names = only.split(",") if only else list(PROGRAMS)
    if unknown := [name for name in names if name not in PROGRAMS]:
        raise typer.BadParameter(f"no program {', '.join(unknown)}: {', '.join(PROGRAMS)}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    load = Load(commands, keys, is_failing=False)
    raise typer.Exit(1 if compare(names, load, pairs, patience, console, page) else 0)


def compare(  # noqa: PLR0913 - the options of a command
    names: list[str], load: Load, pairs: int, patience_s: float, console: Console, page: bool
) -> list[str]:
    """Measure, tell, and write it down; what ours has failed at."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    try:
        found = measure(names, load, pairs, patience_s, say)
    except LocalError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(3) from None
    write_json(REPORT, found)
    for is_failing, title in ((False, "Nothing fails"), (True, "Some commands fail at first")):
        table = Table(title=title)
        for name in titles():
            table.add_column(name)
        for row in rows_of(found, is_failing):
            table.add_row(*row)
        console.print(table)
    say(f"{found.as_dict()['ratio']}; written to {REPORT}")
    if page:
        write_page(PAGE, found)
    for finding in found.findings:
        console.print(f"WRONG: {finding}", style="red", highlight=False, markup=False)
    return found.findings


def measure(
    names: list[str], load: Load, pairs: int, patience_s: float, say: Callable[[str], None]
) -> Found:
    """Run each program in each round, on a broker of their own."""
    home = BUILD / "actions"
    shutil.rmtree(home, ignore_errors=True)
    programs = [PROGRAMS[name] for name in names]
    found = Found()
    with LocalKafka(home / "kafka", report=say) as kafka:
        assert kafka.pid is not None
        for pair in range(pairs):
            for is_failing in (False, True):
                for program in rotated(programs, pair):
                    if is_failing and program.name == ONE_BY_ONE:
                        continue  # It would show what it shows without failures.
                    wait_until_quiet(kafka.pid, patience_s, lambda _: None)
                    name = f"{program.name.replace('_', '-')}-{pair + 1}{'f' * is_failing}"
                    one = Load(load.commands, load.keys, is_failing)
                    feat = asyncio.run(compete(program, one, kafka, home / name))
                    found.feats.append(feat)
                    say(
                        f"{pair + 1} of {pairs}  {name}: {feat.per_s:,.0f} commands/s, "
                        f"{feat.out_of_order} out of order, others {feat.other_cores:.1f} cores"
                    )
    return found
