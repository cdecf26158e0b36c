"""Groups that look up: their plans, their topics, and a task that reads its tables first.

A task that looks up lives like every task (:mod:`edo_stream.engine.task`), with one difference. A
row that it has may be an old one while the newer one is still unread, after an outage or when the
table is new to it. So events wait in its hands, unread and without credit, until the tables have
been read to the ends that they had when the task began.

Global tables are the worker's, and read by it (see :mod:`edo_stream.engine.global_tables`). A task
waits for them in the same way: to begin, and before it says that a row is missing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiokafka import TopicPartition

from edo_stream.core.contract import DAY_MS
from edo_stream.core.lookup.pipeline import LookupPipeline
from edo_stream.core.lookup.spec import Decode, LookupSpec
from edo_stream.core.state import Table
from edo_stream.core.task import TaskIdentity, refusal
from edo_stream.engine import clock
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan
from edo_stream.engine.group_topics import (
    EARLIEST,
    compacted_hourly,
    control_config,
    internal_topics,
    state_changelog,
    state_table,
    wanted_internal,
)
from edo_stream.engine.ports import Handed
from edo_stream.engine.restore import TaskTable
from edo_stream.engine.task import Decider, Ports, Task, TaskSpec
from edo_stream.flows import Flows
from edo_stream.flows.lookup import LookupGroup
from edo_stream.registry import Registry, control_topic
from edo_stream.registry.contracts import contract_of
from edo_stream.registry.enforced import rules_of
from edo_stream.registry.plan import DEAD_LETTERS_RETENTION_MS, deleted_by_age
from edo_stream.schemas.enforcement import Tally, enforced
from edo_stream.sources import decoder

log = logging.getLogger(__name__)

_RETENTION_MS: Final = 7 * DAY_MS
_HEADROOM_BYTES: Final = 64 * 1024
_LOADING_POLL_S: Final = 0.05


class LookupTask(Task):
    """See the module's docstring; its pipeline is a :class:`LookupPipeline`."""

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
        assert isinstance(pipeline, LookupPipeline)
        self._events = pipeline.events_topic
        self._lookups = pipeline
        self._table_partitions = [TopicPartition(topic, partition) for topic in pipeline.tables]
        self._global = pipeline.global_tables
        if self._global:
            assert ports.global_tables is not None, f"{self.name} looks up in {self._global}"
            pipeline.share(ports.global_tables.finders(self._global))
            self._shared = ports.global_tables
        self._ends: dict[TopicPartition, int] = {}
        """Of the tables, up to which they are read before any event."""
        self._is_loading = True
        self._aside: deque[Handed] = deque()
        """Events that wait until then."""

    def offer(self, handed: Handed) -> None:
        """Take a batch from the transport; events wait until the tables are read."""
        is_early = self._is_loading and handed.partition.topic == self._events
        if is_early and handed.epoch == self._epochs.get(handed.partition):
            self._aside.append(handed)
        else:
            super().offer(handed)

    def _is_set_aside(self, partition: TopicPartition) -> bool:
        """Whether batches of a partition are here, and are not to be processed yet."""
        return bool(self._aside) and partition.topic == self._events

    def begin(self) -> None:
        """Start to run, and to hear of rows that come."""
        if self._global:
            self._shared.listen(self._on_rows)
        super().begin()

    def _on_rows(self, table: str, keys: Sequence[bytes] | None) -> None:
        if table in self._global:
            self._lookups.tell(table, keys)
            if self._lookups.has_arrivals:
                self._wake.set()

    async def _position(self) -> None:
        self._is_loading = True
        await super()._position()
        await self._read_anew()
        tables = [*self._table_partitions, *await self._global_partitions()]
        ends = await self._ports.intake.high_watermarks(tables)
        self._ends = dict(zip(tables, ends, strict=True))

    async def _global_partitions(self) -> list[TopicPartition]:
        return await self._shared.partitions(self._global) if self._global else []

    async def _to_be_reached(self) -> list[TopicPartition]:
        own = await super()._to_be_reached()
        return list(dict.fromkeys((*own, *await self._global_partitions())))

    async def _has_reached(self, partition: TopicPartition, end: int) -> bool:
        if partition.topic in self._global and (self._shared.position(partition) or 0) < end:
            return False
        return partition not in self._expected or await super()._has_reached(partition, end)

    async def _read_anew(self) -> None:
        """Go back to the beginning of tables whose rows went while no flow looked them up."""
        assert isinstance(self.pipeline, LookupPipeline)
        now_ms = self._ports.now_ms()
        for table in self.pipeline.returning:
            partition = TopicPartition(table, self.partition)
            ((first, _),) = await self._ports.intake.log_bounds([partition])
            log.info("%s: %s is looked up again: read from %d on", self.name, table, first)
            effects = self.pipeline.read_anew(table, first, now_ms)
            self._expected[partition] = first
            await self._commit(effects, self._expected, now_ms)

    async def _timers_may_fire(self) -> bool:
        if self._is_loading and await self._has_loaded():
            self._is_loading = False
            self._inbox.extend(self._aside)
            self._aside.clear()
        may_fire = await super()._timers_may_fire()
        if self._is_loading or not self._lookups.has_arrivals:
            return may_fire
        # What waits is looked through in many steps: others have their turn.
        await asyncio.sleep(0)
        return True

    async def _has_loaded(self) -> bool:
        for partition, end in list(self._ends.items()):
            if not await self._has_reached(partition, end):
                return False
            del self._ends[partition]
        return True

    def _arm_timer(self) -> None:
        if not self._is_loading:
            super()._arm_timer()
            return
        self._cancel_timer()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_LOADING_POLL_S, self._wake.set)

    async def _reset(self, error: Exception) -> None:
        self._is_loading = True
        self._aside.clear()
        await super()._reset(error)

    async def stop(self) -> None:
        """Let go of the partition, and of what was set aside."""
        if self._global:
            self._shared.forget(self._on_rows)
        await super().stop()
        self._aside.clear()


