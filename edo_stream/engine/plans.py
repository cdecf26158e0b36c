"""From contracts to plans: what the tasks of each group are made of, and which topics they need."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

from edo_stream.core.contract import DAY_MS, Contract
from edo_stream.core.dedupe import DISK_FORMAT, OLDEST_DISK_FORMAT, Ids, expand_ids
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.published import Origin
from edo_stream.core.state import Table
from edo_stream.core.task import TaskIdentity, load_task, refusal
from edo_stream.engine import clock
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupPlan, GroupTable
from edo_stream.engine.group_topics import (
    EARLIEST,
    compacted_hourly,
    internal_topics,
    state_table,
    wanted_internal,
)
from edo_stream.engine.task_spec import Decider, TaskSpec
from edo_stream.flows import NO_FLOWS, Flows
from edo_stream.registry import Group, Registry, Role, Topic, TopicSpec
from edo_stream.registry.bundle import bundle_of, opened
from edo_stream.registry.contracts import contract_of
from edo_stream.registry.enforced import rules_of
from edo_stream.registry.finding import RegistryError
from edo_stream.registry.plan import deleted_by_age
from edo_stream.schemas.enforcement import Tally, enforced
from edo_stream.sources import Decode, decoder

_MINUTE_MS = 60_000
#: A held event is one row: the record and some more.
_HELD_HEADROOM_BYTES = 64 * 1024
#: Changelog records whose ids a standby forgets at once.
_SWEPT_RECORDS = 16


def group_plans(
    registry: Registry,
    spec: TaskSpec,
    tally: Tally | None = None,
    flows: Flows = NO_FLOWS,
    schema_ids: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, GroupPlan]:
    """Plans by group; ``spec`` gives what all groups share, its group and sources are ignored.

    ``tally`` counts what breaks its contract; ``flows`` are triggered by their topics' events;
    ``schema_ids`` are a schema registry's, by topic and version, for data in its wire format.

    Raises:
        RegistryError: a schema cannot be used.
    """
    counts, ids = tally or Tally(), schema_ids or {}
    sources = {
        name: Source(
            _contract(registry, topic),
            _decoder(topic, counts, ids.get(name, {})),
            flows.task_routes(name),
            _origin(topic, counts, ids.get(name, {})),
        )
        for name, topic in registry.topics.items()
    }
    budget = IdsBudget()
    return {
        name: _plan(registry, group, spec, sources, budget)
        for name, group in registry.groups.items()
    }


def _contract(registry: Registry, topic: Topic) -> Contract:
    """The topic's contract, with what that of its results says of theirs."""
    results = registry.entries.get(topic.contract.emit)
    if results is None:
        return topic.contract
    return replace(topic.contract, emit_bytes_max=results.declaration.record_bytes_max)


def _plan(
    registry: Registry,
    group: Group,
    shared: TaskSpec,
    known: Mapping[str, Source],
    budget: IdsBudget,
) -> GroupPlan:
    contracts = {topic: registry.contracts[topic] for topic in group.topics}
    sources = {topic: known[topic] for topic in group.topics}
    internal = internal_topics(group.name)

    def make_pipeline(partition: int, tables: Sequence[Table]) -> Decider:
        state, ids = tables
        identity = TaskIdentity(shared.app, group.name, partition)
        pipeline = Pipeline(identity, sources, state, ids, internal, budget)
        pipeline.write_as_sent()
        return pipeline

    starts = {topic: contract.start for topic, contract in contracts.items()}
    spec = shared.of_group(group.name, {**starts, internal.control: EARLIEST})
    tables = group_tables(shared.app, group.name)
    return GroupPlan(spec, group.partitions, tables, make_pipeline, expire=expire_ids)


def _decoder(topic: Topic, tally: Tally, schema_ids: Mapping[int, int]) -> Decode:
    """Decode records, and enforce their contract."""
    rules = rules_of(topic.declaration, topic.file, schema_ids)
    return enforced(decoder(topic.contract), rules, clock.now_ms, tally)


def _origin(topic: Topic, tally: Tally, schema_ids: Mapping[int, int]) -> Origin:
    """The files' contract, and how to judge by one that is published."""
    bundle = bundle_of(topic.declaration, topic.file)

    def recompile(value: bytes) -> Decode:
        declaration, files = opened(value)
        contract = contract_of(declaration)
        changed = [f.name for f in fields(contract) if _is_other(f.name, contract, topic.contract)]
        if changed:
            raise ValueError(f"a change of {', '.join(changed)} needs a restart of the workers")
        try:
            rules = rules_of(declaration, topic.file, schema_ids, files)
        except RegistryError as error:
            raise ValueError(str(error)) from None
        return enforced(decoder(contract), rules, clock.now_ms, tally)

    return Origin(bundle.revision, bundle.version, recompile)


def _is_other(name: str, one: Contract, other: Contract) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def expire_ids(tables: Sequence[Table]) -> Iterator[None]:
    """Forget the ids that a task has forgotten by its own clock, some at each turn.

    A standby has no other way to learn of it: expiry writes no changelog record.
    """
    state, ids = tables
    stream_ms = load_task(state).stream_ms
    sweep = Ids(ids, IdsBudget())
    while True:
        sweep.sweep(stream_ms, _SWEPT_RECORDS)
        if not ids.local:
            return
        yield


def group_tables(app: str, group: str) -> tuple[GroupTable, GroupTable]:
    """The two tables of a group: its state, and the ids that it remembers."""
    return (
        state_table(app, group, refusal),
        GroupTable(
            f"{group}-ids",
            f"{app}-{group}-ids-changelog",
            expand_ids,
            disk_format=DISK_FORMAT,
            oldest_disk_format=OLDEST_DISK_FORMAT,
        ),
    )


def wanted_topics(registry: Registry, app: str, internal_replication: int) -> list[Wanted]:
    """Every topic that the decide plane reads or writes, changelogs included."""
    wanted = [_wanted(spec, registry) for spec in registry.topic_plan(internal_replication)]
    for group in registry.groups.values():
        wanted += _changelogs(registry, group, app, internal_replication)
    return wanted


def _wanted(spec: TopicSpec, registry: Registry) -> Wanted:
    topic = registry.topics.get(spec.name)
    why = f"the {spec.role.value} of a contract" if topic is None else str(topic.file)
    is_internal = spec.role in (Role.INTERNAL, Role.DEAD_LETTERS)
    return Wanted(spec.name, spec.partitions, spec.replication, spec.config, is_internal, why)


def _changelogs(registry: Registry, group: Group, app: str, replication: int) -> list[Wanted]:
    contracts = [registry.contracts[topic] for topic in group.topics]
    held_bytes = max(contract.record_bytes_max for contract in contracts) + _HELD_HEADROOM_BYTES
    ttl_ms = max((c.dedupe.ttl_ms for c in contracts if c.dedupe is not None), default=DAY_MS)
    state, ids = group_tables(app, group.name)
    configs = {
        state.changelog: compacted_hourly(max(held_bytes, 1 << 20)),
        # Its records have keys of their own and expire together: nothing to compact. Kept
        # for twice the time-to-live, so that an outage with a lost disk forgets nothing
        # unless it lasts as long as that.
        ids.changelog: {
            **deleted_by_age(2 * ttl_ms),
            "segment.ms": str(min(max(ttl_ms // 4, _MINUTE_MS), DAY_MS)),
            "segment.bytes": str(64 << 20),
        },
    }
    return wanted_internal(configs, group.partitions, replication, f"group {group.name}")
