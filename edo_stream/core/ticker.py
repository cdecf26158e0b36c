"""The decision core of the task that lets schedules tick: its state and the time in, ticks out.

Theory of operation. A schedule is a rule, given as a function from an instant to the next one. Of
each schedule the task remembers one row: the last instant that was decided, by a tick or by leaving
it out. A step decides all that has become due since, up to now; ticks and rows are committed in one
transaction, so that an instant is decided exactly once, whatever dies in between and whoever owns
the task afterwards. Nothing is missed while nobody runs: what became due meanwhile is decided by
the schedule's policy at the next step.

A tick's id derives from the schedule's name and the instant, its *logical time*. The ticks of a
schedule are numbered without gaps; what a policy leaves out is a notice, and the next tick says how
many there were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.effects import Effects, Publish, account_records
from edo_stream.core.event import derive_id
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text
from edo_stream.core.ledger import Ledger, account_of_start
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Batch
from edo_stream.core.state import Table
from edo_stream.core.task import SourceRow, TaskIdentity, TaskRow, load_task, save_task

TICK_MEMBERS: Final = frozenset(
    {"schedule", "logicalTime", "scheduledTime", "previousTime", "isCatchUp", "leftOut"}
)
"""What the data of each tick says; members that a schedule adds have other names."""

_ROW: Final = b"t"
_DECIDED_MAX: Final = 200
"""Instants of one schedule that a step decides at most; the rest follow in the next."""
_TICKS_MAX: Final = 2_000


class OnMissed(Enum):
    """What becomes of instants that passed while nobody let the schedule tick."""

    ALL = "all"
    LATEST = "latest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CatchUpPolicy:
    """How a schedule catches up."""

    on_missed: OnMissed = OnMissed.LATEST
    window_ms: int = 86_400_000
    """What is older is left out, whatever the policy."""
    late_after_ms: int = 60_000
    """A tick this late is a missed one; below that, ticks are merely late, and always come."""


@dataclass(frozen=True, slots=True)
class TickSchedule:
    """One schedule: when it ticks, and where to."""

    name: str
    topic: str
    partitions: int
    """Of the topic."""
    event_type: str
    next_after_ms: Callable[[int], int | None]
    """First instant later than a given one, epoch ms; ``None`` when there is none any more."""
    local_time: Callable[[int], str]
    """ISO 8601 text of an instant as clocks of the schedule's time zone show it."""
    catch_up: CatchUpPolicy = CatchUpPolicy()
    start_ms: int | None = None
    """Instants later than this one; ``None``: later than the schedule is first seen."""
    data: Mapping[str, Any] | None = None
    """Members that each tick repeats, for those who handle it."""


class TickRow(msgspec.Struct, array_like=True):
    """What is remembered of one schedule; fields are only ever appended."""

    position_ms: int
    """The last instant that was decided."""
    ticked_ms: int | None = None
    """The last instant that was a tick."""
    ticks: int = 0
    left_out: int = 0
    """Instants left out since the last tick."""


class Tick(msgspec.Struct, frozen=True):
    """One tick, decided."""

    at_ms: int
    """The instant by the rule: its logical time."""
    is_caught_up: bool
    left_out: int


class Decision(msgspec.Struct):
    """What a schedule does now."""

    ticks: list[Tick]
    left_out: list[int]
    """Instants left out, in order."""


encode_tick_row: Final = msgspec.msgpack.Encoder().encode
decode_tick_row: Final = msgspec.msgpack.Decoder(TickRow).decode


def decide(schedule: TickSchedule, row: TickRow, now_ms: int) -> Decision:
    """Decide all instants that are due, at most so many at a time; the row goes along."""
    decision = Decision([], [])
    waiting: int | None = None
    due_ms = schedule.next_after_ms(row.position_ms)
    count = 0
    while due_ms is not None and due_ms <= now_ms and count < _DECIDED_MAX:
        count += 1
        row.position_ms = due_ms
        match _fate(schedule.catch_up, due_ms, now_ms):
            case _Fate.LEAVE_OUT:
                _leave_out(decision, row, due_ms)
            case _Fate.WAIT:
                if waiting is not None:
                    _leave_out(decision, row, waiting)
                waiting = due_ms
            case _Fate.TICK:
                if waiting is not None:
                    _tick(decision, row, waiting, is_caught_up=True)
                    waiting = None
                is_late = due_ms < now_ms - schedule.catch_up.late_after_ms
                _tick(decision, row, due_ms, is_caught_up=is_late)
        due_ms = schedule.next_after_ms(due_ms)
    if waiting is not None:
        is_overtaken = (
            due_ms is not None
            and due_ms <= now_ms
            and _fate(schedule.catch_up, due_ms, now_ms) is _Fate.WAIT
        )
        if is_overtaken:
            _leave_out(decision, row, waiting)
        else:
            _tick(decision, row, waiting, is_caught_up=True)
    return decision


