"""``python -m load.bench.flows``: what two flows on each event cost the decide plane.

The same records go through the bare pipeline, and through it with two flows: of commands, and of
waits: for pairs of events, by the topic's own key and by another, for sequences, and for so many.
Each run is a cold worker on topics of its own; what came out is judged, whatever it took.
"""

import asyncio
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import msgspec
import typer
from aiokafka.structs import ConsumerRecord
from rich.console import Console

from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.admin import Admin
from edo_stream.engine.joins import join_topics
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.flows import load_flows
from edo_stream.local.kafka import LocalKafka
from edo_stream.registry import load
from load.bench.machine import Reading, read_machine, usage_between
from load.bench.pairs import rotated
from load.bench.peers import BUILD
from load.bench.programs import CONTRACT, PARTITIONS
from load.bench.records import profile_of, records_of
from load.bench.topics import INPUTS, Topics
from load.expect import Expectation, expect
from load.fleet import LocalWorker
from load.plan import Planned, event_id, time_of
from load.read import records as read_records
from load.send import SendPolicy, send

PAGE: Final = Path("docs/benchmarks.md")
REPORT: Final = Path("build/bench-flows.json")
BEGIN: Final = "<!-- What follows is written by `python -m load.bench.flows`. -->"
END: Final = "<!-- So far, of flows. -->"
BARE: Final = "bare"
_FLOWS: Final = ("one", "two")
_LOOK_S: Final = 0.1
_QUIET_S: Final = 3.0
"""Nothing new was seen for so long, and all is read: it is done."""
_LIMIT_S: Final = 240.0
_RUNNING: Final = "task running"
_NOT_EXACT: Final = 1
_BASE_MS: Final = 1_750_000_000_000

app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True, slots=True)
class Variant:
    """What is measured: the bare pipeline, or two flows."""

    name: str
    title: str
    flow: str = ""
    """Of each flow's file."""
    bar: float = 0.0
    """What of the bare pipeline's throughput must be left."""
    together: int = 1
    """Events of each result of a flow; 1: it writes a command for each."""


_COMMAND: Final = """\
name: {flow}
owner: team-bench
description: Runs nothing, for each event.
on: {input}
action: {{kind: noop, idempotency_key: command, replay: safe}}
"""
_WAIT: Final = """\
name: {flow}
owner: team-bench
description: Puts events together.
when:
WHEN
  fire: each
  within: 1d
  partitions: 4
emit: {{topic: {ready}}}
"""
_PAIR: Final = """\
    order: {{topic: {input}, match: {{type: [bench.order]}}KEY}}
    payment: {{topic: {input}, match: {{type: [bench.payment]}}KEY}}"""
_KEY: Final = ", key: /customer"
_ALL: Final = _WAIT.replace("WHEN", f"  all:\n{_PAIR}")
_SEQUENCE: Final = _WAIT.replace("WHEN", f"  sequence:\n{_PAIR}\n  clock: event")
_COUNTED: Final = 8
_COUNT: Final = _WAIT.replace(
    "WHEN", f"  count:\n    any: {{{{topic: {{input}}KEY}}}}\n  expect: {_COUNTED}"
)
VARIANTS: Final = (
    Variant(BARE, "no flows"),
    Variant("commands", "two flows `on:` the topic", _COMMAND, 0.7),
    Variant(
        "waits", "two flows that wait, by the topic's key", _ALL.replace("KEY", ""), 0.7, together=2
    ),
    Variant("rekeyed", "two that wait, by another", _ALL.replace("KEY", _KEY), 0.35, together=2),
    Variant(
        "sequence",
        "two that wait for a sequence, by another",
        _SEQUENCE.replace("KEY", _KEY),
        0.35,
        together=2,
    ),
    Variant(
        "count",
        f"two that wait for {_COUNTED} events, by another",
        _COUNT.replace("KEY", _KEY),
        0.35,
        together=_COUNTED,
    ),
)
_READY: Final = """\
name: {ready}
owner: team-bench
description: Pairs.
codec: cloudevents
partitions: 4
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a cold run has shown."""

    variant: str
    turn: int
    wall_us: float
    cpu_us: float
    """Of the worker, an event."""
    broker_cpu_us: float
    other_cores: float
    wrong: int
    """Records that are missing, repeated, out of order or unexpected."""


