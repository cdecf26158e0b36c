"""Who owns what: topics, flows and schedules."""

from collections.abc import Iterator, Mapping

from edo_stream.blueprint.actions import target_of
from edo_stream.blueprint.table import code, table
from edo_stream.flows import Flows
from edo_stream.flows.saga import sagas_of
from edo_stream.registry import Registry
from edo_stream.registry.declaration import Declaration
from edo_stream.schedules.folder import Schedule


def catalog(registry: Registry, flows: Flows, schedules: Mapping[str, Schedule]) -> list[str]:
    """The section, and an index of owners at its end."""
    topics = [
        (
            code(name),
            declared.kind,
            declared.owner,
            declared.description,
            ", ".join(producer.name for producer in declared.producers),
            ", ".join(consumer.name for consumer in declared.consumers),
            declared.classification,
        )
        for name, declared in declarations(registry)
    ]
    acting: list[tuple[str, ...]] = [
        (
            code(name),
            flow.declaration.owner,
            flow.declaration.description,
            code(target_of(flow.declaration.action)),
            flow.declaration.action.replay,
        )
        for name, flow in flows.flows.items()
    ]
    acting += [
        (code(name), join.owner, "Waits for several events.", "", "")
        for name, join in sorted(flows.joins.items())
        if name not in flows.flows
    ]
    ticking = [
        (
            code(name),
            schedule.declaration.owner,
            schedule.declaration.description,
            code(schedule.expression),
            schedule.declaration.timezone,
            code(schedule.declaration.topic),
        )
        for name, schedule in sorted(schedules.items())
    ]
    topic_columns = ("Topic", "Kind", "Owner", "What happened", "Written by", "Read by", "Data")
    flow_columns = ("Flow", "Owner", "What it does", "Action", "Replay")
    tick_columns = ("Schedule", "Owner", "What is due", "Rule", "Zone", "Topic")
    return [
        "## Catalog",
        "",
        *table(topic_columns, topics, "No topics."),
        *table(flow_columns, acting, "No flows."),
        *table(tick_columns, ticking, "No schedules."),
        *table(("Owner", "Owns"), _owners(registry, flows, schedules), "No owners."),
    ]


def declarations(registry: Registry) -> Iterator[tuple[str, Declaration]]:
    """What is declared of each topic, in the order of names."""
    for name, entry in sorted(registry.entries.items()):
        yield name, entry.declaration


def _owners(
    registry: Registry, flows: Flows, schedules: Mapping[str, Schedule]
) -> list[tuple[str, str]]:
    owned: dict[str, list[str]] = {}
    for name, declared in declarations(registry):
        owned.setdefault(declared.owner, []).append(f"topic {code(name)}")
    for name, flow in flows.flows.items():
        owned.setdefault(flow.declaration.owner, []).append(f"flow {code(name)}")
    for name, join in sorted(flows.joins.items()):
        if name not in flows.flows:
            owned.setdefault(join.owner, []).append(f"flow {code(name)}")
    for name, saga in sagas_of(flows.sagas).items():
        owned.setdefault(saga.owner, []).append(f"saga {code(name)}")
    for name, schedule in sorted(schedules.items()):
        owned.setdefault(schedule.declaration.owner, []).append(f"schedule {code(name)}")
    return [(owner, ", ".join(things)) for owner, things in sorted(owned.items())]
