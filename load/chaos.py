"""A long run: hurt workers, brokers and the protocol under load, and judge what comes out.

``python -m load.chaos --help``; docs/faults.md says what is done, and what it has found. Bursts
follow each other until all faults are done, so that there is input at every moment.
"""

import asyncio
import logging
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction_v2.choice import choose_protocol
from edo_stream.registry import load
from edo_stream.settings import read_settings
from load.act_chaos.cli import run as chaos_of_commands
from load.bombard import Bombardment
from load.disks import remove_left
from load.ending import ends_in_order
from load.expect import expect
from load.field import APP, Field, open_field
from load.harm import Harm, hurt, possible, stops_cluster
from load.judge import EMIT, PARTITIONS, SOURCE, Outcome, count_compacted, judge, recount_disks
from load.plan import plan
from load.profile import Profile
from load.proxy.rules import Api, Kind
from load.send import SendPolicy, send
from load.stall import StallWatch, stalls_text

STALL_MAX_S: Final = 30.0
_POLL_S: Final = 2.0
_RATE: Final = 300.0
_BURST_S: Final = 15
#: A partition that has stood still for no longer than this counts as moving.
_MOVES_S: Final = 2.0
_WIDTH: Final = 150

app = typer.Typer(add_completion=False)


@dataclass(slots=True)
class Weather:
    """What a long run is to be."""

    seed: int
    faults: int
    minutes: float
    protocol: int
    """Faults that the proxy is to inject."""
    workers: int
    brokers: int


@dataclass(slots=True)
class Aftermath:
    """What a long run has seen."""

    outcome: Outcome
    watch: StallWatch
    harms: Counter[Harm]
    protocol: Bombardment | None
    sent: int
    failed: int
    took_s: float
    compacted: tuple[int, int]
    """Records that are left in the changelog of the state, of how many offsets."""
    proxy_failures: list[str]
    disks: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        """All that is wrong; empty when the run is passed."""
        outcome = self.outcome
        wrong = [f"{flaw.value}: {count}" for flaw, count in outcome.verdict.counts.items()]
        wrong += [f"{problem.value}: {count}" for problem, count in outcome.audit.counts.items()]
        wrong += [*outcome.recount, *self.disks, *self.proxy_failures]
        if not outcome.comparison.is_exact:
            wrong.append(f"against the bursts' profiles: {outcome.comparison}")
        if self.failed:
            wrong.append(f"{self.failed} records could not be sent: the bursts' profiles are moot")
        if self.watch.longest_s > STALL_MAX_S:
            wrong.append(f"a stall of {self.watch.longest_s:.1f} s, more than {STALL_MAX_S:.0f} s")
        return wrong


async def endure(weather: Weather, place: Field, report: Callable[[str], None]) -> Aftermath:
    """Send bursts until all faults are done, and judge when all has settled."""
    start_s = time.monotonic()
    watch = StallWatch(place.bootstrap, APP, SOURCE, EMIT, PARTITIONS)
    watching = asyncio.create_task(watch.run())
    is_over = asyncio.Event()
    sending = asyncio.create_task(_send_bursts(weather, place.bootstrap, is_over))
    protocol = None
    tasks = []
    if place.proxy is not None and weather.protocol:
        chance = random.Random(weather.seed + 1)
        wanted = read_settings().transaction_protocol
        spoken = await choose_protocol(BrokerAccess(place.bootstrap), wanted)
        protocol = Bombardment(place.proxy, weather.protocol, chance, spoken)
        tasks.append(asyncio.create_task(protocol.run()))
        tasks.append(asyncio.create_task(_tell(protocol, watch, report)))
    harms = await _storm(weather, place, watch, protocol, report)
    for task in tasks:
        await task
    is_over.set()
    profiles, sent, failed = await sending
    registry = load(Path(place.environment["EDO_TOPICS"]))
    report(f"sent {sent:,} records; all faults are done, waiting for the rest to come out")
    _relaunch(place)
    outcome = await judge([expect(p) for p in profiles], place.bootstrap, APP, registry, report)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    access = {"bootstrap_servers": place.bootstrap}
    compacted = await count_compacted(APP, access)
    workers = (*place.workers, *place.extra)
    for worker in workers:
        await asyncio.to_thread(worker.stop)
    return Aftermath(
        outcome,
        watch,
        harms,
        protocol,
        sent,
        failed,
        time.monotonic() - start_s,
        compacted,
        [] if place.proxy is None else place.proxy.failures,
        await recount_disks([worker.directory / "state" for worker in workers], APP, access),
    )


