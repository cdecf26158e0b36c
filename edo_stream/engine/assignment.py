"""Which tasks this worker runs and stands by for, as partitions come and go.

Disks outlive tasks and standbys: what stays on the worker in whatever part keeps its disks open,
and they pass from a standby to a task, or back, as they are.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from aiokafka import TopicPartition

from edo_stream.core.state import FORMAT, Expand, Table
from edo_stream.engine.gathering import all_ended
from edo_stream.engine.global_tables import Held
from edo_stream.engine.ports import ChangelogRecord, Disk, Follower, Handed
from edo_stream.engine.restore import Refusal, TaskTable, nothing_refused
from edo_stream.engine.standby import Courtesy, StandbyPlan, Standbys
from edo_stream.engine.task import Task
from edo_stream.engine.task_spec import Decider, Ports, TaskSpec
from edo_stream.views import Phase

log = logging.getLogger(__name__)

_WATCH_S = 1.0
_TAKING_OVER = (Phase.FENCING, Phase.RESTORING, Phase.POSITIONING)


@dataclass(frozen=True, slots=True)
class GroupTable:
    """A table that each task of a group has a partition of."""

    name: str
    changelog: str
    """Topic with as many partitions as the group."""
    expand: Expand
    refusal: Refusal = nothing_refused
    disk_format: int = FORMAT
    """Of the rows on its disks."""
    oldest_disk_format: int = FORMAT
    """From which on rows are read as they are; of an earlier one a disk is restored in full."""


def _nothing_expires(tables: Sequence[Table]) -> Iterable[None]:
    return ()


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What the tasks of one co-partition group are made of."""

    spec: TaskSpec
    partitions: int
    tables: Sequence[GroupTable]
    make_pipeline: Callable[[int, Sequence[Table]], Decider]
    """Takes the partition and the tables in the order above."""
    make_task: type[Task] = Task
    expire: Callable[[Sequence[Table]], Iterable[None]] = _nothing_expires
    """Takes the tables of a standby: see :class:`edo_stream.engine.standby.StandbyPlan`."""


OpenDisk = Callable[[str, int, int, int], Disk]
"""Opens the disk of a table's partition: of a format, the oldest that is read as it is."""


