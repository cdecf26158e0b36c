"""The decision core of an act task: which command runs, and what its end leads to.

Theory of operation. Commands come on the topics of their flows, and again on the tiers of the
ladder. A command that may run is *ready*; the engine takes it, runs its executor outside, and
tells how it ended (:meth:`ActPipeline.finish`). The next step turns that into records and rows,
which the engine commits in one transaction: an outcome, a retry on a tier, or a dead letter; the
progress in the topic that the command came from (:mod:`.window`); and what becomes of its key.

One command of a key runs at a time. When one fails for a passing reason and the flow's order is
strict, the key is *blocked* (:mod:`.keys`): the command goes to a tier, and all later ones of the
key are parked in rows, so that their topic's offset can move on. When the head is through, the
parked ones run one after the other.

A flow may say more of its keys (:class:`.policy.FlowPolicy`): what becomes of a command while
another one of its key is in hand (*singleton*), how soon one may follow another (*throttle*), how
many run of those that were made within a time (*rate limit*, :mod:`.turns`); and an event may
cancel what lies before it (:mod:`.cancels`). What does not run for such a reason ends as an outcome
of its own.

Nothing here waits or runs. After an abort everything in memory is forgotten and the records come
again; what had run already the engine remembers, so that it need not run twice in one process.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.act.cancels import by_command, by_event
from edo_stream.core.act.command import Command, flow_of, parse_command
from edo_stream.core.act.in_hand import InHand, takes_turns
from edo_stream.core.act.keys import Blocked
from edo_stream.core.act.operations import parse_act_operation
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome, Unrun
from edo_stream.core.act.outlet import DONE, FAILED, SKIPPED, ActOutlet, NextRun
from edo_stream.core.act.policy import (
    ActSpec,
    AfterDeadLetter,
    Delivery,
    FlowPolicy,
    Order,
    Singleton,
)
from edo_stream.core.act.reply import expired
from edo_stream.core.act.requests import Requests
from edo_stream.core.act.switches import Paused
from edo_stream.core.act.work import Work
from edo_stream.core.effects import Effects
from edo_stream.core.event import Violation
from edo_stream.core.ledger import Ledger
from edo_stream.core.record import Batch, Record
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.task_pipeline import TaskPipeline


class End(NamedTuple):
    """A run that a step has decided on."""

    work: Work
    outcome: Outcome
    is_given_up: bool
    """It became a dead letter."""


class ActPipeline(TaskPipeline):
    """Decides for one task of the act plane."""

    def __init__(
        self, identity: TaskIdentity, spec: ActSpec, state: Table, internal: InternalTopics
    ) -> None:
        super().__init__(identity, state, internal)
        self._spec = spec
        self.is_known: Callable[[Command], bool] = _is_unknown
        """Whether this process knows what came of a command's run, or will."""
        self._outlet = ActOutlet(identity, spec, self._step)
        self._hand = InHand(
            spec,
            state,
            self._step,
            self._outlet,
            lambda command: self.is_known(command),  # noqa: PLW0108 - it is set later
        )
        self._requests = Requests(spec, self._step, self._hand, self._outlet)
        self._control = Ledger(internal.control)
        self._flow_of_topic = {policy.commands: policy.flow for policy in spec.flows.values()}
        self._tiers = frozenset(spec.tiers.values())
        self._finished: deque[tuple[Work, Outcome]] = deque()
        self._starting: list[Work] = []
        self._begun: list[Work] = []
        self._ended: list[End] = []
        self.restore()

    # What a task asks of every pipeline.

    def restore(self) -> None:
        """Read anew what is kept in memory; after the tables were restored or discarded."""
        super().restore()
        self._control.discard()
        self._hand.restore()
        self._requests.restore()
        self._finished.clear()
        self._starting.clear()
        self._begun.clear()
        self._ended.clear()

    def next_due_ms(self) -> int | None:
        """Time of the earliest retry in hand; 0 when there is something to decide at once."""
        return 0 if self._finished or self._starting else self._hand.next_due_ms()

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Commands parked by topic of commands, and since when the oldest key is blocked."""
        counts: dict[str, tuple[int, int | None]] = {}
        for queue, row in self._hand.keys.all().items():
            policy = self._spec.flows.get(flow_of(queue))
            if policy is None or not row.parked:
                continue
            count, since_ms = counts.get(policy.commands, (0, row.since_ms))
            oldest_ms = row.since_ms if since_ms is None else min(since_ms, row.since_ms)
            counts[policy.commands] = (count + row.parked, oldest_ms)
        return counts

    def start(
        self, topic: str, offset: int, now_ms: int, lost: tuple[int, int] | None = None
    ) -> Effects:
        """Begin to read a source at an offset; its window begins there too."""
        if topic in self._hand.windows:
            self._hand.windows[topic].restore(offset)
        return super().start(topic, offset, now_ms, lost)

    # What an act task asks besides.

    def room(self, topic: str) -> int:
        """Records of a topic that may be handed to the next step; 0 pauses its partition."""
        window = self._hand.windows.get(topic)
        if window is None:
            return self._spec.window_max
        # Parked retries have a bound of their own: commands of other flows go on.
        if topic not in self._tiers and self._hand.keys.parked >= self._spec.parked_max:
            return 0
        return max(0, self._spec.window_max - window.size)

    def ready_flows(self) -> list[str]:
        """Flows that have a command which may run now."""
        return list(self._hand.ready.flows())

    def take(self, flow: str) -> Work | None:
        """Take the next command of a flow that is to be run now.

        ``None`` when its start must be committed before: :meth:`begun` gives it after the next
        step's commit.
        """
        work, policy = self._hand.ready.pop(flow), self._spec.flows[flow]
        is_plain = policy.delivery is Delivery.AT_LEAST_ONCE and policy.throttle is None
        if not is_plain and self._is_counted(work):
            self._starting.append(work)
            return None
        return work

    def _is_counted(self, work: Work) -> bool:
        """Whether its start is to be committed before it begins."""
        policy = self._hand.policy(work)
        is_once = policy.delivery is Delivery.AT_MOST_ONCE
        if is_once and not self._hand.starts.is_noted(work.command):
            return True
        return takes_turns(work.command, policy) and not self.is_known(work.command)

    def peek(self, flow: str, is_committed: bool = True) -> Command | None:
        """The command that :meth:`take` would take.

        While the last step is not committed, what it has made ready may not run yet.
        """
        work = self._hand.ready.peek(flow, is_committed)
        return None if work is None else work.command

    def expire(self, flow: str, now_ms: int) -> bool:
        """End the command that :meth:`take` would take, if it is a request whose time is over."""
        work = self._hand.ready.peek(flow, is_committed=True)
        if work is None or not self.end_expired(work, now_ms):
            return False
        self._hand.ready.pop(flow)
        return True

    def end_expired(self, work: Work, now_ms: int) -> bool:
        """End a command that was taken and does not run yet, if its time is over."""
        why = expired(work.command, self._hand.policy(work), now_ms)
        if why is not None:
            self.finish(work, why)
        return why is not None

    def defer(self, flow: str, until_ms: int) -> None:
        """Put off the command that :meth:`take` would take: its key rests until then."""
        self._hand.ready.defer(flow, until_ms)

    def release(self, now_ms: int) -> int | None:
        """Let commands that were put off until now run; returns when the next one is due."""
        return self._hand.ready.release(now_ms)

    def begun(self) -> list[Work]:
        """Commands whose start is committed; call it after the commit, once."""
        begun, self._begun = self._begun, []
        return begun

    def switched(self) -> dict[str, bool]:
        """Flows whose breaker an operator wants open, or closed; call it after the commit, once."""
        return self._hand.switches.switched()

    def paused(self) -> Mapping[str, Paused]:
        """Flows of which nothing may begin; runs that are known may be taken all the same."""
        return self._hand.switches.paused

    def paused_topics(self) -> set[str]:
        """Topics of the commands of those flows."""
        flows = self._spec.flows
        return {flows[flow].commands for flow in self._hand.switches.paused if flow in flows}

    def cancelled(self) -> list[Command]:
        """Commands whose runs are to be ended; call it after the commit, once."""
        return self._hand.cancelled()

    def ended(self) -> list[End]:
        """Runs that the step has decided on; call it after the commit, once."""
        ended, self._ended = self._ended, []
        return ended

    def finish(self, work: Work, outcome: Outcome) -> None:
        """Tell how a command's run ended; the next step decides on it."""
        self._finished.append((work, outcome))

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide on what has ended, on batches, and on retries that are due."""
        self._begin(now_ms)
        self._hand.ready.begin_step()
        for work in self._starting:
            self._note_start(work)
        self._starting.clear()
        self._hand.resume_draining()
        while self._finished and not self._step.is_full:
            self._end(*self._finished.popleft())
        for batch in batches:
            if batch.topic == self._internal.control:
                self._operate_all(batch)
            else:
                self._read(batch)
        self._hand.pass_time(now_ms)
        return self._close()

    def _note_start(self, work: Work) -> None:
        policy, command = self._hand.policy(work), work.command
        if policy.delivery is Delivery.AT_MOST_ONCE:
            self._hand.starts.note(command)
        if policy.throttle is not None and takes_turns(command, policy):
            self._hand.throttles.take(command.queue, policy.throttle, self._step.now_ms)
        self._begun.append(work)

    # Reading.

    def _read(self, batch: Batch) -> None:
        assert batch.partition == self._identity.partition, batch.topic
        window = self._hand.windows[batch.topic]
        flow = self._flow_of_topic.get(batch.topic)
        row = self._step.row
        for record in batch.records:
            row.stream_ms = max(row.stream_ms, min(record.timestamp, self._step.now_ms))
            if not window.admit(record.offset):
                continue
            command = parse_command(record, flow)
            if isinstance(command, Violation):
                self._reject(record, command.reason, command.detail)
            elif command.flow not in self._spec.flows:
                self._reject(record, "unknown-flow", f"no flow {command.flow!r} in this group")
            elif flow is None:
                self._hand.tagged.hold(command)
                self._hand.wait(Work(command, record))
            elif command.cancels:
                self._hand.cancels.mark(command)
                self._hand.cancel(command, by_event(command))
                window.end(record.offset, Fate.APPLIED)
            else:
                self._hand.tagged.hold(command)
                self._admit(Work(command, record))

    def _admit(self, work: Work) -> None:
        """A command comes for the first time."""
        command, policy = work.command, self._hand.policy(work)
        if policy.rate_limit is not None:
            self._hand.limits.read(policy.flow, command.timestamp_ms)
        cancelled = self._hand.cancels.announced(command)
        if cancelled is not None:
            if not self._has_begun(command):
                self._hand.end_unrun(work, cancelled)
                return
            if policy.delivery is Delivery.AT_LEAST_ONCE:
                # Announced since it was begun: if its run fails, no other one may begin.
                self._hand.cancels.note(command.queue, command.id, cancelled)
        # Who has sent a command again wants it to be run.
        if policy.singleton is None or command.redrive or not self._hand.is_busy(command.queue):
            self._hand.place(work)
            return
        match policy.singleton:
            case Singleton.SKIP:
                told = {"reason": "singleton", "running": self._hand.head_of(command.queue)}
                self._hand.end_unrun(work, Unrun(SKIPPED, told))
                return
            case Singleton.QUEUE:
                told = {"reason": "singleton", "replaced-by": command.id}
                for waiting in self._hand.take_waiting(command.queue):
                    self._hand.end_unrun(waiting, Unrun(SKIPPED, told))
            case Singleton.REPLACE:
                self._hand.cancel(command, by_command(command))
        self._hand.place(work)

    def _has_begun(self, command: Command) -> bool:
        """Whether a command that comes again has a run, or had one, that decides on its end."""
        return self._hand.has_begun(command) or self._hand.cancels.why(command) is not None

    def _reject(self, record: Record, reason: str, detail: str) -> None:
        flow = self._flow_of_topic.get(record.topic)
        letters = self._spec.dead_letters if flow is None else self._spec.flows[flow].dead_letters
        self._outlet.undecodable(record, letters, reason, detail)
        self._hand.windows[record.topic].end(record.offset, Fate.DEAD_LETTERED)

    # Ends.

    def _end(self, work: Work, outcome: Outcome) -> None:
        command, policy, is_given_up = work.command, self._hand.policy(work), False
        cancelled = self._hand.cancels.why(command)
        match outcome:
            case Failed(failure=failure) if (
                cancelled is not None and failure is not FailureClass.BUSINESS
            ):
                self._hand.end_first(work, cancelled)
            case Done():
                self._outlet.outcome(command, policy, DONE, outcome)
                self._hand.next(work, Fate.EMITTED)
            case Failed(failure=FailureClass.BUSINESS):
                self._outlet.outcome(command, policy, FAILED, outcome)
                self._hand.next(work, Fate.FAILED)
            case Failed(failure=FailureClass.FENCED | FailureClass.CANCELLED):
                self._hand.ready.add(work, first=True)
                return
            case Failed():
                is_given_up = not self._retry(work, policy, outcome)
                if is_given_up:
                    self._give_up(work, policy, outcome)
        self._ended.append(End(work, outcome, is_given_up))

    def _retry(self, work: Work, policy: FlowPolicy, why: Failed) -> bool:
        """Put it on a tier, if its failure may pass and the policy allows one more run."""
        command, now_ms, retry = work.command, self._step.now_ms, policy.retry
        if why.failure not in (FailureClass.TRANSIENT, FailureClass.THROTTLED):
            return False
        counts = why.failure is FailureClass.TRANSIENT
        base_ms = max(retry.delay_ms(command.attempt), why.retry_after_ms or 0)
        at_ms = now_ms + base_ms + retry.jitter_ms(base_ms, f"{command.id}/{command.attempt}")
        is_late = retry.ends_by(command.first_ms or now_ms) < at_ms
        if is_late or (counts and command.attempt > retry.retries):
            return False
        error = f"{why.failure.value}: {why.reason}"
        is_strict = policy.order is Order.STRICT
        next_run = NextRun(at_ms, command.attempt + counts, is_strict)
        self._outlet.retry(command, self._spec.ladder.tier_of(base_ms), next_run, error)
        if is_strict:
            row = self._hand.block(work, Blocked.WAITING)
            row.head, row.attempt, row.due_ms = command.id, next_run.attempt, at_ms
            row.error, row.tags = error, command.tags
            self._hand.tagged.send_away(command.queue, command.tags)
        else:
            self._hand.next(work, Fate.RETRIED)
        return True

    def _give_up(self, work: Work, policy: FlowPolicy, why: Failed) -> None:
        self._outlet.dead_letter(work.command, policy, why)
        is_strict = policy.order is Order.STRICT
        if is_strict and policy.after_dead_letter is AfterDeadLetter.STOP:
            row = self._hand.block(work, Blocked.STOPPED, Fate.DEAD_LETTERED)
            row.head, row.attempt = work.command.id, work.command.attempt
            row.error = f"{why.failure.value}: {why.reason}"
        else:
            self._hand.next(work, Fate.DEAD_LETTERED)

    # Operators' requests.

    def _operate_all(self, batch: Batch) -> None:
        for record in self._new_records(batch, self._control):
            self._control.mark(record.offset, Fate.APPLIED)
            cause = parse_command(record, None) if record.value is None else None
            if isinstance(cause, Command) and cause.cancels:
                self._announce(cause)
                continue
            operation, request = parse_act_operation(record.value)
            key, refusal = None, None
            if isinstance(operation, Violation):
                refusal = operation.detail
            else:
                key, refusal = operation.key, self._requests.operate(operation)
            self._answer(record, key, request, refusal)

    def _announce(self, cause: Command) -> None:
        """Cancel what was read of a key, if it lies before the mark: that is, if that was not."""
        why = by_event(cause)
        if cause.flow in self._spec.flows and self._hand.cancels.announce(cause, why):
            self._hand.cancel(cause, why)

    # Closing a step.

    def _close(self) -> Effects:
        accounts = []
        for topic, window in self._hand.windows.items():
            source = self._step.row.sources.get(topic)
            if source is not None:
                source.next_offset = window.advance(source.next_offset)
            accounts.append(window.ledger.close(self._identity, self._step.now_ms))
        accounts.append(self._control.close(self._identity, self._step.now_ms))
        self._hand.throttles.sweep(self._step.now_ms)
        self._hand.limits.sweep(self._step.now_ms, self._hand.is_busy)
        self._hand.keys.flush()
        told = [account for account in accounts if account is not None]
        if not (told or self._step.publish or self._state.changelog):
            return Effects()
        self._flush()
        return self._effects(told)

    def _effects(self, accounts: list[Account]) -> Effects:
        effects = super()._effects(accounts)
        effects.replayed = self._requests.replayed()
        return effects


def _is_unknown(_: Command) -> bool:
    return False
