"""From sagas to plans: the groups of their tasks, and which topics they need.

Outcomes and dead letters of a saga's steps are topics of the act plane, whose group has as many
partitions: its commands are keyed by what tells instances apart, so a reply comes to the task that
has its instance.
"""

from typing import Final

from edo_stream.core.contract import DAY_MS
from edo_stream.core.saga.pipeline import SagaPipeline, unknown_versions
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan
from edo_stream.engine.group_plans import state_plan
from edo_stream.engine.group_topics import (
    compacted_hourly,
    control_config,
    state_changelog,
    wanted_internal,
)
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.flows import Flows, SagaGroup
from edo_stream.registry import control_topic
from edo_stream.registry.plan import deleted_by_age

_RETENTION_MS: Final = 7 * DAY_MS
_EVENTS_RETENTION_MS: Final = 90 * DAY_MS
_HEADROOM_BYTES: Final = 64 * 1024
#: An instance is one row: the event that started it, and what its steps returned.
_ROW_BYTES_MAX: Final = 1 << 20


def saga_plans(flows: Flows, shared: TaskSpec) -> dict[str, GroupPlan]:
    """Plans by group; ``shared`` gives what all groups share."""
    return {name: _plan(group, shared) for name, group in flows.sagas.items()}


def _plan(group: SagaGroup, shared: TaskSpec) -> GroupPlan:
    return state_plan(
        group,
        shared,
        lambda identity, state, internal: SagaPipeline(identity, group.sagas, state, internal),
        lambda state: unknown_versions(state, group.sagas),
    )


def saga_topics(flows: Flows, app: str, replication: int) -> list[Wanted]:
    """Topics of sagas, besides those of their steps: starts, events, control, state."""
    return [
        topic
        for group in flows.sagas.values()
        for topic in wanted_internal(
            _configs(group, app), group.partitions, replication, f"sagas of group {group.name}"
        )
    ]


def _configs(group: SagaGroup, app: str) -> dict[str, dict[str, str]]:
    configs = {control_topic(group.name): control_config()}
    for spec in group.sagas.values():
        configs[spec.topics.starts] = deleted_by_age(_RETENTION_MS, _ROW_BYTES_MAX)
        configs[spec.topics.events] = deleted_by_age(_EVENTS_RETENTION_MS, _ROW_BYTES_MAX)
    configs[state_changelog(app, group.name)] = compacted_hourly(_ROW_BYTES_MAX + _HEADROOM_BYTES)
    return configs
