"""From schedules to a plan: the one task of the fleet that lets them tick, and its topics.

The task is one of a group of its own, of one partition: the consumer group gives it to one worker,
fencing and restoring make it the only one, and its transactions carry ticks and positions together.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from edo_stream.core.contract import DAY_MS
from edo_stream.core.state import Table
from edo_stream.core.task import TaskIdentity
from edo_stream.core.ticker import Ticker, TickerTopics
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan
from edo_stream.engine.group_topics import (
    EARLIEST,
    compacted,
    state_changelog,
    state_table,
    wanted_internal,
)
from edo_stream.engine.restore import nothing_refused
from edo_stream.engine.task_spec import Decider, TaskSpec
from edo_stream.registry import Entry, control_topic
from edo_stream.registry.plan import (
    ACCOUNTS,
    ACCOUNTS_PARTITIONS,
    CONTROL_RETENTION_MS,
    deleted_by_age,
)
from edo_stream.schedules.folder import GROUP, Schedule

NOTICES: Final = "edo.schedules"
_NOTICES_RETENTION_MS: Final = 30 * DAY_MS


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

    spec = shared.of_group(GROUP, {control_topic(GROUP): EARLIEST})
    # A row a schedule.
    table = state_table(shared.app, GROUP, nothing_refused)
    return {GROUP: GroupPlan(spec, 1, (table,), make_ticker)}


def ticker_topics(app: str, replication: int) -> list[Wanted]:
    """Topics that the ticker reads and writes, besides those of the ticks."""
    configs = {
        control_topic(GROUP): deleted_by_age(CONTROL_RETENTION_MS),
        NOTICES: deleted_by_age(_NOTICES_RETENTION_MS),
        state_changelog(app, GROUP): compacted(),
    }
    return wanted_internal(configs, 1, replication, "schedules")
