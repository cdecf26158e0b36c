"""From flows to plans: the groups of the act plane, and which topics they need."""

from collections.abc import Sequence
from typing import Final

from edo_stream.core.act.keys import stranded
from edo_stream.core.act.pipeline import ActPipeline
from edo_stream.core.contract import DAY_MS
from edo_stream.core.saga.replies import BYTES_MAX as SAGA_BYTES_MAX
from edo_stream.core.state import Table
from edo_stream.core.task import TaskIdentity, refusal
from edo_stream.engine.act import ActTask
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
from edo_stream.engine.keepers import keeper_plans, keeper_topics
from edo_stream.engine.restore import Refusal
from edo_stream.engine.task import Decider, TaskSpec
from edo_stream.flows import ActGroup, Flows
from edo_stream.flows.replying import REPLY_PARTITIONS, replies_topic
from edo_stream.flows.targets import target_policies
from edo_stream.registry import control_topic
from edo_stream.registry.plan import DEAD_LETTERS_RETENTION_MS, deleted_by_age

_RETENTION_MS: Final = 7 * DAY_MS
#: Who asked waits for minutes at most.
_REPLIES_RETENTION_MS: Final = DAY_MS
#: A command on a tier, and its dead letter, have some headers more.
_HEADROOM_BYTES: Final = 64 * 1024


def act_plans(flows: Flows, shared: TaskSpec, worker: str) -> dict[str, GroupPlan]:
    """Plans by group, and that of the tasks that own targets.

    ``shared`` gives what all groups share, ``worker`` names this one.
    """
    plans = {name: _plan(group, shared) for name, group in flows.groups.items()}
    return plans | keeper_plans(target_policies(flows), shared, worker)


def _plan(group: ActGroup, shared: TaskSpec) -> GroupPlan:
    internal = internal_topics(group.name)

    def make_pipeline(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        identity = TaskIdentity(shared.app, group.name, partition)
        return ActPipeline(identity, group.spec, state, internal)

    sources = dict.fromkeys((*group.topics, internal.control), EARLIEST)
    spec = shared.of_group(group.name, sources)
    tables = [state_table(shared.app, group.name, _refusal_of(group))]
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


def act_topics(flows: Flows, app: str, replication: int) -> list[Wanted]:
    """Every topic of the act plane: commands, tiers, outcomes, dead letters, control, state."""
    owners = keeper_topics(app, replication) if flows.flows else []
    groups = (_topics(group, app, replication) for group in flows.groups.values())
    return [topic for topics in (*groups, owners, _replies(flows, replication)) for topic in topics]


def _replies(flows: Flows, replication: int) -> list[Wanted]:
    """Topics of replies, which flows of several groups, and sagas, may share."""
    bytes_max = [
        (flow.policy.replies, flow.policy.record_bytes_max)
        for flow in flows.flows.values()
        if flow.policy.replies is not None
    ]
    bytes_max += [
        (replies_topic(join.replies), join.bytes_max)
        for join in flows.joins.values()
        if join.replies is not None
    ]
    bytes_max += [
        (spec.replies.topic, SAGA_BYTES_MAX)
        for group in flows.sagas.values()
        for spec in group.sagas.values()
        if spec.replies is not None
    ]
    most = max((size for _, size in bytes_max), default=0) + _HEADROOM_BYTES
    config = deleted_by_age(_REPLIES_RETENTION_MS, most)
    configs = {topic: config for topic, _ in bytes_max}
    return wanted_internal(configs, REPLY_PARTITIONS, replication, "flows that reply")


def _topics(group: ActGroup, app: str, replication: int) -> list[Wanted]:
    policies = group.spec.flows.values()
    bytes_max = max(policy.record_bytes_max for policy in policies)
    commands = [policy.commands for policy in policies]
    hops = [*group.spec.tiers.values(), *(policy.outcomes for policy in policies)]
    letters = [group.spec.dead_letters, *(policy.dead_letters for policy in policies)]
    configs = {
        **dict.fromkeys(commands, deleted_by_age(_RETENTION_MS, bytes_max)),
        **dict.fromkeys(hops, deleted_by_age(_RETENTION_MS, bytes_max + _HEADROOM_BYTES)),
        **dict.fromkeys(
            letters, deleted_by_age(DEAD_LETTERS_RETENTION_MS, bytes_max + 2 * _HEADROOM_BYTES)
        ),
        control_topic(group.name): control_config(),
        # A parked command is one row: the record and some more.
        state_changelog(app, group.name): compacted_hourly(bytes_max + _HEADROOM_BYTES),
    }
    return wanted_internal(configs, group.partitions, replication, f"flows of group {group.name}")
