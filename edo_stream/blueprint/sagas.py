"""Sagas: their steps and what undoes them, as diagrams and as a table."""

from edo_stream.blueprint.chart import Chart
from edo_stream.blueprint.table import code, table
from edo_stream.core.saga.definition import SagaSpec, SagaStep
from edo_stream.flows import Flows
from edo_stream.flows.saga import sagas_of
from edo_stream.registry.quantity import duration_text


def sagas(flows: Flows) -> list[str]:
    """The section; none where there are no sagas."""
    lines = []
    for spec in sagas_of(flows.sagas).values():
        lines += _saga(flows, spec)
    return ["## Sagas", "", *lines] if lines else []


def _saga(flows: Flows, spec: SagaSpec) -> list[str]:
    newest = spec.newest
    chart = Chart()
    for topic, routes in sorted(flows.starts.items()):
        if any(route.trigger.flow == spec.name for route in routes):
            chart.arrow(chart.node("topic", topic), chart.node("saga", spec.name))
    for step in newest.steps:
        node = chart.node("flow", _label(step))
        if not step.after:
            chart.arrow(chart.node("saga", spec.name), node)
        for before in step.after:
            chart.arrow(chart.node("flow", _label(newest.by_name[before])), node)
        if step.undo is not None:
            chart.arrow(node, chart.node("tier", f"undo {step.name}"), is_dashed=True)
    rows = [
        (
            code(step.name),
            ", ".join(map(code, step.after)),
            code(step.flow) if step.flow is not None else "a person",
            code(step.undo) if step.undo is not None else "",
            "" if step.timeout_ms is None else duration_text(step.timeout_ms),
            "yes" if step.is_pivot else "",
        )
        for step in newest.steps
    ]
    deadline = newest.deadline_ms
    facts = [
        f"{spec.owner}, version {newest.version}",
        "no deadline" if deadline is None else f"deadline {duration_text(deadline)}",
        f"remembered for {duration_text(newest.kept_ms)}",
        f"events on {code(spec.topics.events)}",
    ]
    columns = ("Step", "After", "Command", "Undone by", "Reply within", "Pivot")
    head = [f"### {spec.name}", "", "; ".join(facts) + ".", ""]
    return [*head, *chart.lines(), *table(columns, rows, "No steps.")]


def _label(step: SagaStep) -> str:
    return f"{step.name}, pivot" if step.is_pivot else step.name
