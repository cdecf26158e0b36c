"""One task of sagas over logs in memory, beside an act plane that ends commands as it is told.

The world does what the engine does around the pipeline: it reads from logs at the positions that
were committed, steps, and commits or aborts. Commands that were committed run once each, at some
time, with an effect or without; what they end as is a record on the topic of outcomes or letters.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edo_stream.core.asked import Replies
from edo_stream.core.effects import Effects, Publish
from edo_stream.core.record import Batch, StoredRecord
from edo_stream.core.saga.changes import KINDS, apply, begun
from edo_stream.core.saga.definition import SagaDefinition, SagaSpec, SagaStep, SagaTopics
from edo_stream.core.saga.instance import InstanceRow, StepStatus, decode_instance
from edo_stream.core.saga.pipeline import INSTANCE, SagaPipeline
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import InternalTopics, TaskIdentity
from tests.core.memory import Changelog, Memory

PARTITION = 2
CONTROL = "edo.control.sagas"
INTERNAL = InternalTopics("edo.accounts", 3, "edo.gaps", 3, CONTROL)
IDENTITY = TaskIdentity("app", "sagas", PARTITION)
START_MS = 1_700_000_000_000
TOPICS = SagaTopics("starts", "outcomes", "letters", "events")


def step(name: str, *after: str, undo: bool = True, **rest: Any) -> SagaStep:
    """A step whose flows are named after it."""
    parts: dict[str, Any] = {"flow": name, "undo": f"{name}.undo" if undo else None}
    return SagaStep(name, after=after, **{**parts, **rest})


def chain(*names: str, **rest: Any) -> tuple[SagaStep, ...]:
    """Steps one behind the other."""
    return tuple(
        step(name, *names[max(0, index - 1) : index], **rest) for index, name in enumerate(names)
    )


REPLIES = Replies("ship", "edo.replies.shop", 2)


def definition(*steps: SagaStep, version: int = 1, **rest: Any) -> SagaDefinition:
    """A version of the saga of the tests."""
    return SagaDefinition("ship", version, steps, **{"digest": f"v{version}", **rest})


def spec(*versions: SagaDefinition) -> SagaSpec:
    """The saga of the tests."""
    flows = {
        flow
        for version in versions
        for one in version.steps
        for flow in (one.flow, one.undo)
        if flow is not None
    }
    commands = {flow: f"commands.{flow}" for flow in flows}
    by_number = {version.version: version for version in versions}
    return SagaSpec("ship", "team-tests", TOPICS, by_number, commands, REPLIES)


@dataclass
class Command:
    """A command that was committed."""

    id: str
    flow: str
    key: bytes
    data: Any
    at: int
    """Its number among all that was published."""


@dataclass
class World:
    """Logs, committed state, and the task that works on them."""

    spec: SagaSpec
    now_ms: int = START_MS
    logs: dict[str, list[StoredRecord]] = field(default_factory=lambda: defaultdict(list))
    memory: Memory = field(default_factory=Memory)
    published: list[Publish] = field(default_factory=list)
    open: list[Command] = field(default_factory=list)
    """Commands that have not ended."""
    commands: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changelog = Changelog(as_is)
        self.begin()

    def begin(self) -> None:
        """Start the task anew from what is committed."""
        self.state = Table(self.memory)
        self.pipeline = SagaPipeline(IDENTITY, {self.spec.name: self.spec}, self.state, INTERNAL)
        for topic in (
            self.spec.topics.starts,
            self.spec.topics.outcomes,
            self.spec.topics.dead_letters,
            CONTROL,
        ):
            if topic not in self.pipeline.positions():
                self.commit(self.pipeline.start(topic, 0, self.now_ms))
        self.reading = dict(self.pipeline.positions())

    def restore(self) -> None:
        """Lose the disk: all is read from the changelog."""
        self.memory = self.changelog.restored()
        self.begin()

    def abort(self) -> None:
        """What the step wanted did not commit."""
        self.pipeline.discard()
        self.reading = dict(self.pipeline.positions())

    def commit(self, effects: Effects) -> None:
        """Append what a step published to the logs, and its rows to the disk."""
        for one in effects.publish:
            self.published.append(one)
            if one.topic in self.spec.commands.values():
                headers = dict(one.headers)
                command = Command(
                    (headers["ce_id"] or b"").decode(),
                    (headers["edo-flow"] or b"").decode(),
                    one.key or b"",
                    msgspec.json.decode(one.value or b""),
                    len(self.published),
                )
                self.open.append(command)
                self.commands.append(command)
        self.changelog.commit(self.state, self.memory)

    def append(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, str]
    ) -> None:
        """Write a record to a log; every fifth offset is a transaction marker."""
        log = self.logs[topic]
        offset = log[-1].offset + 1 if log else 0
        offset += offset % 5 == 4
        pairs = tuple((name, value_.encode()) for name, value_ in headers.items())
        log.append(StoredRecord(topic, PARTITION, offset, self.now_ms, key, value, pairs))

    def send(self, name: str, key: str = "k", data: Any = None, **headers: str) -> None:
        """An event that starts an instance."""
        value = msgspec.json.encode({"order": name} if data is None else data)
        said = {"ce_id": name, "ce_correlationid": "c", **headers}
        self.append(self.spec.topics.starts, key.encode(), value, said)

    def ask_for(self, name: str, key: str = "k", **headers: str) -> None:
        """A request that starts an instance."""
        asked = {"ce_edoreplyto": f"{REPLIES.topic}/1", "ce_causationid": f"r-{name}"}
        self.send(name, key, **asked, **headers)

    def replies(self) -> list[tuple[str, str]]:
        """Requests that were told, and of which end."""
        told = [dict(one.headers) for one in self.published if one.topic == REPLIES.topic]
        return [
            (
                (one["ce_edorequestid"] or b"").decode(),
                (one["ce_type"] or b"").decode().rpartition(".")[2],
            )
            for one in told
        ]

    def ask(self, op: str, key: str = "k", **rest: Any) -> None:
        """Write an operator's request."""
        request = {"op": op, "saga": self.spec.name, "key": key, **rest}
        self.append(CONTROL, key.encode(), msgspec.json.encode(request), {})

    def end(self, command: Command, kind: str, result: Any = None, reason: str = "no") -> None:
        """Write what a command ends as: done, failed, unknown, refused or exhausted."""
        if command in self.open:
            self.open.remove(command)
        headers = {"edo-flow": command.flow}
        if kind in ("refused", "exhausted"):
            is_refused = kind == "refused"
            headers |= {
                "ce_id": command.id,
                "edo-class": "poison" if is_refused else "transient",
                "edo-reason": reason,
                "edo-attempts": "1" if is_refused else "6",
            }
            self.append(self.spec.topics.dead_letters, command.key, b"{}", headers)
            return
        headers |= {"ce_causationid": command.id, "ce_type": f"edo.{command.flow}.{kind}"}
        value = {"reason": reason} if kind != "done" else result
        self.append(self.spec.topics.outcomes, command.key, msgspec.json.encode(value), headers)

    def batches(self, records_max: int = 50) -> list[Batch]:
        """Read on where there is something."""
        batches = []
        for topic, position in self.reading.items():
            found = [one for one in self.logs[topic] if one.offset >= position][:records_max]
            if found:
                self.reading[topic] = found[-1].offset + 1
                batches.append(Batch(topic, PARTITION, found))
        return batches

    def step(
        self, batches: Sequence[Batch] | None = None, caught_up_ms: int | None = None
    ) -> Effects:
        """Decide; what it wants is not committed yet."""
        read = self.batches() if batches is None else batches
        until_ms = self.now_ms if caught_up_ms is None else caught_up_ms
        return self.pipeline.step(read, self.now_ms, until_ms)

    def settle(self) -> None:
        """Step and commit until nothing is to be decided at this moment."""
        while True:
            batches = self.batches()
            due_ms = self.pipeline.next_due_ms()
            if not batches and (due_ms is None or due_ms > self.now_ms):
                return
            self.commit(self.step(batches))

    def reply(self, flow: str, kind: str = "done", result: Any = None, reason: str = "no") -> None:
        """End the open command of a flow, and settle."""
        (command,) = [one for one in self.open if one.flow == flow]
        self.end(command, kind, result, reason)
        self.settle()

    def sent(self) -> list[str]:
        """Flows of all commands, in the order of their writing."""
        return [command.flow for command in self.commands]

    def row(self, key: str = "k") -> InstanceRow:
        """What is committed of an instance."""
        return decode_instance(
            self.memory.rows[INSTANCE + self.spec.name.encode() + b"\0" + key.encode()]
        )

    def events(self) -> list[Any]:
        """All events of instances, in order."""
        return [
            msgspec.json.decode(one.value or b"")
            for one in self.published
            if one.topic == self.spec.topics.events
        ]

    def kinds(self) -> list[str]:
        """What has happened, in order."""
        return [event["change"] for event in self.events()]

    def folded(self) -> dict[str, InstanceRow]:
        """Instances as the topic of events tells them, by key."""
        return folded(self.spec, self.events())


