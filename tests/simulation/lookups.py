"""Lookups in the world: a task that reads events, tasks that keep rows, and the same blows.

What must come of an event follows from when it and its rows came: whatever is killed, cut off or
late, a row that was there in time is found, and one that was not is missed only after its time.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from zlib import crc32

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.contract import DedupePolicy, NoOrder
from edo_stream.core.correlation.feed import ValueOf
from edo_stream.core.facts import Facts
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.lookup.pipeline import LookupPipeline
from edo_stream.core.lookup.rows import rows_of
from edo_stream.core.lookup.spec import Enrichment, Lookup, LookupSpec, OnMissing
from edo_stream.core.partitioner import partition_of
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.routing import Route, Routes
from edo_stream.core.state import as_is
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.trigger import FlowTrigger
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.lookups import LookupTask
from edo_stream.engine.plans import group_tables
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.testing.broker import Log, NewRecord
from tests.simulation.judge import judge
from tests.simulation.load import START_MS, Arrival, Group, contract_of, decode
from tests.simulation.scenario import scenario_of
from tests.simulation.world import APP, Scenario, World

WAIT_MS = 2_000
#: How long each flow waits for a row.
FLOWS = {"patient": WAIT_MS, "hasty": 0}
EVENTS, ROWS = "in.a.sent", "rows.a.kept"
NAME = "lookups"
_TOPIC, _LETTERS = f"edo.{NAME}", "lookups.dead"
_CHANGELOG = f"{APP}-{NAME}-state-changelog"


@dataclass(frozen=True)
class LookupGroup(Group):
    """The group whose tasks look up."""

    @property
    def topics(self) -> list[str]:
        return [_TOPIC, ROWS, self.control]


def commands_of(flow: str) -> str:
    return f"edo.commands.{flow}"


def lookup_scenario_of(seed: int) -> Scenario:
    """The scenario of a seed: the blows of the decide plane's, events and rows of some keys."""
    scenario = scenario_of(seed)
    random = Random(f"{seed} lookups")
    partitions, tables = random.choice((1, 2)), random.choice((1, 2, 3))
    contracts = (contract_of(EVENTS, "in", partitions, NoOrder(), DedupePolicy()),)
    scenario.groups = [Group("in", partitions, contracts), LookupGroup(NAME, tables, ())]
    arrivals: list[Arrival] = []
    for number in range(random.randrange(2, 10)):
        key, events = f"k{number}", random.randrange(0, 5)
        arrivals += [event_of(random, key, count, partitions) for count in range(events)]
        rows = random.choice((0, 1, 1, 2, 3))
        home = partition_of(key.encode(), tables)
        arrivals += [row_of(random, key, count, home) for count in range(rows)]
    scenario.arrivals = sorted(arrivals, key=lambda arrival: arrival.at_s)
    scenario.standbys = random.choice((0, 1))
    return scenario


def event_of(random: Random, key: str, count: int, partitions: int) -> Arrival:
    """An event, now and then by a slow transaction."""
    at_s = random.uniform(0, 9.0)
    value = msgspec.json.encode({"id": f"{key}/{count}", "k": key})
    own_key = f"o{crc32(key.encode()) % 3}".encode()
    place = TopicPartition(EVENTS, crc32(own_key) % partitions)
    open_s = random.choice((None, None, None, random.uniform(0, 3.0)))
    return Arrival(at_s, place, [NewRecord(START_MS + int(at_s * 1000), own_key, value)], open_s)


def row_of(random: Random, key: str, count: int, partition: int) -> Arrival:
    """A row, now and then by a slow transaction; or a tombstone."""
    at_s = random.uniform(0, 12.0)
    value = msgspec.json.encode({"id": f"{key}/{count}", "v": count})
    place = TopicPartition(ROWS, partition)
    is_deleted = random.random() < 0.15
    open_s = random.choice((None, None, None, random.uniform(0, 3.0)))
    moment_ms = START_MS + int(at_s * 1000)
    record = NewRecord(moment_ms, key.encode(), None if is_deleted else value)
    return Arrival(at_s, place, [record], open_s)


def scenario_of_a_table_that_is_read_late(
    open_s: float, looking: type[LookupGroup] = LookupGroup
) -> Scenario:
    """Nothing goes wrong, but the newest row is in a transaction that ends after the event came."""
    contract = contract_of(EVENTS, "in", 1, NoOrder(), DedupePolicy())
    table, events = TopicPartition(ROWS, 0), TopicPartition(EVENTS, 0)

    def record(key: bytes, **value: Any) -> NewRecord:
        return NewRecord(START_MS, key, msgspec.json.encode(value))

    arrivals = [
        Arrival(0.0, table, [record(b"k", id="r", v=1)]),
        Arrival(0.001, table, [record(b"k", id="r", v=2)], open_s),
        Arrival(0.0, events, [record(b"o", id=f"e{number}", k="k") for number in range(3)]),
    ]
    groups = [Group("in", 1, (contract,)), looking(NAME, 1, ())]
    return Scenario(seed=1, groups=groups, arrivals=arrivals, machines=1)