class _Fate(Enum):
    TICK = "tick"
    WAIT = "wait"
    """Missed, and a tick unless a later one is missed too."""
    LEAVE_OUT = "leave out"


def _fate(policy: CatchUpPolicy, due_ms: int, now_ms: int) -> _Fate:
    if due_ms >= now_ms - policy.late_after_ms:
        return _Fate.TICK
    if due_ms < now_ms - policy.window_ms:
        return _Fate.LEAVE_OUT
    match policy.on_missed:
        case OnMissed.ALL:
            return _Fate.TICK
        case OnMissed.LATEST:
            return _Fate.WAIT
        case OnMissed.NONE:
            return _Fate.LEAVE_OUT


def _leave_out(decision: Decision, row: TickRow, due_ms: int) -> None:
    decision.left_out.append(due_ms)
    row.left_out += 1


def _tick(decision: Decision, row: TickRow, due_ms: int, is_caught_up: bool) -> None:
    decision.ticks.append(Tick(due_ms, is_caught_up, row.left_out))
    row.left_out = 0


class Ticker:
    """Decides for the one task of the fleet that lets schedules tick.

    It owns a partition like any task, that of the control topic, which is how the consumer group
    gives it to one worker at a time. Requests on it are noted as done and do nothing.
    """

    def __init__(
        self,
        identity: TaskIdentity,
        schedules: Sequence[TickSchedule],
        state: Table,
        topics: "TickerTopics",
    ) -> None:
        self._identity = identity
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._state = state
        self._topics = topics
        self._task = TaskRow()
        self._rows: dict[str, TickRow] = {}
        self._due_ms: dict[str, int] = {}
        self._source = ("ce_source", f"/edo/{identity.app}/schedules".encode())
        self.restore()

    def restore(self) -> None:
        """Read the rows anew; after the table was restored or discarded."""
        self._task = load_task(self._state)
        self._rows = {}
        self._due_ms = {}
        for name, schedule in self._schedules.items():
            raw = self._state.get(_ROW + name.encode())
            if raw is None:
                # Seen for the first time: its row is written at once.
                self._due_ms[name] = 0
            else:
                self._rows[name] = decode_tick_row(raw)
                self._look_ahead(schedule)

    def discard(self) -> None:
        """Forget all that is uncommitted: the transaction was aborted."""
        self._state.discard()
        self.restore()

    def positions(self) -> Mapping[str, int]:
        """Next offset of the control topic, once it was started."""
        return {topic: source.next_offset for topic, source in self._task.sources.items()}

    def stream_ms(self) -> int | None:
        """Time of the latest record read; there are none that count."""
        return None

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Events held; a ticker holds none."""
        return {}

    def next_due_ms(self) -> int | None:
        """Time of the next tick, which may be past; ``None`` when there is none any more."""
        return min(self._due_ms.values(), default=None)

    def start(
        self, topic: str, offset: int, now_ms: int, lost: tuple[int, int] | None = None
    ) -> Effects:
        """Begin to read the control topic at an offset, or go on behind what is gone of it."""
        self._task.sources[topic] = SourceRow(offset)
        save_task(self._state, self._task)
        account = account_of_start(self._identity, topic, offset, now_ms, lost)
        return self._effects([], [account], now_ms)

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide what is due; a schedule that is new begins here."""
        publish: list[Publish] = []
        due = sorted((due_ms, name) for name, due_ms in self._due_ms.items() if due_ms <= now_ms)
        for _, name in due:
            if len(publish) < _TICKS_MAX:
                publish += self._turn(self._schedules[name], now_ms)
        accounts = [self._pass_over(batch, now_ms) for batch in batches]
        if not publish and not accounts:
            return Effects()
        save_task(self._state, self._task)
        return self._effects(publish, accounts, now_ms)

    def _turn(self, schedule: TickSchedule, now_ms: int) -> list[Publish]:
        """Let one schedule tick, or begin."""
        name = schedule.name
        row = self._rows.get(name)
        if row is None:
            first_ms = now_ms if schedule.start_ms is None else schedule.start_ms
            row = self._rows[name] = TickRow(first_ms)
            published = [self._notice("began", schedule, {"position": first_ms}, now_ms)]
        else:
            published = self._decided(schedule, row, now_ms)
        self._state.write(_ROW + name.encode(), encode_tick_row(row))
        self._look_ahead(schedule)
        return published

    def _decided(self, schedule: TickSchedule, row: TickRow, now_ms: int) -> list[Publish]:
        decision = decide(schedule, row, now_ms)
        published = []
        for tick in decision.ticks:
            row.ticks += 1
            published.append(self._record(schedule, row, tick, now_ms))
            row.ticked_ms = tick.at_ms
        if decision.left_out:
            told = {
                "first": decision.left_out[0],
                "last": decision.left_out[-1],
                "count": len(decision.left_out),
                "policy": schedule.catch_up.on_missed.value,
            }
            published.append(self._notice("left-out", schedule, told, now_ms))
        return published

    def _look_ahead(self, schedule: TickSchedule) -> None:
        due_ms = schedule.next_after_ms(self._rows[schedule.name].position_ms)
        if due_ms is None:
            self._due_ms.pop(schedule.name, None)
        else:
            self._due_ms[schedule.name] = due_ms

    def _record(self, schedule: TickSchedule, row: TickRow, tick: Tick, now_ms: int) -> Publish:
        """The event of a tick."""
        key = schedule.name.encode()
        logical = _text(tick.at_ms)
        data = dict(schedule.data or {}) | {
            "schedule": schedule.name,
            "logicalTime": logical,
            "scheduledTime": schedule.local_time(tick.at_ms),
            "previousTime": None if row.ticked_ms is None else _text(row.ticked_ms),
            "isCatchUp": tick.is_caught_up,
            "leftOut": tick.left_out,
        }
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", derive_id("tick", self._identity.app, schedule.name, logical).encode()),
            self._source,
            ("ce_type", schedule.event_type.encode()),
            ("ce_subject", key),
            ("ce_time", logical.encode()),
            ("ce_sequence", b"%d" % row.ticks),
            JSON_CONTENT,
        ]
        return Publish(
            topic=schedule.topic,
            partition=partition_of(key, schedule.partitions),
            key=key,
            value=msgspec.json.encode(data),
            headers=headers,
            timestamp_ms=now_ms,
        )

    def _notice(
        self, kind: str, schedule: TickSchedule, told: Mapping[str, Any], now_ms: int
    ) -> Publish:
        key = schedule.name.encode()
        first = str(next(iter(told.values())))
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", derive_id(kind, self._identity.app, schedule.name, first).encode()),
            self._source,
            ("ce_type", f"edo.schedule.{kind}".encode()),
            ("ce_subject", key),
            ("ce_time", _text(now_ms).encode()),
            JSON_CONTENT,
        ]
        value = msgspec.json.encode({"schedule": schedule.name, **told, "at": now_ms})
        return Publish(self._topics.notices, 0, key, value, headers, now_ms)

    def _pass_over(self, batch: Batch, now_ms: int) -> Account:
        """Note records of the control topic as done: there is nothing to ask of a ticker."""
        source = self._task.sources[batch.topic]
        ledger = Ledger(batch.topic)
        ledger.open(source.next_offset)
        for record in batch.records:
            if record.offset >= source.next_offset:
                ledger.mark(record.offset, Fate.APPLIED)
        source.next_offset = max(source.next_offset, batch.records[-1].offset + 1)
        account = ledger.close(self._identity, now_ms)
        assert account is not None, "an open ledger has an account"
        return account

    def _effects(self, publish: list[Publish], accounts: list[Account], now_ms: int) -> Effects:
        topics = self._topics
        publish += account_records(accounts, topics.accounts, topics.accounts_partitions, now_ms)
        return Effects(publish, accounts)


@dataclass(frozen=True, slots=True)
class TickerTopics:
    """Topics of the ticker's own records."""

    accounts: str
    accounts_partitions: int
    notices: str
    """What began, and what was left out; one partition."""


def _text(at_ms: int) -> str:
    """RFC 3339 text, UTC."""
    return (time_text(at_ms) or b"").decode()
