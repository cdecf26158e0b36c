"""From schedules to a plan: the one task of the fleet that lets them tick, and its topics.

The task is one of a group of its own, of one partition: the consumer group gives it to one worker,
fencing and restoring make it the only one, and its transactions carry ticks and positions together.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from edo_stream.core.contract import DAY_MS, Start
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import TaskIdentity
from edo_stream.core.ticker import Ticker, TickerTopics
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS
from edo_stream.engine.task import Decider, TaskSpec
from edo_stream.registry import Entry, control_topic
from edo_stream.registry.plan import ACCOUNTS, ACCOUNTS_PARTITIONS
from edo_stream.schedules.folder import GROUP, Schedule

NOTICES: Final = "edo.schedules"
_CONTROL_RETENTION_MS: Final = 7 * DAY_MS
_NOTICES_RETENTION_MS: Final = 30 * DAY_MS
_REPLICAS_FOR_TWO_IN_SYNC: Final = 3


def ticker_plans(
    schedules: Iterable[Schedule], topics: Mapping[str, Entry], shared: TaskSpec
) -> dict[str, GroupPlan]:
    """The plan of the ticker by its group; none without schedules."""
    ticking = [
        schedule.ticks(topics[schedule.declaration.topic].declaration.partitions)
        for schedule in schedules
    ]
    if not ticking:
        return {}
    internal = TickerTopics(
        accounts=ACCOUNTS, accounts_partitions=ACCOUNTS_PARTITIONS, notices=NOTICES
    )

    def make_ticker(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        return Ticker(TaskIdentity(shared.app, GROUP, partition), ticking, state, internal)

    spec = shared.of_group(GROUP, {control_topic(GROUP): Start()})
    return {GROUP: GroupPlan(spec, 1, (ticker_table(shared.app),), make_ticker)}


def ticker_table(app: str) -> GroupTable:
    """The table of the ticker: a row a schedule."""
    return GroupTable(f"{GROUP}-state", f"{app}-{GROUP}-state-changelog", as_is)


def ticker_topics(app: str, replication: int) -> list[Wanted]:
    """Topics that the ticker reads and writes, besides those of the ticks."""
    in_sync = {"min.insync.replicas": "2" if replication >= _REPLICAS_FOR_TWO_IN_SYNC else "1"}
    kept = {
        control_topic(GROUP): {
            "cleanup.policy": "delete",
            "retention.ms": str(_CONTROL_RETENTION_MS),
        },
        NOTICES: {"cleanup.policy": "delete", "retention.ms": str(_NOTICES_RETENTION_MS)},
        ticker_table(app).changelog: {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": str(TOMBSTONES_KEPT_MS),
        },
    }
    return [
        Wanted(name, 1, replication, config | in_sync, is_internal=True, why="schedules")
        for name, config in kept.items()
    ]
