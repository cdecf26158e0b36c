"""From sagas to plans: the groups of their tasks, and which topics they need.

Outcomes and dead letters of a saga's steps are topics of the act plane, whose group has as many
partitions: its commands are keyed by what tells instances apart, so a reply comes to the task that
has its instance.
"""

from collections.abc import Sequence
from typing import Final

from edo_stream.core.contract import DAY_MS, Start
from edo_stream.core.saga.pipeline import SagaPipeline, unknown_versions
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import InternalTopics, TaskIdentity, refusal
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS
from edo_stream.engine.task import Decider, TaskSpec
from edo_stream.flows import Flows, SagaGroup
from edo_stream.registry import control_topic
from edo_stream.registry.plan import ACCOUNTS, ACCOUNTS_PARTITIONS, GAPS, GAPS_PARTITIONS

_EARLIEST: Final = Start()
_RETENTION_MS: Final = 7 * DAY_MS
_EVENTS_RETENTION_MS: Final = 90 * DAY_MS
_HEADROOM_BYTES: Final = 64 * 1024
_SEGMENT_MS: Final = 3_600_000
_REPLICAS_FOR_TWO_IN_SYNC: Final = 3
#: An instance is one row: the event that started it, and what its steps returned.
_ROW_BYTES_MAX: Final = 1 << 20


def saga_plans(flows: Flows, shared: TaskSpec) -> dict[str, GroupPlan]:
    """Plans by group; ``shared`` gives what all groups share."""
    return {name: _plan(group, shared) for name, group in flows.sagas.items()}


def _plan(group: SagaGroup, shared: TaskSpec) -> GroupPlan:
    control = control_topic(group.name)
    internal = InternalTopics(ACCOUNTS, ACCOUNTS_PARTITIONS, GAPS, GAPS_PARTITIONS, control)

    def make_pipeline(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        identity = TaskIdentity(shared.app, group.name, partition)
        return SagaPipeline(identity, group.sagas, state, internal)

    sources = dict.fromkeys((*group.topics, control), _EARLIEST)
    spec = shared.of_group(group.name, sources)
    return GroupPlan(spec, group.partitions, [_state(shared.app, group)], make_pipeline)


def saga_changelog(app: str, group: str) -> str:
    """Topic of the state of a group of sagas."""
    return f"{app}-{group}-state-changelog"


def _state(app: str, group: SagaGroup) -> GroupTable:
    def refused(state: Table) -> str | None:
        return refusal(state) or unknown_versions(state, group.sagas)

    return GroupTable(f"{group.name}-state", saga_changelog(app, group.name), as_is, refused)


def saga_topics(flows: Flows, app: str, replication: int) -> list[Wanted]:
    """Topics of sagas, besides those of their steps: starts, events, control, state."""
    in_sync = {"min.insync.replicas": "2" if replication >= _REPLICAS_FOR_TWO_IN_SYNC else "1"}
    return [
        Wanted(
            name,
            group.partitions,
            replication,
            config | in_sync,
            is_internal=True,
            why=f"sagas of group {group.name}",
        )
        for group in flows.sagas.values()
        for name, config in _configs(group, app).items()
    ]


def _configs(group: SagaGroup, app: str) -> dict[str, dict[str, str]]:
    kept_ms = {control_topic(group.name): _RETENTION_MS}
    for spec in group.sagas.values():
        kept_ms |= {spec.topics.starts: _RETENTION_MS, spec.topics.events: _EVENTS_RETENTION_MS}
    configs = {
        name: {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_ms),
            "max.message.bytes": str(_ROW_BYTES_MAX),
        }
        for name, retention_ms in kept_ms.items()
    }
    configs[saga_changelog(app, group.name)] = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(TOMBSTONES_KEPT_MS),
        "segment.ms": str(_SEGMENT_MS),
        "segment.bytes": str(64 << 20),
        "max.message.bytes": str(_ROW_BYTES_MAX + _HEADROOM_BYTES),
    }
    return configs
