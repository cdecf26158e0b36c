"""The act plane in the world: real act tasks, executors that take time and fail, the same blows.

What an executor does is written down outside of all workers, as the outside world would see it.
Workers share rates and breakers by the real tasks that own targets, over the same network.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.act.breaker import BreakerPolicy
from edo_stream.core.act.command import Command
from edo_stream.core.act.keeper import KeeperTopics, TargetKeeper, TargetPolicy
from edo_stream.core.act.ladder import Ladder, RetryPolicy
from edo_stream.core.act.limits import RateLimit
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.core.act.pipeline import ActPipeline
from edo_stream.core.act.policy import ActSpec, Delivery, FlowPolicy, Order, Singleton
from edo_stream.core.act.tags import CANCEL_TAG, TAGS, encode_tag, encode_tags
from edo_stream.core.act.turns import THROTTLE, KeyLimit, Throttle
from edo_stream.core.headers import time_text
from edo_stream.core.state import as_is
from edo_stream.core.task import TASK_KEY, TaskIdentity
from edo_stream.engine.act import ActTask
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.fleet import Fleet
from edo_stream.engine.keepers import ANSWERS, GROUP, KeeperTask, keeper_changelog
from edo_stream.engine.target import Protection, Slot, Target, Targets
from edo_stream.testing.broker import Entry, NewRecord
from tests.simulation.judge import ACCOUNTS, GAPS
from tests.simulation.load import START_MS, Arrival, Group
from tests.simulation.scenario import scenario_of
from tests.simulation.world import (
    APP,
    SESSION_TIMEOUT_S,
    Scenario,
    Worker,
    World,
)

TIERS = {300: "edo.retry.act.300ms", 600: "edo.retry.act.600ms", 1_200: "edo.retry.act.1200ms"}
FLOWS = ("ship", "bill")
#: Ends without a run, or with one that was ended.
FIELD = "/order"
UNRUN = ("skipped", "limited", "cancelled")
REPLIES = "edo.replies.simulation"
_REPLY_PARTITIONS = 3
_LETTERS = "edo.dead"
_CHANGELOG = f"{APP}-act-state-changelog"
_NAME = "act"
_TIMEOUTS_S = (0.5, 30.0)
_REQUESTS = 0.4
_BREAKER = BreakerPolicy(open_ms=200, open_max_ms=800, consecutive=4, window=8, probes=2)


class BugError(Exception):
    """An executor that raises what it should not; the simulation wants that logged."""


class Run(NamedTuple):
    """An executor's call, as the outside sees it."""

    at_ms: int
    command_id: str
    attempt: int
    process: str
    is_fresh: bool
    """Not a retry."""


@dataclass
class Probe:
    """A run that probes, on the clock of the world."""

    target: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class ActGroup(Group):
    """A group of the act plane; ``spec`` says all."""

    spec: ActSpec
    policies: Mapping[str, TargetPolicy]
    target_of: Mapping[str, str]
    """By flow."""

    @property
    def topics(self) -> list[str]:
        commands = [flow.commands for flow in self.spec.flows.values()]
        return [*commands, *self.spec.tiers.values(), self.control]


def act_group(random: Random) -> ActGroup:
    """A group of two flows with any policies."""
    retry = RetryPolicy(300, 2, 1_200, random.randrange(4), jitter=random.choice((0.0, 0.5)))
    flows = {flow: _policy(random, flow, retry) for flow in FLOWS}
    spec = ActSpec(
        flows,
        Ladder(tuple(TIERS)),
        TIERS,
        _LETTERS,
        window_max=random.choice((3, 1_000)),
        parked_max=random.choice((4, 1_000)),
    )
    rates = (None, RateLimit(5), RateLimit(20, 5))
    targets = random.choice((dict(zip(FLOWS, FLOWS, strict=True)), dict.fromkeys(FLOWS, "both")))
    policies = {target: TargetPolicy(_BREAKER, random.choice(rates)) for target in targets.values()}
    return ActGroup(_NAME, random.choice((1, 2, 3)), (), spec, policies, targets)


