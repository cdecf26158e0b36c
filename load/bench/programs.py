"""The programs that are compared: what each promises, where it takes part, how it is started."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.local.jvm import Report, java_environment
from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService
from edo_stream.registry import load
from load.bench.peers import own_python, peer_python, streams_command
from load.fleet import LocalWorker

PARTITIONS: Final = 4
OURS: Final = "ours"
#: Set for a program whose contract has a schema: every record is checked.
_CHECKED: Final = "BENCH_SCHEMA"


class Part(Enum):
    """What is measured."""

    SPEED = "speed"
    LATENCY = "latency"
    FAULTS = "faults"


_ALL: Final = frozenset(Part)


@dataclass(frozen=True, slots=True)
class Program:
    """One way to do the job."""

    name: str
    title: str
    promise: str
    """What it says of its results."""
    state: str
    """Where it keeps what it remembers."""
    command: Callable[[Report], list[str]] | None
    """Makes what it needs and gives its command line; ``None``: our own worker."""
    settings: Mapping[str, str] = field(default_factory=dict)
    changelogs: tuple[str, ...] = ()
    """Topics beside that of the results that it must find: ends of their names."""
    share: float = 1.0
    """Of the records, for programs that would need minutes for all of them."""
    parts: frozenset[Part] = _ALL


@dataclass(frozen=True, slots=True)
class Place:
    """Where one program works, alone: topics, group and directory of its own."""

    broker: str
    input: str
    output: str
    app: str
    directory: Path
    session_timeout_ms: int = 10_000
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment of this run, beside the program's own."""


PROGRAMS: Final = {
    program.name: program
    for program in (
        Program(OURS, "edo_stream", "exactly once", "RocksDB and changelog", None),
        Program(
            "ours_checked",
            "edo_stream, with a JSON Schema",
            "exactly once",
            "RocksDB and changelog",
            None,
            {_CHECKED: "1"},
            parts=frozenset({Part.SPEED}),
        ),
        Program(
            "kafka_streams_100ms",
            "Kafka Streams, commit 100 ms",
            "exactly once (v2)",
            "RocksDB and changelog",
            streams_command,
            {"BENCH_COMMIT_MS": "100"},
        ),
        Program(
            "kafka_streams_tuned",
            "Kafka Streams, commit 1,000 ms",
            "exactly once (v2)",
            "RocksDB and changelog",
            streams_command,
            {"BENCH_COMMIT_MS": "1000"},
            parts=frozenset({Part.SPEED, Part.LATENCY}),
        ),
        Program(
            "quix_eos",
            "Quix Streams",
            "exactly once",
            "RocksDB and changelog",
            lambda report: peer_python("quix.py", report),
            share=0.2,
        ),
        Program(
            "quix_eos_100ms",
            "Quix Streams, commit 100 ms",
            "exactly once",
            "RocksDB and changelog",
            lambda report: peer_python("quix.py", report),
            {"BENCH_COMMIT_S": "0.1"},
            parts=frozenset({Part.LATENCY}),
        ),
        Program(
            "faust",
            "raw Faust",
            "at least once",
            "RocksDB and changelog",
            lambda report: own_python("raw_faust.py", "worker", "-l", "warn"),
            # It would create them itself, and crash at times for it is not told of them at once.
            changelogs=("seen-changelog", "lines-changelog"),
            share=0.05,
        ),
        Program(
            "faust_eos",
            "raw Faust, exactly_once",
            "exactly once",
            "RocksDB and changelog",
            lambda report: own_python("raw_faust.py", "worker", "-l", "warn"),
            {"BENCH_GUARANTEE": "exactly_once"},
            changelogs=("seen-changelog", "lines-changelog"),
            share=0.05,
            parts=frozenset({Part.FAULTS}),
        ),
        Program(
            "faststream",
            "FastStream",
            "at most once",
            "memory only",
            lambda report: peer_python("fast_stream.py", report),
            share=0.05,
            parts=frozenset({Part.SPEED, Part.LATENCY}),
        ),
        Program(
            "plain_loop",
            "plain loop, aiokafka",
            "exactly once",
            "memory and changelog",
            lambda report: own_python("plain_loop.py"),
            changelogs=("changelog",),
        ),
        Program(
            "confluent_loop",
            "plain loop, confluent-kafka",
            "exactly once",
            "memory and changelog",
            lambda report: peer_python("confluent_loop.py", report),
            changelogs=("changelog",),
            share=0.3,
            parts=frozenset({Part.SPEED, Part.LATENCY}),
        ),
    )
}


