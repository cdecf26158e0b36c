"""One run of one program: a new process and topics of its own, judged by the ledger.

The commands lie in their topic before the program starts. Its time goes from the first run to the
last: to the last effect, and for ours to the last outcome that is committed, if that is later.
"""

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer

from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.flows import load_flows
from edo_stream.local.kafka import LocalKafka
from edo_stream.registry import load
from load.bench.actions.work import FLOW, LEDGER, Job, jobs
from load.bench.machine import OTHER_CORES_MAX, Reading, read_machine, usage_between
from load.effects import Line, Moment, out_of_order, read_ledger, tally
from load.fleet import LocalWorker
from load.read import records

_LOOK_S: Final = 0.2
_STALL_S: Final = 30.0
_SETTLE_S: Final = 1.0
_SOURCE: Final = "bench.actions.asked"

_CONTRACT: Final = f"""\
name: {_SOURCE}
owner: team-bench
description: What the flow of the comparison would be triggered by.
codec: cloudevents
partitions: 1
group: asked
emit: {{topic: {_SOURCE}.out}}
"""
_DECLARATION: Final = """\
name: {flow}
owner: team-bench
description: Side effects of the comparison.
on: bench.actions.asked
group: {flow}
partitions: 1
action:
  kind: python
  handler: load.bench.actions.work:handle
  idempotency_key: command
  replay: safe
retry: {{initial: 1s, factor: 2, max: 16s, retries: 5}}
breaker: {{window: 10000, consecutive: 10000}}
concurrency: {concurrency}
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One way to run the commands."""

    name: str
    title: str
    order: str
    """What it promises of the order."""
    concurrency: int
    is_ours: bool


BY_KEY: Final = "ours_by_key"
ONE_BY_ONE: Final = "ours_one_by_one"
FAUST: Final = "faust"
CONCURRENCY: Final = 100