def policy_of(flow: str, **rest: Any) -> FlowPolicy:
    """A flow of the simulation, on topics that bear its name."""
    return FlowPolicy(
        flow=flow,
        owner="simulation",
        commands=f"edo.commands.{flow}",
        outcomes=f"edo.outcomes.{flow}",
        dead_letters=f"edo.dead.{flow}",
        **rest,
    )


def _policy(random: Random, flow: str, retry: RetryPolicy) -> FlowPolicy:
    order = random.choice((Order.STRICT, Order.STRICT, Order.RELAXED))
    singletons = (None, None, None, *Singleton) if order is Order.STRICT else (None,)
    return policy_of(
        flow,
        order=order,
        delivery=random.choice(list(Delivery)),
        retry=retry,
        parked_per_key_max=random.choice((1, 100)),
        singleton=random.choice(singletons),
        throttle=random.choice((None, None, Throttle(2, 1_000), Throttle(4, 2_000, 3))),
        rate_limit=random.choice((None, None, KeyLimit(2, 3_000))),
        replies=REPLIES if flow == "ship" else None,
        reply_partitions=_REPLY_PARTITIONS,
        has_tags=order is Order.STRICT,
    )


def _tag_of(number: int) -> str:
    return f"t{number % 5}"


def _tag_cancels(random: Random, group: ActGroup) -> list[Arrival]:
    """Events that cancel commands of any key, on every partition."""
    arrivals = []
    for number in range(random.choice((0, 5, 20))):
        flow, tag, at_s = random.choice(FLOWS), _tag_of(number), random.uniform(0, 12.0)
        if not group.spec.flows[flow].has_tags:
            continue
        for partition in range(group.partitions):
            name = f"{flow}/{tag}/cancel-tag-{number}-{partition}".encode()
            headers = (
                ("ce_id", name),
                ("ce_causationid", name),
                ("edo-flow", flow.encode()),
                ("edo-cancel", b"announced"),
                (CANCEL_TAG, encode_tag(FIELD, tag)),
            )
            record = NewRecord(START_MS + int(at_s * 1000), tag.encode(), None, headers)
            for topic in (group.control, f"edo.commands.{flow}"):
                late_s = random.choice((0.0, 0.0, random.uniform(0, 2.0)))
                arrivals.append(Arrival(at_s + late_s, TopicPartition(topic, partition), [record]))
    return arrivals


def is_meant(mark: Entry, entry: Entry) -> bool:
    """Whether what cancels means a command, by its key or its tag; wherever both lie."""
    tag, tags = dict(mark.headers).get(CANCEL_TAG), dict(entry.headers).get(TAGS)
    if tag is None:
        return (mark.topic, mark.key) == (entry.topic, entry.key)
    field, value = msgspec.json.decode(tag)
    is_there = (mark.topic, mark.partition) == (entry.topic, entry.partition)
    return is_there and tags is not None and msgspec.json.decode(tags).get(field) == value


