"""What a rule of the lint looks at: one flow with its file, and all others around it."""

from collections.abc import Callable
from dataclasses import dataclass

from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow
from edo_stream.flows.graph import Graph
from edo_stream.flows.shapes import Shapes
from edo_stream.registry import Registry
from edo_stream.registry.document import Document, Place


@dataclass(frozen=True, slots=True)
class FlowCase:
    """One flow under review."""

    flow: Flow
    document: Document
    registry: Registry
    graph: Graph
    """Of all flows."""
    shapes: Shapes

    @property
    def declaration(self) -> FlowDeclaration:
        """What the file says."""
        return self.flow.declaration

    def find(self, place: Place, message: str) -> None:
        """Add a finding at a value of the file."""
        self.document.find(place, message)


Rule = Callable[[FlowCase], None]
