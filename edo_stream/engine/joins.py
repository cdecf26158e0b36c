"""Groups that correlate: their plans, their topics, and a task that knows where its events are.

A task that correlates lives like every task (:mod:`edo_stream.engine.task`), with one difference:
its events come from other tasks. When a deadline is due, the event that it waits for may lie in
its own topic unread, or in a task's that has not passed it on yet. So the end of the log is looked
for twice: the topics of the inputs must have been read by their tasks to the end that they had at
that moment, whoever runs them, and then this task must have read its own topic so far.

Where the tasks before have read to is what the group has committed. Behind that there may be
nothing but transaction markers, which no commit ever covers; a look into the log tells.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from aiokafka import TopicPartition

from edo_stream.core.contract import DAY_MS, Start
from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import InternalTopics, TaskIdentity, refusal
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS, TaskTable
from edo_stream.engine.task import Decider, Ports, Task, TaskSpec
from edo_stream.flows import Flows
from edo_stream.flows.correlation import JoinGroup
from edo_stream.registry import control_topic
from edo_stream.registry.plan import ACCOUNTS, ACCOUNTS_PARTITIONS, GAPS, GAPS_PARTITIONS

_EARLIEST: Final = Start()
_RETENTION_MS: Final = 7 * DAY_MS
_LETTERS_RETENTION_MS: Final = 30 * DAY_MS
_SEGMENT_MS: Final = 3_600_000
#: A row of a wait has several events in it.
_ROW_BYTES: Final = 4 << 20
_REPLICAS_FOR_TWO_IN_SYNC: Final = 3
_UPSTREAM_POLL_S: Final = 0.05


class JoinTask(Task):
    """See the module's docstring; its pipeline is a :class:`JoinPipeline`."""

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
        assert isinstance(pipeline, JoinPipeline)
        self._upstream = [
            TopicPartition(topic, number)
            for topic, count in pipeline.upstream
            for number in range(count)
        ]
        self._awaited: tuple[int, dict[TopicPartition, int]] | None = None
        """Since when, and up to which ends, the tasks before are waited for."""
        self._stood: Mapping[TopicPartition, int | None] = {}
        """Where the group stood when it was asked last."""
        self._empty: dict[TopicPartition, tuple[int, int]] = {}
        """Offsets between which a partition was found to have no records."""

    async def _timers_may_fire(self) -> bool:
        due_ms, now_ms = self.pipeline.next_due_ms(), self._ports.now_ms()
        if due_ms is None or due_ms > now_ms:
            self._awaited = None
        elif due_ms > self._caught_up_ms and self._catch_up is None:
            if self._awaited is None:
                # The moment is taken before the question: what the answer covers was there by then.
                self._awaited = (now_ms, await self._upstream_ends())
            moment_ms, ends = self._awaited
            if not await self._has_passed_on(ends):
                return False
            own = list(self._expected)
            watermarks = await self._ports.intake.high_watermarks(own)
            self._awaited = None
            self._catch_up = (moment_ms, dict(zip(own, watermarks, strict=True)))
        return await super()._timers_may_fire()

    async def _upstream_ends(self) -> dict[TopicPartition, int]:
        ends = await self._ports.intake.high_watermarks(self._upstream)
        return dict(zip(self._upstream, ends, strict=True))

    async def _has_passed_on(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether the tasks before have read up to the ends; what has, is not asked for again."""
        if not ends:
            return True
        partitions = list(ends)
        committed = await self._ports.intake.committed(partitions)
        before, self._stood = self._stood, dict(zip(partitions, committed, strict=True))
        for partition, offset in self._stood.items():
            end = ends[partition]
            if end <= (offset or 0) or await self._is_behind(partition, offset, end, before):
                del ends[partition]
        return not ends

    async def _is_behind(
        self,
        partition: TopicPartition,
        offset: int | None,
        end: int,
        before: Mapping[TopicPartition, int | None],
    ) -> bool:
        """Whether a partition has nothing more up to an end, although it is not committed so far.

        It is looked at only where nothing has moved since the last question: a task that is at
        work gets there by itself.
        """
        if offset is None:
            return False
        if self._empty.get(partition) == (offset, end):
            return True
        if before.get(partition) != offset:
            return False
        _, stable_end = await self._ports.changelog.bounds(partition)
        if stable_end < end:
            return False  # A transaction is open, and may still bring records.
        async with aclosing(self._ports.changelog.read(partition, offset, end)) as parts:
            async for part in parts:
                if part:
                    return False
        self._empty[partition] = (offset, end)
        return True

    def _arm_timer(self) -> None:
        if self._awaited is None:
            super()._arm_timer()
            return
        self._cancel_timer()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_UPSTREAM_POLL_S, self._wake.set)

    async def _reset(self, error: Exception) -> None:
        self._awaited = None
        await super()._reset(error)


def join_plans(flows: Flows, shared: TaskSpec) -> dict[str, GroupPlan]:
    """Plans by group; ``shared`` gives what all groups share."""
    return {name: _plan(group, shared) for name, group in flows.join_groups.items()}


def _plan(group: JoinGroup, shared: TaskSpec) -> GroupPlan:
    control = control_topic(group.name)
    internal = InternalTopics(ACCOUNTS, ACCOUNTS_PARTITIONS, GAPS, GAPS_PARTITIONS, control)

    def make_pipeline(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        identity = TaskIdentity(shared.app, group.name, partition)
        return JoinPipeline(identity, group.spec, group.dead_letters, state, internal)

    spec = shared.of_group(group.name, {group.spec.topic: _EARLIEST, control: _EARLIEST})
    tables = [_state(shared.app, group.name)]
    return GroupPlan(spec, group.partitions, tables, make_pipeline, JoinTask)


def join_changelog(app: str, group: str) -> str:
    """Topic of the state of a group that correlates."""
    return f"{app}-{group}-state-changelog"


def _state(app: str, group: str) -> GroupTable:
    return GroupTable(f"{group}-state", join_changelog(app, group), as_is, refusal)


def join_topics(flows: Flows, app: str, replication: int) -> list[Wanted]:
    """Topics of groups that correlate: their events, control, state, and flows' own ends."""
    found = (_topics(group, app, replication) for group in flows.join_groups.values())
    return [topic for topics in found for topic in topics]


def _topics(group: JoinGroup, app: str, replication: int) -> list[Wanted]:
    letters_bytes = group.bytes_max + (64 << 10)
    sizes = {
        group.spec.topic: (_RETENTION_MS, group.bytes_max),
        control_topic(group.name): (_RETENTION_MS, 1 << 20),
        **dict.fromkeys(
            (group.dead_letters, *group.own_topics), (_LETTERS_RETENTION_MS, letters_bytes)
        ),
    }
    configs = {
        name: {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_ms),
            "max.message.bytes": str(size_bytes),
        }
        for name, (retention_ms, size_bytes) in sizes.items()
    }
    configs[join_changelog(app, group.name)] = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(TOMBSTONES_KEPT_MS),
        "segment.ms": str(_SEGMENT_MS),
        "segment.bytes": str(64 << 20),
        "max.message.bytes": str(max(_ROW_BYTES, letters_bytes)),
    }
    in_sync = {"min.insync.replicas": "2" if replication >= _REPLICAS_FOR_TWO_IN_SYNC else "1"}
    why = f"flows that wait, of group {group.name}"
    return [
        Wanted(name, group.partitions, replication, config | in_sync, is_internal=True, why=why)
        for name, config in configs.items()
    ]
