"""Machines with workers on them, the broker they share, and the hand that hurts them.

A worker is one incarnation: a process with the real assignment and tasks in it. Its machine keeps
the disks when it dies, and starts another one later.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aiokafka import TopicPartition

from edo_stream.core.contract import Start
from edo_stream.core.dedupe import expand_ids
from edo_stream.core.known_ids import IN_MEMORY_MAX, IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.state import Expand, as_is
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.engine.assignment import Assignment, GroupPlan
from edo_stream.engine.global_tables import GlobalTables
from edo_stream.engine.hooks import Hooks
from edo_stream.engine.pace import Pace
from edo_stream.engine.plans import group_tables
from edo_stream.engine.ports import Disk
from edo_stream.engine.target import Targets
from edo_stream.engine.task import Phase, Task
from edo_stream.engine.task_spec import Ports, TaskSpec
from edo_stream.testing.broker import Broker
from edo_stream.testing.disk import Platter, SimulatedDisk
from edo_stream.testing.faults import Faults
from edo_stream.testing.intake import SimulatedChangelog, SimulatedFollower, SimulatedIntake
from edo_stream.testing.loop import (
    OUTSIDE,
    DeadlockError,
    LivelockError,
    Process,
    VirtualLoop,
)
from edo_stream.testing.network import Network
from edo_stream.testing.producer import Machinery, SimulatedProducer
from tests.simulation.group import Coordinator, SimulatedMembership
from tests.simulation.judge import ACCOUNTS, GAPS, Watch, judge
from tests.simulation.load import START_MS, Arrival, Group, decode

APP = "app"
SESSION_TIMEOUT_S = 6.0
REBALANCE_TIMEOUT_S = 12.0
HEARTBEAT_S = 1.5
TRANSACTION_TIMEOUT_S = 8.0
_STEPS_MAX = 400_000
#: Sessions, transactions and gap timers that were under way may all have to run out.
_QUIET_WITHIN_S = 150.0


@dataclass(frozen=True)
class Blow:
    """Something that is done to the world: what, when, to whom, and for how long."""

    at_s: float
    kind: str
    machine: int = 0
    lasts_s: float = 0.0


@dataclass
class Scenario:
    """All that makes a history; see :mod:`tests.simulation.scenario`."""

    seed: int
    groups: list[Group]
    arrivals: list[Arrival]
    machines: int
    rates: Mapping[str, float] = field(default_factory=dict)
    blows: list[Blow] = field(default_factory=list)
    hurts_until_s: float = 0.0
    fetch_records_max: int = 8
    batch_records_max: int = 20
    accepted_losses: frozenset[tuple[str, int, int, int]] = frozenset()
    is_refusal_wanted: bool = False
    standbys: int = 0


@dataclass
class Outcome:
    """What a run has come to."""

    failures: list[str]
    fired: Mapping[str, int]
    calls: int
    steps: int
    transactions: int
    resets: int
    fenced_requests: int
    lasted_s: float
    process_steps: dict[str, int]
    refusals: list[str]
    trace: list[str]


class World:
    """One history; :meth:`run` it once."""

    make_task: type[Task] = Task

    def __init__(self, scenario: Scenario, keeps_trace: bool = False) -> None:
        self.scenario = scenario
        seed = scenario.seed
        self.loop = VirtualLoop(Random(f"{seed} loop"), _STEPS_MAX)
        self.faults = Faults(Random(f"{seed} faults"), scenario.rates)
        self.broker = Broker(self.loop, Random(f"{seed} broker"))
        self.network = Network(self.loop, Random(f"{seed} network"))
        self.random = Random(f"{seed} world")
        self.failures: list[str] = []
        self.refusals: list[str] = []
        self.platters: dict[tuple[str, str, int], Platter] = {}
        self.workers: dict[int, Worker] = {}
        self.incarnations: dict[int, int] = {}
        self.ended: list[Worker] = []
        self.trace: deque[str] = deque(maxlen=5_000)
        self.keeps_trace = keeps_trace
        #: Called with each worker before it begins.
        self.prepare: Callable[[Worker], None] = lambda worker: None
        self.tables: dict[str, tuple[str, Expand]] = {}
        self._create_topics()
        self.watch = Watch(self.broker, self.tables, self.fail)
        self.broker.on_offset = self.watch.on_offset
        self.plans = {group.name: self._plan(group) for group in scenario.groups}
        self.coordinator = Coordinator(
            self.loop,
            Random(f"{seed} coordinator"),
            {
                (group.name, number): [TopicPartition(topic, number) for topic in group.topics]
                for group in scenario.groups
                for number in range(group.partitions)
            },
            SESSION_TIMEOUT_S,
            REBALANCE_TIMEOUT_S,
            scenario.standbys,
        )

    def run(self) -> Outcome:
        """From nothing to quiet, or to the first thing that must not be."""
        self.loop.set_exception_handler(self._on_exception)
        logger = logging.getLogger("edo_stream.engine")
        handler = _LogHandler(self)
        level, propagates = logger.level, logger.propagate
        logger.setLevel(logging.INFO if self.keeps_trace else logging.WARNING)
        logger.propagate = False
        logger.addHandler(handler)
        driver = self.loop.create_task(self._drive(), context=OUTSIDE)
        try:
            self.loop.run_forever()
            if driver.done() and not driver.cancelled() and (error := driver.exception()):
                raise error
        except (DeadlockError, LivelockError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagates
            outcome = self._outcome()
            self.loop.dispose()
        return outcome

    def fail(self, message: str) -> None:
        """Note what must not be; the history ends here."""
        self.say(f"FAILED {message}")
        self.failures.append(message)
        self.loop.stop()

    def say(self, message: str) -> None:
        """Add a line to the trace."""
        if self.keeps_trace:
            self.trace.append(f"{self.loop.time():9.4f} {message}")

    def now_ms(self) -> int:
        return START_MS + int(self.loop.time() * 1000)

    # -- topics and plans

    def _create_topics(self) -> None:
        broker = self.broker
        broker.create(ACCOUNTS, 2)
        broker.create(GAPS, 2)
        for group in self.scenario.groups:
            for topic in group.topics:
                broker.create(topic, group.partitions)
            for contract in group.contracts:
                broker.create(contract.emit, contract.emit_partitions)
                broker.create(contract.dead_letters, group.partitions)
            for name, expand in (("state", as_is), ("ids", expand_ids)):
                topic = f"{APP}-{group.name}-{name}-changelog"
                broker.create(topic, group.partitions)
                self.tables[f"{group.name}-{name}"] = (topic, expand)

    def _internal(self, group: Group) -> InternalTopics:
        return InternalTopics(ACCOUNTS, 2, GAPS, 2, group.control)

    def _task_spec(self, group: Group) -> TaskSpec:
        return TaskSpec(
            app=APP,
            group=group.name,
            sources={topic: Start() for topic in group.topics},
            transaction_timeout_s=TRANSACTION_TIMEOUT_S,
            session_timeout_s=SESSION_TIMEOUT_S,
            batch_records_max=self.scenario.batch_records_max,
            accepted_losses=self.scenario.accepted_losses,
        )

    def _plan(self, group: Group) -> GroupPlan:
        tables = group_tables(APP, group.name)
        internal = self._internal(group)
        sources = {contract.topic: Source(contract, decode) for contract in group.contracts}

        # Of every other history nearly all ids are rows.
        budget = IdsBudget(8 if self.scenario.seed % 2 else IN_MEMORY_MAX)

        def make_pipeline(partition: int, rows: Any) -> Pipeline:
            identity = TaskIdentity(APP, group.name, partition)
            return Pipeline(identity, sources, rows[0], rows[1], internal, budget)

        spec = self._task_spec(group)
        return GroupPlan(spec, group.partitions, tables, make_pipeline, make_task=self.make_task)

    def targets_of(self, worker: "Worker") -> Targets:
        """What the act tasks of a worker run commands by."""
        return {}

    def global_tables_of(self, worker: "Worker", machinery: Machinery) -> GlobalTables | None:
        """What the tasks of a worker look up in."""
        return None

    # -- the course of things

    async def _drive(self) -> None:
        scenario, loop = self.scenario, self.loop
        for machine in range(scenario.machines):
            self.launch(machine)
        for arrival in scenario.arrivals:
            loop.later(arrival.at_s, self._arrive, arrival)
        for blow in scenario.blows:
            loop.later(blow.at_s, self._strike, blow)
        await asyncio.sleep(scenario.hurts_until_s)
        self._heal()
        last_s = max((a.at_s + (a.open_s or 0.0) for a in scenario.arrivals), default=0.0)
        await asyncio.sleep(max(0.0, last_s - loop.time()) + 0.01)
        deadline = loop.time() + _QUIET_WITHIN_S
        while (restless := self._restless()) is not None:
            if loop.time() > deadline:
                self.fail(
                    f"STALLED: not quiet {_QUIET_WITHIN_S:.0f} s after the faults: {restless}"
                )
                return
            if self.refusals and scenario.is_refusal_wanted:
                break
            await asyncio.sleep(0.5)
        else:
            self._judge()
        loop.stop()

    def _arrive(self, arrival: Arrival) -> None:
        self.say(f"{len(arrival.records)} records come to {_short(arrival.place)}")
        if arrival.open_s is None:
            self.broker.append(arrival.place, arrival.records)
        else:
            txn = self.broker.open_foreign(arrival.place, arrival.records)
            self.loop.later(arrival.open_s, self.broker.end_foreign, txn, arrival.is_commit)

    def _restless(self) -> str | None:
        """What still has to happen, if anything."""
        for place, log in self.broker.logs.items():
            if log.unfinished:
                return f"open transaction in {place}"
        for group in self.scenario.groups:
            for number in range(group.partitions):
                task = self._task(group.name, number)
                if task is None or task.phase is not Phase.RUNNING:
                    phase = "no owner" if task is None else task.phase
                    return f"{group.name}-{number}: {phase}"
                if task._busy:
                    return f"{task.name}: a transaction is under way"
                if task.pipeline.next_due_ms() is not None:
                    return f"{task.name}: a timer is due at {task.pipeline.next_due_ms()}"
                for place in task.partitions:
                    offset = self.broker.offsets.get(place)
                    if offset is None or self.broker.logs[place].read(offset, 1)[0]:
                        return f"{place}: committed {offset}"
        return None

    def _task(self, group: str, number: int) -> Task | None:
        worker = self._owner(group, number)
        return None if worker is None else worker.assignment.tasks.get((group, number))

    def _owner(self, group: str, number: int) -> "Worker | None":
        name = self.coordinator.owners.get((group, number), "").partition("#")[0]
        return next((w for w in self.workers.values() if w.process.name == name), None)

    def _judge(self) -> None:
        platters = {}
        for group in self.scenario.groups:
            for number in range(group.partitions):
                worker = self._owner(group.name, number)
                assert worker is not None
                for table in (f"{group.name}-state", f"{group.name}-ids"):
                    platters[table, number] = self.platter(worker.machine, table, number)
        judge(self.broker, self.scenario.groups, self.tables, platters, self.fail)

    # -- workers

    def launch(self, machine: int) -> None:
        """Start a worker on a machine that has none."""
        if machine in self.workers:
            return
        incarnation = self.incarnations[machine] = self.incarnations.get(machine, -1) + 1
        worker = self.workers[machine] = Worker(self, machine, f"w{machine}.{incarnation}")
        self.say(f"{worker.process} starts")
        self.prepare(worker)
        worker.begin()

    def end(self, worker: "Worker", restart_s: float, why: str) -> None:
        """Kill a worker; its machine starts another one later."""
        worker.process.kill()
        self.buried(worker, restart_s, why)

    def buried(self, worker: "Worker", restart_s: float, why: str) -> None:
        if self.workers.get(worker.machine) is worker:
            self.say(f"{worker.process} is gone: {why}")
            del self.workers[worker.machine]
            self.ended.append(worker)
            self.loop.later(restart_s, self.launch, worker.machine)

    def platter(self, machine: int, table: str, number: int) -> Platter:
        place = (f"m{machine}", table, number)
        if place not in self.platters:
            self.platters[place] = Platter(*place)
        return self.platters[place]

    # -- blows

    def _strike(self, blow: Blow) -> None:
        strike: Callable[[Blow, Worker | None], bool] = getattr(self, f"_strike_{blow.kind}")
        worker = self.workers.get(blow.machine)
        if strike(blow, worker):
            self.faults.fired[blow.kind] += 1
            self.say(f"blow: {blow.kind} {worker and worker.process} for {blow.lasts_s:.3f} s")

    def _strike_kill(self, blow: Blow, worker: "Worker | None") -> bool:
        if worker is not None:
            self.end(worker, blow.lasts_s, "killed")
        return worker is not None

    def _strike_wipe(self, blow: Blow, worker: "Worker | None") -> bool:
        """Kill it, and lose its disks."""
        if worker is None:
            return False
        self.end(worker, blow.lasts_s, "killed, disks lost")
        for (machine, _, _), platter in self.platters.items():
            if machine == f"m{blow.machine}":
                platter.wipe()
        return True

    def _strike_pause(self, blow: Blow, worker: "Worker | None") -> bool:
        if worker is None or worker.process.is_paused:
            return False
        worker.process.pause()
        self.loop.later(blow.lasts_s, worker.process.resume)
        return True

    def _strike_mute(self, blow: Blow, worker: "Worker | None") -> bool:
        """Its heartbeats get lost: it is put out while it goes on."""
        if worker is None:
            return False
        worker.membership.is_mute = True
        self.loop.later(blow.lasts_s, setattr, worker.membership, "is_mute", False)
        return True

    def _strike_cut(self, blow: Blow, worker: "Worker | None") -> bool:
        if worker is None:
            return False
        self.network.cut_until[worker.process] = self.loop.time() + blow.lasts_s
        return True

    def _strike_leave(self, blow: Blow, worker: "Worker | None") -> bool:
        if worker is None or worker.is_leaving:
            return False
        worker.leave(blow.lasts_s)
        return True

    def _strike_add(self, blow: Blow, worker: "Worker | None") -> bool:
        self.launch(blow.machine)
        return worker is None

    def _strike_rebalance(self, blow: Blow, worker: "Worker | None") -> bool:
        self.coordinator.rebalance()
        return True

    def _strike_slow(self, blow: Blow, worker: "Worker | None") -> bool:
        self.network.slowness = 60.0
        self.broker.marker_delay_s_max = 2.0
        self.loop.later(blow.lasts_s, self._speed_up)
        return True

    def _speed_up(self) -> None:
        self.network.slowness = 1.0
        self.broker.marker_delay_s_max = 0.005

    def _strike_compact(self, blow: Blow, worker: "Worker | None") -> bool:
        for topic, _ in self.tables.values():
            for place, log in self.broker.logs.items():
                if place.topic == topic:
                    log.compact(self.random.randrange(log.end + 1))
        return True

    def _strike_retain(self, blow: Blow, worker: "Worker | None") -> bool:
        """Delete what was read from the sources."""
        for place, offset in self.broker.offsets.items():
            self.broker.logs[place].delete_before(self.random.randrange(offset + 1))
        return bool(self.broker.offsets)

    def _strike_fence(self, blow: Blow, worker: "Worker | None") -> bool:
        for transactional_id in list(self.broker.producers):
            self.broker.fence(transactional_id)
        return bool(self.broker.producers)

    def _strike_forget(self, blow: Blow, worker: "Worker | None") -> bool:
        for transactional_id in list(self.broker.producers):
            self.broker.forget_producer(transactional_id)
        return bool(self.broker.producers)

    def _heal(self) -> None:
        """The faults are over: everybody lives, is heard, and runs."""
        self.say("the faults are over")
        self.faults.is_over = True
        self._speed_up()
        self.network.cut_until.clear()
        for worker in list(self.workers.values()):
            worker.membership.is_mute = False
            if worker.process.is_paused:
                worker.process.resume()
        for machine in range(self.scenario.machines):
            self.launch(machine)

    # -- what goes wrong inside

    def _on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        message = context.get("message", "")
        if "never retrieved" in message or "was destroyed" in message:
            return
        error = context.get("exception")
        self.fail(f"{message}: {type(error).__name__}: {error}")

    def _outcome(self) -> Outcome:
        workers = [*self.ended, *self.workers.values()]
        return Outcome(
            failures=self.failures,
            fired=self.faults.fired,
            calls=self.faults.calls,
            steps=self.loop.steps,
            transactions=sum(worker.stats("transactions") for worker in workers),
            resets=sum(worker.stats("resets") for worker in workers),
            fenced_requests=self.broker.fenced_requests,
            lasted_s=self.loop.time(),
            process_steps={worker.process.name: worker.process.steps for worker in workers},
            refusals=self.refusals,
            trace=list(self.trace),
        )


class Worker:
    """One process with the real assignment in it."""

    def __init__(self, world: World, machine: int, name: str) -> None:
        self.machine = machine
        self.is_leaving = False
        self.process = Process(name, world.loop)
        self._world = world
        self._made: list[Task] = []
        machinery = Machinery(world.loop, self.process, world.broker, world.network, world.faults)
        scenario = world.scenario
        topics = [topic for group in scenario.groups for topic in group.topics]
        intake = SimulatedIntake(machinery, scenario.fetch_records_max, topics)
        self.intake = intake
        self.membership = SimulatedMembership(machinery, world.coordinator, intake, HEARTBEAT_S)
        ports = Ports(
            producers=lambda name: SimulatedProducer(machinery, name, TRANSACTION_TIMEOUT_S),
            changelog=SimulatedChangelog(machinery, scenario.fetch_records_max * 2),
            intake=intake,
            membership=self.membership,
            now_ms=world.now_ms,
            pace=Pace(),
            hooks=Hooks(stood_by=lambda _, records: self._stood_by(records)),
            targets=world.targets_of(self),
            global_tables=world.global_tables_of(self, machinery),
        )
        follower = SimulatedFollower(machinery, scenario.fetch_records_max * 2)
        self.assignment = Assignment(world.plans, ports, follower, self._open_disk, self.give_up)
        intake.offer = self.assignment.offer
        intake.on_out_of_range = self._reposition

    def begin(self) -> None:
        forget = self.intake.begin()
        world, process = self._world, self.process

        def on_death() -> None:
            forget()
            world.loop.later(0.0, world.buried, self, world.random.uniform(0.1, 10), "crashed")

        process.on_death = on_death
        process.start(self.membership.run(self)).add_done_callback(self._on_end)

    async def revoke(self) -> None:
        self._made += self.assignment.tasks.values()
        await self.assignment.revoke()

    async def assign(
        self, partitions: list[TopicPartition], standbys: list[TopicPartition]
    ) -> None:
        self._world.say(
            f"{self.process} has {len(partitions)} partitions, stands by for {len(standbys)}"
        )
        await self.assignment.assign(partitions, standbys)

    def leave(self, return_s: float) -> None:
        """Stop as on SIGTERM: tasks first, then the group."""
        self.is_leaving = True

        async def leave() -> None:
            await self.membership.leave()
            await self.assignment.close()
            self._world.loop.later(0.0, self._world.end, self, return_s, "left")

        self.process.start(leave())

    def stats(self, name: str) -> int:
        tasks = {id(task): task for task in [*self._made, *self.assignment.tasks.values()]}
        return sum(getattr(task.stats, name) for task in tasks.values())

    def _open_disk(self, table: str, partition: int, *_formats: int) -> Disk:
        world = self._world
        platter = world.platter(self.machine, table, partition)
        return SimulatedDisk(platter, self.process, world.faults, world.watch.on_write)

    def _stood_by(self, records: int) -> None:
        self._world.faults.fired["stood by"] += records

    def give_up(self, why: str) -> None:
        self._world.faults.fired["given-up"] += 1
        if why.partition(":")[0].endswith(" failed"):
            self._world.fail(f"BUG: {why}")
        self._world.end(self, 1.0, why)

    def _reposition(self, partition: TopicPartition) -> None:
        task = self.assignment.task_of(partition)
        if task is not None:
            task.reposition()

    def _on_end(self, done: "asyncio.Task[None]") -> None:
        if not done.cancelled() and (error := done.exception()) and isinstance(error, Exception):
            self._world.fail(f"{self.process}: membership ended: {type(error).__name__}: {error}")


class _LogHandler(logging.Handler):
    """Takes the engine's log to the trace, and finds refusals and bugs in it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        world = self._world
        world.say(f"{record.levelname} {record.getMessage()}")
        if record.msg.startswith("task stopped"):
            world.refusals.append(record.getMessage())
            if not world.scenario.is_refusal_wanted:
                world.fail(f"REFUSED: {record.getMessage()}")
        elif record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            if not _is_of_aiokafka(error):
                world.fail(f"BUG: {type(error).__name__}: {error}")


def _is_of_aiokafka(error: BaseException) -> bool:
    """What the client library raises beside its ``KafkaError``: the task resets on any."""
    return type(error).__name__ in ("IllegalOperation", "ConsumerStoppedError") or str(
        error
    ).startswith("Invalid state transition")


def _short(place: TopicPartition) -> str:
    return f"{place.topic}-{place.partition}"