def lookup_plans(
    flows: Flows,
    registry: Registry,
    shared: TaskSpec,
    tally: Tally | None = None,
    schema_ids: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, GroupPlan]:
    """Plans by group; ``shared`` gives what all groups share, the rest is of their tables.

    Raises:
        RegistryError: a schema cannot be used.
    """
    counts, ids = tally or Tally(), schema_ids or {}
    return {
        name: _plan(
            group,
            shared,
            {
                table: _decoder(registry, table, counts, ids.get(table, {}))
                for table in group.tables
            },
        )
        for name, group in flows.lookup_groups.items()
    }


def table_decoders(
    flows: Flows, registry: Registry, schema_ids: Mapping[str, Mapping[int, int]] | None = None
) -> dict[str, Decode]:
    """How to read the global tables in which flows look up, by name.

    Raises:
        RegistryError: a schema cannot be used.
    """
    tables = {table for group in flows.lookup_groups.values() for table in group.global_tables}
    # What breaks its contract is counted by the tasks that make dead letters of it.
    return {
        table: _decoder(registry, table, Tally(), (schema_ids or {}).get(table, {}))
        for table in sorted(tables)
    }


def _decoder(registry: Registry, table: str, tally: Tally, schema_ids: Mapping[int, int]) -> Decode:
    entry = registry.entries[table]
    rules = rules_of(entry.declaration, entry.file, schema_ids)
    return enforced(decoder(contract_of(entry.declaration)), rules, clock.now_ms, tally)


def _plan(group: LookupGroup, shared: TaskSpec, tables: Mapping[str, Decode]) -> GroupPlan:
    internal = internal_topics(group.name)
    spec = LookupSpec(
        group.topic,
        group.partitions,
        group.dead_letters,
        tables,
        group.enrichments,
        max(group.bytes_max, group.row_bytes_max),
        group.judged,
    )

    def make_pipeline(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        identity = TaskIdentity(shared.app, group.name, partition)
        return LookupPipeline(identity, spec, state, internal)

    sources = dict.fromkeys((group.topic, *group.tables, internal.control), EARLIEST)
    rows = [state_table(shared.app, group.name, refusal)]
    return GroupPlan(
        shared.of_group(group.name, sources), group.partitions, rows, make_pipeline, LookupTask
    )


def lookup_topics(flows: Flows, app: str, replication: int) -> list[Wanted]:
    """Topics of groups that look up, but for the tables, which are declared."""
    found = (_topics(group, app, replication) for group in flows.lookup_groups.values())
    return [topic for topics in found for topic in topics]


def _topics(group: LookupGroup, app: str, replication: int) -> list[Wanted]:
    bytes_max = max(group.bytes_max, group.row_bytes_max) + _HEADROOM_BYTES
    configs = {
        group.topic: deleted_by_age(_RETENTION_MS, group.bytes_max),
        control_topic(group.name): control_config(),
        group.dead_letters: deleted_by_age(DEAD_LETTERS_RETENTION_MS, bytes_max),
        state_changelog(app, group.name): compacted_hourly(max(1 << 20, bytes_max)),
    }
    why = f"flows that look up, of group {group.name}"
    return wanted_internal(configs, group.partitions, replication, why)
