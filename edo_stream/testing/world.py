"""A project in a test: its contracts, its flows and a worker, on a broker in memory.

.. code-block:: python

    def test_an_order_is_shipped(edo_flows: FlowWorld) -> None:
        edo_flows.publish("shop.order.placed", {"order": {"id": "o-1"}}, key="o-1")
        (outcome,) = edo_flows.outcomes("ship-order")
        assert outcome.type == "edo.ship-order.done"

Theory of operation. The worker is the real one, from its assignment to its tasks, their
transactions and their state; what it speaks with is simulated. Time stands still between the
calls of a test, and within one it leaps from what is due to what is due next: an hour of retries
takes a moment. The same calls give the same history, record by record.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Self, cast

from aiokafka import TopicPartition

from edo_stream.actions.outside import Outside
from edo_stream.core.event import derive_id
from edo_stream.core.partitioner import partition_of
from edo_stream.engine.act_plans import act_plans, act_topics
from edo_stream.engine.assignment import Assignment, GroupPlan
from edo_stream.engine.fleet import Fleet
from edo_stream.engine.global_tables import GlobalTables
from edo_stream.engine.joins import join_plans, join_topics
from edo_stream.engine.keepers import ANSWERS, GROUP, REQUESTS
from edo_stream.engine.lookups import lookup_plans, lookup_topics, table_decoders
from edo_stream.engine.pace import Pace
from edo_stream.engine.plans import group_plans, wanted_topics
from edo_stream.engine.ports import Disk, ProducerFactory
from edo_stream.engine.saga_plans import saga_plans, saga_topics
from edo_stream.engine.target import Protection, Target, Targets
from edo_stream.engine.task_spec import Ports, TaskSpec
from edo_stream.engine.ticks import ticker_plans, ticker_topics
from edo_stream.flows import Flows, load_flows
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.in_python import import_from
from edo_stream.flows.targets import rate_limit, target_of, target_policies
from edo_stream.outgoing import Envelope, NotProducedError, Writer
from edo_stream.registry import Registry, load
from edo_stream.registry.plan import ACCOUNTS
from edo_stream.schedules.folder import Schedule, load_schedules
from edo_stream.testing.actions import Actions, Run, parsed
from edo_stream.testing.broker import Broker, Entry, NewRecord
from edo_stream.testing.disk import Platter, SimulatedDisk
from edo_stream.testing.faults import Faults
from edo_stream.testing.intake import (
    SimulatedChangelog,
    SimulatedFollower,
    SimulatedIntake,
    SimulatedTableFollower,
)
from edo_stream.testing.loop import OUTSIDE, START_MS, Process, VirtualLoop
from edo_stream.testing.network import Network
from edo_stream.testing.producer import Machinery, SimulatedProducer
from edo_stream.views import Phase

APP: Final = "edo"
_SOURCE: Final = "/edo/test"
_STEPS_MAX: Final = 50_000_000
_TRANSACTION_TIMEOUT_S: Final = 60.0
_SESSION_TIMEOUT_S: Final = 30.0
_FETCH_RECORDS_MAX: Final = 500
#: So long nothing is read, written or run, once it is quiet; no way to the broker takes as long.
_QUIET_S: Final = 0.2
_LOOK_S: Final = 0.01
_SLOWNESS: Final = 0.05
_MARKERS_S: Final = 0.000_5
_START_WITHIN_S: Final = 60.0
_RUNS_MAX: Final = 1_000
"""Of actions, until it is quiet again."""
#: What is said there says nothing of events.
_TALK: Final = frozenset({REQUESTS, ANSWERS, ACCOUNTS})


@dataclass(frozen=True, slots=True)
class Seen:
    """A record that readers of committed transactions see."""

    topic: str
    partition: int
    offset: int
    key: str
    type: str
    """Of the event; empty where it is none."""
    data: Any
    """Its JSON, parsed; bytes where it is none."""
    headers: dict[str, str]
    at_ms: int


class FlowWorld:
    """A project at work; not for tests that run in an event loop of their own."""

    def __init__(
        self, registry: Registry, flows: Flows, schedules: Iterable[Schedule] = (), seed: int = 1
    ) -> None:
        """Create the topics and start the worker; ``seed`` decides what happens at the same time.

        Raises:
            RegistryError: a schema cannot be used.
            HandlerError: a handler cannot be imported.
        """
        self.registry = registry
        self.flows = flows
        self.loop = VirtualLoop(Random(f"{seed} loop"), _STEPS_MAX)
        self.broker = Broker(self.loop, Random(f"{seed} broker"))
        self._faults = Faults(Random(f"{seed} faults"), {})
        self._process = Process("worker", self.loop)
        network = Network(self.loop, Random(f"{seed} network"))
        network.slowness, self.broker.marker_delay_s_max = _SLOWNESS, _MARKERS_S
        self._machinery = Machinery(self.loop, self._process, self.broker, network, self._faults)
        self._platters: dict[tuple[str, int], Platter] = {}
        self._errors: list[str] = []
        self._published = 0
        self._writers: dict[str, Writer] = {}
        self._actions = Actions(registry, Outside(self.now_ms, reads_secrets=False))
        self._plans = self._make_plans(list(schedules))
        self._fleet = Fleet(APP, "worker", target_policies(flows), self._say)
        self.loop.set_exception_handler(self._on_exception)
        self._assignment = self._make_worker()
        self._run_until(self._is_running, "start")

    @classmethod
    def of_project(cls, root: Path, seed: int = 1) -> Self:
        """The project of a folder with ``topics/``, and ``flows/`` and ``schedules/`` if any.

        Raises:
            RegistryError: with every mistake of every file.
        """
        import_from(root)
        registry = load(root / "topics")
        flows = load_flows(root / "flows", registry)
        schedules = load_schedules(root / "schedules", registry.entries)
        return cls(registry, flows, schedules.values(), seed)

    # -- what a test does

    def publish(self, topic: str, event: Any, key: str | None = None, **attributes: Any) -> str:
        """Write an event, or its data alone, as a producer would; what follows from it happens.

        ``attributes`` are those of :class:`~edo_stream.outgoing.Envelope`. Of a topic that others
        write (a database's changes), ``event`` is the record's value: bytes, or JSON. Returns the
        event's id.

        Raises:
            ContractError: it breaks its contract.
        """
        at_ms = self.now_ms()
        self._published += 1
        name = derive_id("test", topic, str(self._published))
        try:
            writer = self._writer(topic)
        except NotProducedError:
            value = event if isinstance(event, bytes | None) else json.dumps(event).encode()
            partitions = self.registry.entries[topic].declaration.partitions
            bare = None if key is None else key.encode()
            partition = partition_of(bare or name.encode(), partitions)
            record = NewRecord(at_ms, bare, value)
        else:
            data, told = _split(event)
            told |= {"id": told.get("id", name), "time_ms": at_ms} | attributes
            made = writer.record(data, Envelope(**(told if key is None else told | {"key": key})))
            name, partition = made.id, made.partition
            record = NewRecord(at_ms, made.key, made.value, tuple(made.headers))
        self.broker.append(TopicPartition(topic, partition), [record])
        self.settle()
        return name

    def settle(self) -> None:
        """Let happen what can happen now; what waits for its time goes on waiting."""
        quiet_since, before = self.loop.time(), self._activity()
        runs_max = len(self._actions.runs) + _RUNS_MAX

        async def settle() -> None:
            nonlocal quiet_since, before
            while self.loop.time() - quiet_since < _QUIET_S:
                await asyncio.sleep(_LOOK_S)
                now = self._activity()
                if now != before or self._actions.running:
                    quiet_since, before = self.loop.time(), now
                assert len(self._actions.runs) < runs_max, "it does not settle: is there a cycle?"

        self._drive(settle())

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that becomes due meanwhile."""

        async def pass_time() -> None:
            await asyncio.sleep(seconds)

        self._drive(pass_time())
        self.settle()

    def fail(self, flow: str, times: int = 1, error: Exception | None = None) -> None:
        """Have the next runs of a flow fail: for a passing reason, or with an error."""
        self._known(flow)
        self._actions.fail(flow, times, error)

    def answer(self, flow: str, answer: Any) -> None:
        """What the action of a flow comes to, instead of being done.

        An exception is raised, a value becomes the outcome's data, and a function is called with
        the :class:`~edo_stream.testing.actions.Run`.
        """
        self._known(flow)
        self._actions.answer(flow, answer)

    # -- what a test sees

    def now_ms(self) -> int:
        """Virtual time."""
        return START_MS + int(self.loop.time() * 1000)

    def runs(self, flow: str) -> list[Run]:
        """What the action of a flow was called with, attempts included."""
        self._known(flow)
        return [run for run in self._actions.runs if run.flow == flow]

    def outcomes(self, flow: str) -> list[Seen]:
        """How the commands of a flow ended that were no dead letters, and which waits failed."""
        return self.records(self._ends(flow).outcomes)

    def dead_letters(self, name: str) -> list[Seen]:
        """Dead letters of a flow, or of a topic."""
        if name in self.flows.flows or name in self.flows.joins:
            return self.records(self._ends(name).dead_letters)
        return self.records(self.registry.topics[name].contract.dead_letters)

    def results(self, topic: str) -> list[Seen]:
        """Events of a topic that went on: valid, each once, in order."""
        return self.records(self.registry.topics[topic].contract.emit)

    def records(self, topic: str) -> list[Seen]:
        """All records of a topic, in the order of their writing."""
        found: list[Entry] = []
        for place, log in self.broker.logs.items():
            if place.topic == topic:
                found += log.committed()
        found.sort(key=lambda entry: (entry.appended_at, entry.partition, entry.offset))
        return [_seen(entry) for entry in found]

    def close(self) -> None:
        """Stop the worker; what it has said of itself that should not be is raised."""
        self._fleet.close()
        self._process.kill()
        self.loop.dispose()
        assert not self._errors, "\n".join(self._errors)

    # -- the worker

    def _make_plans(self, schedules: Sequence[Schedule]) -> dict[str, GroupPlan]:
        spec = TaskSpec(
            app=APP,
            group="",
            sources={},
            transaction_timeout_s=_TRANSACTION_TIMEOUT_S,
            session_timeout_s=_SESSION_TIMEOUT_S,
        )
        wanted = wanted_topics(self.registry, APP, 1) + act_topics(self.flows, APP, 1)
        wanted += join_topics(self.flows, APP, 1) + saga_topics(self.flows, APP, 1)
        wanted += lookup_topics(self.flows, APP, 1)
        if schedules:
            wanted += ticker_topics(APP, 1)
        for topic in wanted:
            bytes_max = int(topic.config.get("max.message.bytes", 1 << 20))
            self.broker.create(topic.name, topic.partitions, bytes_max)
        for flow in self.flows.flows.values():
            action = flow.declaration.action
            if action.kind == "record" and action.partitions is not None:
                self.broker.create(action.topic, action.partitions)
        plans = group_plans(self.registry, spec, flows=self.flows)
        plans |= ticker_plans(schedules, self.registry.entries, spec)
        plans |= join_plans(self.flows, spec) | saga_plans(self.flows, spec)
        plans |= lookup_plans(self.flows, self.registry, spec)
        return plans | act_plans(self.flows, spec, "worker")

    def _make_worker(self) -> Assignment:
        machinery = self._machinery
        places = [
            TopicPartition(topic, number)
            for plan in self._plans.values()
            for topic in plan.spec.sources
            for number in range(plan.partitions)
        ]
        topics = list(dict.fromkeys(place.topic for place in places))
        intake = SimulatedIntake(machinery, _FETCH_RECORDS_MAX, topics)

        def producer(name: str) -> SimulatedProducer:
            return SimulatedProducer(machinery, name, _TRANSACTION_TIMEOUT_S)

        changelog = SimulatedChangelog(machinery, _FETCH_RECORDS_MAX)
        ports = Ports(
            producers=cast(ProducerFactory, producer),
            changelog=changelog,
            intake=intake,
            membership=_Alone(self.loop),
            now_ms=self.now_ms,
            pace=Pace(),
            targets=self._targets(),
            global_tables=GlobalTables(
                table_decoders(self.flows, self.registry),
                changelog,
                SimulatedTableFollower(machinery, _FETCH_RECORDS_MAX),
                self._disk,
                self.now_ms,
                self._errors.append,
            ),
        )
        follower = SimulatedFollower(machinery, _FETCH_RECORDS_MAX)
        assignment = Assignment(self._plans, ports, follower, self._disk, self._errors.append)
        intake.offer = assignment.offer

        async def begin() -> None:
            intake.begin()
            intake.hold_all(places, 1)
            await assignment.assign(places)

        self._process.start(begin())
        if self._fleet.gates:
            self._process.start(self._listen())
        return assignment

    def _targets(self) -> Targets:
        return {
            name: Target(
                name,
                self._actions.of(flow),
                _protection(flow.declaration),
                self._fleet.gates[target_of(flow.declaration)],
            )
            for name, flow in self.flows.flows.items()
        }

    def _say(self, target: str, value: bytes) -> None:
        """Tell the owner of a target."""
        place = TopicPartition(
            REQUESTS, partition_of(target.encode(), self._plans[GROUP].partitions)
        )
        record = NewRecord(self.now_ms(), target.encode(), value)
        self._machinery.network.call(self._process, self.broker.append, place, [record])

    async def _listen(self) -> None:
        """Hear what the owners of targets say."""
        logs = [log for place, log in self.broker.logs.items() if place.topic == ANSWERS]
        positions = dict.fromkeys(logs, 0)
        news = asyncio.Event()
        self.broker.listeners.append(news.set)
        while True:
            await news.wait()
            news.clear()
            for log in logs:
                found, positions[log] = log.read(positions[log], _FETCH_RECORDS_MAX)
                for entry in found:
                    self._fleet.hear(entry.value)

    def _disk(self, table: str, partition: int, *_formats: int) -> Disk:
        platter = self._platters.setdefault(
            (table, partition), Platter("machine", table, partition)
        )
        disk = SimulatedDisk(platter, self._process, self._faults, lambda *_: None)
        return cast(Disk, disk)

    # -- the course of things

    def _run_until(self, is_so: Callable[[], bool], what: str) -> None:
        async def wait() -> None:
            deadline = self.loop.time() + _START_WITHIN_S
            while not is_so():
                assert self.loop.time() < deadline, f"the worker does not {what}: {self._errors}"
                await asyncio.sleep(_LOOK_S)

        self._drive(wait())

    def _drive(self, course: Any) -> None:
        task = self.loop.create_task(course, context=OUTSIDE)
        self.loop.run_until_complete(task)
        self._errors += [
            f"task {one.name} stopped: {one.refusal}"
            for one in self._assignment.tasks.values()
            if one.refusal is not None
        ]
        assert not self._errors, "\n".join(self._errors)

    def _is_running(self) -> bool:
        wanted = sum(plan.partitions for plan in self._plans.values())
        tasks = self._assignment.tasks.values()
        return len(tasks) == wanted and all(task.phase is Phase.RUNNING for task in tasks)

    def _activity(self) -> tuple[int, int, int]:
        """Changes whenever something is written, read or run."""
        written = sum(
            log.last_stable for place, log in self.broker.logs.items() if place.topic not in _TALK
        )
        read = sum(
            offset for place, offset in self.broker.offsets.items() if place.topic not in _TALK
        )
        return written, read, len(self._actions.runs)

    def _writer(self, topic: str) -> Writer:
        if topic not in self._writers:
            entry = self.registry.entries[topic]
            sources = (one.source for one in entry.declaration.producers if one.source is not None)
            self._writers[topic] = Writer(entry, next(sources, _SOURCE))
        return self._writers[topic]

    def _known(self, flow: str) -> Any:
        assert flow in self.flows.flows, f"{flow} is none of {', '.join(self.flows.flows)}"
        return self.flows.flows[flow]

    def _ends(self, flow: str) -> Any:
        """What names the topics of a flow's ends; one that emits has waits, and no commands."""
        if flow not in self.flows.flows and flow in self.flows.joins:
            group = self.flows.joins[flow].when.group
            return self.flows.join_groups[group].spec.correlations[flow]
        return self._known(flow).policy

    def _on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        if "never retrieved" not in context.get("message", ""):
            self._errors.append(f"{context.get('message')}: {context.get('exception')!r}")


class _Alone:
    """The port ``Membership`` of a worker that nobody puts out."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    async def confirmed_since(self, moment: float, timeout_s: float) -> bool:
        """See :class:`edo_stream.engine.ports.Membership`."""
        return True

    def heard_at(self) -> float:
        """See :class:`edo_stream.engine.ports.Membership`."""
        return self._loop.time()


def _protection(declared: FlowDeclaration) -> Protection:
    return Protection(
        concurrency=declared.concurrency.max,
        timeout_s=declared.action.timeout / 1000,
        rate_per_key=rate_limit(declared.rate_per_key),
        letters_max=declared.letters_max,
    )


def _split(event: Any) -> tuple[Any, dict[str, Any]]:
    """Data, and what an event in JSON says around it."""
    if not isinstance(event, dict) or "specversion" not in event:
        return event, {}
    told = {name: event[name] for name in ("id", "source", "type", "subject") if name in event}
    own = {"specversion", "data", "datacontenttype", "time", *told}
    rest = {name: str(value) for name, value in event.items() if name not in own}
    return event.get("data"), {**told, "extensions": rest}


def _seen(entry: Entry) -> Seen:
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in entry.headers}
    return Seen(
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        key=(entry.key or b"").decode("utf-8", "replace"),
        type=headers.get("ce_type", ""),
        data=parsed(entry.value),
        headers=headers,
        at_ms=entry.timestamp,
    )
