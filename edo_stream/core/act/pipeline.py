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
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.act.cancels import Cancels, by_command, by_event
from edo_stream.core.act.command import Command, parse_command, queue_of
from edo_stream.core.act.keys import Blocked, KeyRow, Keys
from edo_stream.core.act.operations import ActOperation, Verb, parse_act_operation
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome, Unrun
from edo_stream.core.act.outlet import (
    CANCELLED,
    DONE,
    FAILED,
    LIMITED,
    SKIPPED,
    UNKNOWN,
    ActOutlet,
    NextRun,
)
from edo_stream.core.act.policy import (
    ActSpec,
    AfterDeadLetter,
    Delivery,
    FlowPolicy,
    Order,
    Singleton,
)
from edo_stream.core.act.reply import expired
from edo_stream.core.act.switches import Paused, Switches
from edo_stream.core.act.turns import Limits, Throttles
from edo_stream.core.act.window import Window
from edo_stream.core.act.work import KeyQueue, Ready, Work
from edo_stream.core.effects import Effects
from edo_stream.core.event import Violation
from edo_stream.core.ledger import Ledger
from edo_stream.core.record import Batch, Record, StoredRecord
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.task_pipeline import TaskPipeline

_STARTED: Final = b"s"
_OF_FLOWS: Final = frozenset({Verb.OPEN, Verb.CLOSE, Verb.PAUSE, Verb.RESUME, Verb.NOTE_REPLAY})
_FATES: Final = {SKIPPED: Fate.PASSED_OVER, LIMITED: Fate.LIMITED, CANCELLED: Fate.CANCELLED}


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
        self._keys = Keys(state)
        self._throttles = Throttles(state)
        limits = {p.flow: p.rate_limit for p in spec.flows.values() if p.rate_limit is not None}
        self._limits = Limits(state, limits)
        self._cancels = Cancels(state)
        self._switches = Switches(state)
        self._outlet = ActOutlet(identity, spec, self._step)
        self._control = Ledger(internal.control)
        self._flow_of_topic = {policy.commands: policy.flow for policy in spec.flows.values()}
        self._tiers = frozenset(spec.tiers.values())
        self._windows = {
            topic: Window(topic, state) for topic in (*self._flow_of_topic, *self._tiers)
        }
        self._queues: dict[bytes, KeyQueue] = {}
        self._ready = Ready()
        self._due: list[tuple[int, int, Work]] = []
        self._due_count = 0
        self._finished: deque[tuple[Work, Outcome]] = deque()
        self._starting: list[Work] = []
        self._begun: list[Work] = []
        self._ended: list[End] = []
        self._replayed: dict[tuple[str, str], int] = {}
        self._resumed: list[bytes] = []
        self._resting: list[tuple[int, bytes]] = []
        self._freed: deque[bytes] = deque()
        self._is_going_on = False
        self._cancelled: list[Command] = []
        self.is_known: Callable[[Command], bool] = _is_unknown
        """Whether this process knows what came of a command's run, or will."""
        self.restore()

    # What a task asks of every pipeline.

    def restore(self) -> None:
        """Read anew what is kept in memory; after the tables were restored or discarded."""
        super().restore()
        self._control.discard()
        self._keys.restore()
        self._throttles.restore()
        self._limits.restore()
        self._cancels.restore()
        self._switches.restore()
        for topic, window in self._windows.items():
            source = self._step.row.sources.get(topic)
            window.restore(0 if source is None else source.next_offset)
        self._queues.clear()
        self._ready.clear()
        self._due.clear()
        self._finished.clear()
        self._starting.clear()
        self._begun.clear()
        self._ended.clear()
        self._cancelled.clear()
        self._replayed = {}
        self._resting = []
        # Nothing is decided here: the next step goes on with them. Those that rest are asked anew,
        # as their flow's throttle may be another one than before.
        keys = self._keys.all().items()
        self._resumed = [queue for queue, row in keys if row.blocked is Blocked.DRAINING]

    def next_due_ms(self) -> int | None:
        """Time of the earliest retry in hand; 0 when there is something to decide at once."""
        if self._finished or self._starting or self._resumed:
            return 0
        firsts = [heap[0][0] for heap in (self._due, self._resting) if heap]
        return min(firsts, default=None)

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Commands parked by topic of commands, and since when the oldest key is blocked."""
        counts: dict[str, tuple[int, int | None]] = {}
        for queue, row in self._keys.all().items():
            policy = self._spec.flows.get(queue.partition(b"\0")[0].decode())
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
        if topic in self._windows:
            self._windows[topic].restore(offset)
        return super().start(topic, offset, now_ms, lost)

    # What an act task asks besides.

    def room(self, topic: str) -> int:
        """Records of a topic that may be handed to the next step; 0 pauses its partition."""
        window = self._windows.get(topic)
        if window is None:
            return self._spec.window_max
        if topic not in self._tiers and self._keys.parked >= self._spec.parked_max:
            return 0
        return max(0, self._spec.window_max - window.size)

    def ready_flows(self) -> list[str]:
        """Flows that have a command which may run now."""
        return list(self._ready.flows())

    def take(self, flow: str) -> Work | None:
        """Take the next command of a flow that is to be run now.

        ``None`` when its start must be committed before: :meth:`begun` gives it after the next
        step's commit.
        """
        work, policy = self._ready.pop(flow), self._spec.flows[flow]
        is_plain = policy.delivery is Delivery.AT_LEAST_ONCE and policy.throttle is None
        if not is_plain and self._is_counted(work):
            self._starting.append(work)
            return None
        return work

    def _is_counted(self, work: Work) -> bool:
        """Whether its start is to be committed before it begins."""
        policy = self._policy(work)
        is_once = policy.delivery is Delivery.AT_MOST_ONCE
        if is_once and self._state.get(_started_row(work.command)) is None:
            return True
        return _takes_turns(work, policy) and not self.is_known(work.command)

    def peek(self, flow: str, is_committed: bool = True) -> Command | None:
        """The command that :meth:`take` would take.

        While the last step is not committed, what it has made ready may not run yet.
        """
        work = self._ready.peek(flow, is_committed)
        return None if work is None else work.command

    def expire(self, flow: str, now_ms: int) -> bool:
        """End the command that :meth:`take` would take, if it is a request whose time is over."""
        work = self._ready.peek(flow, is_committed=True)
        if work is None or not self.end_expired(work, now_ms):
            return False
        self._ready.pop(flow)
        return True

    def end_expired(self, work: Work, now_ms: int) -> bool:
        """End a command that was taken and does not run yet, if its time is over."""
        why = expired(work.command, self._policy(work), now_ms)
        if why is not None:
            self.finish(work, why)
        return why is not None

    def defer(self, flow: str, until_ms: int) -> None:
        """Put off the command that :meth:`take` would take: its key rests until then."""
        self._ready.defer(flow, until_ms)

    def release(self, now_ms: int) -> int | None:
        """Let commands that were put off until now run; returns when the next one is due."""
        return self._ready.release(now_ms)

    def begun(self) -> list[Work]:
        """Commands whose start is committed; call it after the commit, once."""
        begun, self._begun = self._begun, []
        return begun

    def switched(self) -> dict[str, bool]:
        """Flows whose breaker an operator wants open, or closed; call it after the commit, once."""
        return self._switches.switched()

    def paused(self) -> Mapping[str, Paused]:
        """Flows of which nothing may begin; runs that are known may be taken all the same."""
        return self._switches.paused

    def paused_topics(self) -> set[str]:
        """Topics of the commands of those flows."""
        flows = self._spec.flows
        return {flows[flow].commands for flow in self._switches.paused if flow in flows}

    def cancelled(self) -> list[Command]:
        """Commands whose runs are to be ended; call it after the commit, once."""
        cancelled, self._cancelled = self._cancelled, []
        return cancelled

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
        self._ready.begin_step()
        for work in self._starting:
            self._note_start(work)
        self._starting.clear()
        while self._resumed:
            self._resume(self._resumed.pop())
        while self._finished:
            self._end(*self._finished.popleft())
        for batch in batches:
            if batch.topic == self._internal.control:
                self._operate_all(batch)
            else:
                self._read(batch)
        while self._due and self._due[0][0] <= now_ms:
            self._leave_tier(heappop(self._due)[2])
        while self._resting and self._resting[0][0] <= now_ms:
            self._end_rest(*heappop(self._resting))
        return self._close()

    def _note_start(self, work: Work) -> None:
        policy, command = self._policy(work), work.command
        if policy.delivery is Delivery.AT_MOST_ONCE:
            self._state.write(_started_row(command), b"")
        if policy.throttle is not None and _takes_turns(work, policy):
            self._throttles.take(command.queue, policy.throttle, self._step.now_ms)
        self._begun.append(work)

    # Reading.

    def _policy(self, work: Work) -> FlowPolicy:
        return self._spec.flows[work.command.flow]

    def _read(self, batch: Batch) -> None:
        assert batch.partition == self._identity.partition, batch.topic
        window = self._windows[batch.topic]
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
                self._wait(Work(command, record))
            elif command.cancels:
                self._cancels.mark(command)
                self._cancel(command, by_event(command))
                window.end(record.offset, Fate.APPLIED)
            else:
                self._admit(Work(command, record))

    def _admit(self, work: Work) -> None:
        """A command comes for the first time."""
        command, policy = work.command, self._policy(work)
        if policy.rate_limit is not None:
            self._limits.read(policy.flow, command.timestamp_ms)
        cancelled = self._cancels.announced(command)
        if cancelled is not None and not self._has_begun(command):
            self._end_unrun(work, cancelled)
            return
        # Who has sent a command again wants it to be run.
        if policy.singleton is None or command.redrive or not self._is_busy(command.queue):
            self._place(work)
            return
        match policy.singleton:
            case Singleton.SKIP:
                told = {"reason": "singleton", "running": self._head_of(command.queue)}
                self._end_unrun(work, Unrun(SKIPPED, told))
                return
            case Singleton.QUEUE:
                told = {"reason": "singleton", "replaced-by": command.id}
                for waiting in self._waiting(command.queue):
                    self._end_unrun(waiting, Unrun(SKIPPED, told))
            case Singleton.REPLACE:
                self._cancel(command, by_command(command))
        self._place(work)

    def _has_begun(self, command: Command) -> bool:
        """Whether a command that comes again has a run, or had one, that decides on its end."""
        if self.is_known(command) or self._cancels.why(command) is not None:
            return True
        return self._state.get(_started_row(command)) is not None

    def _is_busy(self, name: bytes) -> bool:
        """Whether a command of a key is in hand, or waits."""
        return name in self._queues or self._keys.get(name) is not None

    def _head_of(self, name: bytes) -> str:
        """Id of the command of a key that runs, or is the next to."""
        queue, row = self._queues.get(name), self._keys.get(name)
        if queue is not None and queue.running is not None:
            return queue.running.command.id
        return "" if row is None else row.head

    def _waiting(self, name: bytes) -> list[Work]:
        """Take out what waits behind the first of a key; the caller ends it."""
        queue, row, found = self._queues.get(name), self._keys.get(name), []
        if row is not None:
            kept = int(row.blocked is Blocked.DRAINING)
            found = [_parked(name, one) for one in self._keys.take_behind(name, kept)]
        if queue is not None:
            found += queue.waiting
            queue.waiting.clear()
        return found

    def _end_unrun(self, work: Work, why: Unrun) -> None:
        """End a command that is in no queue any more, or never was, without a run."""
        self._outlet.outcome(work.command, self._policy(work), why.kind, why)
        record, fate = work.record, _FATES[why.kind]
        if work.is_parked:
            self._settle(record, fate)
        else:
            self._windows[record.topic].end(record.offset, fate)

    def _end_first(self, work: Work, why: Unrun) -> None:
        """End the command that a key waits for, without a run, or with one that was ended."""
        name = work.command.queue
        self._outlet.outcome(work.command, self._policy(work), why.kind, why)
        queue = self._queues.get(name)
        if queue is not None:
            queue.running = None
        self._done_with(work, _FATES[why.kind])
        self._go_on(name)

    def _cancel(self, cause: Command, why: Unrun) -> None:
        """End all commands of a key that have come before; the one that runs, when it has ended."""
        name = cause.queue
        for work in self._waiting(name):
            self._end_unrun(work, why)
        queue, row = self._queues.get(name), self._keys.get(name)
        running = None if queue is None else queue.running
        if running is not None:
            self._cancel_run(running, why)
        elif row is not None and row.blocked is Blocked.WAITING:
            head = self._pull(name)
            if head is not None:
                self._end_first(head, why)
            else:
                # It ends as soon as it is read.
                self._cancels.note(name, row.head, why)
                row.run_now = True
                self._keys.put(name, row)
        elif row is not None and row.is_resting:
            self._end_first(_parked(name, self._keys.first(name)), why)

    def _cancel_run(self, work: Work, why: Unrun) -> None:
        if self._ready.remove(work):
            self._end_first(work, why)
        elif (
            self._policy(work).delivery is Delivery.AT_LEAST_ONCE
            and self._cancels.why(work.command) is None
        ):
            self._cancels.note(work.command.queue, work.command.id, why)
            self._cancelled.append(work.command)

    def _reject(self, record: Record, reason: str, detail: str) -> None:
        flow = self._flow_of_topic.get(record.topic)
        letters = self._spec.dead_letters if flow is None else self._spec.flows[flow].dead_letters
        self._outlet.undecodable(record, letters, reason, detail)
        self._windows[record.topic].end(record.offset, Fate.DEAD_LETTERED)

    def _wait(self, work: Work) -> None:
        row = self._keys.get(work.command.queue)
        if row is not None and row.run_now and row.head == work.command.id:
            self._place(work)
            return
        # Those that are due already leave at the end of the step.
        self._due_count += 1
        heappush(self._due, (work.command.due_ms, self._due_count, work))

    def _leave_tier(self, work: Work) -> None:
        """Its tier's time is over: it runs, or goes through a tier again."""
        command = work.command
        wait_ms = command.not_before_ms - self._step.now_ms
        row = self._keys.get(command.queue)
        is_dropped = command.blocks and (row is None or row.head != command.id)
        if wait_ms <= 0 or is_dropped:
            self._place(work)
            return
        next_run = NextRun(command.not_before_ms, command.attempt, command.blocks)
        tier_ms = self._spec.ladder.tier_of(wait_ms)
        self._outlet.retry(command, tier_ms, next_run, command.error)
        self._done_with(work, Fate.RETRIED)

    def _place(self, work: Work) -> None:
        """Let a command run, wait for its turn in memory, or rest behind its key's head."""
        command = work.command
        name = command.queue
        row = self._keys.get(name)
        queue = self._queues.setdefault(name, KeyQueue())
        if row is None:
            if command.blocks:
                # Its key would be blocked if it were still to be run: an operator dropped it.
                self._done_with(work, Fate.DROPPED)
            elif queue.running is None:
                self._make_ready(work, queue)
            else:
                queue.wait(work)
        elif command.blocks:
            if row.blocked is Blocked.WAITING and row.head == command.id:
                row.run_now = False
                self._make_ready(work, queue)
            else:
                self._done_with(work, Fate.DROPPED)
        elif queue.waiting or row.parked >= self._policy(work).parked_per_key_max:
            queue.waiting.append(work)
        else:
            self._park(name, work)
        self._tidy(name)

    def _make_ready(self, work: Work, queue: KeyQueue) -> None:
        assert queue.running is None, f"{work.command.queue!r} runs already"
        queue.running = work
        command, policy = work.command, self._policy(work)
        cancelled = self._cancels.why(command)
        is_begun = self._state.get(_started_row(command)) is not None
        has_turns = policy.rate_limit is not None or policy.throttle is not None
        is_bound = cancelled is not None or is_begun or has_turns or policy.flow in self.paused()
        if is_bound and self.is_known(command):
            # First, as it runs in any case: also where nothing of its flow may begin.
            self._ready.add(work, first=True)
            if cancelled is not None:
                self._cancelled.append(command)
        elif cancelled is not None:
            self._end_first(work, cancelled)
        elif is_begun:
            # It was begun, at most once, and nobody knows what came of it.
            why = Failed(FailureClass.POISON, "unknown-outcome", "the worker ended while it ran")
            self._outlet.outcome(command, policy, UNKNOWN, why)
            self._next(work, Fate.UNKNOWN)
        elif has_turns:
            self._take_turn(work, policy)
        else:
            self._ready.add(work)

    def _take_turn(self, work: Work, policy: FlowPolicy) -> None:
        """Let it run, if the limits of its key do; a retry has had its turn."""
        command, now_ms, limit = work.command, self._step.now_ms, policy.rate_limit
        is_counted = limit is not None and command.first_ms is None and not command.redrive
        if is_counted and not self._limits.admit(command, now_ms):
            told = {"reason": "rate-limit", "limit": str(limit)}
            self._end_first(work, Unrun(LIMITED, told))
            return
        throttle, row = policy.throttle, self._keys.get(command.queue)
        is_wanted = row is not None and row.run_now
        if throttle is not None and _takes_turns(work, policy) and not is_wanted:
            wait_ms = self._throttles.wait_ms(command.queue, throttle, now_ms)
            if wait_ms:
                self._rest(work, now_ms + wait_ms)
                return
        self._ready.add(work)

    def _rest(self, work: Work, until_ms: int) -> None:
        """Its key may not begin a command before: park it, and what is in hand behind it."""
        name = work.command.queue
        row = self._keys.get(name) or KeyRow(Blocked.DRAINING, self._step.now_ms)
        row.head, row.due_ms = work.command.id, until_ms
        self._keys.put(name, row)
        queue = self._queues[name]
        queue.running = None
        if not work.is_parked:
            self._park(name, work)
        while queue.waiting and row.parked < self._policy(work).parked_per_key_max:
            self._park(name, queue.waiting.popleft())
        heappush(self._resting, (until_ms, name))
        self._tidy(name)

    def _end_rest(self, until_ms: int, name: bytes) -> None:
        row = self._keys.get(name)
        if row is not None and row.is_resting and row.due_ms == until_ms:
            self._resume(name)

    def _resume(self, name: bytes) -> None:
        """Go on with a key that drains; it may come to rest again."""
        row = self._keys.get(name)
        if row is not None and row.is_resting:
            row.due_ms = 0
            self._keys.put(name, row)
        self._run_first_parked(name)

    def _park(self, name: bytes, work: Work) -> None:
        self._keys.park(name, work.record)
        self._windows[work.record.topic].end(work.record.offset, Fate.HELD)

    def _tidy(self, name: bytes) -> None:
        queue = self._queues.get(name)
        if queue is not None and queue.is_empty:
            del self._queues[name]

    # Ends.

    def _end(self, work: Work, outcome: Outcome) -> None:
        command, policy, is_given_up = work.command, self._policy(work), False
        cancelled = self._cancels.why(command)
        match outcome:
            case Failed(failure=failure) if (
                cancelled is not None and failure is not FailureClass.BUSINESS
            ):
                self._end_first(work, cancelled)
            case Done():
                self._outlet.outcome(command, policy, DONE, outcome)
                self._next(work, Fate.EMITTED)
            case Failed(failure=FailureClass.BUSINESS):
                self._outlet.outcome(command, policy, FAILED, outcome)
                self._next(work, Fate.FAILED)
            case Failed(failure=FailureClass.FENCED | FailureClass.CANCELLED):
                self._ready.add(work, first=True)
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
            row = self._block(work, Blocked.WAITING)
            row.head, row.attempt, row.due_ms = command.id, next_run.attempt, at_ms
            row.error = error
        else:
            self._next(work, Fate.RETRIED)
        return True

    def _give_up(self, work: Work, policy: FlowPolicy, why: Failed) -> None:
        self._outlet.dead_letter(work.command, policy, why)
        is_strict = policy.order is Order.STRICT
        if is_strict and policy.after_dead_letter is AfterDeadLetter.STOP:
            row = self._block(work, Blocked.STOPPED, Fate.DEAD_LETTERED)
            row.head, row.attempt = work.command.id, work.command.attempt
            row.error = f"{why.failure.value}: {why.reason}"
        else:
            self._next(work, Fate.DEAD_LETTERED)

    def _block(self, work: Work, blocked: Blocked, fate: Fate = Fate.RETRIED) -> KeyRow:
        """Its key may not go on: park what is in hand behind it."""
        name = work.command.queue
        row = self._keys.get(name)
        if row is None:
            row = KeyRow(blocked, self._step.now_ms)
            self._keys.put(name, row)
        self._done_with(work, fate)
        row.blocked, row.run_now = blocked, False
        self._keys.put(name, row)
        queue = self._queues[name]
        queue.running = None
        most = self._policy(work).parked_per_key_max
        while queue.waiting and row.parked < most:
            self._park(name, queue.waiting.popleft())
        self._tidy(name)
        return row

    def _next(self, work: Work, fate: Fate) -> None:
        """It is through: the next of its key may run."""
        name = work.command.queue
        self._done_with(work, fate)
        self._queues[name].running = None
        self._go_on(name)

    def _go_on(self, name: bytes) -> None:
        """Run what is first of a key: parked, or else in hand."""
        self._freed.append(name)
        if self._is_going_on:
            # A thousand in a row may end without a run: one after the other, not one in another.
            return
        self._is_going_on = True
        try:
            while self._freed:
                self._run_first(self._freed.popleft())
        finally:
            self._is_going_on = False
            self._freed.clear()

    def _run_first(self, name: bytes) -> None:
        row = self._keys.get(name)
        if row is not None and row.parked:
            row.blocked, row.head, row.due_ms, row.run_now = Blocked.DRAINING, "", 0, False
            self._keys.put(name, row)
            self._run_first_parked(name)
            return
        if row is not None:
            self._keys.free(name)
        queue = self._queues.get(name)
        if queue is not None and queue.waiting:
            self._make_ready(queue.waiting.popleft(), queue)
        self._tidy(name)

    def _run_first_parked(self, name: bytes) -> None:
        self._make_ready(
            _parked(name, self._keys.first(name)), self._queues.setdefault(name, KeyQueue())
        )

    def _done_with(self, work: Work, fate: Fate) -> None:
        """Forget where it was kept."""
        record = work.record
        self._cancels.forget(work.command)
        if work.is_parked:
            self._keys.unpark(work.command.queue)
            self._settle(record, fate)
        else:
            self._windows[record.topic].end(record.offset, fate)
        if self._policy(work).delivery is Delivery.AT_MOST_ONCE:
            started = _started_row(work.command)
            if self._state.get(started) is not None:
                self._state.write(started, None)

    def _settle(self, record: Record, fate: Fate) -> None:
        window = self._windows.get(record.topic)
        if window is not None:
            window.settle(record.offset, fate)

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
                key, refusal = operation.key, self._operate(operation)
            self._answer(record, key, request, refusal)

    def _announce(self, cause: Command) -> None:
        """Cancel what was read of a key, if it lies before the mark: that is, if that was not."""
        why = by_event(cause)
        if cause.flow in self._spec.flows and self._cancels.announce(cause, why):
            self._cancel(cause, why)

    def _operate(self, operation: ActOperation) -> str | None:
        policy = self._spec.flows.get(operation.flow)
        if policy is None:
            return "unknown flow"
        if operation.verb in _OF_FLOWS:
            self._operate_flow(operation)
            return None
        name = queue_of(operation.flow, operation.key)
        row = self._keys.get(name)
        if row is None:
            return "the key is not blocked"
        match operation.verb, row.blocked:
            case Verb.RUN_NOW, blocked if blocked is Blocked.WAITING or row.is_resting:
                self._run_now(name, row)
            case ((Verb.DROP | Verb.SKIP), Blocked.WAITING):
                return self._drop_waiting(name, policy, operation.verb)
            case Verb.CONTINUE, Blocked.STOPPED:
                self._go_on(name)
            case Verb.SKIP, Blocked.STOPPED:
                self._skip_parked(name, policy)
            case verb, blocked:
                return f"{verb.value}: not while the key is {blocked.name.lower()}"
        return None

    def _run_now(self, name: bytes, row: KeyRow) -> None:
        """Let the head of a key run that waits for its time, or rests."""
        row.run_now = True
        self._keys.put(name, row)
        if row.is_resting:
            self._resume(name)
        elif (work := self._pull(name)) is not None:
            self._place(work)

    def _operate_flow(self, operation: ActOperation) -> None:
        flow = operation.flow
        match operation.verb:
            case Verb.OPEN | Verb.CLOSE as verb:
                self._switches.switch(flow, verb is Verb.OPEN)
            case Verb.PAUSE:
                paused = Paused(self._step.now_ms, operation.by, operation.reason)
                self._switches.pause(flow, paused)
            case Verb.RESUME:
                self._switches.resume(flow)
            case _:
                pass
        for reason, count in operation.counts.items():
            event = (flow, reason)
            self._replayed[event] = self._replayed.get(event, 0) + count

    def _drop_waiting(self, name: bytes, policy: FlowPolicy, verb: Verb) -> str | None:
        work = self._pull(name)
        queue = self._queues.get(name)
        if work is None and queue is not None and queue.running is not None:
            return "its command is running; try again in a moment"
        if work is None:
            return "its command is not in hand yet; try again in a moment"
        if verb is Verb.SKIP:
            why = Failed(FailureClass.POISON, "skipped", "given up by an operator")
            self._outlet.dead_letter(work.command, policy, why)
            self._done_with(work, Fate.DEAD_LETTERED)
        else:
            self._outlet.dropped(work.command, policy)
            self._done_with(work, Fate.DROPPED)
        self._go_on(name)
        return None

    def _skip_parked(self, name: bytes, policy: FlowPolicy) -> None:
        row = self._keys.get(name)
        if row is not None and row.parked:
            work = _parked(name, self._keys.first(name))
            why = Failed(FailureClass.POISON, "skipped", "given up by an operator")
            self._outlet.dead_letter(work.command, policy, why)
            self._done_with(work, Fate.DEAD_LETTERED)
        self._go_on(name)

    def _pull(self, name: bytes) -> Work | None:
        """Take the head of a key out of those that wait for their time."""
        row = self._keys.get(name)
        for index, (_, _, work) in enumerate(self._due):
            if row is not None and work.command.queue == name and work.command.id == row.head:
                del self._due[index]
                heapify(self._due)
                return work
        return None

    # Closing a step.

    def _close(self) -> Effects:
        accounts = []
        for topic, window in self._windows.items():
            source = self._step.row.sources.get(topic)
            if source is not None:
                source.next_offset = window.advance(source.next_offset)
            accounts.append(window.ledger.close(self._identity, self._step.now_ms))
        accounts.append(self._control.close(self._identity, self._step.now_ms))
        self._throttles.sweep(self._step.now_ms)
        self._limits.sweep(self._step.now_ms, self._is_busy)
        self._keys.flush()
        told = [account for account in accounts if account is not None]
        if not (told or self._step.publish or self._state.changelog):
            return Effects()
        self._flush()
        return self._effects(told)

    def _effects(self, accounts: list[Account]) -> Effects:
        effects = super()._effects(accounts)
        effects.replayed, self._replayed = self._replayed, {}
        return effects


def _is_unknown(_: Command) -> bool:
    return False


def _takes_turns(work: Work, policy: FlowPolicy) -> bool:
    """Whether its start counts for the throttle of its key; a retry has had its turn."""
    return policy.throttle is not None and work.command.first_ms is None


def _parked(name: bytes, record: StoredRecord) -> Work:
    command = parse_command(record, name.partition(b"\0")[0].decode())
    assert isinstance(command, Command), f"a parked command was read before: {command}"
    return Work(command, record, is_parked=True)


def _started_row(command: Command) -> bytes:
    return _STARTED + command.id.encode() + b"\0%d" % command.attempt
