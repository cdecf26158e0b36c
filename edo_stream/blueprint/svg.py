"""A graph of flows as SVG, laid out here: no other program is needed to see it.

Theory of operation. Nodes stand in columns: one behind all that lead to it, ways that close a
round left out. Within a column they are put where the middle of their neighbours is, a few times
over, which brings ways apart. Ways are curves from the right side of one node to the left of the
next; one that leads back goes round below.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from edo_stream.flows.graph import FLOW, SAGA, TARGET, TOPIC, Graph, Node, Way

_CHARACTER: Final = 7.2
_PADDING: Final = 14
_HEIGHT: Final = 34
_ROW: Final = 54
_GAP: Final = 90
_MARGIN: Final = 24
_ROUNDS: Final = 4
_STYLE: Final = """\
text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2430}
.topic{fill:#e8f1fb;stroke:#3b6ea5}.flow{fill:#fdf3e1;stroke:#b87a1c}
.saga{fill:#f3eefb;stroke:#7a5aa6}.target{fill:#eef6ec;stroke:#4c8a45}.way{fill:none;stroke:#6b7280;stroke-width:1.3}
.some{stroke-dasharray:5 4}.label{font-size:10px;fill:#6b7280}"""

_TIP: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0 8 4 0 8z" fill="#6b7280"/></marker></defs>'
)


class _Box(NamedTuple):
    x: float
    y: float
    width: float


def svg(graph: Graph) -> str:
    """Draw a graph; the same graph gives the same text."""
    columns = _columns(graph)
    boxes = _boxes(columns)
    width = max((box.x + box.width for box in boxes.values()), default=0) + _MARGIN
    height = max((box.y for box in boxes.values()), default=0) + _HEIGHT + 2 * _MARGIN
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="Flows">'
        ),
        f"<style>{_STYLE}</style>",
        _TIP,
        *(_way(way, boxes) for way in graph.ways),
        *(_node(node, box) for node, box in boxes.items()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _columns(graph: Graph) -> list[list[Node]]:
    """Nodes by how far they are behind the first, in the order of the ways."""
    onward: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for way in graph.ways:
        onward[way.start].append(way.end)
    depth = _depths(onward)
    columns: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in graph.nodes:
        columns[depth[node]].append(node)
    for _ in range(_ROUNDS):
        _untangle(columns, graph.ways)
    return columns


def _depths(onward: Mapping[Node, Sequence[Node]]) -> dict[Node, int]:
    """The longest way to each node; a way back to where it came from does not count."""
    order: list[Node] = []
    state: dict[Node, bool] = {}
    back: set[tuple[Node, Node]] = set()
    for root in onward:
        work = [(root, iter(onward[root]))] if root not in state else []
        state.setdefault(root, False)
        while work:
            node, rest = work[-1]
            following = next(rest, None)
            if following is None:
                state[node] = True
                order.append(node)
                work.pop()
            elif following not in state:
                state[following] = False
                work.append((following, iter(onward[following])))
            elif not state[following]:
                back.add((node, following))
    depth = dict.fromkeys(onward, 0)
    for node in reversed(order):
        for following in onward[node]:
            if (node, following) not in back:
                depth[following] = max(depth[following], depth[node] + 1)
    return depth


def _untangle(columns: list[list[Node]], ways: Sequence[Way]) -> None:
    """Put each node where the middle of its neighbours is."""
    near: dict[Node, list[Node]] = {}
    for way in ways:
        near.setdefault(way.start, []).append(way.end)
        near.setdefault(way.end, []).append(way.start)
    for column in columns:
        rows = {node: row for one in columns for row, node in enumerate(one)}

        def middle(node: Node, rows: Mapping[Node, int] = rows) -> float:
            places = [rows[other] for other in near.get(node, ())]
            return sum(places) / len(places) if places else float(rows[node])

        column.sort(key=middle)


def _boxes(columns: Sequence[Sequence[Node]]) -> dict[Node, _Box]:
    boxes: dict[Node, _Box] = {}
    x = float(_MARGIN)
    rows = max((len(column) for column in columns), default=0)
    for column in columns:
        width = max(len(node.name) for node in column) * _CHARACTER + 2 * _PADDING
        top = _MARGIN + (rows - len(column)) * _ROW / 2
        for row, node in enumerate(column):
            boxes[node] = _Box(x, top + row * _ROW, width)
        x += width + _GAP
    return boxes


def _node(node: Node, box: _Box) -> str:
    radius = {TOPIC: _HEIGHT / 2, FLOW: 5, SAGA: 12, TARGET: 0}[node.kind]
    x, y = box.x + box.width / 2, box.y + _HEIGHT / 2 + 4
    name = escape(node.name)
    return (
        f'<g><title>{node.kind} {name}</title><rect class="{node.kind}" x="{box.x:.1f}" '
        f'y="{box.y:.1f}" width="{box.width:.1f}" height="{_HEIGHT}" rx="{radius}"/>'
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{name}</text></g>'
    )


def _way(way: Way, boxes: Mapping[Node, _Box]) -> str:
    start, end = boxes[way.start], boxes[way.end]
    x1, y1 = start.x + start.width, start.y + _HEIGHT / 2
    x2, y2 = end.x, end.y + _HEIGHT / 2
    if x2 > x1:
        bend = (x2 - x1) / 2
        path = (
            f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} "
            f"{x2:.1f} {y2:.1f}"
        )
    else:
        low = max(y1, y2) + _ROW * 0.8
        path = (
            f"M{x1:.1f} {y1:.1f}C{x1 + _GAP:.1f} {low:.1f} {x2 - _GAP:.1f} {low:.1f} "
            f"{x2:.1f} {y2:.1f}"
        )
    kind = "way some" if way.is_conditional else "way"
    drawn = f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>'
    if not way.label:
        return drawn
    x, y = (x1 + x2) / 2, (y1 + y2) / 2 - 5
    label = escape(way.label)
    return f'{drawn}<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{label}</text>'
