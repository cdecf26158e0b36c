"""What flows wait for before they fire: which events, how long, and what follows if they do not."""

import msgspec

from edo_stream.blueprint.chart import Chart
from edo_stream.blueprint.table import code, table
from edo_stream.flows import Flows
from edo_stream.flows.combine import Combine, Debounce
from edo_stream.flows.when import When
from edo_stream.registry.quantity import duration_text

_SHOWN = frozenset({"within", "on_timeout", "late", "fire"})


def joins(flows: Flows) -> list[str]:
    """The section; none where no flow waits for several events."""
    if not flows.joins:
        return []
    chart = Chart()
    rows = []
    for name, join in sorted(flows.joins.items()):
        node = chart.node("flow", name)
        for source in join.sources:
            label = source.name if join.word == "when" else join.word
            chart.arrow(chart.node("topic", source.topic), node, label)
        if join.gathers is not None:
            chart.arrow(chart.node("flow", join.gathers), node, "ends")
        if join.emit is not None:
            chart.arrow(node, chart.node("topic", join.emit.topic))
        when = join.when
        said = when.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        waits = "; ".join(_said(key, value) for key, value in said.items() if key not in _SHOWN)
        topics = ", ".join(code(source.topic) for source in join.sources)
        rows.append(
            (
                code(name),
                topics or f"the ends of {code(join.gathers or '')}",
                *_course(when, waits),
            )
        )
    columns = ("Flow", "Events of", "Waits for", "At most", "Then", "What is late")
    return [
        "## Correlation",
        "",
        *chart.lines(),
        *table(columns, rows, "No flow waits for several events."),
    ]


def _course(when: When | Combine, waits: str) -> tuple[str, str, str, str]:
    """What is waited for, how long at most, and what follows."""
    if isinstance(when, When):
        within = "" if when.within is None else duration_text(when.within)
        then = when.on_timeout or "as its kind does"
        return waits, within, then, when.late or "as its firing does"
    if isinstance(when, Debounce):
        return f"debounce; {waits}", duration_text(when.max), "command", ""
    return f"batch; {waits}", duration_text(when.after), "command", ""


def _said(key: str, value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return f"{key}: {code(text)}"
