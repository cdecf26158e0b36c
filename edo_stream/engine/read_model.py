"""What a worker answers when it is asked for the state of one key: committed rows, and how far.

Theory of operation. A task's rows go to its disk after the commit of their transaction, all at
once, with the offsets of its inputs that they follow from. So the disk is what is read, and never
what a step has written above it: row and offsets are those of one transaction, at any moment.

Who has written an event and wants to see what it led to says its offset. An offset of a topic that
the task itself reads is compared with the rows'. An event of a flow's input is read by another
task first, which passes it on: once the group has committed its offset, what it led to lies in the
task's own topics, and the task must have read those to the end that they had then.

Each key has one owner, the task of its partition. Of a key of another worker this one says only
where that is. A worker that the group has not heard for a session may have lost its partitions,
and answers nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from edo_stream.core.partitioner import partition_of
from edo_stream.core.state import Table
from edo_stream.core.task import load_task
from edo_stream.engine.task import Task
from edo_stream.registry import control_topic
from edo_stream.views import Phase

_POLL_S: Final = 0.02
_UPSTREAM_POLL_S: Final = 0.1
_WAITERS_MAX: Final = 256
"""Requests that wait for an offset at a time."""

Document = Mapping[str, Any]

OK: Final = 200
REDIRECT: Final = 307
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
UNAVAILABLE: Final = 503
NOT_IN_TIME: Final = 504


class ReadState(Protocol):
    """Reads one key of a flow from a task's committed rows; quickly, whatever the state's size."""

    def __call__(self, state: Table, key: bytes, limit: int, after: bytes) -> Document | None:
        """The state as JSON has it; ``None`` where nothing is known of the key.

        Of many events so many are shown, behind the place ``after``.
        """


@dataclass(frozen=True, slots=True)
class StateOf:
    """Where the state of a flow is, and how it is read."""

    group: str
    partitions: int
    read: ReadState
    upstream: Mapping[str, int] = field(default_factory=dict)
    """Topics that others read and pass on, with their partitions."""


class MinOffset(NamedTuple):
    """A record that must have been applied."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Question:
    """A request for the state of a key."""

    flow: str
    key: bytes
    min_offsets: Sequence[MinOffset] = ()
    wait_s: float = 5.0
    limit: int = 100
    after: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said: a status of HTTP, a document, and where to go on."""

    status: int
    document: Document
    owner: str | None = None
    """Address of the worker that knows."""
    applied: Sequence[MinOffset] = ()
    """Last record applied of each input's partition."""


class Looking(Protocol):
    """What is asked of the consumer; see :class:`edo_stream.engine.ports.Intake`."""

    async def committed(self, partitions: Sequence[TopicPartition]) -> list[int | None]:
        """The group's committed offsets."""

    async def high_watermarks(self, partitions: Sequence[TopicPartition]) -> list[int]:
        """Ends of the logs."""

    def last_handed(self, partition: TopicPartition) -> int | None:
        """Last offset drained."""

    async def fetch_position(self, partition: TopicPartition) -> int | None:
        """Offset that is drained next."""

    def heard_at(self) -> float:
        """When the last accepted heartbeat was sent, on the event loop's clock."""