class Peer(LocalService):
    """Another program, told of its job by variables of its environment."""

    title = "peer"
    stop_timeout_s = 8.0

    def __init__(self, program: Program, place: Place, report: Report) -> None:
        super().__init__(place.directory)
        assert program.command is not None, f"{program.name} is no peer"
        self.group = place.app
        self._command = program.command(report)
        self._place = place
        self._settings = {**program.settings, **place.settings}
        self._changelogs = program.changelogs

    @property
    def address(self) -> str:
        return self._place.app

    async def prepare(self) -> None:
        """Create the topics that a program expects to find."""
        changelogs = (f"{self._place.app}-{end}" for end in self._changelogs)
        async with Admin(BrokerAccess(self._place.broker)) as admin:
            await admin.create(
                Wanted(topic, PARTITIONS) for topic in (self._place.output, *changelogs)
            )

    def started_ms(self) -> int | None:
        """When it got its first record."""
        try:
            return int((self.directory / "started").read_text())
        except (FileNotFoundError, ValueError):  # Not there, or half of it.
            return None

    def _prepare(self) -> Launch:
        place = self._place
        return Launch(
            self._command,
            {
                **java_environment(),
                **self._settings,
                "BENCH_BROKER": place.broker,
                "BENCH_INPUT": place.input,
                "BENCH_OUTPUT": place.output,
                "BENCH_APP": place.app,
                "BENCH_DIRECTORY": str(self.directory),
                "BENCH_SESSION_TIMEOUT_MS": str(place.session_timeout_ms),
            },
        )

    def _is_ready(self, process: Process) -> bool:
        return True


CONTRACT: Final = """\
name: {input}
owner: team-bench
description: Records of the comparison.
codec: cloudevents
partitions: {partitions}
group: bench
dedupe:
  key: [source, id]
  ttl: 7d
ordering:
  policy: sequence
  field: sequence
  start: 1
  gap_timeout: 1h
emit:
  topic: {output}
"""
_VERSIONS: Final = "schema: {format: json, versions: {1: {note: First.}}}\n"
_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "account": {"type": "string", "minLength": 1, "pattern": "^[a-z0-9-]+$"},
        "number": {"type": "integer", "minimum": 0},
        "amount_cents": {"type": "integer", "minimum": 0, "maximum": 100_000},
        "note": {"type": "string", "maxLength": 1_000},
    },
    "required": ["account", "number", "amount_cents"],
    "additionalProperties": False,
}
#: The moment from which on it may process; the time in front is the log's, in local time.
_RUNNING: Final = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3})\].*task running")


class Ours(LocalWorker):
    """``faust -A edo_stream.app worker`` on a contract written for the run."""

    def __init__(self, place: Place, is_checked: bool = False) -> None:
        environment = {
            "EDO_BROKER": place.broker,
            "EDO_SERVICE": place.app,
            "EDO_TOPICS": str(place.directory / "topics"),
            "EDO_SESSION_TIMEOUT_MS": str(place.session_timeout_ms),
            "EDO_HEARTBEAT_INTERVAL_MS": "2000",
            **place.settings,
        }
        super().__init__(place.directory, environment)
        self.group = f"{place.app}-decide"
        self._place = place
        self._is_checked = is_checked

    async def prepare(self) -> None:
        """Write the contract and create its topics."""
        place = self._place
        topics = place.directory / "topics"
        folder = topics / place.input
        folder.mkdir(parents=True)
        contract = CONTRACT.format(input=place.input, output=place.output, partitions=PARTITIONS)
        if self._is_checked:
            contract += _VERSIONS
            (folder / "v1.schema.json").write_text(json.dumps(_SCHEMA), encoding="utf-8")
        (folder / "contract.yaml").write_text(contract, encoding="utf-8")
        async with Admin(BrokerAccess(place.broker)) as admin:
            await admin.create(wanted_topics(load(topics), self.group, 1))

    def started_ms(self) -> int | None:
        """When its first task began; a little before the first record."""
        try:
            found = _RUNNING.search(self.log.read_text(errors="replace"))
        except FileNotFoundError:
            return None
        if found is None:
            return None
        at = datetime.fromisoformat(found[1]).astimezone()
        return int(at.timestamp()) * 1_000 + int(found[2])


Contestant = Peer | Ours


def contestant(program: Program, place: Place, report: Report) -> Contestant:
    """Make the service that does the job at a place."""
    os.makedirs(place.directory)
    if program.command is None:
        return Ours(place, is_checked=_CHECKED in program.settings)
    return Peer(program, place, report)
