"""The commands in hand of one act task: of each key the one that runs, and those behind it.

Theory of operation. A command that was read is *placed*: it becomes ready, waits in memory for its
turn, or is parked behind a blocked head of its key. What comes off a tier before its time *waits*
for it. A command whose key's throttle is too early *rests*, parked; a retry of a stopped flow is
put *aside*, parked as well (:mod:`.parking`). When one has its fate, its key *goes on*: the next
one becomes ready, if nothing says that it must not run.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from edo_stream.core.accounts import Fate
from edo_stream.core.act.cancels import Cancels
from edo_stream.core.act.command import Command, flow_of, parse_command
from edo_stream.core.act.keys import Blocked, KeyRow, Keys
from edo_stream.core.act.outcome import Failed, FailureClass, Unrun
from edo_stream.core.act.outlet import CANCELLED, LIMITED, SKIPPED, UNKNOWN, ActOutlet, NextRun
from edo_stream.core.act.parking import Parking
from edo_stream.core.act.policy import ActSpec, Delivery, FlowPolicy
from edo_stream.core.act.starts import Starts
from edo_stream.core.act.switches import Switches
from edo_stream.core.act.tags import Tagged
from edo_stream.core.act.turns import Limits, Throttles
from edo_stream.core.act.window import Window
from edo_stream.core.act.work import KeyQueue, Ready, Work
from edo_stream.core.record import Record, StoredRecord
from edo_stream.core.state import Table
from edo_stream.core.task import Step

_FATES: Final = {SKIPPED: Fate.PASSED_OVER, LIMITED: Fate.LIMITED, CANCELLED: Fate.CANCELLED}


class InHand:
    """What the task has read and not brought to its end; its rows, and what repeats them."""

    def __init__(
        self,
        spec: ActSpec,
        state: Table,
        step: Step,
        outlet: ActOutlet,
        is_known: Callable[[Command], bool],
    ) -> None:
        self._spec = spec
        self._step = step
        self._outlet = outlet
        self._is_known = is_known
        self.keys = Keys(state, frozenset(spec.tiers.values()))
        self.starts = Starts(state)
        self.throttles = Throttles(state)
        limits = {p.flow: p.rate_limit for p in spec.flows.values() if p.rate_limit is not None}
        self.limits = Limits(state, limits)
        self.cancels = Cancels(state)
        self.tagged = Tagged({p.flow for p in spec.flows.values() if p.has_tags})
        self.switches = Switches(state)
        topics = [policy.commands for policy in spec.flows.values()]
        self.windows = {topic: Window(topic, state) for topic in (*topics, *spec.tiers.values())}
        self.ready = Ready()
        rows = (self.keys, self.switches)
        self._parking = Parking(spec, step, rows, self.windows, self.ready)
        self._queues: dict[bytes, KeyQueue] = {}
        self._due: list[tuple[int, int, Work]] = []
        self._due_count = 0
        self._resumed: list[bytes] = []
        self._resting: list[tuple[int, bytes]] = []
        self._freed: deque[bytes] = deque()
        self._is_going_on = False
        self._cancelled: list[Command] = []

    def restore(self) -> None:
        """Read anew what is kept in memory; after the table was restored or discarded."""
        self.keys.restore()
        self.throttles.restore()
        self.limits.restore()
        self.cancels.restore()
        self.switches.restore()
        for topic, window in self.windows.items():
            source = self._step.row.sources.get(topic)
            window.restore(0 if source is None else source.next_offset)
        self.ready.clear()
        self._queues.clear()
        self._due.clear()
        self._cancelled.clear()
        self._resting = []
        self._restore_tags()
        self._parking.restore()
        # Nothing is decided here: the next step goes on with them. Those that rest are asked anew,
        # as their flow's throttle may be another one than before.
        keys = [(name, row) for name, row in self.keys.all().items() if not row.is_aside]
        self._resumed = [queue for queue, row in keys if row.blocked is Blocked.DRAINING]

    def _restore_tags(self) -> None:
        """Find the tags of what is parked, and of heads on tiers; the rest is read anew."""
        self.tagged.clear()
        for name, row in self.keys.all().items():
            policy = self._spec.flows.get(flow_of(name))
            if policy is not None and policy.has_tags:
                for record in self.keys.found(name):
                    self.tagged.hold(_parked(name, record).command)
                self.tagged.send_away(name, row.tags)

    def next_due_ms(self) -> int | None:
        """When the next retry or rest is due; 0 when a key is to go on at once."""
        if self._resumed or self._parking.is_due:
            return 0
        firsts = [heap[0][0] for heap in (self._due, self._resting) if heap]
        return min(firsts, default=None)

    def resume_draining(self) -> None:
        """Go on with keys that were draining at the restore."""
        while self._resumed:
            self.resume(self._resumed.pop())

    def pass_time(self, now_ms: int) -> None:
        """Go on with retries and rests that are due, and with what was aside."""
        while self._due and self._due[0][0] <= now_ms:
            self._leave_tier(heappop(self._due)[2])
        while self._resting and self._resting[0][0] <= now_ms:
            self._end_rest(*heappop(self._resting))
        for _ in range(self._spec.window_max):
            name = None if self._step.is_full else self._parking.come_back()
            if name is None:
                break
            self.resume(name)

    def stop_flow(self, flow: str) -> None:
        """Put aside what is ready of a flow that is stopped now, but for its own topic's."""
        for name, queue in list(self._queues.items()):
            if flow_of(name) == flow:
                self._put_aside(queue)

    def go_on_flow(self, flow: str) -> None:
        """Park what has waited on the topic of a flow that was stopped, behind blocked keys."""
        for name, queue in list(self._queues.items()):
            if flow_of(name) == flow:
                self._parking.park_waiting(name, queue)
                self._tidy(name)

    def cancelled(self) -> list[Command]:
        """Commands whose runs are to be ended; each once."""
        cancelled, self._cancelled = self._cancelled, []
        return cancelled

    def policy(self, work: Work) -> FlowPolicy:
        """Of its flow."""
        return self._spec.flows[work.command.flow]

    def is_running(self, name: bytes) -> bool:
        """Whether a command of a key runs, or is ready to."""
        queue = self._queues.get(name)
        return queue is not None and queue.running is not None

    def first_parked(self, name: bytes) -> Work:
        """The first parked command of a key that has one."""
        return _parked(name, self.keys.first(name))

    def has_begun(self, command: Command) -> bool:
        """Whether a command that comes again has a run, or had one, at this attempt."""
        return self._is_known(command) or self.starts.is_noted(command)

    def is_busy(self, name: bytes) -> bool:
        """Whether a command of a key is in hand, or waits."""
        return name in self._queues or self.keys.get(name) is not None

    def head_of(self, name: bytes) -> str:
        """Id of the command of a key that runs, or is the next to."""
        queue, row = self._queues.get(name), self.keys.get(name)
        if queue is not None and queue.running is not None:
            return queue.running.command.id
        return "" if row is None else row.head

    def take_waiting(self, name: bytes) -> list[Work]:
        """Take out what waits behind the first of a key; the caller ends it."""
        queue, row, found = self._queues.get(name), self.keys.get(name), []
        if row is not None:
            kept = int(row.blocked is Blocked.DRAINING)
            found = [_parked(name, one) for one in self.keys.take_behind(name, kept)]
        if queue is not None:
            found += queue.waiting
            queue.waiting.clear()
        return found

    def wait(self, work: Work) -> None:
        """Keep what was read of a tier until its time, unless an operator wants it to run now."""
        row = self.keys.get(work.command.queue)
        if row is not None and row.head == work.command.id:
            self.tagged.bring_back(work.command.queue)
        if row is not None and row.run_now and row.head == work.command.id:
            self.place(work)
            return
        # Those that are due already leave at the end of the step.
        self._due_count += 1
        heappush(self._due, (work.command.due_ms, self._due_count, work))

    def _leave_tier(self, work: Work) -> None:
        """Its tier's time is over: it runs, or goes through a tier again."""
        command = work.command
        wait_ms = command.not_before_ms - self._step.now_ms
        row = self.keys.get(command.queue)
        is_dropped = command.blocks and (row is None or row.head != command.id)
        if wait_ms <= 0 or is_dropped:
            self.place(work)
            return
        next_run = NextRun(command.not_before_ms, command.attempt, command.blocks)
        tier_ms = self._spec.ladder.tier_of(wait_ms)
        self._outlet.retry(command, tier_ms, next_run, command.error)
        self.done_with(work, Fate.RETRIED)
        if command.blocks:
            self.tagged.send_away(command.queue, command.tags)

    def place(self, work: Work) -> None:
        """Let a command run, wait for its turn in memory, or rest behind its key's head."""
        command = work.command
        name = command.queue
        row = self.keys.get(name)
        queue = self._queues.setdefault(name, KeyQueue())
        if row is None:
            if command.blocks:
                # Its key would be blocked if it were still to be run: an operator dropped it.
                self.done_with(work, Fate.DROPPED)
            elif queue.running is None:
                self._make_ready(work, queue)
            else:
                queue.wait(work)
                if self._parking.is_stopped(work):
                    self._put_aside(queue)
        elif command.blocks:
            if row.blocked is Blocked.WAITING and row.head == command.id:
                row.run_now = False
                self._make_ready(work, queue)
            else:
                self.done_with(work, Fate.DROPPED)
        elif self._parking.may_park(row, work, queue):
            self._parking.park(name, work)
        else:
            queue.waiting.append(work)
        self._tidy(name)

    def _make_ready(self, work: Work, queue: KeyQueue) -> None:
        assert queue.running is None, f"{work.command.queue!r} runs already"
        queue.running = work
        command, policy = work.command, self.policy(work)
        is_begun = self.starts.is_noted(command)
        # Begun, at most once, it is let to its end.
        cancelled = None if is_begun else self.cancels.why(command)
        has_turns = policy.rate_limit is not None or policy.throttle is not None
        is_stopped = self._parking.is_stopped(work)
        is_bound = cancelled is not None or is_begun or has_turns or is_stopped
        if is_bound and self._is_known(command):
            # First, as it runs in any case: also where nothing of its flow may begin.
            self.ready.add(work, first=True)
            if cancelled is not None:
                self._cancelled.append(command)
        elif cancelled is not None:
            self.end_first(work, cancelled)
        elif is_begun:
            # It was begun, at most once, and nobody knows what came of it.
            why = Failed(FailureClass.POISON, "unknown-outcome", "the worker ended while it ran")
            self._outlet.outcome(command, policy, UNKNOWN, why)
            self.next(work, Fate.UNKNOWN)
        elif is_stopped and self._parking.may_be_aside(work):
            self._parking.put_aside(work, queue)
            self._tidy(command.queue)
        elif has_turns:
            self._take_turn(work, policy)
        else:
            self.ready.add(work)

    def _put_aside(self, queue: KeyQueue) -> None:
        """Put a key of a stopped flow aside that has something ready, if rows can keep it."""
        if queue.running is not None and not self._is_known(queue.running.command):
            work = self._parking.take_back(queue)
            if work is not None:
                self._make_ready(work, queue)

    def _take_turn(self, work: Work, policy: FlowPolicy) -> None:
        """Let it run, if the limits of its key do; a retry has had its turn."""
        command, now_ms, limit = work.command, self._step.now_ms, policy.rate_limit
        is_counted = limit is not None and command.first_ms is None and not command.redrive
        if is_counted and not self.limits.admit(command, now_ms):
            told = {"reason": "rate-limit", "limit": str(limit)}
            self.end_first(work, Unrun(LIMITED, told))
            return
        throttle, row = policy.throttle, self.keys.get(command.queue)
        is_wanted = row is not None and row.run_now
        if throttle is not None and takes_turns(command, policy) and not is_wanted:
            wait_ms = self.throttles.wait_ms(command.queue, throttle, now_ms)
            if wait_ms:
                self._rest(work, now_ms + wait_ms)
                return
        self.ready.add(work)

    def _rest(self, work: Work, until_ms: int) -> None:
        """Its key may not begin a command before: park it, and what is in hand behind it."""
        name = work.command.queue
        row = self.keys.get(name) or KeyRow(Blocked.DRAINING, self._step.now_ms)
        row.head, row.due_ms = work.command.id, until_ms
        self.keys.put(name, row)
        queue = self._queues[name]
        queue.running = None
        if not work.is_parked:
            self._parking.park(name, work)
        self._parking.park_waiting(name, queue)
        heappush(self._resting, (until_ms, name))
        self._tidy(name)

    def _end_rest(self, until_ms: int, name: bytes) -> None:
        row = self.keys.get(name)
        if row is not None and row.is_resting and row.due_ms == until_ms:
            self.resume(name)

    def resume(self, name: bytes) -> None:
        """Go on with a key that drains; it may come to rest again."""
        row = self.keys.get(name)
        if row is not None and (row.is_resting or row.is_aside):
            row.due_ms, row.is_aside = 0, False
            self.keys.put(name, row)
        self._run_first_parked(name)

    def _tidy(self, name: bytes) -> None:
        queue = self._queues.get(name)
        if queue is not None and queue.is_empty:
            del self._queues[name]

    def pull(self, name: bytes) -> Work | None:
        """Take the head of a key out of those that wait for their time."""
        row = self.keys.get(name)
        for index, (_, _, work) in enumerate(self._due):
            if row is not None and work.command.queue == name and work.command.id == row.head:
                del self._due[index]
                heapify(self._due)
                return work
        return None

    def end_unrun(self, work: Work, why: Unrun) -> None:
        """End a command that is in no queue any more, or never was, without a run."""
        self._outlet.outcome(work.command, self.policy(work), why.kind, why)
        self.tagged.release(work.command)
        record, fate = work.record, _FATES[why.kind]
        if work.is_parked:
            self._settle(record, fate)
        else:
            self.windows[record.topic].end(record.offset, fate)

    def end_first(self, work: Work, why: Unrun) -> None:
        """End the command that a key waits for, without a run, or with one that was ended."""
        name = work.command.queue
        self._outlet.outcome(work.command, self.policy(work), why.kind, why)
        queue = self._queues.get(name)
        if queue is not None:
            queue.running = None
        self.done_with(work, _FATES[why.kind])
        self.go_on(name)

    def cancel(self, cause: Command, why: Unrun) -> None:
        """End all that have come before of a key, or with a tag; what runs, when it has ended."""
        if not cause.cancels or not cause.tags:
            self._cancel_key(cause.queue, None, why)
            return
        (tag,) = cause.tags
        for name in self.tagged.queues(tag):
            self._cancel_key(name, tag, why)

    def _cancel_key(self, name: bytes, tag: bytes | None, why: Unrun) -> None:
        """End the commands of a key that have a tag; without one, all of them."""
        for work in self.take_waiting(name) if tag is None else self._take_tagged(name, tag):
            self.end_unrun(work, why)
        queue, row = self._queues.get(name), self.keys.get(name)
        running = None if queue is None else queue.running
        if running is not None:
            if _is_meant(running, tag):
                self._cancel_run(running, why)
        elif row is not None and row.blocked is Blocked.WAITING:
            self._cancel_head(name, row, tag, why)
        elif row is not None and (row.is_resting or row.is_aside):
            first = self.first_parked(name)
            if _is_meant(first, tag):
                self.end_first(first, why)

    def _cancel_head(self, name: bytes, row: KeyRow, tag: bytes | None, why: Unrun) -> None:
        """End the head of a key that waits for its retry; one that was not read, when it is."""
        if tag is not None and tag not in row.tags:
            return
        head = self.pull(name)
        if head is not None and not self.has_begun(head.command):
            self.end_first(head, why)
            return
        if head is None or self.policy(head).delivery is Delivery.AT_LEAST_ONCE:
            self.cancels.note(name, row.head, why)
        if head is not None:
            # It was read again while its run goes on, or has ended: that decides.
            self.place(head)
            return
        row.run_now = True
        self.keys.put(name, row)

    def _take_tagged(self, name: bytes, tag: bytes) -> list[Work]:
        """Take out what has a tag of what waits behind the first of a key; the caller ends it."""
        queue, row, found = self._queues.get(name), self.keys.get(name), []
        if row is not None:
            kept = int(row.blocked is Blocked.DRAINING)
            parked = [_parked(name, one) for one in self.keys.behind(name, kept)]
            first = next((n for n, one in enumerate(parked) if tag in one.command.tags), None)
            if first is not None:
                self.keys.take_behind(name, kept + first)
                for work in parked[first:]:
                    if tag in work.command.tags:
                        found.append(work)
                    else:
                        self.keys.park(name, work.record)
        if queue is not None:
            found += [one for one in queue.waiting if tag in one.command.tags]
            queue.waiting = deque(one for one in queue.waiting if tag not in one.command.tags)
        return found

    def _cancel_run(self, work: Work, why: Unrun) -> None:
        if self.ready.remove(work):
            if not self._is_known(work.command):
                self.end_first(work, why)
                return
            # It was read again while its run goes on, or has ended: that is found first.
            self.ready.add(work, first=True)
        if (
            self.policy(work).delivery is Delivery.AT_LEAST_ONCE
            and self.cancels.why(work.command) is None
        ):
            self.cancels.note(work.command.queue, work.command.id, why)
            self._cancelled.append(work.command)

    def block(self, work: Work, blocked: Blocked, fate: Fate = Fate.RETRIED) -> KeyRow:
        """Its key may not go on: park what is in hand behind it."""
        name = work.command.queue
        row = self.keys.get(name)
        if row is None:
            row = KeyRow(blocked, self._step.now_ms)
            self.keys.put(name, row)
        self.done_with(work, fate)
        row.blocked, row.run_now = blocked, False
        self.keys.put(name, row)
        queue = self._queues[name]
        queue.running = None
        self._parking.park_waiting(name, queue)
        self._tidy(name)
        return row

    def next(self, work: Work, fate: Fate) -> None:
        """It is through: the next of its key may run."""
        name = work.command.queue
        self.done_with(work, fate)
        self._queues[name].running = None
        self.go_on(name)

    def go_on(self, name: bytes) -> None:
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
        row = self.keys.get(name)
        if row is not None and row.parked:
            row.blocked, row.head, row.due_ms, row.run_now = Blocked.DRAINING, "", 0, False
            row.is_aside = False
            self.keys.put(name, row)
            self._run_first_parked(name)
            return
        if row is not None:
            self.keys.free(name)
        queue = self._queues.get(name)
        if queue is not None and queue.waiting:
            self._make_ready(queue.waiting.popleft(), queue)
        self._tidy(name)

    def _run_first_parked(self, name: bytes) -> None:
        self._make_ready(self.first_parked(name), self._queues.setdefault(name, KeyQueue()))

    def done_with(self, work: Work, fate: Fate) -> None:
        """It has its fate: forget where it was kept."""
        record = work.record
        self.cancels.forget(work.command)
        self.tagged.release(work.command)
        if work.is_parked:
            self.keys.unpark(work.command.queue, record.topic)
            self._settle(record, fate)
        else:
            self.windows[record.topic].end(record.offset, fate)
        if self.policy(work).delivery is Delivery.AT_MOST_ONCE:
            self.starts.forget(work.command)

    def _settle(self, record: Record, fate: Fate) -> None:
        window = self.windows.get(record.topic)
        if window is not None:
            window.settle(record.offset, fate)


def takes_turns(command: Command, policy: FlowPolicy) -> bool:
    """Whether its start counts for the throttle of its key; a retry has had its turn."""
    return policy.throttle is not None and command.first_ms is None


def _is_meant(work: Work, tag: bytes | None) -> bool:
    """Whether what cancels by a tag, or a whole key, means a command."""
    return tag is None or tag in work.command.tags


def _parked(name: bytes, record: StoredRecord) -> Work:
    command = parse_command(record, flow_of(name))
    assert isinstance(command, Command), f"a parked command was read before: {command}"
    return Work(command, record, is_parked=True)