class _RefusedError(Exception):
    """The question is answered otherwise than by a state."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


class ReadModel:
    """The states of a worker, by flow and key."""

    def __init__(
        self,
        places: Mapping[str, StateOf],
        tasks: Callable[[], Mapping[tuple[str, int], Task] | None],
        owner_of: Callable[[TopicPartition], str | None],
        looking: Callable[[], Looking],
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Put it together from what a worker has.

        ``tasks`` are its own, ``None`` between assignments; ``owner_of`` is the address of the
        worker that reads a partition, ``None`` where no other is known to.
        """
        self._places = places
        self._tasks = tasks
        self._owner_of = owner_of
        self._looking = looking
        self._is_stopping = is_stopping
        self._waiters = 0

    async def answer(self, question: Question) -> Answer:
        """Answer a question; waits for offsets for so long at most, never raises."""
        place = self._places.get(question.flow)
        if place is None:
            known = ", ".join(sorted(self._places)) or "none"
            detail = f"no flow {question.flow} waits, and no saga has this name: known are {known}"
            return _said(NOT_FOUND, "unknown-flow", detail)
        try:
            task = self._task(place, question.key)
            for wanted in question.min_offsets:
                self._check(place, task, wanted)
            passed_on: Sequence[MinOffset] = ()
            if question.min_offsets:
                passed_on = await self._wait(place, question)
                # Meanwhile it may have gone, or come.
                task = self._task(place, question.key)
            return self._read(place, task, question, passed_on)
        except _RefusedError as refused:
            return refused.answer
        except (KafkaError, OSError) as error:
            detail = f"the broker does not say how far the inputs are read: {error}"
            return _said(UNAVAILABLE, "no-broker", detail)

    def _task(self, place: StateOf, key: bytes) -> Task:
        """The task that owns a key, if it is here and may speak."""
        tasks, number = self._tasks(), partition_of(key, place.partitions)
        if tasks is None:
            raise _RefusedError(_said(UNAVAILABLE, "rebalancing", "partitions are dealt out anew"))
        task = tasks.get((place.group, number))
        if task is None:
            raise _RefusedError(self._elsewhere(place, number))
        if task.phase is Phase.REFUSED:
            raise _RefusedError(_said(UNAVAILABLE, "stopped", f"{task.name}: {task.refusal}"))
        if task.phase is not Phase.RUNNING:
            detail = f"{task.name} is {task.phase.value}"
            raise _RefusedError(_said(UNAVAILABLE, task.phase.value, detail))
        silent_s = asyncio.get_running_loop().time() - self._looking().heard_at()
        if silent_s >= task.spec.session_timeout_s:
            detail = f"the group has not heard this worker for {silent_s:.0f} s"
            raise _RefusedError(_said(UNAVAILABLE, "cut-off", detail))
        return task

    def _elsewhere(self, place: StateOf, number: int) -> Answer:
        address = self._owner_of(TopicPartition(control_topic(place.group), number))
        name = f"{place.group}-{number}"
        if address is None:
            return _said(UNAVAILABLE, "no-owner", f"no worker is known to run {name}")
        document = {"reason": "elsewhere", "detail": f"{name} is run by {address}"}
        return Answer(REDIRECT, document, address)

    def _check(self, place: StateOf, task: Task, wanted: MinOffset) -> None:
        count = place.upstream.get(wanted.topic)
        if wanted.topic in task.spec.sources and wanted.partition == task.partition:
            return
        if count is not None and 0 <= wanted.partition < count:
            return
        own = [f"{topic}:{task.partition}" for topic in task.spec.sources]
        known = ", ".join([*(f"{topic}:0…{n - 1}" for topic, n in place.upstream.items()), *own])
        name = f"{wanted.topic}:{wanted.partition}"
        detail = f"min_offset: {name} is no input of it: known are {known}"
        raise _RefusedError(_said(BAD_REQUEST, "not-an-input", detail))

    # Waiting.

    async def _wait(self, place: StateOf, question: Question) -> Sequence[MinOffset]:
        """Wait until the records are applied; what others have passed on of the inputs."""
        if self._waiters >= _WAITERS_MAX:
            detail = f"{_WAITERS_MAX} requests wait for offsets already"
            raise _RefusedError(_said(UNAVAILABLE, "busy", detail))
        self._waiters += 1
        try:
            async with asyncio.timeout(question.wait_s):
                return await self._until_applied(place, question)
        except TimeoutError:
            task = self._task(place, question.key)
            applied = applied_by(task)
            why = f"not applied within {question.wait_s:g} s"
            document = {"reason": "not-applied", "detail": why, "applied": _shown(applied)}
            raise _RefusedError(Answer(NOT_IN_TIME, document, None, applied)) from None
        finally:
            self._waiters -= 1

    async def _until_applied(self, place: StateOf, question: Question) -> Sequence[MinOffset]:
        task = self._task(place, question.key)
        own = {
            TopicPartition(topic, partition): offset + 1
            for topic, partition, offset in question.min_offsets
            if topic in task.spec.sources
        }
        before = {
            TopicPartition(topic, partition): offset + 1
            for topic, partition, offset in question.min_offsets
            if topic not in task.spec.sources
        }
        passed_on: dict[TopicPartition, int] = {}
        looking = self._looking()
        while before:
            committed = await looking.committed(list(before))
            for partition, offset in zip(list(before), committed, strict=True):
                if offset is not None and offset >= before[partition]:
                    passed_on[partition] = offset
                    del before[partition]
            if before:
                await self._pause(_UPSTREAM_POLL_S)
            else:
                # Asked now: what it led to was written before its offset was committed.
                partitions = task.partitions
                for partition, end in zip(
                    partitions, await looking.high_watermarks(partitions), strict=True
                ):
                    own[partition] = max(end, own.get(partition, 0))
        # The task may be another one by now, of another worker even.
        while not await self._has_applied(self._task(place, question.key), own):
            await self._pause(_POLL_S)
        return [
            MinOffset(place.topic, place.partition, offset - 1)
            for place, offset in passed_on.items()
        ]

    async def _pause(self, pause_s: float) -> None:
        if self._is_stopping():
            raise _RefusedError(_said(UNAVAILABLE, "stopping", "the worker stops"))
        await asyncio.sleep(pause_s)

    async def _has_applied(self, task: Task, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether all that lies before the ends is in the committed rows."""
        looking = self._looking()
        for partition, end in ends.items():
            following = _following(task, partition.topic)
            if following >= end:
                continue
            # Behind it there may be nothing but transaction markers, which only the fetcher passes.
            position = await looking.fetch_position(partition)
            last = looking.last_handed(partition)
            if position is None or position < end or last is None or last >= following:
                return False
        return True

    # Reading.

    def _read(
        self, place: StateOf, task: Task, question: Question, passed_on: Sequence[MinOffset]
    ) -> Answer:
        # From here on nothing is waited for: row and offsets are of one transaction.
        found = place.read(_committed(task), question.key, question.limit, question.after)
        applied = [*passed_on, *applied_by(task)]
        told = {
            "flow": question.flow,
            "group": place.group,
            "partition": task.partition,
            "applied": _shown(applied),
        }
        if found is None:
            why = {"reason": "unknown-key", "detail": "nothing is known of this key"}
            return Answer(NOT_FOUND, {**why, **told}, None, applied)
        return Answer(OK, {**found, **told}, None, applied)


def applied_by(task: Task) -> list[MinOffset]:
    """Last record applied of each input of a task, as its committed rows have it."""
    sources = load_task(_committed(task)).sources
    return [
        MinOffset(topic, task.partition, source.next_offset - 1)
        for topic, source in sources.items()
        if topic in task.spec.sources
    ]


def _committed(task: Task) -> Table:
    """The rows of a task's state that are on its disk, and none above them."""
    return Table(task.tables[0].disk)


def _following(task: Task, topic: str) -> int:
    source = load_task(_committed(task)).sources.get(topic)
    return 0 if source is None else source.next_offset


def _shown(applied: Sequence[MinOffset]) -> dict[str, dict[str, int]]:
    shown: dict[str, dict[str, int]] = {}
    for topic, partition, offset in applied:
        shown.setdefault(topic, {})[str(partition)] = offset
    return shown


def _said(status: int, reason: str, detail: str) -> Answer:
    return Answer(status, {"reason": reason, "detail": detail})
