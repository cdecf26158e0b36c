"""A Mermaid flowchart: nodes drawn once, arrows in the order of their telling."""

from collections.abc import Mapping
from typing import Final

#: Opening and closing of a node, by what it stands for.
SHAPES: Final[Mapping[str, tuple[str, str]]] = {
    "topic": ("[(", ")]"),
    "letters": ("[(", ")]"),
    "service": ("[", "]"),
    "schedule": ("([", "])"),
    "flow": ("[[", "]]"),
    "saga": ("{{", "}}"),
    "action": (">", "]"),
    "tier": ("(", ")"),
    "end": ("((", "))"),
}

_ESCAPES: Final = str.maketrans(
    {
        "#": "#35;",
        '"': "#quot;",
        "<": "#lt;",
        ">": "#gt;",
        "&": "#amp;",
        "`": "#96;",
        "\n": " ",
        "\r": " ",
        "\t": " ",
    }
)


def escaped(text: str) -> str:
    """Text as it may stand within the quotation marks of a label."""
    return text.translate(_ESCAPES)


class Chart:
    """Collects nodes and arrows; ``direction`` is ``LR`` or ``TD``."""

    def __init__(self, direction: str = "LR") -> None:
        self._direction = direction
        self._names: dict[tuple[str, str], str] = {}
        self._nodes: list[str] = []
        self._arrows: dict[str, None] = {}

    def node(self, kind: str, label: str) -> str:
        """Name of a node, drawn once for each kind and label."""
        known = self._names.get((kind, label))
        if known is not None:
            return known
        # A number after the kind: no label can be a word that Mermaid reserves.
        name = f"{kind}_{len(self._names) + 1}"
        opening, closing = SHAPES[kind]
        self._names[kind, label] = name
        self._nodes.append(f'  {name}{opening}"{escaped(label)}"{closing}')
        return name

    def arrow(self, start: str, end: str, label: str = "", is_dashed: bool = False) -> None:
        """An arrow, drawn once."""
        line = "-.->" if is_dashed else "-->"
        said = f'|"{escaped(label)}"|' if label else ""
        self._arrows[f"  {start} {line}{said} {end}"] = None

    def lines(self) -> list[str]:
        """A fenced block; none where there is nothing to draw."""
        if not self._nodes:
            return []
        head = f"flowchart {self._direction}"
        return ["```mermaid", head, *self._nodes, *self._arrows, "```", ""]
