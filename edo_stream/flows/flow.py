"""Flows in the words of the core, and the groups that their commands run in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edo_stream.core.act.ladder import Ladder, RetryPolicy
from edo_stream.core.act.policy import (
    ActSpec,
    AfterDeadLetter,
    Delivery,
    FlowPolicy,
    Order,
    Singleton,
)
from edo_stream.core.act.reply import replies_of
from edo_stream.core.act.turns import KeyLimit, Throttle
from edo_stream.core.asked import Replies
from edo_stream.core.correlation.ends import EndFeed
from edo_stream.core.facts import Make
from edo_stream.core.pieces import Split
from edo_stream.core.routing import Condition, Route, Routes
from edo_stream.core.saga.definition import SagaSpec
from edo_stream.core.trigger import FlowTrigger
from edo_stream.flows.conditions import Cancels
from edo_stream.flows.correlation import Join, JoinGroup, ends_of, feeds, join_groups
from edo_stream.flows.declaration import CancelBy, FlowDeclaration
from edo_stream.flows.lookup import LookupGroup, Lookups, lookup_groups
from edo_stream.flows.replying import REPLY_PARTITIONS, replies_topic
from edo_stream.registry.declaration import Retry
from edo_stream.registry.names import INTERNAL_PREFIX
from edo_stream.registry.plan import control_topic
from edo_stream.registry.quantity import duration_text

_PARTITIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow: its policy for the core, and all that is declared."""

    policy: FlowPolicy
    declaration: FlowDeclaration
    file: Path
    wants: Mapping[str, Sequence[Condition]] = field(default_factory=dict)
    """By topic, of which one must hold; none: it wants every event of the topic."""
    make: Make | None = None
    """What makes a command's data."""
    cancels: Cancels = field(default_factory=dict)
    """Events that cancel its commands, as in ``wants``, by each field."""
    split: Split | None = None
    """What of an event is a command each."""
    lookups: Lookups | None = None
    """What is looked up first."""


@dataclass(frozen=True, slots=True)
class ActGroup:
    """Flows that share tasks and a ladder."""

    name: str
    partitions: int
    spec: ActSpec

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that its tasks read: commands, then tiers."""
        commands = sorted(policy.commands for policy in self.spec.flows.values())
        return (*commands, *self.spec.tiers.values())


@dataclass(frozen=True, slots=True)
class SagaGroup:
    """Sagas that share tasks; their steps are flows of a group with as many partitions."""

    name: str
    partitions: int
    sagas: Mapping[str, SagaSpec]
    """By name."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that its tasks read, besides operators' requests."""
        return tuple(
            topic
            for spec in self.sagas.values()
            for topic in (spec.topics.starts, spec.topics.outcomes, spec.topics.dead_letters)
        )


@dataclass(frozen=True, slots=True)
class Flows:
    """All declared flows by name, sorted, and their groups."""

    flows: Mapping[str, Flow]
    groups: Mapping[str, ActGroup]
    joins: Mapping[str, Join] = field(default_factory=dict)
    """What flows wait for, by the flow's name; those that end in an event are here only."""
    sagas: Mapping[str, SagaGroup] = field(default_factory=dict)
    """Groups of sagas; their steps are among the flows."""
    starts: Mapping[str, Sequence[Route]] = field(default_factory=dict)
    """What starts sagas, by topic of the events."""

    @property
    def join_groups(self) -> Mapping[str, JoinGroup]:
        """Groups of flows that wait."""
        commands = {
            name: self.groups[flow.declaration.group].partitions
            for name, flow in self.flows.items()
        }
        return join_groups(self.joins.values(), commands)

    @property
    def lookup_groups(self) -> Mapping[str, LookupGroup]:
        """Groups whose tasks have the rows that flows look up."""
        return lookup_groups(
            flow.lookups.enrichment(self._trigger(flow))
            for flow in self.flows.values()
            if flow.lookups is not None
        )

    def repliers(self, topic: str) -> Mapping[str, Replies]:
        """Flows and sagas that reply to requests of a topic, by name."""
        routes = self.task_routes(topic)
        found = [] if routes is None else [one.feed or one.trigger for one in routes.routes]
        return {one.replies.flow: one.replies for one in found if one.replies is not None}

    def task_routes(self, topic: str) -> Routes | None:
        """All that the task of a topic writes for its events.

        That is commands, what cancels commands, and what flows wait for.
        """
        joins = self.joins.values()
        groups = self.join_groups.values()
        cancels = [
            Route(_cancelling(self._trigger(flow), flow, by), tuple(conditions))
            for flow in self.flows.values()
            for by, conditions in flow.cancels.get(topic, ())
        ]
        fed = [route for group in groups for route in feeds(group, joins, topic)]
        found = [*cancels, *self._routes(topic), *fed]
        return Routes(found) if found else None

    def triggers(self, topic: str) -> tuple[FlowTrigger, ...]:
        """Flows that want events of a topic, all or some; what starts sagas is none."""
        return tuple(
            route.trigger for route in self._routes(topic) if route.trigger.flow in self.flows
        )

    def routes(self, topic: str) -> Routes | None:
        """The same, compiled together with when each wants an event; ``None``: none does."""
        routes = self._routes(topic)
        return Routes(routes) if routes else None

    def _routes(self, topic: str) -> list[Route]:
        routes = [
            Route(
                trigger := self._trigger(flow),
                tuple(flow.wants[topic]),
                enrichment=None if flow.lookups is None else flow.lookups.enrichment(trigger),
            )
            for flow in self.flows.values()
            if topic in flow.wants
        ]
        return [*routes, *self.starts.get(topic, ())]

    def _trigger(self, flow: Flow) -> FlowTrigger:
        policy, group = flow.policy, self.groups[flow.declaration.group]
        ends = group.spec.ends.get(policy.flow, ())
        return FlowTrigger(
            flow=policy.flow,
            commands=policy.commands,
            dead_letters=policy.dead_letters,
            partitions=group.partitions,
            key=flow.declaration.key,
            tags=_tags(flow.declaration),
            make=flow.make,
            owner=policy.owner,
            bytes_max=policy.record_bytes_max,
            split=None if flow.split is None else replace(flow.split, ends=ends),
            replies=next((end.replies for end in ends if end.replies), replies_of(policy)),
        )