def _control(random: Random, group: ActGroup) -> list[Arrival]:
    """Events that cancel commands, and operators who pause flows for a while."""
    arrivals = []
    for number in range(random.choice((0, 0, 5, 20))):
        flow, key, at_s = random.choice(FLOWS), f"k{random.randrange(4)}", random.uniform(0, 12.0)
        if group.spec.flows[flow].order is Order.RELAXED:
            continue
        name = f"{flow}/{key}/cancel-{number}".encode()
        headers = (
            ("ce_id", name),
            ("ce_causationid", name),
            ("edo-flow", flow.encode()),
            ("edo-cancel", b"announced"),
        )
        record = NewRecord(START_MS + int(at_s * 1000), key.encode(), None, headers)
        partition = crc32(key.encode()) % group.partitions
        # One transaction in life: here they may be read far apart.
        for topic in (group.control, f"edo.commands.{flow}"):
            late_s = random.choice((0.0, 0.0, random.uniform(0, 2.0)))
            arrivals.append(Arrival(at_s + late_s, TopicPartition(topic, partition), [record]))
    for flow in FLOWS if random.random() < 0.3 else ():
        since_s = random.uniform(0, 8.0)
        until_s = since_s + random.uniform(0, 6.0)
        # Requests overtake one another on their way: the last one is for sure.
        for verb, at_s in (("pause", since_s), ("resume", until_s), ("resume", 30.0)):
            request = {"op": f"flow.{verb}", "flow": flow, "key": ""}
            record = NewRecord(START_MS + int(at_s * 1000), b"", msgspec.json.encode(request))
            places = [TopicPartition(group.control, one) for one in range(group.partitions)]
            arrivals += [Arrival(at_s, place, [record]) for place in places]
    return arrivals


def act_scenario_of(seed: int) -> Scenario:
    """The scenario of a seed: the blows of the decide plane's, the load of the act plane."""
    scenario = scenario_of(seed)
    random = Random(f"{seed} act")
    group = act_group(random)
    arrivals = []
    moments = sorted(random.uniform(0, 12.0) for _ in range(random.randrange(1, 9)))
    for number in range(random.randrange(5, 60)):
        flow, key = random.choice(FLOWS), f"k{random.randrange(4)}"
        at_s = random.choice(moments)
        headers = [("ce_id", f"{flow}/{key}/{number}".encode()), ("ce_type", b"t")]
        if group.spec.flows[flow].has_tags:
            headers.append((TAGS, encode_tags({FIELD: _tag_of(number)})))
        if random.random() < _REQUESTS:
            until_ms = START_MS + int(1000 * (at_s + random.choice((0.5, 2.0, 60.0))))
            headers += [
                ("ce_edoreplyto", f"{REPLIES}/{number % _REPLY_PARTITIONS}".encode()),
                ("ce_expirytime", time_text(until_ms) or b""),
            ]
        record = NewRecord(START_MS + int(at_s * 1000), key.encode(), b"{}", tuple(headers))
        place = TopicPartition(f"edo.commands.{flow}", crc32(key.encode()) % group.partitions)
        arrivals.append(Arrival(at_s, place, [record]))
    arrivals += _control(random, group)
    arrivals += _tag_cancels(Random(f"{seed} tags"), group)
    # A wiped disk is restored, retention only takes what was read: all blows mean the same here.
    scenario.groups = [group, Group(GROUP, random.choice((1, 2)), ())]
    scenario.arrivals = sorted(arrivals, key=lambda arrival: arrival.at_s)
    scenario.standbys = 0
    return scenario


