"""A task: one partition number of one group, everything it owns, one batch at a time.

Theory of operation. A task lives between an assignment and the next revocation:

1. *fence*: initialise its transactional id. The former owner, if any still runs, can write
   nothing from here on, and its open transaction is ended.
2. *restore*: bring its tables up to the end of their changelogs, which nobody extends now.
3. *position*: read the group's committed offsets and check them against the state; seek.
4. *process*: batch after batch, each in one transaction of outputs, changelogs and offsets;
   after the commit, and only then, the rows go to disk.

When anything fails, the task *resets*: it drops all that is uncommitted and starts over at 1,
but only after a heartbeat of the same generation has been accepted later than the failure.
Without that a zombie would fence the rightful owner. A crash at any instruction is the same as a
reset in another process.
"""

import asyncio
import itertools
import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from edo_stream.core.effects import Effects
from edo_stream.core.record import Batch, Record
from edo_stream.engine.ports import DiskError, Handed, Producer
from edo_stream.engine.position import Positions, RefusedError
from edo_stream.engine.restore import TaskTable, restore
from edo_stream.engine.runner import end_runner
from edo_stream.engine.task_spec import (
    Decider,
    PatientDecider,
    Ports,
    TaskProgress,
    TaskSpec,
    TaskStats,
)
from edo_stream.engine.transaction import (
    Change,
    FencedError,
    OutcomeUnknownError,
    TooLargeError,
    Transaction,
    TransactionAbortedError,
    TransactionError,
)
from edo_stream.views import Failure, Phase

log = logging.getLogger(__name__)

#: How often the fetcher's position is looked at while a due timer waits for the end of the log.
_CATCH_UP_POLL_S = 0.05

#: How often a transaction that is too large for a topic is tried before the task gives up.
_TOO_LARGE_TRIES = 3

#: How often a runner is told to end before the process is given up.
_CANCELS_MAX = 10

#: Numbers the deliveries between two seeks, over all tasks of the process.
_EPOCHS = itertools.count(1)
VOID = 0
"""Epoch of a partition whose deliveries can no longer be trusted: the task seeks."""


class MisplacedError(Exception):
    """The log has lost the offset that is next; positioning anew tells how much."""


#: What may fail a task without being a bug.
_EXPECTED = (TransactionError, KafkaError, TimeoutError, MisplacedError)


