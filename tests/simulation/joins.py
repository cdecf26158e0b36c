"""Correlation in the world: tasks that read topics, tasks that correlate, and the same blows.

When an event came to Kafka is in its record, so what must fire follows from what was sent: whatever
is killed, cut off or late, a wait is complete if its events came in time, and times out if not.
"""

from collections import defaultdict
from dataclasses import dataclass
from random import Random
from typing import Any
from zlib import crc32

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.asked import Replies
from edo_stream.core.contract import DedupePolicy, NoOrder
from edo_stream.core.correlation.changes import WaitState, apply, decode_change
from edo_stream.core.correlation.feed import JoinTrigger, ValueOf
from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.correlation.rows import WAIT, WaitRow, decode_wait
from edo_stream.core.correlation.spec import (
    Absent,
    Correlation,
    JoinSpec,
    Kind,
    Named,
    OnTimeout,
    Target,
)
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.routing import Route, Routes
from edo_stream.core.state import as_is
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.trigger import FlowTrigger
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.joins import JoinTask
from edo_stream.engine.plans import group_tables
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.observe.audit.application import Audit, Internal
from edo_stream.observe.audit.evidence import Bounds, Closing
from edo_stream.observe.audit.report import Findings, Place
from edo_stream.observe.audit.waits import part_of
from edo_stream.testing.broker import Entry, NewRecord
from tests.simulation.judge import ACCOUNTS, judge
from tests.simulation.load import START_MS, Arrival, Group, contract_of, decode
from tests.simulation.scenario import scenario_of
from tests.simulation.world import APP, Scenario, World

WITHIN_MS = 2_000
RESULTS = "joined.results"
INPUTS = {"a": "in.a.sent", "b": "in.b.sent"}
KINDS: dict[str, Kind] = {"pair": Named(2), "alone": Absent("a", "b")}
GROUP = "joins"
TOPIC = f"edo.joins.{GROUP}"
LETTERS = "joined.dead"
CHANGELOG = f"{APP}-{GROUP}-state-changelog"


Times = dict[str, list[int]]


@dataclass(frozen=True)
class JoinGroup(Group):
    """The group whose tasks correlate."""

    @property
    def topics(self) -> list[str]:
        return [TOPIC, self.control]


def join_scenario_of(seed: int) -> Scenario:
    """The scenario of a seed: the blows of the decide plane's, events that belong together."""
    scenario = scenario_of(seed)
    random = Random(f"{seed} joins")
    partitions = random.choice((1, 2))
    contracts = tuple(
        contract_of(topic, "in", partitions, NoOrder(), DedupePolicy()) for topic in INPUTS.values()
    )
    scenario.groups = [
        Group("in", partitions, contracts),
        JoinGroup(GROUP, random.choice((1, 2, 3)), ()),
    ]
    arrivals = []
    for number in range(random.randrange(4, 24)):
        at_s = random.uniform(0, 8.0)
        for name in random.choice(("a", "b", "ab", "ab", "ab", "aab", "abb")):
            away_s = random.choice((0.0, random.uniform(0, 2.5), random.uniform(0, 5.0)))
            arrivals += _arrivals(random, name, f"k{number}", at_s + away_s, partitions)
    scenario.arrivals = sorted(arrivals, key=lambda arrival: arrival.at_s)
    scenario.standbys = random.choice((0, 1))
    return scenario


def _arrivals(random: Random, name: str, key: str, at_s: float, partitions: int) -> list[Arrival]:
    """An event, now and then twice, now and then by a slow transaction."""
    value = msgspec.json.encode({"id": f"{name}/{key}/{at_s}", "k": key})
    # Keyed by something else than what it is correlated by.
    own_key = f"{name}{crc32(key.encode()) % 9}".encode()
    place = TopicPartition(INPUTS[name], crc32(own_key) % partitions)
    open_s = random.choice((None, None, None, random.uniform(0, 3.0)))
    # Every event asks one of the flows what comes of it.
    flow = sorted(KINDS)[crc32(value) % len(KINDS)]
    asks = (("ce_edoreplyto", f"{replies_of(flow).topic}/{crc32(key.encode()) % 2}".encode()),)
    return [
        Arrival(at_s, place, [NewRecord(START_MS + int(at_s * 1000), own_key, value, asks)], open_s)
        for _ in range(random.choice((1, 1, 1, 2)))
    ]


def correlation_of(flow: str) -> Correlation:
    return Correlation(
        flow=flow,
        owner="simulation",
        kind=KINDS[flow],
        inputs=("a", "b"),
        target=Target(RESULTS, 1, flow),
        outcomes=LETTERS,
        dead_letters=LETTERS,
        partitions=3,
        within_ms=WITHIN_MS,
        on_timeout=OnTimeout.PARTIAL,
        history=history_of(flow),
        replies=replies_of(flow),
    )