async def _send_bursts(
    weather: Weather, broker: str, is_over: asyncio.Event
) -> tuple[list[Profile], int, int]:
    profiles: list[Profile] = []
    sent = failed = 0
    while not is_over.is_set():
        profile = Profile(
            seed=weather.seed * 1_000 + len(profiles),
            events=int(_RATE * _BURST_S),
            keys=100,
            rate=_RATE,
            gaps_fill=0.005,
            gap_fill_distance=400,
            gaps_never=0.0003,
            undecodable=0.002,
        )
        profiles.append(profile)
        result = await send(
            plan(profile), SOURCE, {"bootstrap_servers": broker}, SendPolicy(), lambda _: None
        )
        sent, failed = sent + result.sent, failed + result.failed
    return profiles, sent, failed


async def _storm(
    weather: Weather,
    place: Field,
    watch: StallWatch,
    protocol: Bombardment | None,
    report: Callable[[str], None],
) -> Counter[Harm]:
    """Do the harms: each kind once in an order by chance, then by chance alone."""
    chance = random.Random(weather.seed)
    harms = possible(place)
    chance.shuffle(harms)
    following = iter(harms)
    done: Counter[Harm] = Counter()
    start_s = time.monotonic()
    while done.total() < weather.faults or time.monotonic() - start_s < weather.minutes * 60:
        if not weather.faults:
            await asyncio.sleep(_POLL_S)
            continue
        await asyncio.sleep(chance.uniform(1.0, 5.0))
        await _until_it_moves(watch)
        harm = next(following, None) or chance.choice(harms)
        began_s = time.monotonic()
        leave_out = watch.without_brokers if stops_cluster(harm, place) else nullcontext
        with leave_out():
            name = await asyncio.to_thread(hurt, harm, place, chance)
        done[harm] += 1
        report(
            f"{done.total()}/{weather.faults} {name} ({time.monotonic() - began_s:.0f} s), "
            f"longest stall {watch.longest_s:.1f} s"
            + ("" if protocol is None else f", {protocol.fired.total()} faults in the protocol")
        )
    return done


async def _until_it_moves(watch: StallWatch) -> None:
    """Wait until all partitions move again, or for as long as they may stand still.

    What is measured is what one harm costs: of several at once, each as long as it may be, the
    sum would say nothing. Faults in the protocol come on top at any time.
    """
    for _ in range(int(STALL_MAX_S)):
        if watch.age_s() < _MOVES_S:
            return
        await asyncio.sleep(1.0)


async def _tell(protocol: Bombardment, watch: StallWatch, report: Callable[[str], None]) -> None:
    while protocol.fired.total() < protocol.faults:
        await asyncio.sleep(10)
        report(
            f"{protocol.fired.total()}/{protocol.faults} faults in the protocol, "
            f"longest stall {watch.longest_s:.1f} s"
        )


def _relaunch(place: Field) -> None:
    for worker in place.workers:
        if not worker.is_running:
            worker.launch()


