"""The main job from end to end on real input, judged from the topics: ``make demo``.

A real Kafka, PostgreSQL and Debezium, a gateway, two workers; rows changed by real transactions and
a burst of CloudEvents with duplicates, disorder, gaps and garbage. Meanwhile the flows of ``demo/``
wait for what belongs together: orders from the database with their payments by webhook, which a
saga ships or undoes, and the files of a day, or its deadline. One worker is killed with -9 in the
middle. At the end the tables account for every record, and all is stopped again.
"""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import typer
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Partition
from aiokafka.errors import KafkaError
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from edo_stream.cli.audit import commands_table, report_table, sagas_table, spec_of
from edo_stream.cli.environment import Environment
from edo_stream.cli.screen import screen
from edo_stream.engine.admin import Admin
from edo_stream.engine.clock import now_ms
from edo_stream.engine.security import broker_access
from edo_stream.flows import load_flows
from edo_stream.local.connect import LocalConnect, register_postgres_connector
from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from edo_stream.local.postgres import LocalPostgres
from edo_stream.observe.audit.reader import audit_topics
from edo_stream.observe.audit.report import Report
from edo_stream.registry import RegistryError, load
from edo_stream.registry.plan import GAPS
from edo_stream.schedules.folder import load_schedules
from edo_stream.settings import SettingsError, read_settings
from load.customers import TABLE, Captured, Customers
from load.expect import Comparison, Expectation, compare, expect
from load.fleet import LocalWorker
from load.judge import DEAD_LETTERS, EMIT, SOURCE
from load.plan import plan
from load.profile import PROFILES, Profile
from load.read import count_records, read_ids, records
from load.send import Report as Sent
from load.send import SendPolicy, send
from load.shop import (
    ORDERS,
    ORDERS_TABLE,
    PAID,
    PAYMENTS,
    REVENUE,
    SAGA_CHANGES,
    SCHEDULE,
    PaymentsGateway,
    Shop,
    write_project,
)
from load.shop_judge import Firings, Flowed, fallback_fired, judge_flows
from load.storm import fleet

CAPTURED: Final = "shop.public.customers"
CHANGED: Final = "shop.customer.changed"
_WORKERS: Final = 2
_KILL_AFTER_S: Final = 11.0
"""In the spike of the profile."""
_DEADLINE_AFTER: Final = timedelta(seconds=40)
"""Of the day's files; by then the first of them have long been read."""
_SETTLE_S: Final = 90.0
_PLAIN_PROGRESS_S: Final = 5.0
_NAMED_MAX: Final = 2


