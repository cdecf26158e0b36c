"""The decision core of a task that owns targets: their breakers and rates for the whole fleet.

Theory of operation. A target belongs to the partition that its name hashes to, and so to one task
of the fleet, like any other partition. Workers ask on its control topic (:mod:`.grants`); a step
reads their requests and publishes answers, in one transaction with the rows that a later owner
needs. An owner that was replaced cannot answer any more: its transactions are fenced.

- *Rates.* A worker asks for tokens and is told from when on they are its own. Calls are reserved
  one after the other, so that over any time no more are granted than the rate allows. A worker
  holds at most a lease (:data:`.limits.LEASE_MS` of the rate), which it may use late: so over the
  fleet there are at most as many calls as the rate allows, and a lease a worker. A new owner
  begins where its predecessor can have been at most.
- *Breakers.* Workers report how runs end. While a breaker is half open one request is granted a
  probe; nobody gets another one before that has ended, or until it must have: a worker counts the
  time from its request on, the owner from the grant, which is later.

Nobody waits here: a request is answered in the step that reads it, or by the next change of state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.act.breaker import Breaker, BreakerPolicy, BreakerState
from edo_stream.core.act.grants import (
    FAILED,
    START_WITHIN_MS,
    Answer,
    Grant,
    Request,
    encode,
    parse_request,
)
from edo_stream.core.act.limits import RateLimit, Slots
from edo_stream.core.effects import Effects, Publish, account_records
from edo_stream.core.ledger import Ledger, account_of_start
from edo_stream.core.record import Batch
from edo_stream.core.state import Table
from edo_stream.core.task import SourceRow, TaskIdentity, TaskRow, load_task, save_task

_ROW: Final = b"t"
_ROW_END: Final = b"u"
_ACTIVE_MS: Final = 2_000
"""A worker that asked within this time shares the rate."""
_SILENT_MS: Final = 600_000
"""A worker that said nothing for so long is forgotten."""
_PROBE_SLACK_MS: Final = 1_000
_BREAKER: Final = BreakerPolicy()
_PROBE_MAX_MS: Final = 86_400_000


class TargetRow(msgspec.Struct, array_like=True):
    """What is kept of a target; fields are only ever appended."""

    owner: str
    state: BreakerState = BreakerState.CLOSED
    epoch: int = 1
    since_ms: int = 0
    why: str = ""
    opened: int = 0
    until_ms: int | None = None
    open_ms: int = 0
    successes: int = 0
    probe: tuple[str, int, int] | None = None
    """Worker, number of its request and ms that it may take, while a probe runs."""
    lead_ms: int = 0
    """How far ahead calls were reserved."""
    by: str = ""
    """Worker whose report has changed the state last; empty when it was time."""


decode_target_row: Final = msgspec.msgpack.Decoder(TargetRow).decode


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """What is declared about a target."""

    breaker: BreakerPolicy = _BREAKER
    rate: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class KeeperTopics:
    """Topics that the owners of targets write to."""

    answers: str
    """With as many partitions as there are owners."""
    accounts: str
    accounts_partitions: int


@dataclass(slots=True)
class _Asking:
    """One worker, as an owner knows it."""

    number: int = 0
    heard_ms: int = 0
    asked_ms: int = -_ACTIVE_MS - 1
    """When it wanted tokens last."""


@dataclass(slots=True)
class _Kept:
    """One target in the hands of its owner."""

    breaker: Breaker
    rate: RateLimit | None
    lead_ms: int = 0
    slots: Slots | None = None
    probe: tuple[str, int, int] | None = None
    probe_until_ms: int | None = None
    by: str = ""
    workers: dict[str, _Asking] = field(default_factory=dict)
    asks: dict[str, Request] = field(default_factory=dict)
    """What the workers want in this step."""
    heard: dict[str, int] = field(default_factory=dict)
    """To be answered in this step."""
    is_changed: bool = False


class TargetKeeper:
    """Decides for one task that owns targets; see the module's docstring.

    ``owner`` names the worker; ``policies`` are by target. A target that is not declared here, but
    by a newer worker, is kept by default rules and the rate that its workers tell.
    """

    def __init__(
        self,
        identity: TaskIdentity,
        owner: str,
        policies: Mapping[str, TargetPolicy],
        state: Table,
        topics: KeeperTopics,
    ) -> None:
        self._identity = identity
        self._owner = owner
        self._policies = policies
        self._state = state
        self._topics = topics
        self._task = TaskRow()
        self._kept: dict[str, _Kept] = {}
        self._is_new = False
        self.restore()

    # What a task asks of every pipeline.

    def restore(self) -> None:
        """Read the rows anew; the next step tells all workers who owns them now."""
        self._task = load_task(self._state)
        self._kept = {
            row[1:].decode(): self._revived(row[1:].decode(), decode_target_row(value))
            for row, value in self._state.scan(_ROW, _ROW_END)
        }
        self._is_new = bool(self._kept)

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
        """Events held; none."""
        return {}

    def next_due_ms(self) -> int | None:
        """When a breaker lets a probe through, or a probe must have ended; 0 after a takeover."""
        if self._is_new:
            return 0
        due = [
            at_ms
            for kept in self._kept.values()
            for at_ms in (kept.breaker.until_ms, kept.probe_until_ms)
            if at_ms is not None
        ]
        return min(due, default=None)

    def start(
        self, topic: str, offset: int, now_ms: int, lost: tuple[int, int] | None = None
    ) -> Effects:
        """Begin to read the control topic at an offset, or go on behind what is gone of it."""
        self._task.sources[topic] = SourceRow(offset)
        save_task(self._state, self._task)
        account = account_of_start(self._identity, topic, offset, now_ms, lost)
        return self._effects([], [account], now_ms)

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Take what workers tell and ask, and answer."""
        if self._is_new:
            self._take_over(now_ms)
        for kept in self._kept.values():
            self._tick(kept, now_ms)
        accounts = [self._read(batch, now_ms) for batch in batches]
        publish = [
            self._answer(target, kept, now_ms)
            for target, kept in self._kept.items()
            if kept.heard or kept.is_changed
        ]
        if not publish and not accounts:
            return Effects()
        save_task(self._state, self._task)
        return self._effects(publish, accounts, now_ms)

    # A target's life.

    def _revived(self, target: str, row: TargetRow) -> _Kept:
        policy = self._policies.get(target, TargetPolicy())
        breaker = Breaker(policy.breaker)
        breaker.state, breaker.epoch, breaker.since_ms = row.state, row.epoch, row.since_ms
        breaker.why, breaker.opened, breaker.until_ms = row.why, row.opened, row.until_ms
        breaker.open_ms = row.open_ms or policy.breaker.open_ms
        breaker.successes = row.successes
        return _Kept(breaker, policy.rate, lead_ms=row.lead_ms, probe=row.probe, by=row.by)

    def _take_over(self, now_ms: int) -> None:
        """Begin where the last owner can have been at most, whatever its clock showed."""
        self._is_new = False
        for kept in self._kept.values():
            kept.is_changed = True
            if kept.rate is not None:
                kept.slots = Slots(kept.rate, now_ms + kept.lead_ms)
            if kept.probe is not None:
                kept.probe_until_ms = _probe_until_ms(kept.probe[2], now_ms)
            if kept.breaker.until_ms is not None:
                longest_ms = now_ms + kept.breaker.open_ms
                kept.breaker.until_ms = min(kept.breaker.until_ms, longest_ms)

    def _tick(self, kept: _Kept, now_ms: int) -> None:
        epoch = kept.breaker.epoch
        kept.breaker.tick(now_ms)
        if kept.probe_until_ms is not None and kept.probe_until_ms <= now_ms:
            # Its worker is gone.
            kept.probe = kept.probe_until_ms = None
            kept.is_changed = True
        if kept.breaker.epoch != epoch:
            kept.is_changed, kept.by = True, ""

    def _read(self, batch: Batch, now_ms: int) -> Account:
        source = self._task.sources[batch.topic]
        ledger = Ledger(batch.topic)
        ledger.open(source.next_offset)
        for record in batch.records:
            if record.offset < source.next_offset:
                continue
            ledger.mark(record.offset, Fate.APPLIED)
            request = parse_request(record.value)
            if request is not None and request.app == self._identity.app:
                self._take(request, now_ms)
        source.next_offset = max(source.next_offset, batch.records[-1].offset + 1)
        account = ledger.close(self._identity, now_ms)
        assert account is not None, "an open ledger has an account"
        return account

    def _take(self, request: Request, now_ms: int) -> None:
        kept = self._kept.get(request.target)
        if kept is None:
            policy = self._policies.get(request.target, TargetPolicy())
            kept = self._kept[request.target] = _Kept(Breaker(policy.breaker), policy.rate)
            kept.breaker.since_ms, kept.is_changed = now_ms, True
        worker = kept.workers.setdefault(request.worker, _Asking())
        if request.number <= worker.number:
            return
        worker.number, worker.heard_ms = request.number, now_ms
        epoch = kept.breaker.epoch
        self._report(kept, request, now_ms)
        if kept.breaker.epoch != epoch:
            kept.is_changed, kept.by = True, request.worker
        if request.tokens or request.probe_ms:
            # The last one counts: what it asked before it does not wait for any more.
            kept.asks[request.worker] = request
        if request.tokens or request.probe_ms or request.is_told or request.epoch != epoch:
            kept.heard[request.worker] = request.number

    def _report(self, kept: _Kept, request: Request, now_ms: int) -> None:
        breaker = kept.breaker
        if request.probe and kept.probe is not None:
            worker, number, _ = kept.probe
            if (worker, number) == (request.worker, request.probe):
                kept.probe = kept.probe_until_ms = None
                kept.is_changed = True
                if request.probe_end and breaker.state is BreakerState.HALF_OPEN:
                    breaker.probed(request.probe_end == FAILED, request.error, now_ms)
        for end in request.runs if request.epoch == breaker.epoch else "":
            breaker.note(end == FAILED, request.error, now_ms)
        is_news = request.epoch == breaker.epoch and breaker.state is BreakerState.CLOSED
        if request.trip and is_news:
            breaker.trip(request.trip, now_ms)
        if request.reset:
            breaker.close(now_ms)

    # Answers.

    def _answer(self, target: str, kept: _Kept, now_ms: int) -> Publish:
        grants = [self._grant(kept, ask, now_ms) for ask in kept.asks.values()]
        breaker = kept.breaker
        open_for_ms = 0 if breaker.until_ms is None else max(0, breaker.until_ms - now_ms)
        answer = Answer(
            app=self._identity.app,
            target=target,
            owner=self._owner,
            epoch=breaker.epoch,
            state=breaker.state,
            open_for_ms=open_for_ms,
            is_probing=kept.probe is not None,
            heard=dict(kept.heard),
            grants=tuple(grant for grant in grants if grant.tokens or grant.is_probe),
        )
        if kept.slots is not None:
            kept.lead_ms = kept.slots.lead_ms(now_ms)
        self._save(target, kept)
        kept.asks.clear()
        kept.heard.clear()
        kept.is_changed = False
        self._forget_silent(kept, now_ms)
        place = (self._topics.answers, self._identity.partition)
        return Publish(*place, target.encode(), encode(answer), [], now_ms)

    def _grant(self, kept: _Kept, ask: Request, now_ms: int) -> Grant:
        tokens, after_ms = self._lease(kept, ask, now_ms) if ask.tokens else (0, 0)
        # Who asks again has not taken what was granted before, and will not.
        is_free = kept.probe is None or kept.probe[0] == ask.worker
        is_due = is_free and kept.breaker.state is BreakerState.HALF_OPEN
        is_probe = is_due and 0 < ask.probe_ms <= _PROBE_MAX_MS
        if is_probe:
            kept.probe = (ask.worker, ask.number, ask.probe_ms)
            kept.probe_until_ms = _probe_until_ms(ask.probe_ms, now_ms)
        return Grant(ask.worker, ask.number, tokens, after_ms, is_probe)

    def _lease(self, kept: _Kept, ask: Request, now_ms: int) -> tuple[int, int]:
        """Reserve tokens: how many, and in how many ms the first may be used."""
        if kept.rate is None:
            # Declared by a newer worker than this one.
            kept.rate = RateLimit(max(ask.per_s, 0.001), max(1, ask.burst))
        if kept.slots is None:
            kept.slots = Slots(kept.rate, now_ms)
        kept.workers[ask.worker].asked_ms = now_ms
        active = sum(
            one.asked_ms > now_ms - _ACTIVE_MS or name in kept.asks
            for name, one in kept.workers.items()
        )
        tokens = max(1, min(ask.tokens, kept.rate.lease_max // active))
        after_ms = kept.slots.reserve(tokens, now_ms)
        # Rounded up: never early.
        return tokens, -int(-after_ms // 1)

    def _save(self, target: str, kept: _Kept) -> None:
        breaker = kept.breaker
        row = TargetRow(
            owner=self._owner,
            state=breaker.state,
            epoch=breaker.epoch,
            since_ms=breaker.since_ms,
            why=breaker.why,
            opened=breaker.opened,
            until_ms=breaker.until_ms,
            open_ms=breaker.open_ms,
            successes=breaker.successes,
            probe=kept.probe,
            lead_ms=kept.lead_ms,
            by=kept.by,
        )
        self._state.write(_ROW + target.encode(), msgspec.msgpack.encode(row))

    def _forget_silent(self, kept: _Kept, now_ms: int) -> None:
        silent = [name for name, one in kept.workers.items() if one.heard_ms < now_ms - _SILENT_MS]
        for name in silent:
            del kept.workers[name]

    def _effects(self, publish: list[Publish], accounts: list[Account], now_ms: int) -> Effects:
        topics = self._topics
        publish += account_records(accounts, topics.accounts, topics.accounts_partitions, now_ms)
        return Effects(publish, accounts)


def _probe_until_ms(probe_ms: int, now_ms: int) -> int:
    return now_ms + START_WITHIN_MS + probe_ms + _PROBE_SLACK_MS
