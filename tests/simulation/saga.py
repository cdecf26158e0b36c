"""Sagas in the world: real tasks, an act plane that takes its time, operators, the same blows.

The act plane is the outside here: each command that is committed ends once or, now and then, says
so twice; its end is a record on the saga's topics, as the tasks of flows would write it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from zlib import crc32

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.contract import Start
from edo_stream.core.event import derive_id
from edo_stream.core.saga.definition import SagaSpec
from edo_stream.core.saga.instance import StepStatus, decode_instance
from edo_stream.core.saga.pipeline import INSTANCE, SagaPipeline
from edo_stream.core.state import as_is
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.task import TaskSpec
from edo_stream.testing.broker import Entry, NewRecord
from tests.saga.test_histories import drawn
from tests.saga.world import REPLIES, folded, judge_order, spec
from tests.simulation.judge import ACCOUNTS, GAPS
from tests.simulation.load import START_MS, Arrival, Group
from tests.simulation.scenario import scenario_of
from tests.simulation.world import (
    APP,
    SESSION_TIMEOUT_S,
    TRANSACTION_TIMEOUT_S,
    Scenario,
    World,
)

_NAME = "sagas"
_TABLE = f"{_NAME}-state"
_CHANGELOG = f"{APP}-{_TABLE}-changelog"
_LASTS_S = 12.0
_KEYS = 4
_ENDS = ("done",) * 8 + ("failed", "unknown", "refused", "exhausted")


@dataclass(frozen=True)
class SagaSide(Group):
    """A group of sagas; ``spec`` says all."""

    spec: SagaSpec

    @property
    def topics(self) -> list[str]:
        of = self.spec.topics
        return [of.starts, of.outcomes, of.dead_letters, self.control]


def saga_scenario_of(seed: int) -> Scenario:
    """The scenario of a seed: the blows of the decide plane's, the load of a saga."""
    scenario = scenario_of(seed)
    random = Random(f"{seed} saga")
    # Soon forgotten, so that the world comes to rest.
    saga = spec(replace(drawn(random), kept_ms=2_000))
    group = SagaSide(_NAME, random.choice((1, 2, 3)), (), saga)
    arrivals = [_start(random, group, number) for number in range(random.randrange(3, 25))]
    arrivals += [_request(random, group) for _ in range(random.randrange(6))]
    scenario.groups = [group]
    scenario.arrivals = sorted(arrivals, key=lambda arrival: arrival.at_s)
    return scenario


def _start(random: Random, group: SagaSide, number: int) -> Arrival:
    at_s, key = random.uniform(0, _LASTS_S), f"k{random.randrange(_KEYS)}"
    place = TopicPartition(group.spec.topics.starts, crc32(key.encode()) % group.partitions)
    headers = (
        ("ce_id", b"e%d" % number),
        ("ce_correlationid", b"c"),
        ("ce_causationid", b"e%d" % number),
        ("ce_edoreplyto", f"{REPLIES.topic}/{number % REPLIES.partitions}".encode()),
    )
    record = NewRecord(START_MS + int(at_s * 1000), key.encode(), b'{"n":1}', headers)
    return Arrival(at_s, place, [record])


def _request(random: Random, group: SagaSide) -> Arrival:
    at_s, key = random.uniform(0, _LASTS_S + 4), f"k{random.randrange(_KEYS)}"
    verb = random.choice(("retry", "compensate", "complete", "reject", "abandon"))
    name = random.choice(list(group.spec.newest.by_name))
    request = {"op": f"saga.{verb}", "saga": "ship", "key": key, "step": name}
    place = TopicPartition(group.control, crc32(key.encode()) % group.partitions)
    record = NewRecord(START_MS + int(at_s * 1000), None, msgspec.json.encode(request))
    return Arrival(at_s, place, [record])


