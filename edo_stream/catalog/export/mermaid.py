"""The topics as a Mermaid flowchart: who writes, what becomes of it, who reads."""

from collections.abc import Sequence

from edo_stream.catalog.export.shelf import Shelved
from edo_stream.registry.contracts import dead_letters_of


def mermaid(shelved: Sequence[Shelved]) -> str:
    """Draw topics as cylinders, services as boxes, dead letters as dashed ways."""
    chart = _Chart()
    for one in shelved:
        _draw(chart, one)
    return "\n".join(["flowchart LR", *chart.nodes.values(), *dict.fromkeys(chart.ways)]) + "\n"


class _Chart:
    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str], str] = {}
        self.ways: list[str] = []

    def node(self, kind: str, label: str) -> str:
        """Name of a node, drawn once."""
        known = (kind, label)
        name = f"{kind}{sum(1 for other, _ in self.nodes if other == kind) + 1}"
        if known not in self.nodes:
            text = label.replace('"', "#quot;")
            shape = f'[("{text}")]' if kind in ("topic", "letters") else f'["{text}"]'
            self.nodes[known] = f"  {name}{shape}"
        return self.nodes[known].strip().partition("[")[0]

    def way(self, start: str, end: str, label: str = "", arrow: str = "-->") -> None:
        """An arrow."""
        said = f'|"{label}"|' if label else ""
        self.ways.append(f"  {start} {arrow}{said} {end}")


def _draw(chart: _Chart, one: Shelved) -> None:
    declaration = one.declaration
    topic = chart.node("topic", one.name)
    for producer in declaration.producers:
        chart.way(chart.node("service", producer.name), topic)
    for consumer in declaration.consumers:
        versions = ", ".join(f"v{number}" for number in consumer.versions or ())
        chart.way(topic, chart.node("service", consumer.name), versions)
    for related in declaration.related:
        chart.way(topic, chart.node("topic", related), arrow="-.-")
    if declaration.emit is None:
        return
    group = chart.node("group", f"workers: {one.values['group']}")
    chart.way(topic, group, declaration.ordering.policy)
    chart.way(group, chart.node("topic", declaration.emit.topic))
    letters = chart.node("letters", dead_letters_of(declaration))
    chart.way(group, letters, one.values["dead_letters"]["owner"], "-.->")
