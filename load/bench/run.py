"""One cold run: a new process, group and topics; timed, then judged by what came out."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edo_stream.local.kafka import LocalKafka
from load.bench.machine import Reading, Usage, peak_mb, read_machine, usage_between
from load.bench.programs import Contestant, Place, Program, contestant
from load.bench.records import Input, load_input
from load.bench.screen import Screen
from load.bench.topics import Topics
from load.bench.watch import End, watch
from load.expect import Comparison, compare
from load.read import read_ids

STALL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a run has shown."""

    program: str
    pair: int
    """Round that it was part of; runs of one round are compared with each other."""
    records: int
    end: str
    startup_s: float
    """From the start of the process to its first record; not part of the duration."""
    duration_s: float
    """From the first record processed to the last result visible."""
    cpu_us_per_event: float
    """Of the worker, within the duration."""
    broker_cpu_us_per_event: float
    peak_mb: float
    other_cores: float
    is_void: bool
    lost: int
    repeated: int
    out_of_order: int
    unexpected: int
    sizes_bytes: Mapping[str, int] = field(default_factory=dict)
    """On the broker's disk: ``results`` and ``changelogs``, and what else there is."""

    @property
    def events_per_s(self) -> float:
        return self.records / self.duration_s if self.duration_s else 0.0

    @property
    def is_exact(self) -> bool:
        """Whether every event came out once and in order, and nothing else did."""
        return not (self.lost or self.repeated or self.out_of_order or self.unexpected)

    @property
    def is_valid(self) -> bool:
        """Whether its figures say how fast the program does the job."""
        return self.end == End.DONE.value and self.is_exact and not self.is_void

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the report."""
        derived = {
            "events_per_s": round(self.events_per_s, 1),
            "exact": self.is_exact,
            "void": self.is_void,
        }
        return {name: value for name, value in asdict(self).items() if name != "is_void"} | derived


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share."""

    kafka: LocalKafka
    topics: Topics
    directory: Path
    screen: Screen
    patience_s: float
    """How long a run waits for the machine to be quiet."""
    inputs: dict[tuple[int, str], Input] = field(default_factory=dict)

    async def input(self, records: int, compression: str = "none") -> Input:
        """So many records in a topic; sent when they are asked for first."""
        wanted = (records, compression)
        if wanted not in self.inputs:
            self.screen.say(f"Sending {records:,} records, compression {compression}")
            self.inputs[wanted] = await load_input(
                self.topics,
                self.kafka.bootstrap,
                records,
                None if compression == "none" else compression,
            )
        return self.inputs[wanted]

    @property
    def broker_pid(self) -> int:
        pid = self.kafka.pid
        assert pid is not None, "the broker has ended"
        return pid

    def place(self, program: Program, source: str, mark: str, **settings: str) -> Place:
        """A place that no other run has; ``mark`` tells the runs of one program apart."""
        app = f"{mark}-{program.name.replace('_', '-')}"
        directory = self.directory / app
        return Place(
            self.kafka.bootstrap, source, f"bench.results.{app}", app, directory, settings=settings
        )

    async def clear(self, place: Place) -> None:
        """Delete what a program has left, but for its log."""
        await self.topics.clear()
        for path in place.directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)


@dataclass(slots=True)
class _Timing:
    """Readings at the start, at the first record and at the last rise of what is visible."""

    launched: Reading
    started_ms: int | None = None
    first: Reading | None = None
    last: Reading | None = None
    peak_mb: float = 0.0
    end: End = End.STALLED

    @property
    def usage(self) -> Usage:
        """From the first record to the last result; nothing when there was none of either."""
        if self.first is None or self.last is None:
            return Usage(0.0, 0.0, 0.0, 0.0)
        return usage_between(self.first, self.last)


async def run(program: Program, source: Input, place: Place, bench: Bench, pair: int) -> Run:
    """Do the job once, from a cold start, and judge it."""
    worker = contestant(program, place, bench.screen.say)
    await worker.prepare()
    await bench.screen.wait_until_quiet(bench.broker_pid, bench.patience_s)
    try:
        timing = await _timed(worker, place, source, bench)
    finally:
        worker.stop()
    judged = await judge(source, place)
    sizes = _by_kind(await bench.topics.sizes_bytes(), place)
    await bench.clear(place)
    usage, started_ms = timing.usage, timing.started_ms or timing.launched.at_ms
    last_ms = timing.last.at_ms if timing.last is not None else started_ms
    return Run(
        program=program.name,
        pair=pair,
        records=source.records,
        end=timing.end.value,
        startup_s=(started_ms - timing.launched.at_ms) / 1_000,
        duration_s=(last_ms - started_ms) / 1_000,
        cpu_us_per_event=usage.worker_s / source.records * 1e6,
        broker_cpu_us_per_event=usage.broker_s / source.records * 1e6,
        peak_mb=timing.peak_mb,
        other_cores=usage.other_cores,
        is_void=usage.is_void,
        lost=judged.missing,
        repeated=judged.repeated,
        out_of_order=judged.out_of_order,
        unexpected=judged.unexpected,
        sizes_bytes=sizes,
    )


async def judge(source: Input, place: Place) -> Comparison:
    """Compare what a ``read_committed`` reader finds with what must be there."""
    expectation = source.expectation
    access = {"bootstrap_servers": place.broker}
    ids = await read_ids(place.output, access, expectation.emitted.keys())
    return compare(expectation, ids, dead_letters=0)


async def _timed(worker: Contestant, place: Place, source: Input, bench: Bench) -> _Timing:
    timing = _Timing(read_machine(None, bench.broker_pid))
    worker.launch()
    async for look in watch(worker, place, source, bench.topics, STALL_S):
        pid = worker.pid
        if timing.first is None and (started_ms := worker.started_ms()) is not None:
            timing.started_ms = started_ms
            timing.first = read_machine(pid, bench.broker_pid)
        if look.has_moved and pid is not None:
            timing.last = read_machine(pid, bench.broker_pid)
            timing.peak_mb = peak_mb(pid)
            bench.screen.show(f"{place.app}: {look.visible / source.expectation.events:.0%}")
        if look.end is not None:
            timing.end = look.end
            break
    return timing


def _by_kind(sizes: Mapping[str, int], place: Place) -> dict[str, int]:
    """Sizes of what the run has written; what all programs read is left out."""
    return {
        "results": sizes.get(place.output, 0),
        "changelogs": sum(size for topic, size in sizes.items() if "changelog" in topic),
        "accounts": sizes.get("edo.accounts", 0),
    }