class ActWorld(World):
    """The world with one act group; judged by its own rules."""

    def __init__(
        self, seed: int, keeps_trace: bool = False, scenario: Scenario | None = None
    ) -> None:
        self.runs: list[Run] = []
        self.probes: list[Probe] = []
        self.calls: dict[str, list[tuple[int, str]]] = defaultdict(list)
        """When calls of a target were allowed, and to which process."""
        self.executors = Random(f"{seed} executors")
        super().__init__(scenario or act_scenario_of(seed), keeps_trace)

    @property
    def group(self) -> ActGroup:
        group, _ = self.scenario.groups
        assert isinstance(group, ActGroup)
        return group

    def fail(self, message: str) -> None:
        if not message.startswith("BUG: BugError"):
            super().fail(message)

    def _create_topics(self) -> None:
        broker, partitions = self.broker, self.group.partitions
        for topic in (ACCOUNTS, GAPS):
            broker.create(topic, 2)
        for flow in self.group.spec.flows.values():
            broker.create(flow.outcomes, partitions)
            broker.create(flow.dead_letters, partitions)
        broker.create(REPLIES, _REPLY_PARTITIONS)
        for topic in (*self.group.topics, _LETTERS, _CHANGELOG):
            broker.create(topic, partitions)
        self.tables["act-state"] = (_CHANGELOG, as_is)
        _, owners = self.scenario.groups
        for topic in (owners.control, ANSWERS, keeper_changelog(APP)):
            broker.create(topic, owners.partitions)
        self.tables[f"{GROUP}-state"] = (keeper_changelog(APP), as_is)

    def _keeper_plan(self, group: Group) -> GroupPlan:
        topics, policies = KeeperTopics(ANSWERS, ACCOUNTS, 2), self.group.policies

        def make_keeper(partition: int, rows: Any) -> TargetKeeper:
            identity = TaskIdentity(APP, GROUP, partition)
            return TargetKeeper(identity, "owner", policies, rows[0], topics)

        tables = [GroupTable(f"{GROUP}-state", keeper_changelog(APP), as_is)]
        spec = self._task_spec(group)
        return GroupPlan(spec, group.partitions, tables, make_keeper, KeeperTask)

    def _plan(self, group: Group) -> GroupPlan:
        if not isinstance(group, ActGroup):
            return self._keeper_plan(group)
        internal = self._internal(group)
        act_spec = group.spec

        def make_pipeline(partition: int, rows: Any) -> ActPipeline:
            return ActPipeline(TaskIdentity(APP, _NAME, partition), act_spec, rows[0], internal)

        tables = [GroupTable("act-state", _CHANGELOG, as_is)]
        return GroupPlan(self._task_spec(group), group.partitions, tables, make_pipeline, ActTask)

    def targets_of(self, worker: Worker) -> Targets:
        random = self.executors
        running: set[bytes] = set()

        async def execute(command: Command) -> Outcome:
            if self.group.spec.flows[command.flow].order is Order.RELAXED:
                return await call(command)
            if command.queue in running:
                self.fail(f"{worker.process} runs {command.id} beside another one of its key")
            running.add(command.queue)
            try:
                return await call(command)
            finally:
                running.discard(command.queue)

        async def call(command: Command) -> Outcome:
            partition = int(command.origin.split("/")[1])
            member = worker.membership
            is_silent = self.loop.time() - member.answered_at >= SESSION_TIMEOUT_S
            if is_silent and not self.coordinator.has(member.name, (_NAME, partition)):
                self.fail(f"{worker.process} runs {command.id}, cut off from the group")
            if _is_expired(command, self.now_ms()):
                self.fail(f"{worker.process} runs {command.id}, whose time is over")
            is_fresh = command.first_ms is None
            run = Run(self.now_ms(), command.id, command.attempt, worker.process.name, is_fresh)
            self.say(f"{worker.process} runs {command.id}, attempt {command.attempt}")
            self.runs.append(run)
            await asyncio.sleep(random.choice((0.0, 0.001, 0.05, 1.0)) * random.random())
            if random.random() < 0.03:
                raise BugError("an executor's bug")
            kinds = (
                Done(b"{}"),
                Failed(FailureClass.TRANSIENT, "t"),
                Failed(FailureClass.THROTTLED, "h", retry_after_ms=random.choice((100, 2_000))),
                Failed(FailureClass.BUSINESS, "b"),
                Failed(FailureClass.POISON, "p"),
            )
            return random.choices(kinds, (6.0, 3.0, 0.5, 0.5, 0.5))[0]

        protection = Protection(
            concurrency=random.choice((1, 2, 50)),
            is_adaptive=random.random() < 0.5,
            timeout_s=random.choice(_TIMEOUTS_S),
            rate_per_key=random.choice((None, RateLimit(2, 3))),
            letters_max=1_000_000,
        )
        fleet = self._fleet(worker)
        targets: dict[str, Target] = {}
        for flow in FLOWS:
            gate = fleet.gates[self.group.target_of[flow]]
            targets[flow] = _Watched(self, worker.process.name, flow, execute, protection, gate)
        return targets

    def _fleet(self, worker: Worker) -> Fleet:
        """A worker's gates; what it says takes its time, overtakes, and may get lost."""
        _, owners = self.scenario.groups
        process, broker, network = worker.process, self.broker, self.network

        def send(target: str, value: bytes) -> None:
            place = TopicPartition(owners.control, crc32(target.encode()) % owners.partitions)
            if not self.faults.strikes("ask-fails"):
                record = NewRecord(self.now_ms(), target.encode(), value)
                network.call(process, broker.append, place, [record])

        async def listen() -> None:
            logs = [broker.logs[TopicPartition(ANSWERS, n)] for n in range(owners.partitions)]
            positions = {log: log.last_stable for log in logs}
            news = asyncio.Event()
            broker.listeners.append(news.set)
            while True:
                await news.wait()
                news.clear()
                for log in logs:
                    found, positions[log] = await network.call(
                        process, log.read, positions[log], 100
                    )
                    for entry in found:
                        fleet.hear(entry.value)

        fleet = Fleet(APP, process.name, self.group.policies, send)
        process.start(listen())
        return fleet

    def _restless(self) -> str | None:
        for number in range(self.group.partitions):
            task = self._task(_NAME, number)
            if isinstance(task, ActTask) and (task.has_work or task._act.ready_flows()):
                return f"{task.name}: commands run, or are about to"
            if isinstance(task, ActTask) and task._act.release(0) is not None:
                return f"{task.name}: keys rest"
        return super()._restless()

    def _judge(self) -> None:
        judge_act(self)
        for number in range(self.group.partitions):
            worker = self._owner(_NAME, number)
            assert worker is not None
            rows = self.platter(worker.machine, "act-state", number).rows
            # Those of limits go when their time has passed.
            if left := [row for row in rows if row != TASK_KEY and row[:1] not in b"tl"]:
                self.fail(f"act-{number}: rows outlive their commands: {left}")