def replies_of(flow: str) -> Replies:
    return Replies(flow, f"edo.replies.{flow}", 2)


def history_of(flow: str) -> str:
    return f"edo.waits.{flow}"


class JoinWorld(World):
    """The world with a group that reads topics and one that correlates."""

    def __init__(self, seed: int, keeps_trace: bool = False) -> None:
        super().__init__(join_scenario_of(seed), keeps_trace)

    def _create_topics(self) -> None:
        super()._create_topics()
        self.broker.create(RESULTS, 1)
        self.broker.create(LETTERS, 3)
        for flow in KINDS:
            self.broker.create(replies_of(flow).topic, 2)
        for topic in (CHANGELOG, *map(history_of, KINDS)):
            self.broker.create(topic, self.scenario.groups[1].partitions)
        del self.tables["joins-ids"]
        self.tables["joins-state"] = (CHANGELOG, as_is)

    def _plan(self, group: Group) -> GroupPlan:
        own = self._correlating if isinstance(group, JoinGroup) else self._reading
        return own(group, self._task_spec(group), self._internal(group))

    def _reading(self, group: Group, spec: TaskSpec, internal: InternalTopics) -> GroupPlan:
        partitions = self.scenario.groups[1].partitions
        sources = {
            contract.topic: Source(contract, decode, self._routes(name, partitions))
            for name, contract in zip(INPUTS, group.contracts, strict=True)
        }

        def make_pipeline(partition: int, rows: Any) -> Pipeline:
            identity = TaskIdentity(APP, group.name, partition)
            return Pipeline(identity, sources, rows[0], rows[1], internal, IdsBudget())

        return GroupPlan(spec, group.partitions, group_tables(APP, group.name), make_pipeline)

    def _correlating(self, group: Group, spec: TaskSpec, internal: InternalTopics) -> GroupPlan:
        flows = self._correlations()
        upstream = tuple((topic, self.scenario.groups[0].partitions) for topic in INPUTS.values())
        joins = JoinSpec(TOPIC, group.partitions, flows, upstream)

        def make_pipeline(partition: int, rows: Any) -> JoinPipeline:
            identity = TaskIdentity(APP, group.name, partition)
            return JoinPipeline(identity, joins, LETTERS, rows[0], internal)

        tables = [GroupTable("joins-state", CHANGELOG, as_is)]
        return GroupPlan(spec, group.partitions, tables, make_pipeline, JoinTask)

    def _judge(self) -> None:
        reading = self.scenario.groups[:1]
        names = ("in-state", "in-ids")
        platters = {}
        for number in range(reading[0].partitions):
            worker = self._owner("in", number)
            assert worker is not None
            for table in names:
                platters[table, number] = self.platter(worker.machine, table, number)
        tables = {table: self.tables[table] for table in names}
        judge(self.broker, reading, tables, platters, self.fail)
        self._judge_results()

    def _judge_results(self) -> None:
        judge_joins(self)
        judge_replies(self)
        judge_histories(self)
        judge_audit(self)

    def _correlations(self) -> dict[str, Correlation]:
        return {flow: correlation_of(flow) for flow in KINDS}

    def _routes(self, name: str, partitions: int) -> Routes:
        """Every event goes to all flows."""
        return Routes(
            Route(
                FlowTrigger(flow, TOPIC, LETTERS, partitions),
                feed=JoinTrigger(
                    flow=flow,
                    input=name,
                    topic=TOPIC,
                    partitions=partitions,
                    dead_letters=LETTERS,
                    dead_letter_partitions=3,
                    owner="simulation",
                    key=ValueOf("/k"),
                    replies=correlation.replies,
                ),
            )
            for flow, correlation in self._correlations().items()
        )


def expected_of(events: Times) -> dict[str, set[str]]:
    """What each flow's only result may say, by the times of a key's events; ``""``: there is none.

    It is one thing where each input has one event. Of several, it matters which are read first:
    one completes the wait at once, or takes the place of another, before what opens it is read.
    """
    a, b = sorted(set(events["a"])), sorted(set(events["b"]))
    first_ms = min(a + b)
    pair = {"timeout"}
    if any(abs(one - other) <= WITHIN_MS for one in a for other in b):
        pair.add("complete")
    if len(a) == len(b) == 1 and max(a + b) <= first_ms + WITHIN_MS:
        pair.remove("timeout")
    alone = {"absent", ""}
    if len(a) <= 1:
        followed = [at for at in a if any(at <= other <= at + WITHIN_MS for other in b)]
        alone = {"absent"} if len(followed) < len(a) else {""}
    return {"pair": pair, "alone": alone}