def scenario_of_a_table_that_comes_back() -> Scenario:
    """Nothing goes wrong; an event comes while the table is looked up, and one when it is again."""
    scenario = scenario_of_a_table_that_is_read_late(0.0)
    row, _, events = scenario.arrivals
    first, last, _ = events.records
    scenario.arrivals = [
        row,
        Arrival(1.0, events.place, [first]),
        Arrival(50.0, events.place, [last]),
    ]
    scenario.hurts_until_s = 31.0
    return scenario


def _made(facts: Facts) -> bytes:
    """The data of a command: which event, and which row of it."""
    whole = facts.whole
    return msgspec.json.encode({"event": whole["data"], "row": whole["lookup"]["row"]})


class LookupWorld(World):
    """The world with a group that reads events and one that looks up."""

    waits_ms: Mapping[str, int] = FLOWS
    global_partitions = 0

    def __init__(
        self, seed: int, keeps_trace: bool = False, scenario: Scenario | None = None
    ) -> None:
        super().__init__(scenario or lookup_scenario_of(seed), keeps_trace)

    def _create_topics(self) -> None:
        super()._create_topics()
        for flow in FLOWS:
            self.broker.create(commands_of(flow), 1)
        self.broker.create(_LETTERS, 3)
        self.broker.create(_CHANGELOG, self.scenario.groups[1].partitions)
        del self.tables["lookups-ids"]
        self.tables["lookups-state"] = (_CHANGELOG, as_is)

    def _plan(self, group: Group) -> GroupPlan:
        own = self._looking if isinstance(group, LookupGroup) else self._reading
        return own(group, self._task_spec(group), self._internal(group))

    def _reading(self, group: Group, spec: TaskSpec, internal: InternalTopics) -> GroupPlan:
        routes = Routes(
            Route(enrichment.trigger, enrichment=enrichment)
            for enrichment in self._enrichments().values()
        )
        (contract,) = group.contracts
        sources = {EVENTS: Source(contract, decode, routes)}

        def make_pipeline(partition: int, rows: Any) -> Pipeline:
            identity = TaskIdentity(APP, group.name, partition)
            return Pipeline(identity, sources, rows[0], rows[1], internal, IdsBudget())

        return GroupPlan(spec, group.partitions, group_tables(APP, group.name), make_pipeline)

    def _looking(self, group: Group, spec: TaskSpec, internal: InternalTopics) -> GroupPlan:
        tables = {ROWS: decode}
        if self.global_partitions:
            tables = {}
        lookups = LookupSpec(_TOPIC, group.partitions, _LETTERS, tables, self._enrichments())

        def make_pipeline(partition: int, rows: Any) -> LookupPipeline:
            identity = TaskIdentity(APP, group.name, partition)
            return LookupPipeline(identity, lookups, rows[0], internal)

        state = [GroupTable("lookups-state", _CHANGELOG, as_is)]
        return GroupPlan(spec, group.partitions, state, make_pipeline, LookupTask)

    def _enrichments(self) -> dict[str, Enrichment]:
        reading, looking = self.scenario.groups
        return {
            flow: Enrichment(
                FlowTrigger(flow, commands_of(flow), _LETTERS, 1, make=_made),
                _LETTERS,
                (
                    Lookup(
                        "row", ROWS, _TOPIC, looking.partitions, ValueOf("/k"), wait_ms,
                        OnMissing.NULL, global_partitions=self.global_partitions,
                    ),
                ),
                reading.contracts[0],
            )
            for flow, wait_ms in self.waits_ms.items()
        }  # fmt: skip

    def _judge(self) -> None:
        reading = self.scenario.groups[:1]
        platters = {}
        for number in range(reading[0].partitions):
            worker = self._owner("in", number)
            assert worker is not None
            for table in ("in-state", "in-ids"):
                platters[table, number] = self.platter(worker.machine, table, number)
        tables = {table: self.tables[table] for table in ("in-state", "in-ids")}
        judge(self.broker, reading, tables, platters, self.fail)
        for place, log in self.broker.logs.items():
            if place.topic == _LETTERS and (letters := list(log.committed())):
                self.fail(f"dead letters: {letters}")
        for flow in FLOWS:
            _judge_flow(self, flow)