def folded(spec: SagaSpec, events: Iterable[Any]) -> dict[str, InstanceRow]:
    """The last instance of each key, from all events in order."""
    rows: dict[str, InstanceRow] = {}
    for event in events:
        key, version = event["key"], spec.versions[event["version"]]
        if event["change"] == "started":
            rows[key] = begun(version, event["instance"], key.encode(), event["at"])
        place = {"saga", "version", "instance", "key", "change", "number", "at"}
        fields = {name: part for name, part in event.items() if name not in place}
        change = msgspec.json.decode(msgspec.json.encode(fields), type=KINDS[event["change"]])
        apply(rows[key], change, event["at"])
        assert event["number"] == rows[key].changes, "numbered without gaps"
    return rows


def judge(world: World) -> None:
    """Judge what was committed, whatever has happened."""
    ids = Counter(command.id for command in world.commands)
    assert set(ids.values()) <= {1}, "a command is written once"
    told_rows = world.folded()
    for key, value in world.memory.rows.items():
        if key.startswith(INSTANCE):
            row = decode_instance(value)
            assert row == told_rows[row.key.decode()], "the row is what its events add up to"
    told = Counter(
        event["command"]
        for event in world.events()
        if event["change"] in ("step-sent", "undo-sent") and event["command"]
    )
    assert told == ids, "each command is told by an event"
    for name in told_rows:
        judge_order(world.spec, [event for event in world.events() if event["key"] == name])