def _cancelling(trigger: FlowTrigger, flow: Flow, by: CancelBy | None) -> FlowTrigger:
    """What cancels the commands of a trigger: by the same key or a field, of nothing else."""
    control = control_topic(flow.declaration.group)
    return replace(
        trigger,
        cancels=True,
        control=control,
        key=trigger.key if by is None else by.cancelling,
        cancels_tag=None if by is None else by.cancelled,
        tags=(),
        make=None,
        split=None,
        replies=None,
    )


def _tags(declaration: FlowDeclaration) -> tuple[str, ...]:
    """Fields of a flow's events by which others cancel its commands."""
    named = (one.by.cancelled for one in declaration.cancel_on if one.by is not None)
    return tuple(dict.fromkeys(named))


NO_FLOWS: Final = Flows({}, {})


def commands_topic(flow: str) -> str:
    """Topic of a flow's commands."""
    return f"{INTERNAL_PREFIX}commands.{flow}"


def tier_topic(group: str, delay_ms: int) -> str:
    """Topic of one tier of a group's ladder."""
    return f"{INTERNAL_PREFIX}retry.{group}.{duration_text(delay_ms)}"


def policy_of(declaration: FlowDeclaration) -> FlowPolicy:
    """A declaration in the words of the core."""
    name, letters = declaration.name, declaration.dead_letters
    throttle, limit = declaration.throttle, declaration.rate_limit
    return FlowPolicy(
        flow=name,
        owner=letters.owner or declaration.owner,
        commands=commands_topic(name),
        outcomes=f"{INTERNAL_PREFIX}outcomes.{name}",
        dead_letters=f"{INTERNAL_PREFIX}dead-letters.{name}",
        order=Order(declaration.order),
        delivery=Delivery(declaration.delivery),
        retry=_retry(declaration.retry),
        after_dead_letter=AfterDeadLetter(letters.after),
        parked_per_key_max=declaration.parked_per_key,
        singleton=None if declaration.singleton is None else Singleton(declaration.singleton),
        throttle=None
        if throttle is None
        else Throttle(throttle.limit, throttle.per, throttle.burst),
        rate_limit=None if limit is None else KeyLimit(limit.limit, limit.per),
        replies=None if declaration.replies is None else replies_topic(declaration.replies),
        reply_partitions=REPLY_PARTITIONS,
        has_tags=bool(_tags(declaration)),
    )


def _retry(retry: Retry) -> RetryPolicy:
    return RetryPolicy(
        initial_ms=retry.initial,
        factor=retry.factor,
        max_ms=retry.max,
        retries=retry.retries,
        jitter=retry.jitter,
        total_ms=retry.total,
    )


def flows_of(flows: Iterable[Flow], joins: Iterable[Join] = ()) -> Flows:
    """Put flows together with their groups."""
    by_name = {flow.policy.flow: flow for flow in flows}
    members: dict[str, list[Flow]] = {}
    for name in sorted(by_name):
        members.setdefault(by_name[name].declaration.group, []).append(by_name[name])
    waiting = {join.flow: join for join in sorted(joins, key=lambda join: join.flow)}
    ends = ends_of(join_groups(waiting.values(), {}).values(), waiting.values())
    groups = {group: _group(group, members[group], ends) for group in sorted(members)}
    return Flows(dict(sorted(by_name.items())), groups, waiting)


def _group(name: str, flows: list[Flow], ends: Mapping[str, tuple[EndFeed, ...]]) -> ActGroup:
    delays_ms = {delay for flow in flows for delay in flow.policy.retry.delays_ms()}
    delays_ms |= {delay for flow in flows for delay in flow.declaration.former_waits}
    ladder = Ladder(tuple(sorted(delays_ms or RetryPolicy().delays_ms())))
    asked = [flow.declaration.partitions for flow in flows if flow.declaration.partitions]
    spec = ActSpec(
        flows={flow.policy.flow: flow.policy for flow in flows},
        ladder=ladder,
        tiers={delay: tier_topic(name, delay) for delay in ladder.delays_ms},
        dead_letters=f"{INTERNAL_PREFIX}dead-letters.{name}",
        ends={flow.policy.flow: found for flow in flows if (found := ends.get(flow.policy.flow))},
    )
    return ActGroup(name, max(asked, default=_PARTITIONS), spec)