@dataclass(slots=True)
class Progress:
    """What the table shows while it runs."""

    started: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    sent: int = 0

    def say(self, note: str) -> None:
        self.notes.append(f"{time.monotonic() - self.started:5.1f} s  {note}")

    def __rich__(self) -> Group:
        table = Table(caption=f"{time.monotonic() - self.started:.0f} s", min_width=60)
        table.add_column("topic")
        table.add_column("end offset", justify="right")
        for topic, end in self.offsets.items():
            table.add_row(topic, f"{end:,}")
        return Group("\n".join(self.notes), table)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demo runs."""

    variables: dict[str, str]
    """What a process needs to find broker, contracts and the database."""
    environment: Environment
    postgres: LocalPostgres
    connect: LocalConnect
    shop: Shop


def run(events: int, directory: Path, console: Console) -> bool:
    """Run the demo; whether everything is accounted for."""
    progress = Progress()
    shutil.rmtree(directory, ignore_errors=True)
    with ExitStack() as stack:
        with _shown(progress, console):
            run_number = now_ms() // 1_000
            place = _start(stack, directory, run_number, progress)
            profile = replace(PROFILES["demo"], events=events, seed=run_number % 100_000)
            customers = Customers(place.postgres.dsn, run_number * 1_000_000, profile.seed)
            customers.create()
            place.shop.create()
            before = asyncio.run(Firings.read(place.environment.access.client()))
            with ThreadPoolExecutor(1) as aside:
                beginning = aside.submit(place.shop.begin)
                _capture(place, progress)
                beginning.result()
            progress.say("half of the payments and most of the revenue's files are there")
            workers = stack.enter_context(fleet(directory / "workers", _WORKERS, place.variables))
            progress.say(f"{_WORKERS} workers are ready")
            judged = asyncio.run(_go(place, profile, customers, workers, before, progress))
        _conclude(console, judged, profile)
    console.print(f"Took {time.monotonic() - progress.started:.0f} s; nothing is left running.")
    return judged.is_exact


@contextmanager
def _shown(progress: Progress, console: Console) -> Iterator[None]:
    """Show progress: a table that is redrawn at a terminal, a line now and then elsewhere."""
    done = threading.Event()

    def lines() -> None:
        said, is_done = 0, False
        while not is_done:
            is_done = done.wait(_PLAIN_PROGRESS_S)
            for note in progress.notes[said:]:
                console.print(note, highlight=False)
            said = len(progress.notes)
            ends = ", ".join(f"{topic} {end:,}" for topic, end in progress.offsets.items() if end)
            if ends and not is_done:
                console.print(f"         {ends}", highlight=False)

    if console.is_terminal:
        with Live(get_renderable=progress.__rich__, console=console, refresh_per_second=4):
            yield
    else:
        printer = threading.Thread(target=lines, daemon=True)
        printer.start()
        try:
            yield
        finally:
            done.set()
            printer.join()


def _start(stack: ExitStack, directory: Path, run_number: int, progress: Progress) -> Place:
    """Start what the demo needs; each ends with the stack."""
    postgres = LocalPostgres(directory / "postgres", report=progress.say)
    postgres.launch()
    stack.callback(postgres.stop)
    broker = os.environ.get("EDO_BROKER") or _start_kafka(stack, directory, progress)
    progress.say(f"Kafka is ready at {broker}")
    project = directory / "project"
    write_project(read_settings().topics, project)
    variables = {
        "EDO_BROKER": broker,
        "EDO_TOPICS": str(project / "topics"),
        "SHOP_DATABASE": postgres.dsn,
    }
    environment = _environment(variables)
    asyncio.run(_create_topics(environment))
    connect = LocalConnect(directory / "connect", broker, report=progress.say)
    connect.launch()
    stack.callback(connect.stop)
    gateway = PaymentsGateway(directory / "gateway", project / "gateway.yaml", variables)
    stack.enter_context(gateway)
    postgres.wait_ready(60.0)
    connect.wait_ready(120.0)
    progress.say("PostgreSQL, Debezium on Kafka Connect and the gateway are ready")
    folder = directory / "files" / "revenue"
    folder.mkdir(parents=True)
    deadline = datetime.fromtimestamp(now_ms() // 1_000, UTC) + _DEADLINE_AFTER
    shop = Shop(postgres.dsn, gateway.address, folder, variables, run_number, deadline)
    shop.set_deadline(project / SCHEDULE)
    return Place(variables, environment, postgres, connect, shop)


def _environment(variables: dict[str, str]) -> Environment:
    settings = read_settings({**os.environ, **variables})
    registry = load(settings.topics)
    schedules = load_schedules(settings.schedules_folder, registry.entries)
    flows = load_flows(settings.flows_folder, registry)
    return Environment(settings, registry, broker_access(settings), schedules, flows)


def _start_kafka(stack: ExitStack, directory: Path, progress: Progress) -> str:
    kafka = LocalKafka(directory / "kafka", report=progress.say)
    kafka.start(120.0)
    stack.callback(kafka.stop)
    return kafka.bootstrap


async def _create_topics(environment: Environment) -> None:
    async with Admin(environment.access) as admin:
        wanted = environment.wanted
        present = await admin.present(topic.name for topic in wanted)
        await admin.create(topic for topic in wanted if topic.name not in present)


def _capture(place: Place, progress: Progress) -> None:
    register_postgres_connector(
        place.connect.url,
        place.postgres.dsn,
        name="shop",
        tables=[TABLE, ORDERS_TABLE],
        topic_prefix=CAPTURED.removesuffix(f".{TABLE}"),
        partitions=None,
    )
    progress.say(f"capturing {TABLE} and {ORDERS_TABLE} from PostgreSQL's log")


@dataclass(frozen=True, slots=True)
class Judged:
    """Everything that is known at the end."""

    sent: Sent
    expectation: Expectation
    burst: Comparison
    customers: Customers
    captured: Captured
    rows: dict[int, tuple[str, str]]
    flowed: Flowed
    report: Report

    @property
    def has_all_rows(self) -> bool:
        changes, out = self.customers.changes, self.captured
        return changes == out.changes and not out.repeated and self.rows == out.rows

    @property
    def is_exact(self) -> bool:
        return (
            self.burst.is_exact
            and self.has_all_rows
            and self.flowed.is_exact
            and self.report.is_clean
        )


async def _go(  # noqa: PLR0913 - what a run is made of
    place: Place,
    profile: Profile,
    customers: Customers,
    workers: list[LocalWorker],
    before: Firings,
    progress: Progress,
) -> Judged:
    access = place.environment.access.client()
    async with _watched(place, progress):
        flowing = asyncio.create_task(_flow(place, before, progress))
        sent = await _feed(profile, customers, workers, access, progress)
        expectation = await asyncio.to_thread(expect, profile)
        burst = await _settled(expectation, access)
        progress.say("the last result of the burst is out")
        captured = await _captured(customers, access)
        rows = await asyncio.to_thread(customers.rows)
        flowed = await flowing
        report = await audit_topics(spec_of(place.environment), access, lambda _: None)
        progress.say("audited")
    return Judged(sent, expectation, burst, customers, captured, rows, flowed, report)


async def _flow(place: Place, before: Firings, progress: Progress) -> Flowed:
    """Let happen in the shop what its flows wait for."""
    shop, deadline_s = place.shop, time.monotonic() + _DEADLINE_AFTER.seconds + _SETTLE_S
    await asyncio.to_thread(shop.go_on)
    progress.say(f"{shop.count} orders are placed, {shop.webhooks} webhooks acknowledged")
    await fallback_fired(place.environment.access.client(), shop, deadline_s)
    await asyncio.to_thread(shop.end)
    left_s = (shop.deadline - datetime.fromtimestamp(now_ms() / 1_000, UTC)).total_seconds()
    await asyncio.sleep(max(0.0, left_s))
    progress.say(f"the files of {shop.complete_day} are due now")
    flowed = await judge_flows(place.environment, shop, before, deadline_s)
    progress.say("orders are shipped or undone, and each day's revenue is there")
    return flowed


async def _feed(
    profile: Profile,
    customers: Customers,
    workers: list[LocalWorker],
    access: dict[str, Any],
    progress: Progress,
) -> Sent:
    """Send the burst and change rows; kill a worker meanwhile."""
    done = threading.Event()
    writing = asyncio.create_task(asyncio.to_thread(customers.work, done))
    killing = asyncio.create_task(_kill(workers[0], progress))
    progress.say(f"burst of {profile.events:,} events begins, {profile.rate:,.0f}/s with a spike")
    sent = await send(plan(profile), SOURCE, access, SendPolicy(), lambda _: None)
    progress.say(f"burst sent: {sent.sent:,} records in {sent.duration_s:.0f} s")
    done.set()
    await writing
    progress.say(f"{customers.changes:,} changes of rows are committed")
    await killing
    return sent


async def _kill(worker: LocalWorker, progress: Progress) -> None:
    await asyncio.sleep(_KILL_AFTER_S)
    await asyncio.to_thread(worker.kill)
    progress.say(f"{worker.directory.name} was killed with -9; it is started again")
    await asyncio.to_thread(worker.start)
    progress.say(f"{worker.directory.name} is back")


async def _settled(expectation: Expectation, access: dict[str, Any]) -> Comparison:
    deadline = time.monotonic() + _SETTLE_S
    while True:
        ids = await read_ids(EMIT, access, expectation.emitted.keys())
        dead = await count_records(DEAD_LETTERS, access, expectation.emitted.keys())
        found = compare(expectation, ids, dead)
        waits = found.missing or found.dead_letters_missing > 0
        if not waits or time.monotonic() > deadline:
            return found
        await asyncio.sleep(1.0)


async def _captured(customers: Customers, access: dict[str, Any]) -> Captured:
    deadline = time.monotonic() + _SETTLE_S
    while True:
        results = records(CHANGED, access, lambda record: record.key is not None)
        captured = await Captured().read(results, customers.first_id)
        if captured.changes >= customers.changes or time.monotonic() > deadline:
            return captured
        await asyncio.sleep(1.0)


@asynccontextmanager
async def _watched(place: Place, progress: Progress) -> AsyncIterator[None]:
    """Keep the end offsets of the topics in the progress."""
    plan = {topic.name: topic.partitions for topic in place.environment.wanted}
    burst = (SOURCE, EMIT, DEAD_LETTERS, GAPS, CAPTURED, CHANGED)
    shown = (*burst, ORDERS, PAYMENTS, PAID, SAGA_CHANGES, REVENUE)
    access = place.environment.access
    consumer = AIOKafkaConsumer(**access.client(isolation_level="read_committed"))

    async def watch() -> None:
        while True:
            for topic in shown:
                partitions = [Partition(topic, number) for number in range(plan[topic])]
                ends = await consumer.end_offsets(partitions)
                progress.offsets[topic] = sum(ends.values())
            await asyncio.sleep(0.5)

    await consumer.start()
    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await consumer.stop()


def _conclude(console: Console, judged: Judged, profile: Profile) -> None:
    tallies = {topic: tally for topic, tally in judged.report.tallies.items() if tally.records}
    console.print(report_table(replace(judged.report, tallies=tallies)))
    console.print(commands_table(judged.report))
    console.print(sagas_table(judged.report))
    console.print(_verdict(judged, profile))
    for finding in judged.report.findings[:20]:
        console.print(f"  {finding}", style="red", highlight=False)
    if judged.is_exact:
        text = "PASS: every record has exactly one fate; every event came out once, in order."
        console.print(text, style="bold green")
    else:
        text = "FAIL: see above; the workers' logs are in the demo's directory."
        console.print(text, style="bold red")


def _verdict(judged: Judged, profile: Profile) -> Table:
    title = f"Against the inputs (seed {profile.seed})"
    table = Table("check", "expected", "found", "", title=title)

    def row(check: str, expected: Any, found: Any) -> None:
        is_good = expected == found
        show = map(_shown_value, (expected, found))
        table.add_row(check, *show, "ok" if is_good else "WRONG", style=None if is_good else "red")

    burst, expectation = judged.burst, judged.expectation
    row("events of the burst that came out", expectation.events, burst.emitted)
    row("  repeated", 0, burst.repeated)
    row("  out of order", 0, burst.out_of_order)
    row("  missing", 0, burst.missing)
    dead_letters = expectation.undecodable - burst.dead_letters_missing
    row("dead letters of the burst", expectation.undecodable, dead_letters)
    row("committed row changes that came out", judged.customers.changes, judged.captured.changes)
    row("  repeated", 0, judged.captured.repeated)
    same = "equal" if judged.rows == judged.captured.rows else "different"
    row("  table rebuilt from them", "equal", same)
    for check in judged.flowed.checks():
        row(*check)
    row("findings of the audit", 0, sum(judged.report.counts.values()))
    return table


def _shown_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) if len(value) <= _NAMED_MAX else f"{len(value)} of them"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(events: int = PROFILES["demo"].events, directory: Path = Path("data/demo")) -> None:
    """Run the main job on a real Kafka, PostgreSQL and Debezium, and judge what comes out.

    EDO_BROKER uses a Kafka that is already there; otherwise one is started for the demo.
    """
    console = screen()
    try:
        is_exact = run(events, directory.absolute(), console)
    except (LocalError, RegistryError, SettingsError, KafkaError) as error:
        console.print(f"demo: {type(error).__name__}: {error}", style="red", highlight=False)
        raise typer.Exit(1) from error
    raise typer.Exit(0 if is_exact else 1)


if __name__ == "__main__":
    typer.run(main)