_BECOMES = {
    "step-sent": "sent",
    "step-done": "done",
    "undo-sent": "undoing",
    "step-undone": "undone",
    "undo-failed": "not-undone",
}


def judge_order(spec: SagaSpec, events: Iterable[Any]) -> None:
    """Hold the events of a key against the rules, by nothing but the events before each."""
    rows: dict[str, str] = {}
    has_pivot = is_back = False
    for event in events:
        version = spec.versions[event["version"]]
        name, change = event.get("step", ""), event["change"]
        if change == "started":
            rows, has_pivot, is_back = {}, False, False
        is_back |= change == "compensating"
        has_pivot |= change == "step-done" and name == version.pivot and not is_back
        if change == "step-sent":
            before = version.by_name[name].after
            assert all(rows.get(one) == "done" for one in before), f"{name} was too early"
        if change == "undo-sent":
            assert not has_pivot, "there was no way back"
            behind = {rows.get(one, "waiting") for one in version.descendants[name]}
            assert behind <= {"waiting", "failed", "undone"}, f"{name} undone before {behind}"
        if change == "step-failed":
            rows[name] = "unsure" if event["isUnsure"] else "failed"
        elif change in _BECOMES:
            rows[name] = _BECOMES[change]
        assert change != "completed" or set(rows.values()) == {"done"}, rows
        assert change != "compensated" or set(rows.values()) <= {"failed", "undone"}, rows


def statuses(row: InstanceRow) -> dict[str, StepStatus]:
    """Steps by name."""
    return {name: state.status for name, state in row.steps.items()}