class SagaWorld(World):
    """The world with one group of sagas; judged by its own rules."""

    def __init__(self, seed: int, keeps_trace: bool = False) -> None:
        self.replies = Random(f"{seed} replies")
        self.running = 0
        """Commands whose end is not written yet."""
        super().__init__(saga_scenario_of(seed), keeps_trace)
        self.positions = dict.fromkeys(self.commands, 0)
        self.broker.listeners.append(self._attend)

    @property
    def group(self) -> SagaSide:
        (group,) = self.scenario.groups
        assert isinstance(group, SagaSide)
        return group

    @property
    def commands(self) -> list[TopicPartition]:
        group = self.group
        return [
            TopicPartition(topic, number)
            for topic in group.spec.commands.values()
            for number in range(group.partitions)
        ]

    def _create_topics(self) -> None:
        group = self.group
        for topic in (ACCOUNTS, GAPS):
            self.broker.create(topic, 2)
        topics = [*group.topics, group.spec.topics.events, *group.spec.commands.values()]
        self.broker.create(REPLIES.topic, REPLIES.partitions)
        for topic in (*topics, _CHANGELOG):
            self.broker.create(topic, group.partitions)
        self.tables[_TABLE] = (_CHANGELOG, as_is)

    def _plan(self, group: Group) -> GroupPlan:
        specs = {"ship": self.group.spec}
        internal = InternalTopics(ACCOUNTS, 2, GAPS, 2, group.control)

        def make_pipeline(partition: int, rows: Any) -> SagaPipeline:
            return SagaPipeline(TaskIdentity(APP, _NAME, partition), specs, rows[0], internal)

        task = TaskSpec(
            app=APP,
            group=_NAME,
            sources={topic: Start() for topic in group.topics},
            transaction_timeout_s=TRANSACTION_TIMEOUT_S,
            session_timeout_s=SESSION_TIMEOUT_S,
            batch_records_max=self.scenario.batch_records_max,
        )
        tables = [GroupTable(_TABLE, _CHANGELOG, as_is)]
        return GroupPlan(task, group.partitions, tables, make_pipeline)

    # The act plane.

    def _attend(self) -> None:
        """Begin what was committed: each command ends some time later."""
        for place in self.positions:
            found, self.positions[place] = self.broker.logs[place].read(
                self.positions[place], 1_000
            )
            for entry in found:
                self.running += 1
                delay_s = self.replies.choice((0.0, 0.02, 0.5, 4.0)) * self.replies.random()
                self.loop.later(delay_s, self._end, entry, True)

    def _end(self, entry: Entry, is_first: bool) -> None:
        kind = self.replies.choice(_ENDS)
        headers = {name: value or b"" for name, value in entry.headers}
        topics = self.group.spec.topics
        told: tuple[tuple[str, bytes | None], ...] = (("edo-flow", headers["edo-flow"]),)
        topic, value = topics.outcomes, b'{"reason":"no"}'
        if kind in ("refused", "exhausted"):
            failure = b"poison" if kind == "refused" else b"transient"
            topic, value = topics.dead_letters, entry.value or b""
            told += (
                ("ce_id", headers["ce_id"]),
                ("edo-class", failure),
                ("edo-reason", b"no"),
                ("edo-attempts", b"1"),
            )
        else:
            flow = headers["edo-flow"].decode()
            told += (("ce_causationid", headers["ce_id"]),)
            told += (("ce_type", f"edo.{flow}.{kind}".encode()),)
        record = NewRecord(self.now_ms(), entry.key, value, told)
        self.broker.append(TopicPartition(topic, entry.partition), [record])
        if is_first:
            self.running -= 1
            if self.replies.random() < 0.05:
                self.loop.later(self.replies.uniform(0, 3), self._end, entry, False)

    def _restless(self) -> str | None:
        return "commands run" if self.running else super()._restless()

    # The judge.

    def events(self, number: int) -> list[Any]:
        log = self.broker.logs[TopicPartition(self.group.spec.topics.events, number)]
        return [msgspec.json.decode(entry.value or b"") for entry in log.committed()]

    def _judge(self) -> None:
        written = Counter(
            dict(entry.headers)["ce_id"]
            for place in self.positions
            for entry in self.broker.logs[place].committed()
        )
        told: Counter[bytes] = Counter()
        for number in range(self.group.partitions):
            told += self._judge_partition(number)
        if set(written.values()) - {1}:
            self.fail(f"written twice: {[name for name, n in written.items() if n > 1]}")
        if written != told:
            self.fail(f"written and not told, or told and not written: {written - told}")
        self._judge_replies()

    def _judge_replies(self) -> None:
        """Each request is told once, where it asked, with the end of its instance."""
        begun, ended = self._instances()
        asked, replies = self._requests()
        instances = {derive_id("saga", APP, "ship", request): request for request in asked}
        is_open = {instances[one] for one in begun - ended.keys()}
        if sorted(asked.keys() - is_open) != sorted(replies):
            self.fail(f"asked {sorted(asked)}, open {sorted(is_open)}, told {sorted(replies)}")
        for request, (reply, *more) in replies.items():
            end = ended.get(derive_id("saga", APP, "ship", request))
            is_with_it = end is None or end.txn is reply.txn
            if more or reply.partition != asked[request] or not is_with_it:
                self.fail(f"{request}: not one reply, there, with its end: {reply}, {more}")

    def _instances(self) -> tuple[set[str], dict[str, Entry]]:
        """Instances, and the first end of those that have one."""
        begun: set[str] = set()
        ended: dict[str, Entry] = {}
        for number in range(self.group.partitions):
            log = self.broker.logs[TopicPartition(self.group.spec.topics.events, number)]
            for entry in log.committed():
                event = msgspec.json.decode(entry.value or b"")
                begun.add(event["instance"])
                if event["change"] in ("completed", "compensated", "abandoned"):
                    ended.setdefault(event["instance"], entry)
        return begun, ended

    def _requests(self) -> tuple[dict[str, int], dict[str, list[Entry]]]:
        """Where each request asked, and what it was told."""
        asked: dict[str, int] = {}
        replies: dict[str, list[Entry]] = defaultdict(list)
        for place, log in self.broker.logs.items():
            for entry in log.committed():
                headers = {name: (value or b"").decode() for name, value in entry.headers}
                if place.topic == REPLIES.topic:
                    replies[headers["ce_edorequestid"]].append(entry)
                elif place.topic == self.group.spec.topics.starts:
                    asked[headers["ce_id"]] = int(headers["ce_edoreplyto"].rpartition("/")[2])
        return asked, replies

    def _judge_partition(self, number: int) -> "Counter[bytes]":
        events = self.events(number)
        by_key: dict[str, list[Any]] = defaultdict(list)
        for event in events:
            by_key[event["key"]].append(event)
        for found in by_key.values():
            judge_order(self.group.spec, found)
        rows = folded(self.group.spec, events)
        worker = self._owner(_NAME, number)
        assert worker is not None
        disk = self.platter(worker.machine, _TABLE, number).rows
        kept = [decode_instance(value) for key, value in disk.items() if key[:1] == INSTANCE]
        for row in kept:
            if row != rows[row.key.decode()]:
                self.fail(f"{row.key!r} is not what its events add up to")
        forgotten = rows.keys() - {row.key.decode() for row in kept}
        for row in (rows[key] for key in forgotten):
            if not row.status.is_over:
                self.fail(f"{row.key!r} is forgotten, and {row.status.value}")
        for row in kept:
            is_asked = any(
                state.status is StepStatus.SENT and not state.command_id
                for state in row.steps.values()
            )
            if not (row.status.is_over or row.stuck or is_asked):
                self.fail(f"{row.key!r} is {row.status.value}, and nothing is out")
        return Counter(
            event["command"].encode()
            for event in events
            if event["change"] in ("step-sent", "undo-sent") and event["command"]
        )