PROGRAMS: Final = {
    program.name: program
    for program in (
        Program(BY_KEY, "edo_stream, keys side by side", "of a key", CONCURRENCY, is_ours=True),
        Program(ONE_BY_ONE, "edo_stream, one at a time", "of the partition", 1, is_ours=True),
        Program(FAUST, "Faust and a retry topic, one at a time", "none", 1, is_ours=False),
        Program(
            "faust_concurrent",
            f"Faust and a retry topic, concurrency={CONCURRENCY}",
            "none",
            CONCURRENCY,
            is_ours=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be run."""

    commands: int
    keys: int
    is_failing: bool

    def jobs(self) -> list[Job]:
        """The commands."""
        return jobs(self.commands, self.keys, self.is_failing)


@dataclass(frozen=True, slots=True)
class Feat:
    """What a run has shown."""

    program: str
    commands: int
    is_failing: bool
    done: int
    """Commands that had their effect."""
    duration_s: float
    out_of_order: int
    """First effects after that of a later command of the same key."""
    repeated: int
    """Effects beyond the first of a command."""
    retries: int
    early: int
    """Retries that ran before they were due."""
    late_p50_ms: float | None
    late_p99_ms: float | None
    late_max_ms: float | None
    cpu_us_per_command: float
    other_cores: float

    @property
    def per_s(self) -> float:
        """Commands a second."""
        return self.done / self.duration_s if self.duration_s else 0.0

    @property
    def is_void(self) -> bool:
        """Whether others worked too much beside it."""
        return self.other_cores > OTHER_CORES_MAX

    @property
    def is_exact(self) -> bool:
        """Whether each command had its effect once, in order, and no retry was early."""
        is_complete = self.done == self.commands
        return is_complete and not (self.out_of_order or self.repeated or self.early)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the report."""
        more = {"per_s": round(self.per_s, 1), "exact": self.is_exact, "void": self.is_void}
        return asdict(self) | more


async def compete(program: Program, load_: Load, kafka: LocalKafka, directory: Path) -> Feat:
    """Run all commands once, and judge what the ledger says."""
    place = _Place(program, kafka.bootstrap, directory)
    await place.prepare(load_.jobs())
    assert kafka.pid is not None
    worker = place.worker()
    try:
        await asyncio.to_thread(worker.launch)
        first, last = await _watch(worker, kafka.pid, place.ledger, load_.commands)
        dues, ended_ms = await place.told(load_.commands)
    finally:
        await asyncio.to_thread(worker.kill)
    return judge(program, load_, read_ledger(place.ledger), (first, last), dues, ended_ms)


def judge(  # noqa: PLR0913 - all that is known of a run
    program: Program,
    load_: Load,
    lines: Sequence[Line],
    readings: tuple[Reading, Reading],
    dues_ms: Mapping[tuple[str, int], float],
    ended_ms: float,
) -> Feat:
    """What the ledger says of a run; ``dues_ms`` by command and attempt, where lines do not."""
    counted = tally(lines).get(FLOW)
    began = [line for line in lines if line.moment is Moment.BEGAN]
    effects = [line.at_ms for line in lines if line.moment is Moment.EFFECT]
    late_ms = [
        line.at_ms - (line.due_ms or dues_ms[line.command, line.attempt])
        for line in began
        if line.attempt > 1
    ]
    usage = usage_between(*readings)
    p50, p99 = _percentiles(late_ms)
    return Feat(
        program=program.name,
        commands=load_.commands,
        is_failing=load_.is_failing,
        done=0 if counted is None else counted.effects - counted.repeated_effects,
        duration_s=(max((*effects, ended_ms)) - began[0].at_ms) / 1000 if began else 0.0,
        out_of_order=len(out_of_order(lines)),
        repeated=0 if counted is None else counted.repeated_effects,
        retries=len(late_ms),
        early=sum(late < 0 for late in late_ms),
        late_p50_ms=p50,
        late_p99_ms=p99,
        late_max_ms=max(late_ms, default=None),
        cpu_us_per_command=usage.worker_s / load_.commands * 1e6,
        other_cores=usage.other_cores,
    )


def _percentiles(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


class _Place:
    """Topics, files and the process of one run."""

    def __init__(self, program: Program, broker: str, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self._program = program
        self._broker = broker
        self._directory = directory
        self._app = directory.name
        self.ledger = directory / "ledger"
        # Ours are named by the flow, which is named by the run.
        self._commands = f"edo.commands.{self._app}" if program.is_ours else f"{self._app}-commands"

    async def prepare(self, jobs_: Sequence[Job]) -> None:
        """Make the topics and fill that of the commands."""
        async with Admin(BrokerAccess(self._broker)) as admin:
            await admin.create(self._wanted())
        await asyncio.sleep(_SETTLE_S)  # For a broker that does not know of them yet.
        producer = AIOKafkaProducer(bootstrap_servers=self._broker, linger_ms=20)
        await producer.start()
        try:
            sent = [
                await producer.send(
                    self._commands,
                    msgspec.json.encode(job),
                    job.key.encode(),
                    0,
                    headers=[
                        ("ce_specversion", b"1.0"),
                        ("ce_id", b"%d" % job.number),
                        ("ce_type", b"bench.asked"),
                        ("ce_source", b"/bench"),
                    ],
                )
                for job in jobs_
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    def _wanted(self) -> list[Wanted]:
        if not self._program.is_ours:
            return [Wanted(self._commands, 1), Wanted(self._retries, 1)]
        contract = self._directory / "topics" / _SOURCE / "contract.yaml"
        contract.parent.mkdir(parents=True)
        contract.write_text(_CONTRACT, encoding="utf-8")
        flow = self._directory / "flows" / f"{self._app}.yaml"
        flow.parent.mkdir()
        concurrency = self._program.concurrency
        flow.write_text(_DECLARATION.format(flow=self._app, concurrency=concurrency), "utf-8")
        registry = load(contract.parent.parent)
        app = f"{self._app}-decide"
        flows = load_flows(flow.parent, registry)
        return [*wanted_topics(registry, app, 1), *act_topics(flows, app, 1)]

    @property
    def _retries(self) -> str:
        return f"{self._app}-retries"

    def worker(self) -> LocalWorker:
        """The process, to be launched."""
        environment = {LEDGER: str(self.ledger)}
        if self._program.is_ours:
            environment |= {
                "EDO_BROKER": self._broker,
                "EDO_SERVICE": self._app,
                "EDO_TOPICS": str(self._directory / "topics"),
            }
            return LocalWorker(self._directory / "worker", environment)
        environment |= {
            "BENCH_APP": self._app,
            "BENCH_BROKER": self._broker,
            "BENCH_COMMANDS": self._commands,
            "BENCH_RETRIES": self._retries,
            "BENCH_CONCURRENCY": str(self._program.concurrency),
        }
        return LocalWorker(
            self._directory / "worker", environment, "load.bench.actions.naive", "warn"
        )

    async def told(self, commands: int) -> tuple[dict[tuple[str, int], float], float]:
        """When retries were due, and when the last outcome was written; of ours."""
        if not self._program.is_ours:
            return {}, 0.0
        access = {"bootstrap_servers": self._broker}
        deadline_s = time.monotonic() + _STALL_S
        while True:
            ended = [
                record.timestamp
                async for record in records(f"edo.outcomes.{self._app}", access, lambda _: True)
            ]
            if len(ended) >= commands or time.monotonic() > deadline_s:
                break
            await asyncio.sleep(_LOOK_S)
        dues: dict[tuple[str, int], float] = {}
        for tier_s in (1, 2, 4, 8, 16):
            async for record in records(f"edo.retry.{self._app}.{tier_s}s", access, lambda _: True):
                headers = {name: value.decode() for name, value in record.headers}
                dues[headers["ce_id"], int(headers["edo-attempt"])] = float(headers["edo-due-ms"])
        return dues, max(ended, default=0)


async def _watch(
    worker: LocalWorker, broker_pid: int, ledger: Path, commands: int
) -> tuple[Reading, Reading]:
    """Readings when the first line is there, and when all effects are, or nothing comes."""
    first = last = read_machine(worker.pid, broker_pid)
    size, moved_s, effects = 0, time.monotonic(), 0
    with ledger.open("a+b") as file:
        file.seek(0)
        while effects < commands and time.monotonic() - moved_s < _STALL_S:
            await asyncio.sleep(_LOOK_S)
            read = file.read()
            effects += read.count(b'["effect"')
            if read:
                last = read_machine(worker.pid, broker_pid)
                first = first if size else last
                size, moved_s = size + len(read), time.monotonic()
    return first, last
