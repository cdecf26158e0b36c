"""From flows to the plan of the tasks that own targets, and their topics."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from edo_stream.core.act.keeper import KeeperTopics, TargetKeeper, TargetPolicy
from edo_stream.core.state import Table
from edo_stream.core.task import TaskIdentity, refusal
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan
from edo_stream.engine.group_topics import (
    EARLIEST,
    compacted,
    state_changelog,
    state_table,
    wanted_internal,
)
from edo_stream.engine.restore import TaskTable
from edo_stream.engine.task import Task
from edo_stream.engine.task_spec import Decider, Ports, TaskSpec
from edo_stream.registry import control_topic
from edo_stream.registry.plan import ACCOUNTS, ACCOUNTS_PARTITIONS, deleted_by_age

#: Co-partition group of the tasks that own targets.
GROUP: Final = "edo.targets"
PARTITIONS: Final = 4
REQUESTS: Final = control_topic(GROUP)
ANSWERS: Final = "edo.targets"
#: Nobody reads what was said an hour ago.
_RETENTION_MS: Final = 3_600_000


class KeeperTask(Task):
    """A task that owns targets: its time never jumps, whatever is done to the machine's clock."""

    def __init__(  # noqa: PLR0913 - as every task
        self,
        spec: TaskSpec,
        partition: int,
        tables: Sequence[TaskTable],
        pipeline: Decider,
        ports: Ports,
        on_given_up: Callable[[str], None],
    ) -> None:
        loop, began_ms = asyncio.get_running_loop(), ports.now_ms()
        began_s = loop.time()

        def steady_ms() -> int:
            return began_ms + int((loop.time() - began_s) * 1000)

        steady = replace(ports, now_ms=steady_ms)
        super().__init__(spec, partition, tables, pipeline, steady, on_given_up)


def keeper_plans(
    policies: Mapping[str, TargetPolicy], shared: TaskSpec, worker: str
) -> dict[str, GroupPlan]:
    """The plan by its group; none without targets. ``worker`` is who is shown as the owner."""
    if not policies:
        return {}
    topics = KeeperTopics(ANSWERS, ACCOUNTS, ACCOUNTS_PARTITIONS)

    def make_keeper(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        identity = TaskIdentity(shared.app, GROUP, partition)
        return TargetKeeper(identity, worker, policies, state, topics)

    spec = shared.of_group(GROUP, {REQUESTS: EARLIEST})
    table = state_table(shared.app, GROUP, refusal)
    return {GROUP: GroupPlan(spec, PARTITIONS, (table,), make_keeper, KeeperTask)}


def keeper_changelog(app: str) -> str:
    """Topic of the state of all targets."""
    return state_changelog(app, GROUP)


def keeper_topics(app: str, replication: int) -> list[Wanted]:
    """Topics that the owners of targets read and write."""
    fleeting = deleted_by_age(_RETENTION_MS)
    configs = {
        REQUESTS: fleeting,
        ANSWERS: fleeting,
        keeper_changelog(app): {
            **compacted(),
            "segment.ms": "3600000",
            "segment.bytes": str(16 << 20),
        },
    }
    return wanted_internal(configs, PARTITIONS, replication, "flows")
