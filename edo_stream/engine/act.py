"""A task of the act plane: its commands run outside while its partition goes on.

Theory of operation. It lives like every task (fence, restore, position, process; see
:mod:`edo_stream.engine.task`), with three differences:

- A batch is not done with when it was read. The core keeps what is in hand in windows; the offsets
  that are committed are those below which everything is done. What does not fit a window stays in
  the inbox without credit, and fetching pauses.
- Between steps commands run. What may begin is asked of the core, whether it may begin now of its
  flow's :class:`~edo_stream.engine.target.Target`; an end wakes the task, and the next step
  commits what it leads to, many ends in one transaction. During the commit others begin where runs
  end, so that no slot is idle for as long; but none that only that commit lets run.
- Who is cut off from the group begins nothing: after a session without a heartbeat the partition
  may be another worker's. No transaction would commit then, but an effect needs none.
- Retries are overdue at once after an outage: unlike a gap's deadline, they wait for nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from aiokafka import TopicPartition

from edo_stream.core.act.outcome import Outcome
from edo_stream.core.act.pipeline import ActPipeline
from edo_stream.core.act.work import Work
from edo_stream.core.record import Batch
from edo_stream.engine.ports import Handed
from edo_stream.engine.restore import TaskTable
from edo_stream.engine.target import Slot, Target
from edo_stream.engine.task import VOID, MisplacedError, Task
from edo_stream.engine.task_spec import Decider, Ports, TaskSpec
from edo_stream.views import Phase

_ASK_AGAIN_MAX_MS = 60_000
_CUT_OFF_POLL_MS = 200


class ActTask(Task):
    """See the module's docstring; its pipeline is an :class:`ActPipeline`."""

    def __init__(  # noqa: PLR0913 - a composition of parts, made in one place
        self,
        spec: TaskSpec,
        partition: int,
        tables: Sequence[TaskTable],
        pipeline: Decider,
        ports: Ports,
        on_given_up: Callable[[str], None],
    ) -> None:
        super().__init__(spec, partition, tables, pipeline, ports, on_given_up)
        assert isinstance(pipeline, ActPipeline)
        self._act = pipeline
        self._targets = ports.targets
        self._runs = ports.runs.of(spec.group, partition)
        self._runs.attend(self._on_end)
        self._act.is_known = self._runs.knows
        self._reserved: dict[tuple[str, str], Slot] = {}
        """Slots of commands whose start is not committed yet, by flow and id."""
        self._begun: list[Work] = []
        """Commands whose start is committed, and which do not run yet."""
        self._ask_again_ms: int | None = None
        self._is_beginning = False
        self._assigned_at = 0.0

    def begin(self) -> None:
        """Start to run; the group has just said that the partition is this worker's."""
        self._assigned_at = asyncio.get_running_loop().time()
        super().begin()

    async def stop(self) -> None:
        """Let go of the partition; what runs goes on, for the case that it comes back."""
        await super().stop()
        self._runs.let_go()
        self._leave_reserved()

    @property
    def has_work(self) -> bool:
        """Whether records, runs or a transaction are in its hands."""
        return self._busy or self._runs.running > 0

    def _is_to_take(self) -> bool:
        # What has no room may stay for long, and wait for a retry in a batch that is missing.
        return any(map(self._has_room, self._inbox))

    def _is_set_aside(self, partition: TopicPartition) -> bool:
        return any(handed.partition == partition for handed in self._inbox)

    def _on_end(self, work: Work, outcome: Outcome) -> None:
        self._act.finish(work, outcome)
        self._wake.set()
        self._begin_runs()

    def _on_slot(self) -> None:
        """A target may have a slot: take it at once, in the order in which tasks have waited."""
        self._wake.set()
        if self.phase is Phase.RUNNING:
            self._begin_runs()

    async def _reset(self, error: Exception) -> None:
        # At once: what ends from here on is of no command that the core has in hand, and a slot
        # that is left begins nothing that only the failed commit would have let begin.
        self.phase = Phase.WAITING
        self._runs.let_go()
        self._leave_reserved()
        await super()._reset(error)

    async def _process(self) -> None:
        while not self._stop.is_set():
            await self._wait_for_work()
            if self._stop.is_set():
                return
            await self._ports.pace.turn(self)
            handed, batches = await self._take()
            self.progress.in_hand = batches
            self.progress.moved_at = asyncio.get_running_loop().time()
            await self._step(batches)
            self.progress.in_hand = ()
            for done in handed:
                self._ports.intake.credit(done)
            self._begin_runs()

    async def _step(self, batches: Sequence[Batch]) -> None:
        now_ms = self._ports.now_ms()
        before = dict(self._act.positions())
        effects = self._act.step(batches, now_ms, now_ms)
        for batch in batches:
            place = TopicPartition(batch.topic, batch.partition)
            self._expected[place] = batch.records[-1].offset + 1
        if effects.publish or any(table.rows.changelog for table in self.tables):
            moved = {
                TopicPartition(topic, self.partition): offset
                for topic, offset in self._act.positions().items()
                if offset != before.get(topic)
            }
            await self._commit(effects, moved, now_ms)
        for batch in batches:
            self.progress.done_ms[batch.topic] = batch.records[-1].timestamp
        for end in self._act.ended():
            self._runs.recorded(end.work)
            self._targets[end.work.command.flow].decided(end.outcome, end.is_given_up)
        self._begun += self._act.begun()
        # Also when the task is to stop: not run, they would be nobody knows what.
        self._start_begun()
        for command in self._act.cancelled():
            self._runs.cancel(command)

    def _begin_runs(self) -> None:
        """Begin what may begin, and note when to ask again for the rest."""
        # A run that is adopted may have ended, which comes back here.
        if self._is_beginning or self._stop.is_set():
            return
        self._is_beginning = True
        self._ask_again_ms = self._act.release(self._ports.now_ms())
        try:
            if self._is_cut_off:
                self._note_wait(_CUT_OFF_POLL_MS)
                return
            self._start_begun()
            for flow in self._act.ready_flows():
                self._begin_runs_of(flow, self._targets[flow])
        finally:
            self._is_beginning = False

    def _start_begun(self) -> None:
        if self._is_cut_off:
            return
        # Taken off first: a slot that is left may have this called again.
        begun, self._begun = self._begun, []
        now_ms = self._ports.now_ms()
        for work in begun:
            slot = self._reserved.pop((work.command.flow, work.command.id))
            if self._act.end_expired(work, now_ms):
                slot.leave()
                self._wake.set()
            else:
                self._start(work, slot)

    @property
    def _is_cut_off(self) -> bool:
        """Whether the group may have given the partition to another worker."""
        heard_at = max(self._assigned_at, self._ports.membership.heard_at())
        return asyncio.get_running_loop().time() - heard_at >= self.spec.session_timeout_s

    def _begin_runs_of(self, flow: str, target: Target) -> None:
        while (command := self._act.peek(flow, is_committed=not self._busy)) is not None:
            if self._runs.knows(command):
                work = self._act.take(flow)
                assert work is not None, f"{command.id} runs, so its start is committed"
                self._runs.adopt(work)
                continue
            if self._act.expire(flow, self._ports.now_ms()):
                self._wake.set()
                continue
            if flow in self._act.paused():
                return
            key_wait_ms = target.key_wait_ms(command.key)
            if key_wait_ms:
                self._act.defer(flow, self._note_wait(key_wait_ms))
                continue
            wait_ms = target.wait_ms(self._on_slot)
            if wait_ms:
                self._note_wait(min(wait_ms, _ASK_AGAIN_MAX_MS))
                return
            slot = target.begin(command.key)
            if slot is None:
                self._note_wait(1)
                return
            work = self._act.take(flow)
            if work is None:
                self._reserved[command.flow, command.id] = slot
            else:
                self._start(work, slot)

    def _start(self, work: Work, slot: Slot) -> None:
        """Run a command; of a retry, tell how late."""
        command = work.command
        due_ms = max(command.due_ms, command.not_before_ms)
        late_ms = self._ports.now_ms() - due_ms
        # Earlier only where an operator said so.
        if due_ms and late_ms >= 0:
            self._ports.hooks.retried(self.spec.group, command.flow, late_ms)
        self._runs.start(work, slot)

    def _note_wait(self, wait_ms: int) -> int:
        at_ms = self._ports.now_ms() + wait_ms
        if self._ask_again_ms is None or at_ms < self._ask_again_ms:
            self._ask_again_ms = at_ms
        return at_ms

    def _leave_reserved(self) -> None:
        for slot in self._reserved.values():
            slot.leave()
        self._reserved.clear()
        self._begun.clear()

    async def _wait_for_work(self) -> None:
        # What the last commit says, or after a restore the state.
        for flow, is_open in self._act.switched().items():
            if flow in self._targets:
                self._targets[flow].operate(is_open)
        while True:
            self._wake.clear()
            if self._is_misplaced:
                raise MisplacedError("the next offset is not in the log any more")
            if self._stop.is_set() or VOID in self._epochs.values():
                break
            self._begin_runs()
            due_ms, now_ms = self._act.next_due_ms(), self._ports.now_ms()
            is_due = due_ms is not None and due_ms <= now_ms
            if is_due or any(self._has_room(handed) for handed in self._inbox):
                break
            self._arm(due_ms, now_ms)
            await self._wake.wait()
        self._cancel_timer()

    def _arm(self, due_ms: int | None, now_ms: int) -> None:
        self._cancel_timer()
        times = [at_ms for at_ms in (due_ms, self._ask_again_ms) if at_ms is not None]
        if times:
            wait_s = max(0.001, (min(times) - now_ms) / 1000)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake.set)

    def _has_room(self, handed: Handed) -> bool:
        is_void = handed.epoch != self._epochs[handed.partition]
        return is_void or self._act.room(handed.partition.topic) > 0

    async def _take(self) -> tuple[list[Handed], list[Batch]]:
        # A partition without room keeps all that it has: none is overtaken by a later one.
        inbox, self._inbox = self._inbox, deque()
        kept: deque[Handed] = deque()
        for handed in inbox:
            (self._inbox if self._has_room(handed) else kept).append(handed)
        try:
            return await super()._take()
        finally:
            self._inbox.extendleft(reversed(kept))