class Assignment:
    """The tasks and standbys of this worker. Called from Faust's rebalance, a call at a time."""

    def __init__(
        self,
        plans: Mapping[str, GroupPlan],
        ports: Ports,
        follower: Follower[ChangelogRecord],
        open_disk: OpenDisk,
        on_given_up: Callable[[str], None],
    ) -> None:
        self.tasks: dict[tuple[str, int], Task] = {}
        #: False between a revocation and the next assignment, and before the first.
        self.is_assigned = False
        self._plans = plans
        self._ports = ports
        self._open_disk = open_disk
        self._on_given_up = on_given_up
        self._disks: dict[tuple[str, int], Disk] = {}
        self._by_topic = {
            topic: group for group, plan in plans.items() for topic in plan.spec.sources
        }
        self.standbys = Standbys(
            ports.changelog,
            follower,
            ports.now_ms,
            Courtesy(
                must_stand_still=lambda: any(t.phase in _TAKING_OVER for t in self.tasks.values()),
                must_yield=lambda: any(task.has_work for task in self.tasks.values()),
            ),
            ports.hooks.stood_by,
        )
        self._watcher: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def global_tables(self) -> Collection[Held]:
        """What all its tasks look up in."""
        tables = self._ports.global_tables
        return () if tables is None else tables.held.values()

    def offer(self, handed: Handed) -> None:
        """Hand a batch to its task; without one it is void, and read again by its next owner."""
        task = self.task_of(handed.partition)
        if task is not None:
            task.offer(handed)

    def task_of(self, partition: TopicPartition) -> Task | None:
        """The task that owns a source partition, if it is here."""
        group = self._by_topic.get(partition.topic)
        return None if group is None else self.tasks.get((group, partition.partition))

    async def revoke(self) -> None:
        """Stop all tasks: each finishes its batch. Disks stay open, for what comes back."""
        self.is_assigned = False
        tasks, self.tasks = self.tasks, {}
        await all_ended(task.stop() for task in tasks.values())

    async def assign(
        self, partitions: Iterable[TopicPartition], standbys: Iterable[TopicPartition] = ()
    ) -> None:
        """Begin the tasks of the partitions; they fence, restore and position by themselves.

        Of ``standbys``, source partitions of other workers, their tasks' state is kept here too.
        """
        await self.revoke()
        if self._is_closed:
            return  # A rebalance that ends while the worker stops.
        if self._ports.global_tables is not None:
            self._ports.global_tables.begin()
        wanted = self._wanted(partitions)
        warm = self._touched(standbys) - wanted
        # Before the tasks begin: from here on only they write to the disks of what was warm.
        self.standbys.keep({place: self._standby_plan(*place) for place in sorted(warm)})
        self._close_disks(keep=wanted | warm)
        self._ports.runs.keep(wanted)
        for group, partition in sorted(wanted):
            task = self._make(group, partition)
            self.tasks[group, partition] = task
            task.begin()
        self.is_assigned = True
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="task watcher")

    async def close(self) -> None:
        """Stop everything and close the disks, for good."""
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        await self.revoke()
        await self._ports.runs.close()
        await self.standbys.close()
        if self._ports.global_tables is not None:
            await self._ports.global_tables.close()
        self._close_disks(keep=set())

    def _touched(self, partitions: Iterable[TopicPartition]) -> set[tuple[str, int]]:
        """Groups and partition numbers that any of the partitions is of."""
        return {
            (self._by_topic[p.topic], p.partition) for p in partitions if p.topic in self._by_topic
        }

    def _wanted(self, partitions: Iterable[TopicPartition]) -> set[tuple[str, int]]:
        """Groups and partition numbers that are here with all their sources."""
        assigned = set(partitions)
        wanted = set()
        for group, number in self._touched(assigned):
            missing = [
                topic
                for topic in self._plans[group].spec.sources
                if TopicPartition(topic, number) not in assigned
            ]
            if missing:
                log.error(
                    "task not started: %s-%d: partition %d of %s is assigned to another worker. "
                    "Workers with different topics run together; upgrade all of them",
                    group,
                    number,
                    number,
                    ", ".join(missing),
                )
            else:
                wanted.add((group, number))
        return wanted

    def _make(self, group: str, partition: int) -> Task:
        plan = self._plans[group]
        tables = self._open_tables(group, partition)
        pipeline = plan.make_pipeline(partition, [table.rows for table in tables])
        return plan.make_task(
            plan.spec, partition, tables, pipeline, self._ports, self._on_given_up
        )

    def _standby_plan(self, group: str, partition: int) -> StandbyPlan:
        return StandbyPlan(partial(self._open_tables, group, partition), self._plans[group].expire)

    def _open_tables(self, group: str, partition: int) -> list[TaskTable]:
        return [
            TaskTable(
                TopicPartition(table.changelog, partition),
                self._disk(table, partition),
                table.expand,
                table.refusal,
            )
            for table in self._plans[group].tables
        ]

    def _disk(self, table: GroupTable, partition: int) -> Disk:
        place = table.name, partition
        disk = self._disks.get(place)
        if disk is None:
            disk = self._disks[place] = self._open_disk(
                *place, table.disk_format, table.oldest_disk_format
            )
        return disk

    def _close_disks(self, keep: set[tuple[str, int]]) -> None:
        kept = {
            (table.name, partition)
            for group, partition in keep
            for table in self._plans[group].tables
        }
        for place in [place for place in self._disks if place not in kept]:
            self._disks.pop(place).close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            for task in list(self.tasks.values()):
                task.watch()