class _Watched(Target):
    """A target whose calls and probes are written down."""

    def __init__(self, world: ActWorld, process: str, *parts: Any) -> None:
        super().__init__(*parts)
        self._world = world
        self._process = process

    def begin(self, key: bytes) -> Slot | None:
        slot = super().begin(key)
        if slot is not None and slot.ticket is not None:
            # At most once, the call follows when it is committed that it begins.
            self._world.calls[self.name].append((self._world.now_ms(), self._process))
        return slot

    async def run_in(self, slot: Slot, command: Command) -> Outcome:
        if slot.ticket is None or not slot.ticket.probe:
            return await super().run_in(slot, command)
        now_s = self._world.loop.time()
        # A process that is killed or frozen goes on outside for its time limit at most.
        probe = Probe(self.name, now_s, now_s + self.protection.timeout_s)
        self._world.probes.append(probe)
        try:
            return await super().run_in(slot, command)
        finally:
            probe.end_s = min(probe.end_s, self._world.loop.time())


def _is_expired(command: Command, now_ms: int) -> bool:
    until = dict(command.headers).get("ce_expirytime") if command.flow == "ship" else None
    return until is not None and until <= (time_text(now_ms) or b"")


def judge_act(world: ActWorld) -> None:
    """Each command has one end, in order; no run is early, unannounced, or once too often."""
    sent = [
        (entry.headers[0][1] or b"").decode()
        for place, log in world.broker.logs.items()
        if place.topic.startswith("edo.commands.")
        for entry in log.committed()
        if "edo-cancel" not in dict(entry.headers)
    ]
    ends: dict[str, list[Entry]] = defaultdict(list)
    announced: dict[tuple[str, int], list[int]] = defaultdict(list)
    entries = sorted(
        (entry for log in world.broker.logs.values() for entry in log.committed()),
        key=lambda entry: entry.appended_at,
    )
    for entry in entries:
        headers = {name: (value or b"").decode() for name, value in entry.headers}
        if entry.topic.startswith(("edo.outcomes.", "edo.dead")):
            ends[headers.get("ce_causationid") or headers["ce_id"]].append(entry)
        elif entry.topic in TIERS.values():
            at_ms = int(headers.get("edo-not-before-ms") or headers["edo-due-ms"])
            announced[headers["ce_id"], int(headers["edo-attempt"])].append(at_ms)
    for command_id in sent:
        if len(ends.get(command_id, [])) != 1:
            world.fail(f"{command_id} has {len(ends.get(command_id, []))} ends")
    ran = {one: found for one, found in ends.items() if kind_of(found[0]) not in UNRUN}
    _judge_order(world, sent, ran)
    _judge_turns(world, sent, ends)
    _judge_unrun(world, ends)
    _judge_throttles(world)
    _judge_cancels(world)
    _judge_replies(world, ends)
    _judge_runs(world, ends, announced)
    _judge_fates(world)
    _judge_rates(world)
    _judge_probes(world)


