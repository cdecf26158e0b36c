"""What a rule of the lint looks at: one flow with its file, and all others around it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from edo_stream.flows.correlation import Join, inputs_of
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow
from edo_stream.flows.graph import Graph
from edo_stream.flows.shapes import Shapes
from edo_stream.registry import Registry
from edo_stream.registry.document import Document, Place


class Wanted(NamedTuple):
    """Events that a flow wants: an entry of its ``on``, or an input of what it waits for."""

    place: Place
    topic: str
    match: dict[str, Any] | None
    where: str | None


@dataclass(frozen=True, slots=True)
class FlowCase:
    """One flow under review."""

    name: str
    flow: Flow | None
    """``None``: it ends in an event, and runs nothing."""
    join: Join | None
    """What it waits for, if it does."""
    document: Document
    registry: Registry
    graph: Graph
    """Of all flows."""
    shapes: Shapes
    place: Place = ()
    """Where it stands in the file, if that is a saga's."""

    @property
    def declaration(self) -> FlowDeclaration | None:
        """What the file says of a flow that runs something."""
        return None if self.flow is None else self.flow.declaration

    @property
    def topics(self) -> list[str]:
        """Topics whose events it wants, each once."""
        return list(dict.fromkeys(one.topic for one in self.wanted()))

    def wanted(self) -> Iterator[Wanted]:
        """All that it wants, with the place of each in the file."""
        if self.declaration is not None:
            for number, on in enumerate(self.declaration.on):
                yield Wanted(("on", number), on.topic, on.match, on.where)
            for number, on in enumerate(self.declaration.cancel_on):
                yield Wanted(("cancel_on", number), on.topic, on.match, on.where)
        if self.join is None:
            return
        manifest = getattr(self.join.when, "manifest", None)
        if manifest is not None:
            place: Place = ("when", "manifest")
            yield Wanted(place, manifest.topic, manifest.match, manifest.where)
        for name, one in inputs_of(self.join.when).items():
            yield Wanted(self._place_of(name), one.topic, one.match, one.where)

    def _place_of(self, name: str) -> Place:
        """Where an input stands: below its kind, or below a part of it."""
        for place in self.document.lines:
            if place[:1] == ("when",) and place[-1] == name and len(place) in (3, 4):
                return place
        return ("when",)

    def find(self, place: Place, message: str) -> None:
        """Add a finding at a value of the file."""
        self.document.find((*self.place, *place), message)


Rule = Callable[[FlowCase], None]
