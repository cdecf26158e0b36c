"""``python -m load.bench.curves``: what an event costs our engine as a deployment grows.

One knob at a time is turned, the others stay: partitions, keys, workers. Each point is a cold run
on topics of its own, from the first task that runs to the last offset that the group commits.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console

from edo_stream.engine.admin import Admin
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.local.kafka import LocalKafka
from edo_stream.registry import load
from load.bench.machine import Usage, read_machine, usage_between
from load.bench.peers import BUILD
from load.bench.programs import CONTRACT
from load.bench.records import profile_of, records_of
from load.bench.topics import Topics
from load.fleet import LocalWorker
from load.send import SendPolicy, send

PAGE: Final = Path("docs/benchmarks.md")
BEGIN: Final = "<!-- What follows is written by `python -m load.bench.curves`. -->"
END: Final = "<!-- So far. -->"
_LOOK_S: Final = 0.1
_SETTLE_S: Final = 2.0
_LIMIT_S: Final = 180.0
_RUNNING: Final = "task running"

app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True, slots=True)
class Point:
    """One deployment."""

    partitions: int = 4
    keys: int = 2_000
    workers: int = 1


_USUAL: Final = Point()
POINTS: Final = (
    *(replace(_USUAL, partitions=number) for number in (1, 4, 16, 64)),
    *(replace(_USUAL, keys=number) for number in (10, 1_000, 100_000, 1_000_000)),
    *(replace(_USUAL, workers=number) for number in (1, 2, 4)),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a point has shown."""

    point: Point
    events_per_s: float
    cpu_us_per_event: float
    """Of all workers."""
    broker_cpu_us_per_event: float


@app.command()
def bench(
    records: Annotated[int, typer.Option(min=10_000, help="Of each point.")] = 200_000,
    page: Annotated[bool, typer.Option(help=f"Write the table into {PAGE}.")] = False,
) -> None:
    """Measure each point and print the table."""
    # Its warnings are of topics that were created or deleted a moment ago.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console()
    for name in ("kafka", "curves"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    costs: list[Cost] = []
    with LocalKafka(BUILD / "kafka", report=console.print) as kafka:
        for number, point in enumerate(dict.fromkeys(POINTS)):
            costs.append(asyncio.run(_measure(kafka, point, records, f"curve{number}")))
            console.print(_line(costs[-1]), highlight=False)
    if page:
        write_page(PAGE, costs)


def write_page(path: Path, costs: Sequence[Cost]) -> None:
    """Put the table between its marks."""
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin, f"{path} has lost its mark: {BEGIN}"
    assert end, f"{path} has lost its mark: {END}"
    path.write_text(f"{head}{BEGIN}\n\n{as_markdown(costs)}\n{END}{tail}", encoding="utf-8")


def as_markdown(costs: Sequence[Cost]) -> str:
    """The table, a row a point."""
    head = (
        "| partitions | keys | workers | events/s | workers' CPU, µs/event | broker CPU, µs/event |"
    )
    return "\n".join((head, "|--:|--:|--:|--:|--:|--:|", *map(_line, costs), ""))


def _line(cost: Cost) -> str:
    point = cost.point
    return (
        f"| {point.partitions} | {point.keys:,} | {point.workers} | {cost.events_per_s:,.0f} "
        f"| {cost.cpu_us_per_event:.1f} | {cost.broker_cpu_us_per_event:.1f} |"
    )


async def _measure(kafka: LocalKafka, point: Point, records: int, name: str) -> Cost:
    directory = BUILD / "curves" / name
    source, output = f"bench.{name}.records", f"bench.{name}.results"
    folder = directory / "topics" / source
    folder.mkdir(parents=True)
    contract = CONTRACT.format(input=source, output=output, partitions=point.partitions)
    (folder / "contract.yaml").write_text(contract, encoding="utf-8")
    async with Admin(BrokerAccess(kafka.bootstrap)) as admin:
        await admin.create(wanted_topics(load(directory / "topics"), f"{name}-decide", 1))
    await asyncio.sleep(_SETTLE_S)  # For a broker that does not know of them yet.
    access = {"bootstrap_servers": kafka.bootstrap}
    profile = replace(profile_of(records), keys=point.keys)
    report = await send(records_of(profile), source, access, SendPolicy(), lambda _: None)
    environment = {
        "EDO_BROKER": kafka.bootstrap,
        "EDO_SERVICE": name,
        "EDO_TOPICS": str(directory / "topics"),
    }
    workers = [
        LocalWorker(directory / f"worker{number}", environment) for number in range(point.workers)
    ]
    assert kafka.pid is not None
    try:
        for worker in workers:
            worker.launch()
        usage = await _watch(kafka, workers, f"{name}-decide", source, point.partitions)
    finally:
        for worker in workers:
            worker.kill()
    # The next point has other numbers of partitions under some of the same names.
    async with Topics(kafka) as topics:
        await topics.clear()
    return Cost(
        point,
        events_per_s=report.sent / usage.wall_s,
        cpu_us_per_event=usage.worker_s / report.sent * 1e6,
        broker_cpu_us_per_event=usage.broker_s / report.sent * 1e6,
    )


async def _watch(
    kafka: LocalKafka, workers: Sequence[LocalWorker], group: str, source: str, partitions: int
) -> Usage:
    """What is used from the first task that runs to the last offset."""
    assert kafka.pid is not None
    places = [TopicPartition(source, number) for number in range(partitions)]
    asker = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await asker.start()
    await admin.start()
    deadline_s = time.monotonic() + _LIMIT_S
    try:
        ends = await asker.end_offsets(places)
        while not any(_RUNNING in text for text in _logs(workers)):
            assert time.monotonic() < deadline_s, f"{group}: no task runs"
            await asyncio.sleep(_LOOK_S)
        first = [read_machine(worker.pid, kafka.pid) for worker in workers]
        while True:
            offsets = await admin.list_consumer_group_offsets(group, partitions=places)
            if all(offsets[place].offset >= ends[place] for place in places):
                break
            assert time.monotonic() < deadline_s, f"{group}: not done"
            await asyncio.sleep(_LOOK_S)
        last = [read_machine(worker.pid, kafka.pid) for worker in workers]
    finally:
        await asker.stop()
        await admin.close()
    used = [usage_between(*pair) for pair in zip(first, last, strict=True)]
    return replace(used[0], worker_s=sum(one.worker_s for one in used))


def _logs(workers: Sequence[LocalWorker]) -> Iterator[str]:
    for worker in workers:
        if worker.log.exists():
            yield worker.log.read_text(errors="replace")


if __name__ == "__main__":
    app()