@app.command()
def bench(
    events: Annotated[int, typer.Option(min=10_000, help="Records of each run.")] = 500_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each variant.")] = 3,
    only: Annotated[str, typer.Option(help="Besides bare: names, with commas.")] = "",
    page: Annotated[bool, typer.Option(help=f"Write the table into {PAGE}.")] = False,
) -> None:
    """Measure each variant in turns and print the table; 1 where something came out wrong."""
    # Its warnings are of topics that were created or deleted a moment ago.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console(width=120)
    names = {BARE, *only.split(",")} if only else {one.name for one in VARIANTS}
    variants = [one for one in VARIANTS if one.name in names]
    for name in ("kafka", "flows"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    with LocalKafka(BUILD / "kafka", report=console.print) as kafka:
        runs = asyncio.run(_measure_all(kafka, variants, events, rounds, console.print))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_bytes(msgspec.json.encode(runs))
    table = as_markdown(runs)
    console.print(table, highlight=False, markup=False)
    if page:
        write_page(PAGE, table)
    if wrong := sum(run.wrong for run in runs):
        console.print(f"NOT exact: {wrong} records are not as they must be.", style="red")
        raise typer.Exit(_NOT_EXACT)


def as_markdown(runs: Sequence[Run]) -> str:
    """The table, a row a variant: medians, and what of the bare pipeline is left."""
    titles = (
        "variant",
        "worker CPU, µs/event",
        "broker CPU, µs/event",
        "events/s",
        "of bare, by CPU",
        "of bare, by time",
        "bar",
        "exact",
    )
    lines = [titles, ("---", *["--:"] * (len(titles) - 1))]
    for variant in VARIANTS:
        own = [run for run in runs if run.variant == variant.name]
        if not own:
            continue
        lines.append(
            (
                variant.title,
                f"{median(run.cpu_us for run in own):.1f}",
                f"{median(run.broker_cpu_us for run in own):.1f}",
                f"{median(1e6 / run.wall_us for run in own):,.0f}",
                _left(runs, own, lambda run: run.cpu_us),
                _left(runs, own, lambda run: run.wall_us),
                f"{variant.bar}" if variant.bar else "",
                "NO" if any(run.wrong for run in own) else "yes",
            )
        )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _left(runs: Sequence[Run], own: Sequence[Run], cost: Callable[[Run], float]) -> str:
    """Ratios to the bare run of the same round: the median, the least and the greatest."""
    bare = {run.turn: cost(run) for run in runs if run.variant == BARE}
    found = [bare[run.turn] / cost(run) for run in own if run.turn in bare]
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else ""


def write_page(path: Path, table: str) -> None:
    """Put the table between its marks."""
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin, f"{path} has lost its mark: {BEGIN}"
    assert end, f"{path} has lost its mark: {END}"
    path.write_text(f"{head}{BEGIN}\n\n{table}\n{END}{tail}", encoding="utf-8")


def two_types(planned: Iterator[Planned]) -> Iterator[Planned]:
    """Records whose types and times go by their numbers, and that have another key besides."""
    for one in planned:
        assert one.number is not None, "the profile spoils nothing"
        kind = b"bench.order" if one.number % 2 else b"bench.payment"
        headers = tuple((n, kind if n == "ce_type" else value) for n, value in one.headers)
        headers += (("ce_time", time_of(_BASE_MS + one.number)),)
        value = b'{"customer":"c-%b",%b' % (one.key, one.value[1:])
        yield msgspec.structs.replace(one, headers=headers, value=value)


async def _measure_all(
    kafka: LocalKafka,
    variants: Sequence[Variant],
    events: int,
    rounds: int,
    tell: Callable[[str], None],
) -> list[Run]:
    profile = profile_of(events)
    expectation = expect(profile)
    source = f"{INPUTS}flows"
    runs: list[Run] = []
    async with Topics(kafka) as topics:
        await topics.create(source)
        access = {"bootstrap_servers": kafka.bootstrap}
        await send(two_types(records_of(profile)), source, access, SendPolicy(), lambda _: None)
        for turn in range(rounds):
            for variant in rotated(variants, turn):
                place = _Place(kafka, topics, source, f"{variant.name}{turn}")
                runs.append(await _run(place, variant, turn, expectation))
                run = runs[-1]
                tell(
                    f"{turn + 1} of {rounds}  {variant.name}: {run.cpu_us:.1f} µs CPU, "
                    f"{1e6 / run.wall_us:,.0f} events/s, others {run.other_cores:.1f} cores"
                    + (f", {run.wrong} WRONG" if run.wrong else "")
                )
    return runs


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one run works, alone."""

    kafka: LocalKafka
    topics: Topics
    source: str
    name: str

    @property
    def directory(self) -> Path:
        return BUILD / "flows" / self.name

    @property
    def results(self) -> str:
        return f"bench.{self.name}.results"

    def ready(self, flow: str) -> str:
        """Where the results of a flow that waits go."""
        return f"bench.{self.name}.{flow}"

    @property
    def broker_pid(self) -> int:
        assert self.kafka.pid is not None, "the broker has ended"
        return self.kafka.pid


async def _run(place: _Place, variant: Variant, turn: int, expectation: Expectation) -> Run:
    outputs = await _prepare(place, variant)
    environment = {
        "EDO_BROKER": place.kafka.bootstrap,
        "EDO_SERVICE": place.name,
        "EDO_TOPICS": str(place.directory / "topics"),
        "EDO_FLOWS": str(place.directory / "flows"),
    }
    worker = LocalWorker(place.directory / "worker", environment, "load.bench.deciding")
    try:
        worker.launch()
        first, last = await _watch(place, worker, outputs)
    finally:
        worker.kill()
    wrong = await _judge(place, variant, outputs, expectation)
    await place.topics.clear()
    usage, count = usage_between(first, last), expectation.records
    return Run(
        variant=variant.name,
        turn=turn,
        wall_us=usage.wall_s / count * 1e6,
        cpu_us=usage.worker_s / count * 1e6,
        broker_cpu_us=usage.broker_s / count * 1e6,
        other_cores=usage.other_cores,
        wrong=wrong,
    )


async def _prepare(place: _Place, variant: Variant) -> list[str]:
    """Write contracts and flows, and create their topics; those that something comes out at."""
    topics, flows = place.directory / "topics", place.directory / "flows"
    flows.mkdir(parents=True)
    contract = CONTRACT.format(input=place.source, output=place.results, partitions=PARTITIONS)
    _write(topics / place.source / "contract.yaml", contract)
    outputs = [place.results]
    for number in _FLOWS if variant.flow else ():
        flow, ready = f"{place.name}-{number}", place.ready(number)
        _write(
            flows / f"{flow}.yaml", variant.flow.format(flow=flow, input=place.source, ready=ready)
        )
        if variant.flow is _COMMAND:
            outputs.append(f"edo.commands.{flow}")
        else:
            _write(topics / ready / "contract.yaml", _READY.format(ready=ready))
            outputs.append(ready)
    registry = load(topics)
    declared = load_flows(flows, registry)
    group = f"{place.name}-decide"
    wanted = wanted_topics(registry, group, 1)
    wanted += [one for of in (act_topics, join_topics) for one in of(declared, group, 1)]
    async with Admin(BrokerAccess(place.kafka.bootstrap)) as admin:
        await admin.create(wanted)
    return outputs


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


async def _watch(
    place: _Place, worker: LocalWorker, outputs: Sequence[str]
) -> tuple[Reading, Reading]:
    """Readings at the first task that runs, and when the last result was seen."""
    topics, group = place.topics, f"{place.name}-decide"
    began_s = moved_s = time.monotonic()
    while not (worker.log.exists() and _RUNNING in worker.log.read_text(errors="replace")):
        assert time.monotonic() - began_s < _LIMIT_S, f"{place.name}: no task runs"
        await asyncio.sleep(_LOOK_S)
    first = last = read_machine(worker.pid, place.broker_pid)
    ends, seen = await topics.ends(place.source), 0
    while True:
        await asyncio.sleep(_LOOK_S)
        visible = sum([sum(await topics.ends(topic)) for topic in outputs])
        now_s = time.monotonic()
        assert now_s - began_s < _LIMIT_S, f"{place.name}: not done"
        if visible != seen:
            seen, moved_s, last = visible, now_s, read_machine(worker.pid, place.broker_pid)
        elif now_s - moved_s > _QUIET_S:
            if await topics.group_offsets(group, place.source) == ends:
                return first, last
            moved_s = now_s


async def _judge(
    place: _Place, variant: Variant, outputs: Sequence[str], expectation: Expectation
) -> int:
    """How many records are not as they must be, over all that came out."""
    emitted = expectation.emitted
    events = {key: [event_id(key, n) for n in numbers] for key, numbers in emitted.items()}
    together = {key: in_groups(ids, variant.together) for key, ids in events.items()}
    wrong = 0
    for topic in outputs:
        is_together = topic != place.results and variant.together > 1
        found: dict[bytes, list[Any]] = {}
        access = {"bootstrap_servers": place.kafka.bootstrap}
        async for record in read_records(topic, access, lambda _: True):
            key, what = _events_of(record) if is_together else _event_of(record)
            found.setdefault(key, []).append(what)
        wrong += differing(together if is_together else events, found)
    return wrong


def in_groups(ids: Sequence[str], size: int) -> list[list[str]]:
    """Ids in groups of a size, as they come; without those at the end that are too few."""
    return [list(ids[at : at + size]) for at in range(0, len(ids) - size + 1, size)]


def differing(wanted: dict[bytes, list[Any]], found: dict[bytes, list[Any]]) -> int:
    """How many entries of each key's list are not where they must be."""
    count = 0
    for key in dict.fromkeys(chain(wanted, found)):
        one, other = wanted.get(key, []), found.get(key, [])
        count += sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))
    return count


def _event_of(record: ConsumerRecord) -> tuple[bytes, str]:
    return record.key, dict(record.headers)["ce_causationid"].decode()


def _events_of(record: ConsumerRecord) -> tuple[bytes, list[str]]:
    """The ids of the events; the key is that of the events, however they were put together."""
    inputs = json.loads(record.value)["inputs"]
    events = inputs["any"] if "any" in inputs else [inputs["order"], inputs["payment"]]
    return record.key.removeprefix(b"c-"), [one["id"] for one in events]


if __name__ == "__main__":
    app()
