"""Faust's tables, kept by tasks: names, changelogs and lifecycle are Faust's, the rows are ours.

Faust restores a table by consuming its changelog with the worker's consumer, and writes rows
before anything is committed. Neither may happen here: tasks restore and write. So the manager
does not subscribe to changelogs, and a rebalance begins and stops tasks instead.
"""

import logging
from typing import Any

import faust
from aiokafka import TopicPartition
from faust.stores.base import Store
from faust.tables.manager import TableManager

from edo_stream.engine.assignment import Assignment
from edo_stream.engine.assignor import TaskAssignor
from edo_stream.engine.transport import TaskConsumer

log = logging.getLogger(__name__)


class TaskStore(Store[bytes, bytes]):
    """Stands where Faust expects a store; the rows are in the disks of the tasks."""

    def persisted_offset(self, tp: Any) -> int | None:
        return None

    def apply_changelog_batch(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("tasks restore their tables, Faust never does")

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the changelog is the backup")

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the changelog is the backup")

    def reset_state(self) -> None:
        """Do nothing: ``faust reset`` removes the whole table directory."""


class TaskFaustTable(faust.Table[bytes, bytes]):
    """A Faust table whose rows belong to tasks."""

    def _new_store(self) -> Any:
        return TaskStore("memory://", self.app, self, loop=self.loop)


class TaskTableManager(TableManager):
    """Begins and stops tasks as Faust's consumer is assigned and revoked."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.assignment: Assignment | None = None
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)

    async def on_start(self) -> None:
        # Faust sleeps for a second first, for tables added late; ours are complete.
        await self._update_channels()
        await self.recovery.start()

    async def _update_channels(self) -> None:
        # Without super(): it subscribes the worker's consumer to the changelogs.
        self._tables_finalized.set()
        self._tables_registered.set()

    async def on_rebalance(
        self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0
    ) -> None:
        consumer, assignor = self.app.consumer, self.app.assignor
        assert isinstance(consumer, TaskConsumer)
        assert isinstance(assignor, TaskAssignor)
        assert self.assignment is not None
        # Nothing is fetched before its task has moved the consumer to its position.
        await consumer.hold_all()
        await self.assignment.assign(
            (TopicPartition(*partition) for partition in assigned),
            standbys=assignor.assigned_standby_partitions(),
        )
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def _on_revoked(self, app: Any, revoked: Any, **kwargs: Any) -> None:
        if self.assignment is not None:
            await self.assignment.revoke()

    async def on_stop(self) -> None:
        # Tasks first: each finishes its transaction while broker and loop still work.
        if self.assignment is not None:
            await self.assignment.close()
        await super().on_stop()
