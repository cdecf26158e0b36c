"""Which event triggers what, as a diagram and as a table."""

from collections.abc import Mapping

import msgspec

from edo_stream.blueprint.actions import target_of
from edo_stream.blueprint.catalog import declarations
from edo_stream.blueprint.chart import Chart
from edo_stream.blueprint.table import code, table
from edo_stream.flows import Flow, Flows
from edo_stream.registry import Registry
from edo_stream.schedules.folder import Schedule

#: Keys of a flow that say what it does with an event, not which ones it wants.
_NO_CONDITION = frozenset(
    {
        "name",
        "owner",
        "description",
        "on",
        "key",
        "action",
        "fallback",
        "group",
        "partitions",
        "order",
        "delivery",
        "retry",
        "concurrency",
        "rate",
        "breaker",
        "parked_per_key",
        "dead_letters",
        "letters_max",
    }
)


def routing(registry: Registry, flows: Flows, schedules: Mapping[str, Schedule]) -> list[str]:
    """The section: from who writes an event to what it leads to."""
    chart = Chart()
    for name, declared in declarations(registry):
        topic = chart.node("topic", name)
        for producer in declared.producers:
            chart.arrow(chart.node("service", producer.name), topic)
        for consumer in declared.consumers:
            chart.arrow(topic, chart.node("service", consumer.name))
        if declared.emit is not None:
            chart.arrow(topic, chart.node("topic", declared.emit.topic), declared.ordering.policy)
    for name, schedule in sorted(schedules.items()):
        declared_topic = chart.node("topic", schedule.declaration.topic)
        chart.arrow(chart.node("schedule", name), declared_topic, schedule.expression)
    for flow_name, looking in flows.flows.items():
        for lookup in () if looking.lookups is None else looking.lookups.lookups:
            table_node = chart.node("topic", lookup.table)
            chart.arrow(table_node, chart.node("flow", flow_name), f"row: {lookup.name}")
    for topic_name, flow_name in triggers(registry, flows):
        flow = flows.flows[flow_name]
        node = chart.node("flow", flow_name)
        chart.arrow(chart.node("topic", topic_name), node, flow.declaration.key or "")
        action = flow.declaration.action
        if action.kind == "record":
            chart.arrow(node, chart.node("topic", action.topic))
        else:
            chart.arrow(node, chart.node("action", target_of(action)))
        chart.arrow(node, chart.node("topic", flow.policy.outcomes), is_dashed=True)
    rows = [
        (
            code(topic),
            code(name),
            _condition(flows.flows[name], topic),
            code(flows.flows[name].policy.commands),
            code(target_of(flows.flows[name].declaration.action)),
            code(flows.flows[name].policy.outcomes),
        )
        for topic, name in triggers(registry, flows)
    ]
    columns = ("Topic", "Flow", "Which events, and how", "Commands", "Action", "Outcomes")
    return ["## Routing", "", *chart.lines(), *table(columns, rows, "No event triggers a flow.")]


def triggers(registry: Registry, flows: Flows) -> list[tuple[str, str]]:
    """Topics and the flows that their events trigger, sorted."""
    found = {
        (topic, trigger.flow) for topic in registry.topics for trigger in flows.triggers(topic)
    }
    return sorted(found)


def _condition(flow: Flow, topic: str) -> str:
    """Which events of a topic a flow wants, and what else it says of them."""
    declared = flow.declaration.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    wanted = []
    for on in declared["on"]:
        if on["topic"] == topic:
            said = {key: value for key, value in on.items() if key != "topic"}
            wanted.append(_listed(said) or "each that goes on")
    rest = {key: value for key, value in declared.items() if key not in _NO_CONDITION}
    return "; ".join(filter(None, [" or ".join(wanted), _listed(rest)]))


def _listed(said: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key}: {code(value if isinstance(value, str) else msgspec.json.encode(value).decode())}"
        for key, value in said.items()
    )