class RedeclaredWorld(LookupWorld):
    """Flows look the table up, then none does, then they do again."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self._is_looked_up = True
        self.kept: list[int] = []
        """Rows of the table in the state, before each change and at the end."""
        super().__init__(seed, scenario=scenario)
        self.broker.on_offset = self._on_offset

    def _on_offset(self, place: TopicPartition, before: int | None, after: int) -> None:
        if place.topic != ROWS or after != 0:
            self.watch.on_offset(place, before, after)

    def redeclare(self) -> None:
        """The next worker has the flows otherwise."""
        self._note()
        self._is_looked_up = not self._is_looked_up
        self.plans = {group.name: self._plan(group) for group in self.scenario.groups}
        self.end(self.workers[0], 0.1, "its flows have changed")

    def _looking(self, group: Group, spec: TaskSpec, internal: InternalTopics) -> GroupPlan:
        if self._is_looked_up:
            return super()._looking(group, spec, internal)
        sources = {topic: start for topic, start in spec.sources.items() if topic != ROWS}
        lookups = LookupSpec(_TOPIC, group.partitions, _LETTERS, {}, {})

        def make_pipeline(partition: int, rows: Any) -> LookupPipeline:
            identity = TaskIdentity(APP, group.name, partition)
            return LookupPipeline(identity, lookups, rows[0], internal)

        state = [GroupTable("lookups-state", _CHANGELOG, as_is)]
        own = replace(spec, sources=sources)
        return GroupPlan(own, group.partitions, state, make_pipeline, LookupTask)

    def _note(self) -> None:
        task = self._task(NAME, 0)
        assert task is not None
        rows = task.tables[0].rows.scan(*rows_of(ROWS))
        self.kept.append(len(list(rows)))

    def _judge(self) -> None:
        self._note()
        super()._judge()


@dataclass
class Row:
    """A record of the table: since when readers see it, and whether it is a tombstone."""

    seen_ms: int
    value: Any


def arrived_rows_of(world: LookupWorld) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for arrival in world.scenario.arrivals:
        if arrival.place.topic == ROWS:
            seen_ms = START_MS + int((arrival.at_s + (arrival.open_s or 0.0)) * 1000)
            (record,) = arrival.records
            value = None if record.value is None else msgspec.json.decode(record.value)
            rows[(record.key or b"").decode()].append(Row(seen_ms, value))
    return rows


def _judge_flow(world: LookupWorld, flow: str) -> None:
    """Each event has one command, in the order of its key, with a row that it may have."""
    found: dict[str, Any] = {}
    order: dict[str, list[str]] = defaultdict(list)
    log: Log = world.broker.logs[TopicPartition(commands_of(flow), 0)]
    for entry in log.committed():
        data = msgspec.json.decode(entry.value or b"")
        event = data["event"]
        if event["id"] in found:
            world.fail(f"{flow}: {event['id']} has two commands")
        found[event["id"]] = (data["row"], entry.timestamp)
        order[event["k"]].append(event["id"])
    sent: dict[str, list[str]] = defaultdict(list)
    rows = arrived_rows_of(world)
    for place, source in world.broker.logs.items():
        if place.topic != EVENTS:
            continue
        for entry in source.history:
            if entry.is_marker or not entry.is_committed():
                continue
            event = msgspec.json.decode(entry.value or b"")
            sent[event["k"]].append(event["id"])
            if event["id"] not in found:
                world.fail(f"{flow}: {event['id']} has no command")
                continue
            why = _wrong(
                world.waits_ms[flow], entry.timestamp, rows[event["k"]], *found[event["id"]]
            )
            if why is not None:
                world.fail(f"{flow}: {event['id']}: {why}")
    if {key: ids for key, ids in sent.items() if ids} != dict(order):
        world.fail(f"{flow}: {dict(order)}, not {dict(sent)}")


def _wrong(wait_ms: int, sent_ms: int, rows: list[Row], row: Any, at_ms: int) -> str | None:
    """Why an event cannot have its row, or none, if so."""
    if row is not None:
        is_one = any(row == one.value for one in rows)
        return None if is_one else f"{row} is no row of its key"
    if at_ms < sent_ms + wait_ms:
        return f"missed after {at_ms - sent_ms} ms"
    in_time = [one for one in rows if one.seen_ms < sent_ms + wait_ms]
    if in_time and all(one.value is not None for one in rows):
        return f"missed although a row was there since {in_time[0].seen_ms - sent_ms} ms"
    return None