def kind_of(end: Entry) -> str:
    """How an outcome says that a command ended; empty for a dead letter."""
    if end.topic.startswith("edo.dead"):
        return ""
    return (dict(end.headers)["ce_type"] or b"").decode().rpartition(".")[2]


def _judge_unrun(world: ActWorld, ends: Mapping[str, list[Entry]]) -> None:
    """What cancels a command lies behind it; none is passed over for one that had ended."""
    logs = [log for place, log in world.broker.logs.items() if ".commands." in place.topic]
    entries = {
        (dict(entry.headers)["ce_id"] or b"").decode(): entry
        for log in logs
        for entry in log.committed()
    }
    places = {name: (one.topic, one.key, one.offset) for name, one in entries.items()}
    for command_id, (end, *_) in ends.items():
        kind = kind_of(end)
        told = msgspec.json.decode(end.value or b"null") if kind in UNRUN else {}
        if kind == "cancelled" and told["reason"] == "event":
            cause, entry = entries[told["event"]], entries[command_id]
            if not is_meant(cause, entry) or cause.offset < entry.offset:
                world.fail(f"{command_id} at {places[command_id]} is cancelled by {told}")
        elif kind == "skipped":
            other = told.get("running") or told["replaced-by"]
            before = ends[other][0].appended_at if other in ends else end.appended_at
            if places[other][:2] != places[command_id][:2] or before < end.appended_at:
                world.fail(f"{command_id} is skipped for {other}, which had ended")


def _judge_cancels(world: ActWorld) -> None:
    """Once it is committed that a cancel was read, nothing of its key before its mark begins."""
    logs = [log for place, log in world.broker.logs.items() if ".commands." in place.topic]
    entries = {
        (dict(entry.headers)["ce_id"] or b"").decode(): entry
        for log in logs
        for entry in log.committed()
    }
    known_ms = _cancels_read(world)
    for run in world.runs:
        flow = world.group.spec.flows[run.command_id.split("/")[0]]
        entry = entries[run.command_id]
        for name, at_ms in known_ms.items():
            mark = entries[name]
            is_before = is_meant(mark, entry) and entry.offset < mark.offset
            # What was begun, at most once, is let to its end.
            is_judged = is_before and flow.delivery is Delivery.AT_LEAST_ONCE
            if is_judged and run.at_ms > at_ms:
                world.fail(f"{run} began after {name} was read, at {at_ms}")


