"""The task of sagas: starts, replies, requests and time in; commands and events out.

Theory of operation. A saga's events, its commands' outcomes and its dead letters are keyed by what
tells its instances apart, on topics with the partitions of the group. So all that happens to an
instance meets in one task, and each of its transitions is part of one transaction: with the row,
the events that tell it, the command that it leads to, and the offset of what has led to it. A crash
repeats all of it or nothing.

A reply finds its instance by its key, and its step by the command's id. What is not for an
instance that is remembered is ignored, and counted. Timers fire only as far as the task has read: a
reply that lies unread in the log is not overdue.

Rows of state: ``i`` an instance, by saga and key; ``v`` a version of a saga that instances run,
with their number and the digest of its definition; ``a`` who waits for an instance's end; ``t``
timers; ``o`` the task's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.asked import expired_since
from edo_stream.core.effects import Effects
from edo_stream.core.event import Violation, derive_id
from edo_stream.core.ledger import Ledger
from edo_stream.core.record import Batch, Record
from edo_stream.core.redrive import REDRIVE
from edo_stream.core.saga.changes import NAMES, begun
from edo_stream.core.saga.definition import SagaSpec
from edo_stream.core.saga.instance import (
    InstanceRow,
    SagaStatus,
    StepStatus,
    decode_instance,
    encode_instance,
)
from edo_stream.core.saga.machine import Machine, Reply, Said
from edo_stream.core.saga.operations import SagaOperation, SagaVerb, parse_saga_operation
from edo_stream.core.saga.outlet import SagaOutlet
from edo_stream.core.saga.replies import SagaReplies
from edo_stream.core.state import RowCache, Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.task_pipeline import TaskPipeline
from edo_stream.core.timers import Timers

INSTANCE: Final = b"i"
VERSION: Final = b"v"
_VERSION_END: Final = b"w"
_TIMERS_MAX: Final = 1_000


class VersionRow(msgspec.Struct, array_like=True):
    """A version that instances run."""

    digest: str
    running: int = 0
    """Instances that have not ended, or are still remembered."""


class _Source(Enum):
    STARTS = "starts"
    OUTCOMES = "outcomes"
    LETTERS = "letters"


_encode_version: Final = msgspec.msgpack.Encoder().encode
decode_version: Final = msgspec.msgpack.Decoder(VersionRow).decode


def unknown_versions(state: Table, specs: Mapping[str, SagaSpec]) -> str | None:
    """Why a task must not go on with its state, if so: instances run what no file has."""
    rows = state.scan(VERSION, _VERSION_END)
    told = (unknown_version(key, decode_version(value), specs) for key, value in rows)
    return next((f"{one.found}: {one.advice}" for one in told if one is not None), None)


@dataclass(frozen=True, slots=True)
class UnknownVersion:
    """A version of a saga that instances run, and no file has as they know it."""

    found: str
    advice: str


def unknown_version(
    key: bytes, row: VersionRow, specs: Mapping[str, SagaSpec]
) -> UnknownVersion | None:
    """What is wrong with one of the versions that instances run, by its row."""
    name, _, number = key[1:].decode().rpartition("\0")
    spec = specs.get(name)
    definition = None if spec is None else spec.versions.get(int(number))
    are = "1 instance" if row.running == 1 else f"{row.running:,} instances"
    what = f"{are} of saga {name}, version {number}, {'is' if row.running == 1 else 'are'}"
    if definition is None:
        advice = "put it back until they are forgotten"
        return UnknownVersion(f"{what} remembered, and no file has it", advice)
    if definition.digest != row.digest:
        advice = "put it back, and make it another version"
        return UnknownVersion(f"{what} remembered, and its file has changed", advice)
    return None


class SagaPipeline(TaskPipeline):
    """Decides for one task of sagas."""

    def __init__(
        self,
        identity: TaskIdentity,
        specs: Mapping[str, SagaSpec],
        state: Table,
        internal: InternalTopics,
    ) -> None:
        super().__init__(identity, state, internal)
        self._specs = specs
        self._timers = Timers(state)
        self._instances = RowCache(state, INSTANCE, encode_instance, decode_instance)
        self._versions = RowCache(state, VERSION, _encode_version, decode_version)
        self._outlet = SagaOutlet(identity, self._step)
        self._replies = SagaReplies(identity, state, self._step)
        self._changes: dict[tuple[str, str], int] = {}
        self._sources: dict[str, tuple[_Source, SagaSpec]] = {}
        for spec in specs.values():
            self._sources[spec.topics.starts] = (_Source.STARTS, spec)
            self._sources[spec.topics.outcomes] = (_Source.OUTCOMES, spec)
            self._sources[spec.topics.dead_letters] = (_Source.LETTERS, spec)
        self._ledgers = {topic: Ledger(topic) for topic in (*self._sources, internal.control)}
        self.restore()

    def restore(self) -> None:
        """Read anew what is kept in memory; after the tables were restored or discarded."""
        super().restore()
        self._changes = {}
        self._instances.discard()
        self._versions.discard()
        self._timers.restore()
        for ledger in self._ledgers.values():
            ledger.discard()

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Events held; a saga holds none."""
        return {}

    def next_due_ms(self) -> int | None:
        """Time of the earliest timer, which may be past; ``None`` when there is none."""
        return self._timers.next_due_ms

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide on batches, then on timers that are due and up to which all was read.

        When the step is full, the rest is left to the next one.
        """
        self._begin(now_ms)
        for batch in batches:
            if self._step.is_full:
                break
            self._read(batch)
        has_fired = self._fire(min(now_ms, caught_up_ms))
        if not batches and not has_fired:
            return Effects()
        return self._conclude(self._ledgers.values())

    # Reading.

    def _read(self, batch: Batch) -> None:
        ledger, row = self._ledgers[batch.topic], self._step.row
        for record in self._until_full(batch, ledger):
            row.stream_ms = max(row.stream_ms, min(record.timestamp, self._step.now_ms))
            ledger.mark(record.offset, self._take(record))

    def _take(self, record: Record) -> Fate:
        known = self._sources.get(record.topic)
        if known is None:
            self._operate(record)
            return Fate.APPLIED
        kind, spec = known
        headers = {name: value or b"" for name, value in record.headers}
        match kind:
            case _Source.STARTS:
                return self._start(spec, record, headers)
            case _Source.OUTCOMES:
                return self._reply(spec, record, _outcome(record, headers))
            case _Source.LETTERS:
                return self._reply(spec, record, _letter(headers))

    def _start(self, spec: SagaSpec, record: Record, headers: Mapping[str, bytes]) -> Fate:
        """Begin an instance, unless its key has one."""
        key = record.key or b""
        name = _name(spec.name, key)
        before = self._instances.get(name)
        definition, replies = spec.newest, spec.replies
        asker = self._replies.asker(replies, headers)
        if replies is not None and asker is not None:
            until = expired_since(record.headers, self._step.now_ms)
            if until is not None and REDRIVE not in headers:
                self._replies.expire(replies, asker, key, until)
                return Fate.STALE
        if before is not None:
            if not (before.status.is_over and definition.is_repeatable):
                if replies is not None and asker is not None:
                    self._replies.turn_away(replies, asker, name, before)
                return Fate.DUPLICATE
            self._forget(name, before)
        cause = headers.get("ce_id", b"").decode("utf-8", "replace")
        instance_id = derive_id("saga", self._identity.app, spec.name, cause)
        row = begun(definition, instance_id, key, self._step.now_ms)
        self._count(row, 1)
        correlation = headers.get("ce_correlationid", b"").decode("utf-8", "replace")
        machine = Machine(self._identity.app, definition, row, self._step.now_ms)
        self._replies.begin(name, asker)
        machine.start(record.value, correlation or cause)
        self._keep(name, row, frozenset(), machine)
        return Fate.EMITTED

    def _reply(self, spec: SagaSpec, record: Record, reply: Reply | None) -> Fate:
        name = _name(spec.name, record.key or b"")
        row = self._instances.get(name)
        if row is None or reply is None:
            return Fate.IGNORED
        waits, machine = _waits(row), self._machine(row)
        is_heard = machine.reply(reply)
        self._keep(name, row, waits, machine)
        return Fate.EMITTED if is_heard else Fate.LATE

    # Requests.

    def _operate(self, record: Record) -> None:
        operation, request = parse_saga_operation(record.value)
        key: bytes | None = None
        if isinstance(operation, Violation):
            refusal: str | None = operation.detail
        else:
            key, refusal = operation.key, self._refusal(operation)
        self._answer(record, key, request, refusal)

    def _refusal(self, operation: SagaOperation) -> str | None:
        """Carry a request out; why not, if it is refused."""
        if operation.saga not in self._specs:
            return "unknown saga"
        name = _name(operation.saga, operation.key)
        row = self._instances.get(name)
        if row is None:
            return "no instance has this key"
        waits, machine = _waits(row), self._machine(row)
        refusal = _asked(machine, operation)
        self._keep(name, row, waits, machine)
        return refusal

    # Time.

    def _fire(self, limit_ms: int) -> bool:
        """Fire timers that are due; whether there were any."""
        due = self._timers.due(limit_ms, _TIMERS_MAX)
        for due_ms, name in due:
            if self._step.is_full:
                break
            step, _, instance = name.partition(b"\0")
            row = self._instances.get(instance)
            # One that was due at the same time may have ended the wait.
            if row is not None and (due_ms, step.decode()) in _waits(row):
                self._expire(instance, row, step.decode())
        return bool(due)

    def _expire(self, name: bytes, row: InstanceRow, step: str) -> None:
        if not step and row.status.is_over:
            self._forget(name, row)
            return
        waits, machine = _waits(row), self._machine(row)
        if step:
            machine.time_out(step)
        else:
            machine.expire()
        self._keep(name, row, waits, machine)

    # Keeping.

    def _machine(self, row: InstanceRow) -> Machine:
        definition = self._specs[row.saga].versions[row.version]
        return Machine(self._identity.app, definition, row, self._step.now_ms)

    def _keep(
        self, name: bytes, row: InstanceRow, waits: frozenset[tuple[int, str]], machine: Machine
    ) -> None:
        """Write what has become of an instance, and publish it."""
        if not machine.changes:
            return
        spec = self._specs[row.saga]
        self._outlet.publish(spec, spec.versions[row.version], row, machine.changes)
        self._replies.end(spec.replies, name, row, machine.changes)
        for change in machine.changes:
            name_of = (row.saga, NAMES[type(change)])
            self._changes[name_of] = self._changes.get(name_of, 0) + 1
        self._wait(name, waits, _waits(row))
        self._instances.put(name, row)

    def _wait(
        self, name: bytes, before: frozenset[tuple[int, str]], after: frozenset[tuple[int, str]]
    ) -> None:
        for due_ms, step in sorted(before - after):
            self._timers.clear(due_ms, _timer(step, name))
        for due_ms, step in sorted(after - before):
            self._timers.set(due_ms, _timer(step, name))

    def _forget(self, name: bytes, row: InstanceRow) -> None:
        """An instance that has ended is remembered no longer."""
        self._wait(name, _waits(row), frozenset())
        self._instances.delete(name)
        self._count(row, -1)

    def _count(self, row: InstanceRow, change: int) -> None:
        """Count the instances of a version; one without any leaves no trace."""
        name = f"{row.saga}\0{row.version}".encode()
        counted_row = self._versions.get(name)
        if counted_row is None:
            counted_row = VersionRow(self._specs[row.saga].versions[row.version].digest)
        counted_row.running += change
        if counted_row.running:
            self._versions.put(name, counted_row)
        else:
            self._versions.delete(name)

    def _flush(self) -> None:
        self._instances.flush()
        self._versions.flush()
        self._timers.flush()
        super()._flush()

    def _effects(self, accounts: list[Account]) -> Effects:
        effects = super()._effects(accounts)
        effects.changes, self._changes = self._changes, {}
        return effects


def _asked(machine: Machine, operation: SagaOperation) -> str | None:
    step, reason = operation.step, operation.reason or "an operator"
    match operation.verb:
        case SagaVerb.RETRY:
            return machine.retry(step)
        case SagaVerb.COMPENSATE:
            return machine.compensate(reason)
        case SagaVerb.ABANDON:
            return machine.abandon(reason)
        case SagaVerb.COMPLETE:
            return machine.answer(step or "", operation.result, None)
        case SagaVerb.REJECT:
            return machine.answer(step or "", None, reason)


def _name(saga: str, key: bytes) -> bytes:
    """Name of an instance within a task; a saga's name contains no NUL."""
    return saga.encode() + b"\0" + key


