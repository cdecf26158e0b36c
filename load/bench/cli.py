"""``python -m load.bench``: the comparison, and on request latency, kills and compression."""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from load.bench.actions.cli import COMMANDS, KEYS, compare
from load.bench.actions.contest import PROGRAMS as RUNNERS
from load.bench.actions.contest import Load
from load.bench.codecs import try_codecs
from load.bench.faults import SESSION_TIMEOUT_MS, endure
from load.bench.latency import latency_place, measure
from load.bench.pairs import rotated
from load.bench.peers import BUILD
from load.bench.programs import OURS, PROGRAMS, Part, Program
from load.bench.records import LoadError
from load.bench.report import Found, read_json, screen_table, write_json, write_page
from load.bench.run import Bench, Run, run
from load.bench.screen import Screen
from load.bench.topics import Topics
from load.bench.warm import WARM_S, warm_broker

REPORT: Final = Path("build/bench.json")
PAGE: Final = Path("docs/benchmarks.md")
RATE: Final = 2_000.0
KILLS: Final = 5
_FAULTS_SHARE: Final = 0.3
_CODECS_SHARE: Final = 0.2
_NOT_EXACT: Final = 1
_FAILED: Final = 3
_INTERRUPTED: Final = 130

app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be measured."""

    programs: Sequence[Program]
    records: int
    pairs: int
    attempts: int
    patience_s: float
    speed: bool
    latency: bool
    latency_s: float
    faults: bool
    codecs: bool

    def taking_part(self, part: Part) -> list[Program]:
        """Programs that are measured in a part."""
        return [program for program in self.programs if part in program.parts]


@app.command()
def bench(  # noqa: PLR0913 - the options of a command
    only: Annotated[str, typer.Option(help=f"Of {', '.join(PROGRAMS)}.")] = "",
    records: Annotated[int, typer.Option(min=1_000, help="Slow programs get fewer.")] = 1_000_000,
    pairs: Annotated[int, typer.Option(min=1, help="Rounds of runs.")] = 5,
    attempts: Annotated[int, typer.Option(min=1, help="Per run, while it is void.")] = 2,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a quiet machine.")] = 20.0,
    speed: Annotated[bool, typer.Option(help="Time the job.")] = True,
    latency: Annotated[bool, typer.Option(help="Measure latency at 2,000 events/s.")] = False,
    latency_s: Annotated[float, typer.Option(help="Seconds that count.")] = 20.0,
    faults: Annotated[bool, typer.Option(help="Kill each program five times.")] = False,
    codecs: Annotated[bool, typer.Option(help="Try each compression.")] = False,
    actions: Annotated[bool, typer.Option(help="Run commands; see load.bench.actions.")] = False,
    keep: Annotated[
        bool, typer.Option(help=f"Go on with {REPORT}: what it has is not measured again.")
    ] = False,
    page: Annotated[bool, typer.Option(help=f"Write the tables into {PAGE}.")] = False,
) -> None:
    """Do one job with the engine and with others, and compare."""
    wish = Wish(
        _programs(only),
        records,
        pairs,
        attempts,
        patience,
        speed,
        latency,
        latency_s,
        faults,
        codecs,
    )
    # Its warnings are of topics that were created or deleted a moment ago.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console()
    found = read_json(REPORT) if keep else Found()
    status = 0
    try:
        with Screen(console) as screen:
            _measure(wish, found, screen)
    except KeyboardInterrupt:
        console.print("Interrupted; nothing is left running.")
        status = _INTERRUPTED
    except (LocalError, LoadError, KafkaError) as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        status = _FAILED
    write_json(REPORT, found)
    console.print(screen_table(found))
    console.print(f"Written to {REPORT}.")
    if page and status == 0:
        write_page(PAGE, found)
    if actions and status == 0:
        load = Load(COMMANDS, KEYS, is_failing=False)
        status = _NOT_EXACT if compare(list(RUNNERS), load, 1, patience, console, page) else 0
    if status == 0 and not found.is_ours_exact:
        console.print(f"NOT exact: {OURS}; see {REPORT}.", style="red")
        status = _NOT_EXACT
    raise typer.Exit(status)


def _programs(only: str) -> list[Program]:
    names = only.split(",") if only else list(PROGRAMS)
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        raise typer.BadParameter(f"no program {', '.join(unknown)}: {', '.join(PROGRAMS)}")
    return [PROGRAMS[name] for name in names]


def _measure(wish: Wish, found: Found, screen: Screen) -> None:
    for name in ("kafka", "runs"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    for program in wish.programs:
        if program.command is not None:  # Loaded and built before anything is measured.
            program.command(screen.say)
    with LocalKafka(BUILD / "kafka", report=screen.say) as kafka:
        asyncio.run(_measure_all(wish, found, kafka, screen))


async def _measure_all(wish: Wish, found: Found, kafka: LocalKafka, screen: Screen) -> None:
    async with Topics(kafka) as topics:
        bench = Bench(kafka, topics, BUILD / "runs", screen, wish.patience_s)
        screen.say(f"Warming the broker up for {WARM_S:.0f} s")
        await warm_broker(topics, kafka.bootstrap)
        if wish.speed:
            await _compare_speed(wish, found, bench)
        if wish.latency:
            for program in wish.taking_part(Part.LATENCY):
                if any(one.program == program.name and not one.is_void for one in found.latencies):
                    continue
                place = latency_place(program, bench)
                one = await measure(program, place, bench, RATE, wish.latency_s)
                found.latencies = [
                    kept for kept in found.latencies if kept.program != program.name
                ] + [one]
                screen.say(f"{program.name}: p50 {one.p50} ms, p99 {one.p99} ms")
                write_json(REPORT, found)
        if wish.faults:
            await _endure_all(wish, found, bench)
        if wish.codecs and not found.codecs:
            found.codecs += await try_codecs(bench, round(wish.records * _CODECS_SHARE))


async def _compare_speed(wish: Wish, found: Found, bench: Bench) -> None:
    programs = wish.taking_part(Part.SPEED)
    for pair in range(1, wish.pairs + 1):
        for program in rotated(programs, pair - 1):
            if any(
                run.program == program.name and run.pair == pair and not run.is_void
                for run in found.runs
            ):
                continue
            source = await bench.input(_records(program, wish.records))
            for attempt in range(1, wish.attempts + 1):
                place = bench.place(program, source.topic, f"r{pair}a{attempt}")
                one = await run(program, source, place, bench, pair)
                found.runs.append(one)
                bench.screen.say(_told(one, wish.pairs))
                write_json(REPORT, found)
                if not one.is_void:
                    break


async def _endure_all(wish: Wish, found: Found, bench: Bench) -> None:
    records = round(wish.records * _FAULTS_SHARE)
    for program in wish.taking_part(Part.FAULTS):
        if any(one.program == program.name for one in found.faults):
            continue
        source = await bench.input(min(records, _records(program, wish.records)))
        place = replace(
            bench.place(program, source.topic, "kills"), session_timeout_ms=SESSION_TIMEOUT_MS
        )
        one = await endure(program, source, place, bench, KILLS)
        found.faults.append(one)
        bench.screen.say(
            f"{program.name}, killed {one.kills} times: {one.lost:,} lost, "
            f"{one.repeated:,} repeated, {one.out_of_order:,} out of order"
        )
        write_json(REPORT, found)


def _records(program: Program, records: int) -> int:
    return round(records * program.share)


def _told(run: Run, pairs: int) -> str:
    notes = [
        f"{run.events_per_s:,.0f} events/s",
        f"{run.cpu_us_per_event:.1f} µs CPU each",
        f"others {run.other_cores:.1f} cores",
    ]
    notes += ["void"] if run.is_void else []
    notes += [] if run.is_exact else ["NOT exact"]
    notes += [] if run.end == "done" else [f"{run.end}: see the logs in {BUILD / 'runs'}"]
    return f"{run.pair} of {pairs}  {run.program}: {', '.join(notes)}"
