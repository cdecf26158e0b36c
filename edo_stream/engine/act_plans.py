"""From flows to plans: the groups of the act plane, and which topics they need."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from edo_stream.core.act.keys import stranded
from edo_stream.core.act.pipeline import ActPipeline
from edo_stream.core.contract import DAY_MS, Start
from edo_stream.core.state import Table, as_is
from edo_stream.core.task import InternalTopics, TaskIdentity, refusal
from edo_stream.engine.act import ActTask
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.keepers import keeper_plans, keeper_topics
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS, Refusal
from edo_stream.engine.task import Decider, TaskSpec
from edo_stream.flows import ActGroup, Flows
from edo_stream.flows.targets import target_policies
from edo_stream.registry import control_topic
from edo_stream.registry.plan import ACCOUNTS, ACCOUNTS_PARTITIONS, GAPS, GAPS_PARTITIONS

_EARLIEST: Final = Start()
_RETENTION_MS: Final = 7 * DAY_MS
_LETTERS_RETENTION_MS: Final = 30 * DAY_MS
#: A command on a tier, and its dead letter, have some headers more.
_HEADROOM_BYTES: Final = 64 * 1024
_SEGMENT_MS: Final = 3_600_000
_REPLICAS_FOR_TWO_IN_SYNC: Final = 3


def act_plans(flows: Flows, shared: TaskSpec, worker: str) -> dict[str, GroupPlan]:
    """Plans by group, and that of the tasks that own targets.

    ``shared`` gives what all groups share, ``worker`` names this one.
    """
    plans = {name: _plan(group, shared) for name, group in flows.groups.items()}
    return plans | keeper_plans(target_policies(flows), shared, worker)


def _plan(group: ActGroup, shared: TaskSpec) -> GroupPlan:
    control = control_topic(group.name)
    internal = InternalTopics(ACCOUNTS, ACCOUNTS_PARTITIONS, GAPS, GAPS_PARTITIONS, control)

    def make_pipeline(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        identity = TaskIdentity(shared.app, group.name, partition)
        return ActPipeline(identity, group.spec, state, internal)

    sources = dict.fromkeys((*group.topics, control), _EARLIEST)
    spec = shared.of_group(group.name, sources)
    tables = [replace(_state(shared.app, group.name), refusal=_refusal_of(group))]
    return GroupPlan(spec, group.partitions, tables, make_pipeline, ActTask)


def _refusal_of(group: ActGroup) -> Refusal:
    """Why a task must not go on: it would leave commands behind."""

    def refuse(state: Table) -> str | None:
        if (why := refusal(state)) is not None:
            return why
        if not (flows := stranded(state, group.spec.flows)):
            return None
        told = ", ".join(f"{count:,} of {flow}" for flow, count in sorted(flows.items()))
        return (
            f"commands of flows that are not declared in group {group.name} wait in its state: "
            f"{told}. Declare them again in this group, with draining: true, until they have run; "
            "edo key list shows them"
        )

    return refuse


def act_changelog(app: str, group: str) -> str:
    """Topic of the state of a group of flows."""
    return f"{app}-{group}-state-changelog"


def _state(app: str, group: str) -> GroupTable:
    return GroupTable(f"{group}-state", act_changelog(app, group), as_is, refusal)


def act_topics(flows: Flows, app: str, replication: int) -> list[Wanted]:
    """Every topic of the act plane: commands, tiers, outcomes, dead letters, control, state."""
    owners = keeper_topics(app, replication) if flows.flows else []
    groups = (_topics(group, app, replication) for group in flows.groups.values())
    return [topic for topics in (*groups, owners) for topic in topics]


def _topics(group: ActGroup, app: str, replication: int) -> list[Wanted]:
    policies = group.spec.flows.values()
    bytes_max = max(policy.record_bytes_max for policy in policies)
    commands = [policy.commands for policy in policies]
    hops = [*group.spec.tiers.values(), *(policy.outcomes for policy in policies)]
    letters = [group.spec.dead_letters, *(policy.dead_letters for policy in policies)]
    sizes = {
        **dict.fromkeys(commands, (_RETENTION_MS, bytes_max)),
        **dict.fromkeys(hops, (_RETENTION_MS, bytes_max + _HEADROOM_BYTES)),
        **dict.fromkeys(letters, (_LETTERS_RETENTION_MS, bytes_max + 2 * _HEADROOM_BYTES)),
        control_topic(group.name): (_RETENTION_MS, 1 << 20),
    }
    configs = {
        name: {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_ms),
            "max.message.bytes": str(size_bytes),
        }
        for name, (retention_ms, size_bytes) in sizes.items()
    }
    configs[_state(app, group.name).changelog] = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(TOMBSTONES_KEPT_MS),
        "segment.ms": str(_SEGMENT_MS),
        "segment.bytes": str(64 << 20),
        # A parked command is one row: the record and some more.
        "max.message.bytes": str(bytes_max + _HEADROOM_BYTES),
    }
    in_sync = {"min.insync.replicas": "2" if replication >= _REPLICAS_FOR_TWO_IN_SYNC else "1"}
    why = f"flows of group {group.name}"
    return [
        Wanted(name, group.partitions, replication, config | in_sync, is_internal=True, why=why)
        for name, config in configs.items()
    ]