@app.command()
def chaos(  # noqa: PLR0913 - the knobs of a run
    seed: Annotated[int, typer.Option(help="Decides bursts, harms and their order.")] = 1,
    faults: Annotated[int, typer.Option(help="Harms to workers and brokers.")] = 50,
    minutes: Annotated[float, typer.Option(help="At least so long.")] = 0.0,
    protocol: Annotated[int, typer.Option(help="Faults that a proxy injects.")] = 0,
    workers: Annotated[int, typer.Option()] = 2,
    brokers: Annotated[int, typer.Option(help="One, or three replicated ones.")] = 1,
    directory: Annotated[Path, typer.Option(help="Is emptied first.")] = Path("data/chaos"),
    act: Annotated[bool, typer.Option("--act", help="Of commands: see load.act_chaos.")] = False,
) -> None:
    """Hurt workers and brokers under load; ends with 0 when nothing is wrong with the results."""
    if act and (protocol or brokers > 1):
        raise typer.BadParameter("--act has one broker, and no faults in the protocol")
    with ends_in_order():
        if act:
            sys.exit(chaos_of_commands(seed, faults, minutes, directory=directory / "act"))
        sys.exit(_run(Weather(seed, faults, minutes, protocol, workers, brokers), directory))


def _run(weather: Weather, directory: Path) -> int:
    """Do it, and tell; the status says whether all is right."""
    console = Console(width=_WIDTH)
    # Clients say at length that a broker is away.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    start_s = time.monotonic()

    def report(text: str) -> None:
        console.print(f"{time.monotonic() - start_s:6.1f} s  {text}", highlight=False)

    remove_left(directory, report)
    shutil.rmtree(directory, ignore_errors=True)
    brokers, workers, seed = weather.brokers, weather.workers, weather.seed
    # Always behind the proxy: it slows restores down, and knows what it was asked.
    with open_field(directory, brokers, workers, proxied=True, seed=seed) as place:
        report(f"{brokers} brokers and {workers} workers are ready; seed {seed}")
        aftermath = asyncio.run(endure(weather, place, report))
    _show(aftermath, console)
    return 1 if aftermath.findings else 0


def _show(aftermath: Aftermath, console: Console) -> None:
    if aftermath.harms:
        table = Table(title="Harms to workers and brokers")
        table.add_column("harm")
        table.add_column("times", justify="right")
        for harm in Harm:
            table.add_row(harm.value, str(aftermath.harms[harm]))
        table.add_row("all", str(aftermath.harms.total()), style="bold")
        console.print(table)
    if aftermath.protocol is not None:
        _show_protocol(aftermath.protocol, console)
    outcome, (left, offsets) = aftermath.outcome, aftermath.compacted
    came_out = f"{outcome.comparison.emitted:,} results"
    lines = [
        f"sent {aftermath.sent:,} records in {aftermath.took_s:.0f} s; {came_out}",
        f"audit: {outcome.audit.tallies[SOURCE]}",
        stalls_text("longest time without progress, per partition", aftermath.watch.worked),
        stalls_text("longest time until results were visible", aftermath.watch.visible),
        f"left out of both: too few brokers, {aftermath.watch.without_brokers_s:.1f} s at most",
        f"compaction left {left:,} records of {offsets:,} offsets in the changelog of the state",
    ]
    for line in lines:
        console.print(line, highlight=False)
    for finding in aftermath.findings:
        console.print(f"WRONG: {finding}", style="red", highlight=False)
    if not aftermath.findings:
        console.print("Exact: nothing lost, doubled, out of order or unaccounted for.")


def _show_protocol(protocol: Bombardment, console: Console) -> None:
    fired = protocol.fired
    table = Table(title=f"Faults in the protocol (rules that no call met: {protocol.missed})")
    table.add_column("API")
    for kind in Kind:
        table.add_column(kind.value, justify="right")
    table.add_column("all", justify="right")
    for api in Api:
        counts = [fired[api, kind] for kind in Kind]
        if sum(counts):
            table.add_row(api.name, *map(str, counts), str(sum(counts)))
    sums = [sum(fired[api, kind] for api in Api) for kind in Kind]
    table.add_row("all", *map(str, sums), str(fired.total()), style="bold")
    console.print(table)


if __name__ == "__main__":
    app()