def sent_to(world: JoinWorld) -> dict[str, Times]:
    """Times of the events that were sent, by key and input."""
    sent: dict[str, Times] = defaultdict(lambda: defaultdict(list))
    names = {topic: name for name, topic in INPUTS.items()}
    for arrival in world.scenario.arrivals:
        for record in arrival.records:
            key = msgspec.json.decode(record.value or b"")["k"]
            sent[key][names[arrival.place.topic]].append(record.timestamp)
    return sent


def judge_replies(world: JoinWorld) -> None:
    """Each event that has asked is told once what came of it, where it asked; with its result."""
    asked = {
        msgspec.json.decode(record.value or b"")["id"]: (record.headers[0][1] or b"").decode()
        for arrival in world.scenario.arrivals
        for record in arrival.records
    }
    replies: dict[str, list[Entry]] = defaultdict(list)
    results: dict[tuple[str, bytes | None], Entry] = {}
    for place, log in world.broker.logs.items():
        for entry in log.committed():
            headers = {name: (value or b"").decode() for name, value in entry.headers}
            if place.topic.startswith("edo.replies."):
                replies[headers["ce_edorequestid"]].append(entry)
            elif place.topic == RESULTS:
                results[headers["edo-flow"], entry.value] = entry
    if sorted(asked) != sorted(replies):
        world.fail(f"not told: {asked.keys() - replies.keys()}")
    for event, (reply, *more) in replies.items():
        flow = reply.topic.rpartition(".")[2]
        result = results.get((flow, reply.value))
        is_with_it = result is None or result.txn is reply.txn
        if more or f"{reply.topic}/{reply.partition}" != asked[event] or not is_with_it:
            world.fail(f"{event}: not one reply, there, with its result: {reply}, {more}")


def judge_histories(world: JoinWorld) -> None:
    """What was told of the waits adds up to their rows."""
    for number in range(world.scenario.groups[1].partitions):
        rows: dict[bytes, WaitRow] = {}
        for entry in world.broker.logs[TopicPartition(CHANGELOG, number)].committed():
            if entry.key is not None and entry.key[:1] == WAIT:
                rows.pop(entry.key[1:], None)
                if entry.value is not None:
                    rows[entry.key[1:]] = decode_wait(entry.value)
        told: dict[bytes, WaitState] = defaultdict(WaitState)
        for flow in KINDS:
            for entry in world.broker.logs[TopicPartition(history_of(flow), number)].committed():
                change = decode_change(entry.value or b"")
                apply(told[flow.encode() + b"\0" + (entry.key or b"")], change)
        found = {name: state.row for name, state in told.items() if state.row is not None}
        if rows != found:
            odd = [name for name in rows.keys() | found if rows.get(name) != found.get(name)]
            world.fail(f"partition {number}: history of {odd} is not its state")


def judge_audit(world: JoinWorld) -> None:
    """The accounts of what waits agree with the results."""
    internal = Internal([TOPIC], parts={flow: part_of(correlation_of(flow)) for flow in KINDS})
    audit = Audit(APP, [TOPIC], Findings(20), internal=internal)
    places = {place: log for place, log in world.broker.logs.items() if place.topic == TOPIC}
    for place, log in places.items():
        entries = log.committed()
        end = entries[-1].offset + 1 if entries else 0
        next_offset = world.broker.offsets.get(place)
        audit.source(*place, Bounds(0, next_offset, max(end, next_offset or 0)))
    for place, log in world.broker.logs.items():
        for entry in log.committed():
            at = Place(*place, entry.offset)
            if place.topic == ACCOUNTS:
                audit.account(entry.value, at, is_firm=True)
            elif place.topic == RESULTS:
                audit.firing(entry.headers, at)
            elif place.topic == TOPIC:
                audit.records(TOPIC, place.partition, [entry.offset])
    closings = {tuple(place): Closing(0, has_committed=True) for place in places}
    report = audit.conclude(closings, has_all_accounts=True)
    if not report.is_clean:
        world.fail(f"the audit finds {[str(one) for one in report.findings]}")


def judge_joins(world: JoinWorld) -> None:
    """Each key has the result that the times of its events lead to, once."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    ids = []
    for entry in world.broker.logs[TopicPartition(RESULTS, 0)].committed():
        data = msgspec.json.decode(entry.value or b"")
        found[data["key"], data["flow"]].append(data["reason"])
        ids.append(dict(entry.headers)["ce_id"])
    if len(ids) != len(set(ids)):
        world.fail("two results have one id")
    for place, log in world.broker.logs.items():
        if place.topic == LETTERS and (letters := list(log.committed())):
            world.fail(f"dead letters: {letters}")
    for key, events in sent_to(world).items():
        for flow, reasons in expected_of(events).items():
            results = found[key, flow] or [""]
            if len(results) > 1 or results[0] not in reasons:
                times = {name: [at - START_MS for at in ats] for name, ats in events.items()}
                world.fail(f"{flow} of {key}: {results}, not {reasons}: {times}")
