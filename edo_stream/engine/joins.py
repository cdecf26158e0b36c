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
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from aiokafka import TopicPartition

from edo_stream.core.contract import DAY_MS
from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.correlation.rows import stranded
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan
from edo_stream.engine.group_plans import none_left_behind, state_plan
from edo_stream.engine.group_topics import (
    compacted_hourly,
    control_config,
    state_changelog,
    wanted_internal,
)
from edo_stream.engine.restore import TaskTable
from edo_stream.engine.task import Task
from edo_stream.engine.task_spec import Decider, Ports, TaskSpec
from edo_stream.flows import Flows
from edo_stream.flows.correlation import JoinGroup
from edo_stream.registry import control_topic
from edo_stream.registry.plan import DEAD_LETTERS_RETENTION_MS, deleted_by_age

log = logging.getLogger(__name__)

_RETENTION_MS: Final = 7 * DAY_MS
_HISTORY_RETENTION_MS: Final = 90 * DAY_MS
#: A row of a wait has several events in it.
_ROW_BYTES: Final = 4 << 20
_UPSTREAM_POLL_S: Final = 0.05
#: An event comes once to each flow that waits for it, so a transaction's worth are more records.
_RECORDS_AN_EVENT: Final = 2


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
        self._joins = pipeline
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

    async def _position(self) -> None:
        await super()._position()
        for flow, row in self._joins.not_declared.items():
            log.warning(
                "task %s: %d events wait for flow %s, which is not declared in its group: they "
                "stay until it is declared again; edo waits list shows them",
                self.name,
                row.held,
                flow,
            )

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
    spec = replace(shared, batch_records_max=_RECORDS_AN_EVENT * shared.batch_records_max)
    return {name: _plan(group, spec) for name, group in flows.join_groups.items()}


def _plan(group: JoinGroup, shared: TaskSpec) -> GroupPlan:
    spec, letters = group.spec, group.dead_letters
    refused = none_left_behind(
        lambda state: stranded(state, spec.combining),
        f"events wait in the state of group {group.name} for commands of flows that neither "
        "debounce nor batch in it any more: {told}. Declare it again as it was, with "
        "draining: true, until edo waits list shows none",
    )

    def make_pipeline(
        identity: TaskIdentity, state: Table, internal: InternalTopics
    ) -> JoinPipeline:
        pipeline = JoinPipeline(identity, spec, letters, state, internal)
        pipeline.write_as_sent()
        return pipeline

    return state_plan(
        group,
        shared,
        make_pipeline,
        refused,
        JoinTask,
    )


def join_topics(flows: Flows, app: str, replication: int) -> list[Wanted]:
    """Topics of groups that correlate: their events, control, state, and flows' own ends."""
    found = (_topics(group, app, replication) for group in flows.join_groups.values())
    return [topic for topics in found for topic in topics]


def _topics(group: JoinGroup, app: str, replication: int) -> list[Wanted]:
    letters_bytes = group.bytes_max + (64 << 10)
    letters = deleted_by_age(DEAD_LETTERS_RETENTION_MS, letters_bytes)
    # All events of a wait, and what a manifest lists.
    waits_bytes = [one.bounds.bytes_max for one in group.spec.correlations.values()]
    row_bytes = max(waits_bytes, default=0) + letters_bytes
    configs = {
        group.spec.topic: deleted_by_age(_RETENTION_MS, group.bytes_max),
        control_topic(group.name): control_config(),
        **dict.fromkeys((group.dead_letters, *group.own_topics), letters),
        **dict.fromkeys(
            group.histories, deleted_by_age(_HISTORY_RETENTION_MS, group.history_bytes_max)
        ),
        state_changelog(app, group.name): compacted_hourly(max(_ROW_BYTES, row_bytes)),
    }
    why = f"flows that wait, of group {group.name}"
    return wanted_internal(configs, group.partitions, replication, why)