class Task:
    """See the module's docstring. ``on_given_up`` is told when the process must end."""

    def __init__(  # noqa: PLR0913 - a composition of parts, made in one place
        self,
        spec: TaskSpec,
        partition: int,
        tables: Sequence[TaskTable],
        pipeline: Decider,
        ports: Ports,
        on_given_up: Callable[[str], None],
    ) -> None:
        self.spec = spec
        self.partition = partition
        self.tables = tables
        self.pipeline = pipeline
        self.stats = TaskStats()
        self.progress = TaskProgress()
        self.phase = Phase.FENCING
        self.refusal: str | None = None
        self._ports = ports
        self._on_given_up = on_given_up
        self._producer: Producer | None = None
        self._inbox: deque[Handed] = deque()
        self._expected: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = {}
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._busy = False
        self._is_misplaced = False
        self._too_large = 0
        """Times in a row that a topic did not take what was to be written."""
        self._runner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._caught_up_ms = 0
        self._catch_up: tuple[int, dict[TopicPartition, int]] | None = None
        self._suspect: dict[TopicPartition, int] = {}

    @property
    def name(self) -> str:
        """Group and partition, as in logs."""
        return f"{self.spec.group}-{self.partition}"

    def _fields(self, topic: str | None = None, offset: int | None = None) -> dict[str, object]:
        """What a log line says besides its text."""
        place = {} if topic is None else {"topic": topic, "offset": offset}
        return {
            "task": self.name,
            "group": self.spec.group,
            "partition": self.partition,
            **place,
        }

    @property
    def partitions(self) -> list[TopicPartition]:
        """The source partitions that it owns."""
        return [TopicPartition(topic, self.partition) for topic in self.spec.sources]

    def begin(self) -> None:
        """Start to run; the task owns its partition until :meth:`stop`."""
        self._runner = asyncio.create_task(self._run(), name=f"task {self.name}")
        self._runner.add_done_callback(self._on_ended)

    def _on_ended(self, runner: asyncio.Task[None]) -> None:
        if not runner.cancelled() and (error := runner.exception()) is not None:
            self._on_given_up(f"task {self.name} failed: {type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Finish or abandon the batch in hand and let go of the partition.

        A transaction takes milliseconds; one that does not is in trouble, and the whole group
        waits for this in a rebalance. Half a session timeout is patience enough: what is
        abandoned, the next owner aborts. Disks stay open, they belong to the caller.
        """
        self._stop.set()
        self._wake.set()
        runner = self._runner
        if runner is not None and not runner.done():
            if self._busy:
                patience_s = min(self.spec.transaction_timeout_s, self.spec.session_timeout_s / 2)
                await asyncio.wait([runner], timeout=patience_s)
            await self._end(runner)
        self._cancel_timer()
        self._inbox.clear()
        await self._drop_producer()
        self.pipeline.discard()
        self.phase = Phase.CLOSED

    async def _end(self, runner: asyncio.Task[None]) -> None:
        if not await end_runner(runner, _CANCELS_MAX):
            # One that lives on would write to a disk that is the next one's.
            self._on_given_up(f"task {self.name} does not end; leaving so that it can be restarted")

    def offer(self, handed: Handed) -> None:
        """Take a batch from the transport; never blocks, never raises."""
        if self.phase is Phase.REFUSED:
            return  # Without credit: fetching pauses, instead of reading the topic for nothing.
        if handed.epoch != self._epochs.get(handed.partition):
            self._ports.intake.credit(handed)
            return
        if not self._inbox:
            self.progress.moved_at = asyncio.get_running_loop().time()
        self._inbox.append(handed)
        self._wake.set()

    @property
    def has_work(self) -> bool:
        """Whether records or a transaction are in its hands."""
        return self._busy or bool(self._inbox or self.progress.in_hand)

    def next_offset(self, topic: str) -> int | None:
        """Next offset of a source, as the group has it; ``None`` when it was never read."""
        offset = self.progress.committed.get(topic)
        return self.pipeline.positions().get(topic) if offset is None else offset

    def oldest_waiting_ms(self, topic: str) -> int | None:
        """Time of the first record of a source that was handed over and is not processed yet."""
        waiting = (one.records[0] for one in self._inbox if one.partition.topic == topic)
        in_hand = (one.records[0] for one in self.progress.in_hand if one.topic == topic)
        first = next(itertools.chain(in_hand, waiting), None)
        return None if first is None else first.timestamp

    def reposition(self) -> None:
        """Look again where the sources stand: the log has lost the offset that is next."""
        self._is_misplaced = True
        self._wake.set()

    def watch(self) -> None:
        """Notice a batch that was handed over and never arrived; call it about once a second."""
        if self.phase is not Phase.RUNNING or self._busy or self._is_to_take():
            self._suspect.clear()
            return
        for partition, expected in self._expected.items():
            if self._is_set_aside(partition):
                continue
            last = self._ports.intake.last_handed(partition)
            if last is None or last < expected:
                self._suspect.pop(partition, None)
            elif self._suspect.get(partition) == last:
                log.info(
                    "batch never arrived, reading again: %s-%d up to %d",
                    *partition,
                    last,
                    extra=self._fields(partition.topic, expected),
                )
                self._suspect.pop(partition)
                self._expire_epoch(partition)
            else:
                self._suspect[partition] = last

    def _is_to_take(self) -> bool:
        """Whether batches are here that the next step takes."""
        return bool(self._inbox)

    def _is_set_aside(self, partition: TopicPartition) -> bool:
        """Whether batches of a partition are here, and are not to be processed yet."""
        return False

    def _expire_epoch(self, partition: TopicPartition) -> None:
        # The runner seeks: it is the only one that awaits on behalf of the task.
        self._epochs[partition] = VOID
        self._wake.set()

    # What follows is in the order of a task's life.

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self._take_over()
                await self._process()
            except RefusedError as refusal:
                self.phase = Phase.REFUSED
                self.refusal = str(refusal)
                log.error("task stopped: %s: %s", self.name, refusal, extra=self._fields())
                return
            except Exception as error:  # noqa: BLE001 - whatever failed, only the log tells what is true
                await self._reset(error)
                if self._is_too_large(error):
                    self.phase = Phase.REFUSED
                    self.refusal = f"{error}, then start the worker again; nothing is lost"
                    log.error("task stopped: %s: %s", self.name, self.refusal, extra=self._fields())
                    return

    def _is_too_large(self, error: Exception) -> bool:
        """Whether the task would be reset for ever, as a topic does not take what it writes."""
        if not isinstance(error, TooLargeError):
            return False
        self._too_large += 1
        return self._too_large >= _TOO_LARGE_TRIES

    async def _take_over(self) -> None:
        self.phase = Phase.FENCING
        self._producer = self._ports.producers(self.spec.transactional_id(self.partition))
        async with asyncio.timeout(self.spec.transaction_timeout_s + 30):
            await self._producer.start()
        self.phase = Phase.RESTORING
        clock = asyncio.get_running_loop()
        began, records = clock.time(), 0
        for table in self.tables:
            if self._stop.is_set():
                return
            restored = await restore(table, self._ports.changelog, self._ports.now_ms())
            records += restored.records
            # Before the next table: its records may be of a format that is not known here.
            if (refusal := table.refusal()) is not None:
                raise RefusedError(refusal)
        self.pipeline.restore()
        self.stats.restored_records += records
        self._ports.hooks.restored(self.spec.group, records, clock.time() - began)
        self.phase = Phase.POSITIONING
        self._is_misplaced = False
        await self._position()
        for partition, offset in self._expected.items():
            await self._seek(partition, offset)
        self.phase = Phase.RUNNING
        log.info(
            "task running: %s: %d changelog records restored, positions %s",
            self.name,
            self.stats.restored_records,
            {topic: offset for (topic, _), offset in self._expected.items()},
            extra=self._fields(),
        )

    async def _seek(self, partition: TopicPartition, offset: int) -> None:
        # Known here before the transport uses it: no batch of the new epoch comes too early.
        self._epochs[partition] = epoch = next(_EPOCHS)
        await self._ports.intake.move_to(partition, offset, epoch)

    async def _position(self) -> None:
        """Take the positions from the state, after checking them against group and log."""
        positions = Positions(self.spec, self._ports.intake, self.tables[0].changelog.topic)
        found = await positions.find(self.partitions, self.pipeline.positions())
        now_ms = self._ports.now_ms()
        begun: list[Effects] = []
        self._expected = {}
        for partition, end, begin, lost in found:
            self.progress.ends[partition.topic] = end
            if begin is not None:
                begun.append(self.pipeline.start(partition.topic, begin, now_ms, lost))
            self._expected[partition] = self.pipeline.positions()[partition.topic]
        self.progress.moved_at = asyncio.get_running_loop().time()
        if begun:
            await self._commit(
                Effects(
                    publish=[record for effects in begun for record in effects.publish],
                    accounts=[account for effects in begun for account in effects.accounts],
                ),
                self._expected,
                now_ms,
            )

    async def _process(self) -> None:
        while not self._stop.is_set():
            await self._wait_for_work()
            if self._stop.is_set():
                return
            await self._ports.pace.turn(self)
            handed, batches = await self._take()
            self.progress.in_hand = batches
            self.progress.moved_at = asyncio.get_running_loop().time()
            now_ms = self._ports.now_ms()
            effects = await self._decide(batches, now_ms)
            # Timers may have changed rows only: who reads the changelog is to see that as well.
            has_changed = any(table.rows.changelog for table in self.tables)
            if effects.publish or effects.wire or has_changed:
                positions = self.pipeline.positions()
                moved = {TopicPartition(b.topic, b.partition): positions[b.topic] for b in batches}
                self._expected.update(moved)
                await self._commit(effects, moved, now_ms)
                for batch in batches:
                    if batch.records[-1].offset < positions[batch.topic]:
                        self.progress.done_ms[batch.topic] = batch.records[-1].timestamp
            self.progress.in_hand = ()
            self._give_back(handed)

    def _give_back(self, handed: Sequence[Handed]) -> None:
        """Credit what is done with; what the step has left unread is what the next begins with."""
        positions = self.pipeline.positions()
        for one in reversed(handed):
            topic, records = one.partition.topic, one.records
            is_current = one.epoch == self._epochs.get(one.partition)
            if not is_current or records[-1].offset < positions[topic]:
                self._ports.intake.credit(one)
                continue
            done = bisect_left(records, positions[topic], key=_offset_of)
            if done:
                self.progress.done_ms[topic] = records[done - 1].timestamp
            size_bytes = one.size_bytes * done // len(records)
            first = Handed(one.partition, records[:done], one.epoch, one.previous, size_bytes)
            rest = Handed(
                one.partition,
                records[done:],
                one.epoch,
                records[done - 1].offset if done else one.previous,
                one.size_bytes - size_bytes,
            )
            self._ports.intake.credit(first)
            self._inbox.appendleft(rest)

    async def _decide(self, batches: Sequence[Batch], now_ms: int) -> Effects:
        pipeline, caught_up_ms = self.pipeline, self._caught_up_ms
        if not isinstance(pipeline, PatientDecider):
            return pipeline.step(batches, now_ms, caught_up_ms)
        # The transactions of other tasks go on meanwhile: their answers wait for nobody's batch.
        steps = pipeline.steps(batches, now_ms, caught_up_ms)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                effects: Effects = end.value
                return effects
            await asyncio.sleep(0)

    async def _wait_for_work(self) -> None:
        while True:
            # Cleared before the look, so that what comes during the look wakes the wait.
            self._wake.clear()
            if self._is_misplaced:
                raise MisplacedError("the next offset is not in the log any more")
            if self._stop.is_set() or VOID in self._epochs.values():
                break
            # With records waiting as well: on a busy partition they always are.
            if await self._timers_may_fire() or self._inbox:
                break
            self._arm_timer()
            await self._wake.wait()
        self._cancel_timer()

    async def _take(self) -> tuple[list[Handed], list[Batch]]:
        """Take what is there, up to a transaction's worth, and check that nothing is missing."""
        taken: list[Handed] = []
        batches: list[Batch] = []
        expected = dict(self._expected)
        room = self.spec.batch_records_max
        while self._inbox and room > 0:
            handed = self._inbox.popleft()
            partition = handed.partition
            taken.append(handed)
            if handed.epoch != self._epochs[partition]:
                continue
            if handed.previous >= expected[partition]:
                # Faust empties its queues when it resumes after a rebalance.
                log.info(
                    "batch missing, reading again: %s-%d: expected %d, got %d after %d",
                    *partition,
                    expected[partition],
                    handed.records[0].offset,
                    handed.previous,
                    extra=self._fields(partition.topic, expected[partition]),
                )
                self._epochs[partition] = VOID
                continue
            expected[partition] = max(expected[partition], handed.records[-1].offset + 1)
            batches.append(Batch(partition.topic, partition.partition, handed.records))
            room -= len(handed.records)
        for partition, epoch in list(self._epochs.items()):
            if epoch == VOID:
                self.stats.rewinds += 1
                self._ports.hooks.rewound(self.spec.group)
                offset = expected[partition]
                await self._seek(partition, offset)
        return taken, batches

    async def _timers_may_fire(self) -> bool:
        """Whether a timer is due; one that waits for the end of the log starts the wait."""
        due_ms = self.pipeline.next_due_ms()
        now_ms = self._ports.now_ms()
        if due_ms is None or due_ms > now_ms:
            self._catch_up = None
            return False
        if due_ms <= self._caught_up_ms:
            return True
        if self._catch_up is None:
            # The moment is taken before the question: what the answer covers was there by then.
            partitions = await self._to_be_reached()
            # Up to the very end: what is missing may be in a transaction that is still open.
            ends = await self._ports.intake.high_watermarks(partitions)
            self._catch_up = (now_ms, dict(zip(partitions, ends, strict=True)))
        moment_ms, ends_then = self._catch_up
        for partition, end in ends_then.items():
            if not await self._has_reached(partition, end):
                return False
        self._caught_up_ms = moment_ms
        self._catch_up = None
        return due_ms <= moment_ms

    async def _to_be_reached(self) -> list[TopicPartition]:
        """The partitions that are read to their ends before a timer fires."""
        return list(self._expected)

    async def _has_reached(self, partition: TopicPartition, end: int) -> bool:
        expected = self._expected[partition]
        if expected >= end:
            return True
        # Behind the last record there may be transaction markers, which only the fetcher passes.
        position = await self._ports.intake.fetch_position(partition)
        last = self._ports.intake.last_handed(partition)
        return position is not None and position >= end and last is not None and last < expected

    def _arm_timer(self) -> None:
        self._cancel_timer()
        due_ms = self.pipeline.next_due_ms()
        if due_ms is None:
            return
        wait_s = max(0.001, (due_ms - self._ports.now_ms()) / 1000)
        if self._catch_up is not None:
            wait_s = _CATCH_UP_POLL_S
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake.set)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _commit(
        self, effects: Effects, offsets: Mapping[TopicPartition, int], now_ms: int
    ) -> None:
        """One transaction, then the disk."""
        assert self._producer is not None
        changes = [
            Change(table.changelog.topic, table.changelog.partition, table.rows.changelog)
            for table in self.tables
            if table.rows.changelog
        ]
        transaction = Transaction(
            self._producer,
            self.spec.app,
            self.spec.transaction_timeout_s,
            self._ports.batch_bytes_max,
        )
        self._busy = True
        clock = asyncio.get_running_loop()
        began = clock.time()
        try:
            last = await transaction.run(effects.publish, changes, offsets, now_ms, effects.wire)
            if -1 in last.values():
                # Committed, but where the rows landed is not known: read them back.
                raise OutcomeUnknownError("the broker did not tell a changelog offset")
            for table in self.tables:
                table.write_through(last.get(table.changelog), now_ms)
        finally:
            self._busy = False
        self._too_large = 0
        self.stats.transactions += 1
        self.progress.committed.update((topic, next_) for (topic, _), next_ in offsets.items())
        ended = clock.time()
        # The step began at ``now_ms``.
        ended_ms = now_ms + int(1000 * (ended - self.progress.moved_at))
        self.progress.moved_at = ended
        self._ports.hooks.committed(self.spec.group, effects, ended - began, ended_ms)

    async def _reset(self, error: Exception) -> None:
        """Drop what is uncommitted and wait until it is certain that the partition is ours."""
        failed_at = asyncio.get_running_loop().time()
        self.phase = Phase.WAITING
        self.stats.resets += 1
        is_fenced = isinstance(error, FencedError)
        self.stats.fences += is_fenced
        self._ports.hooks.failed(self.spec.group, _failure_of(error))
        is_expected = isinstance(error, _EXPECTED)
        log.warning(
            "task reset: %s: %s: %s",
            self.name,
            type(error).__name__,
            error,
            exc_info=None if is_expected else error,
            extra=self._fields(),
        )
        self.pipeline.discard()
        self._inbox.clear()
        self.progress.in_hand = ()
        self.progress.committed.clear()
        self._expected.clear()
        self._epochs.clear()
        self._catch_up = None
        await self._drop_producer()
        if isinstance(error, DiskError):
            # Kept, the partition would stand still until somebody makes room, while another
            # worker has room for it.
            self._on_given_up(f"task {self.name}: {error}; leaving for another worker to take over")
            return
        while not self._stop.is_set():
            confirmed = await self._unless_stopped(
                self._ports.membership.confirmed_since(failed_at, self.spec.session_timeout_s)
            )
            if confirmed or self._stop.is_set():
                return
            if is_fenced:
                self._on_given_up(
                    f"task {self.name} was taken over by another worker and the consumer group "
                    "has not confirmed this one since; leaving so that it can be restarted"
                )
                return

    async def _unless_stopped(self, wait: Coroutine[Any, Any, bool]) -> bool:
        waiting = asyncio.ensure_future(wait)
        try:
            while not (waiting.done() or self._stop.is_set()):
                self._wake.clear()
                wake = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait([waiting, wake], return_when=asyncio.FIRST_COMPLETED)
                wake.cancel()
            return waiting.done() and waiting.result()
        finally:
            waiting.cancel()

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                async with asyncio.timeout(5.0):
                    await producer.stop()


def _offset_of(record: Record) -> int:
    return record.offset


def _failure_of(error: Exception) -> Failure:
    match error:
        case TransactionAbortedError():
            return Failure.ABORTED
        case OutcomeUnknownError():
            return Failure.UNKNOWN
        case FencedError():
            return Failure.FENCED
        case _:
            return Failure.OTHER