def _timer(step: str, instance: bytes) -> bytes:
    return step.encode() + b"\0" + instance


def _waits(row: InstanceRow) -> frozenset[tuple[int, str]]:
    """What an instance has timers for: when, and the step, or nothing for the whole of it."""
    found = {
        (state.due_ms, name)
        for name, state in row.steps.items()
        if state.due_ms is not None
        and state.status in (StepStatus.SENT, StepStatus.UNDOING)
        and row.status is not SagaStatus.ABANDONED
    }
    if row.due_ms is not None:
        found.add((row.due_ms, ""))
    return frozenset(found)


def _outcome(record: Record, headers: Mapping[str, bytes]) -> Reply | None:
    """Read an outcome of the act plane."""
    kind = headers.get("ce_type", b"").rpartition(b".")[2]
    flow = headers.get("edo-flow", b"").decode("utf-8", "replace")
    command = headers.get("ce_causationid", b"").decode("utf-8", "replace")
    match kind:
        case b"done":
            return Reply(flow, command, Said.DONE, record.value)
        case b"failed":
            return Reply(flow, command, Said.FAILED, error=_reason(record.value))
        case b"unknown":
            return Reply(flow, command, Said.UNSURE, error=_reason(record.value))
        case _:
            return None


def _letter(headers: Mapping[str, bytes]) -> Reply | None:
    """Read a dead letter: whether the command may have had its effect before it was given up."""
    values: dict[str, Any] = {
        name: headers.get(name, b"").decode("utf-8", "replace")
        for name in ("edo-flow", "ce_id", "edo-class", "edo-reason", "edo-attempts")
    }
    is_refused = values["edo-class"] == "poison" and values["edo-attempts"] in ("0", "1")
    is_sure = is_refused and values["edo-reason"] not in ("skipped", "unknown-outcome")
    said = Said.FAILED if is_sure else Said.UNSURE
    return Reply(values["edo-flow"], values["ce_id"], said, error=values["edo-reason"])


def _reason(value: bytes | None) -> str:
    try:
        told = msgspec.json.decode(value or b"{}", type=dict[str, Any])
    except (ValueError, RecursionError):
        return ""
    return str(told.get("reason", ""))[:200]
