"""`edo flow graph`: topics, flows and what they lead to, as a drawing."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from edo_stream.blueprint.actions import target_of
from edo_stream.blueprint.chart import Chart
from edo_stream.blueprint.svg import svg
from edo_stream.cli.contracts_read import AsJson, load_topics, print_json
from edo_stream.cli.environment import CommandError
from edo_stream.cli.flow_read import read_flows
from edo_stream.flows.graph import TARGET, Graph, graph_of

_KINDS: Final = {TARGET: "action"}


def graph(
    format: Annotated[str, typer.Option(help="mermaid or svg.")] = "mermaid",
    out: Annotated[Path | None, typer.Option("--out", help="File to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw which topics trigger which flows, and what those write or call.

    A dashed way is one that not every event goes: a pattern or an expression decides.

    Exit codes: 0 drawn, 2 the files have mistakes, or no such format.
    """
    if format not in ("mermaid", "svg"):
        raise CommandError(f"{format} is no format: write mermaid or svg", 2)
    registry = load_topics()
    flows = read_flows(registry)
    targets = {name: target_of(flow.declaration.action) for name, flow in flows.flows.items()}
    found = graph_of(registry, flows, targets)
    if as_json:
        print_json(_as_json(found))
        return
    text = svg(found) if format == "svg" else mermaid(found)
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror}", 2) from error


def mermaid(found: Graph) -> str:
    """The graph as a Mermaid flowchart, without a fence."""
    chart = Chart()
    for way in found.ways:
        start, end = (
            chart.node(_KINDS.get(node.kind, node.kind), node.name) for node in (way.start, way.end)
        )
        chart.arrow(start, end, way.label, is_dashed=way.is_conditional)
    lines = chart.lines()
    # What stands between the fences.
    return "\n".join(lines[1:-2] if lines else ["flowchart LR"]) + "\n"


def _as_json(found: Graph) -> dict[str, Any]:
    return {
        "nodes": [{"kind": node.kind, "name": node.name} for node in found.nodes],
        "ways": [
            {
                "from": {"kind": way.start.kind, "name": way.start.name},
                "to": {"kind": way.end.kind, "name": way.end.name},
                "label": way.label,
                "isConditional": way.is_conditional,
            }
            for way in found.ways
        ],
        "cycles": [[node.name for node in path] for path in found.cycles()],
    }
