"""Hurt the act plane under load, and judge every command: ``python -m load.act_chaos --help``.

docs/faults.md says what is done, what is judged, and what it has found.
"""

import asyncio
import logging
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from load.act_chaos.judge import findings_by_kind, percentile
from load.act_chaos.storm import Aftermath, Weather, endure, open_scene
from load.effects import effects_table
from load.ending import ends_in_order
from load.harm import Harm

RATE: Final = 40.0
WORKERS: Final = 3
DIRECTORY: Final = Path("data/act-chaos")
_WIDTH: Final = 150
_SHOWN_MAX: Final = 30

HARMS: Final = (
    Harm.KILL,
    Harm.STOP,
    Harm.FREEZE,
    Harm.ROLL,
    Harm.ADD,
    Harm.REMOVE,
    Harm.WIPE,
    Harm.REBALANCE_IN_RESTORE,
    Harm.BROKER_KILL,
    Harm.BROKER_STOP,
    Harm.BROKER_FREEZE,
)

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def chaos(  # noqa: PLR0913 - the knobs of a run
    seed: Annotated[int, typer.Option(help="Decides commands, harms and their order.")] = 1,
    faults: Annotated[int, typer.Option(help="Harms to workers and the broker.")] = 20,
    minutes: Annotated[float, typer.Option(help="At least so long.")] = 0.0,
    rate: Annotated[float, typer.Option(help="Events a second of each of four flows.")] = RATE,
    workers: Annotated[int, typer.Option(min=1)] = WORKERS,
    directory: Annotated[Path, typer.Option(help="Is emptied first.")] = DIRECTORY,
) -> None:
    """Ends with 0 when nothing is wrong with what came of the commands."""
    with ends_in_order():
        sys.exit(run(seed, faults, minutes, rate, workers, directory))


def run(  # noqa: PLR0913 - the knobs of a run
    seed: int,
    faults: int,
    minutes: float,
    rate: float = RATE,
    workers: int = WORKERS,
    directory: Path = DIRECTORY,
) -> int:
    """Do it, and tell; the status says whether all is right."""
    console = Console(width=_WIDTH)
    # Clients say at length that a broker is away.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    start_s = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - start_s:6.1f} s  {text}", highlight=False)

    shutil.rmtree(directory, ignore_errors=True)
    weather = Weather(seed, harms_of(seed, faults), rate, minutes * 60)
    try:
        with (
            LocalKafka(directory / "kafka") as kafka,
            open_scene("chaos", directory, [kafka], workers) as scene,
        ):
            say(f"{workers} workers are ready; seed {seed}")
            aftermath = asyncio.run(endure(weather, scene, say))
    except LocalError as error:
        console.print(str(error), style="red", markup=False)
        return 3
    show(aftermath, console)
    return 1 if aftermath.findings else 0


def harms_of(seed: int, count: int) -> list[Harm]:
    """Each kind once, in an order by chance, then by chance alone."""
    chance = random.Random(f"{seed} harms")
    harms = list(HARMS)
    chance.shuffle(harms)
    more = (chance.choice(HARMS) for _ in range(count - len(harms)))
    return [*harms, *more][:count]


def show(aftermath: Aftermath, console: Console) -> None:
    """Tell what was done, what ran, and what is wrong."""
    table = Table(title="Harms")
    table.add_column("harm")
    table.add_column("times", justify="right")
    for harm, times in aftermath.harms.items():
        table.add_row(harm.value, str(times))
    table.add_row("worker ended by an executor", str(aftermath.crashes))
    console.print(table)
    verdict = aftermath.verdict
    console.print(effects_table(verdict.tallies))
    for flow, ends in verdict.ends.items():
        told = ", ".join(f"{kind} {count:,}" for kind, count in sorted(ends.items()))
        console.print(f"{flow}: {told}", highlight=False)
    took = f"in {aftermath.sent_s:.0f} s, all ended after {aftermath.settled_s:.0f} s more"
    p50_ms, p99_ms = (percentile(verdict.late_ms, share) for share in (0.5, 0.99))
    lines = [
        f"sent {aftermath.sent:,} events {took}",
        f"{len(verdict.late_ms):,} retries, p50 {p50_ms:,.0f} ms late, p99 {p99_ms:,.0f} ms",
        f"effects repeated after that of a later command of their key: {verdict.late_repeats}",
        f"failures that no command asked for: {dict(verdict.unplanned) or 'none'}",
    ]
    for line in lines:
        console.print(line, highlight=False)
    for finding in findings_by_kind(aftermath.findings, _SHOWN_MAX):
        console.print(f"WRONG: {finding}", style="red", highlight=False, markup=False)
    if not aftermath.findings:
        console.print("Exact: one end each, in order, never early, none too often.")