def _cancels_read(world: ActWorld) -> dict[str, float]:
    """When it was committed that a mark, or its announcement, was read: by the id, epoch ms."""
    applied: dict[tuple[str, int, int], float] = {}
    for place, log in world.broker.logs.items():
        for entry in log.committed() if place.topic == ACCOUNTS else ():
            account = msgspec.json.decode(entry.value or b"", type=Account)
            for run in account.runs:
                offsets = range(run.offset, run.offset + run.length)
                read = ((account.topic, account.partition, offset) for offset in offsets)
                applied.update(dict.fromkeys(read, START_MS + 1_000 * entry.appended_at + 1))
    cancels = [
        entry
        for log in world.broker.logs.values()
        for entry in log.committed()
        if "edo-cancel" in dict(entry.headers)
    ]
    known: dict[str, float] = {}
    for entry in cancels:
        name = (dict(entry.headers)["ce_id"] or b"").decode()
        at_ms = applied[entry.topic, entry.partition, entry.offset]
        known[name] = min(at_ms, known.get(name, at_ms))
    return known


def _judge_throttles(world: ActWorld) -> None:
    """A first run takes a start that was committed for its key, and starts have their pace."""
    allowed: dict[str, list[int]] = defaultdict(list)
    for place, log in world.broker.logs.items():
        for entry in log.committed() if place.topic == _CHANGELOG else ():
            if entry.key and entry.key[:1] == THROTTLE and entry.value is not None:
                flow, _, key = entry.key[1:].decode().partition("\0")
                throttle = world.group.spec.flows[flow].throttle
                assert throttle is not None
                free_us = int.from_bytes(entry.value, "big")
                begin_us = free_us - throttle.burst * throttle.interval_us
                allowed[f"{flow}/{key}"].append(-(-begin_us // 1_000))
    runs: dict[str, list[int]] = defaultdict(list)
    for run in world.runs:
        flow, key, _ = run.command_id.split("/")
        if run.is_fresh and world.group.spec.flows[flow].throttle is not None:
            runs[f"{flow}/{key}"].append(run.at_ms)
    for queue, times in runs.items():
        starts = sorted(allowed[queue])
        if len(times) > len(starts) or any(
            at_ms < starts[n] for n, at_ms in enumerate(sorted(times))
        ):
            world.fail(f"{queue} ran at {times}, and might at {starts}")


def _judge_rates(world: ActWorld) -> None:
    """Over any time a target has no more calls than its rate, and a lease a worker."""
    for target, calls in world.calls.items():
        rate = world.group.policies[target].rate
        if rate is None:
            continue
        most = rate.burst + rate.lease_max * len({process for _, process in calls})
        for index, (begin_ms, _) in enumerate(calls):
            for count, (end_ms, _) in enumerate(calls[index:], start=1):
                if count > most + (end_ms - begin_ms + 1) / 1000 * rate.per_s:
                    world.fail(f"{target}: {count} calls in {begin_ms} to {end_ms}: {rate}")
                    return


def _judge_probes(world: ActWorld) -> None:
    by_target: dict[str, list[Probe]] = defaultdict(list)
    for probe in sorted(world.probes, key=lambda probe: probe.begin_s):
        by_target[probe.target].append(probe)
    for probes in by_target.values():
        for probe, later in pairwise(probes):
            if later.begin_s < probe.end_s:
                world.fail(f"two probes at a time: {probe} and {later}")


def _judge_replies(world: ActWorld, ends: Mapping[str, list[Entry]]) -> None:
    """Each request of a flow that replies is told of its end: once, where it asked, and with it."""
    replies: dict[str, list[Entry]] = defaultdict(list)
    for place, log in world.broker.logs.items():
        for entry in log.committed() if place.topic == REPLIES else ():
            replies[(dict(entry.headers)["ce_causationid"] or b"").decode()].append(entry)
    asked = {
        (headers["ce_id"] or b"").decode(): (headers["ce_edoreplyto"] or b"").decode()
        for place, log in world.broker.logs.items()
        if place.topic == "edo.commands.ship"
        for headers in (dict(entry.headers) for entry in log.committed())
        if "ce_edoreplyto" in headers
    }
    if sorted(asked) != sorted(replies):
        world.fail(f"asked for by {sorted(asked)}, told to {sorted(replies)}")
    for command_id, (reply, *more) in replies.items():
        place = f"{reply.topic}/{reply.partition}"
        end = ends[command_id][0]
        if more or place != asked.get(command_id) or reply.txn is not end.txn:
            world.fail(f"{command_id}: not one reply, there, with its end: {reply}, {more}")


def _judge_order(world: ActWorld, sent: list[str], ends: Mapping[str, list[Entry]]) -> None:
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for command_id in sent:
        flow, key, _ = command_id.split("/")
        if world.group.spec.flows[flow].order is Order.RELAXED or command_id not in ends:
            continue
        # Outcomes and dead letters are in logs of their own: time and offset order both.
        found = ends[command_id][0]
        before = last.get((flow, key))
        if before is not None and found.appended_at < before[0]:
            world.fail(f"{command_id} ended before {before[1]}")
        last[flow, key] = (found.appended_at, command_id)  # type: ignore[assignment]


def _judge_turns(world: ActWorld, sent: list[str], ends: Mapping[str, list[Entry]]) -> None:
    """Nothing begins before it is committed how all before it of its key have ended."""
    known_ms: dict[str, float] = {}
    latest_ms: dict[tuple[str, str], float] = {}
    for command_id in sent:
        flow, key, _ = command_id.split("/")
        if world.group.spec.flows[flow].order is Order.STRICT and command_id in ends:
            known_ms[command_id] = latest_ms.get((flow, key), 0.0)
            ended_ms = START_MS + 1_000 * ends[command_id][0].appended_at
            latest_ms[flow, key] = max(known_ms[command_id], ended_ms)
    for run in world.runs:
        if run.at_ms + 1 < known_ms.get(run.command_id, 0.0):
            world.fail(f"{run} began before all before it of its key had ended")


def _judge_runs(
    world: ActWorld,
    ends: Mapping[str, list[Entry]],
    announced: Mapping[tuple[str, int], list[int]],
) -> None:
    times = Counter((run.command_id, run.attempt) for run in world.runs)
    for run in world.runs:
        flow = world.group.spec.flows[run.command_id.split("/")[0]]
        due = announced.get((run.command_id, run.attempt), [])
        if run.attempt > 1 and (not due or run.at_ms < min(due)):
            world.fail(f"{run}: announced for {due}")
        allowed = len(due) + (run.attempt == 1)
        count = times[run.command_id, run.attempt]
        if flow.delivery is Delivery.AT_MOST_ONCE and count > allowed:
            world.fail(f"{run}: {count} runs, {allowed} allowed")
        if run.attempt > flow.retry.retries + 1:
            world.fail(f"{run}: more attempts than {flow.retry.retries + 1}")


def _judge_fates(world: ActWorld) -> None:
    accounts = [
        msgspec.json.decode(entry.value or b"", type=Account)
        for place, log in world.broker.logs.items()
        for entry in log.committed()
        if place.topic == ACCOUNTS
    ]
    read, settled = _fates(accounts, "runs"), _fates(accounts, "settled")
    twice = [name for fates in (read, settled) for name, found in fates.items() if len(found) > 1]
    if twice:
        world.fail(f"accounted for twice: {twice}")
    held = {name for name, found in read.items() if found == [Fate.HELD.value]}
    if held != set(settled):
        world.fail(f"held and not settled, or settled and not held: {held ^ set(settled)}")
    for place, log in world.broker.logs.items():
        missing = [entry.offset for entry in log.committed() if (*place, entry.offset) not in read]
        if missing and any(place.topic in group.topics for group in world.scenario.groups):
            world.fail(f"{place} {missing}: no fate")


def _fates(accounts: list[Account], part: str) -> dict[tuple[str, int, int], list[str]]:
    fates: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for account in accounts:
        for run in getattr(account, part):
            for offset in range(run.offset, run.offset + run.length):
                fates[account.topic, account.partition, offset].append(run.fate)
    return fates
