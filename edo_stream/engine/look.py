"""Looks at a worker from within, without waiting and without asking the broker."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from aiokafka import TopicPartition

from edo_stream.core.act.pipeline import ActPipeline
from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.lookup.pipeline import LookupPipeline
from edo_stream.core.pipeline import Pipeline
from edo_stream.engine.global_tables import Held
from edo_stream.engine.ports import Standing
from edo_stream.engine.restore import TaskTable
from edo_stream.engine.standby import Standby
from edo_stream.engine.tables import TaskTableManager
from edo_stream.engine.target import Target
from edo_stream.engine.task import Task
from edo_stream.engine.transport import TaskConsumer
from edo_stream.engine.worker import EdoApp
from edo_stream.views import (
    DiskView,
    SourceView,
    StandbyView,
    TableView,
    TargetView,
    TaskView,
    WaitsView,
    WorkerView,
)

#: A transaction may take its time twice, to write and to commit, and be taken as lost.
_STUCK_TRANSACTIONS = 3
_STUCK_MIN_MS = 30_000

OfPartition = Callable[[TopicPartition], Standing | None]


def look(app: EdoApp, now_ms: int) -> WorkerView:
    """See where the worker and each of its tasks stand; in the worker's event loop."""
    consumer, tables, settings = app.consumer, app.tables, app.worker_settings
    assert isinstance(consumer, TaskConsumer)
    assert isinstance(tables, TaskTableManager)
    # Before the first service has run there is none.
    assignment = tables.assignment
    tasks = [] if assignment is None else list(assignment.tasks.values())
    standbys = [] if assignment is None else list(assignment.standbys.all.values())
    loop_time = asyncio.get_running_loop().time()
    fetched_at = consumer.fetched_at
    return WorkerView(
        app=settings.app_id,
        version=version("edo-stream"),
        is_assigned=assignment is not None and assignment.is_assigned,
        fetched_ms_ago=None if fetched_at is None else int(1000 * (loop_time - fetched_at)),
        stuck_after_ms=max(_STUCK_MIN_MS, _STUCK_TRANSACTIONS * settings.transaction_timeout_ms),
        tasks=tuple(look_at(task, consumer.standing, now_ms, loop_time) for task in tasks),
        disks=(
            *(_disk(task.spec.group, task.partition, task.tables) for task in tasks),
            *(_disk(one.group, one.partition, one.tables) for one in standbys if one.tables),
        ),
        standbys=tuple(map(_standby, standbys)),
        targets=tuple(map(_target, app.targets.values())),
        tables=() if assignment is None else tuple(map(_table, assignment.global_tables)),
    )


def look_at(task: Task, standing: OfPartition, now_ms: int, loop_time: float) -> TaskView:
    """See where one task stands; ``loop_time`` is the event loop's."""
    stats = task.stats
    return TaskView(
        group=task.spec.group,
        partition=task.partition,
        phase=task.phase,
        refusal=task.refusal,
        sources=tuple(_sources(task, standing, now_ms)),
        transactions=stats.transactions,
        resets=stats.resets,
        fences=stats.fences,
        rewinds=stats.rewinds,
        restored_records=stats.restored_records,
        has_work=task.has_work,
        still_ms=int(1000 * (loop_time - task.progress.moved_at)),
        waits=tuple(_waits(task, now_ms)),
    )


def _waits(task: Task, now_ms: int) -> Iterable[WaitsView]:
    if not isinstance(task.pipeline, JoinPipeline | LookupPipeline):
        return
    for flow, (row, since_ms) in task.pipeline.open_waits().items():
        age_ms = 0 if since_ms is None else max(0, now_ms - since_ms)
        yield WaitsView(
            flow, row.open, row.held, age_ms, row.fired, row.timed_out, row.late, row.refused
        )


def _sources(task: Task, standing: OfPartition, now_ms: int) -> Iterable[SourceView]:
    held = task.pipeline.held()
    paused = task.pipeline.paused_topics() if isinstance(task.pipeline, ActPipeline) else ()
    contracts = task.pipeline.contracts() if isinstance(task.pipeline, Pipeline) else {}
    for partition in task.partitions:
        topic = partition.topic
        next_offset = task.next_offset(topic)
        at = standing(partition)
        end = task.progress.ends.get(topic) if at is None or at.end is None else at.end
        lag = None
        if next_offset is not None and end is not None:
            lag = 0 if _is_done(at, next_offset) else max(0, end - next_offset)
        count, since_ms = held.get(topic, (0, None))
        age_ms = _age_ms(task, topic, lag, now_ms)
        contract = contracts.get(topic, ("", 0, None))
        yield SourceView(
            topic, next_offset, end, lag, age_ms, count, since_ms, *contract, topic in paused
        )


def _is_done(at: Standing | None, next_offset: int) -> bool:
    """Whether only transaction markers are between the next offset and the end of the log."""
    if at is None or at.end is None or at.position is None or at.last_handed is None:
        return False
    return at.position >= at.end and at.last_handed < next_offset


def _age_ms(task: Task, topic: str, lag: int | None, now_ms: int) -> int | None:
    """Age of the oldest record not processed, or of the last processed where none is at hand."""
    if not lag:
        return lag
    oldest_ms = task.oldest_waiting_ms(topic)
    if oldest_ms is None:
        oldest_ms = task.progress.done_ms.get(topic, task.pipeline.stream_ms())
    return None if oldest_ms is None or oldest_ms < 0 else max(0, now_ms - oldest_ms)


def _disk(group: str, partition: int, tables: Sequence[TaskTable]) -> DiskView:
    usages = [table.disk.usage() for table in tables]
    file_bytes, memory_bytes = (sum(part) for part in zip(*usages, strict=True))
    return DiskView(group, partition, file_bytes, memory_bytes)


def _table(held: Held) -> TableView:
    file_bytes, memory_bytes = held.disk.usage()
    return TableView(
        held.topic, held.is_loaded, held.table.rows, held.lag, file_bytes, memory_bytes
    )


def _target(target: Target) -> TargetView:
    return TargetView(
        flow=target.flow,
        running=target.running,
        breaker=target.breaker.value,
        opened=target.opened,
        is_stopped=target.guard.is_tripped,
        target=target.name,
        limit=target.limit,
    )


def _standby(standby: Standby) -> StandbyView:
    return StandbyView(
        group=standby.group,
        partition=standby.partition,
        phase=standby.phase,
        lag_records=standby.lag,
        applied_records=standby.applied_records,
    )
