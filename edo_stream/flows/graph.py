"""What depends on what: topics, the flows that their events trigger, and what those lead to.

A *way* leads from a topic to a flow that wants its events or to a saga that they start, from a
saga to the flows of its steps, from a flow to the topic that its action writes or to the target
that it calls, and from a topic to the one that the results of its contract are written to. A
round of ways through topics is a cycle: an event of it may trigger itself for ever.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from edo_stream.flows.correlation import Join
from edo_stream.flows.flow import Flow, Flows
from edo_stream.flows.saga import sagas_of
from edo_stream.registry import Registry

TOPIC: Final = "topic"
FLOW: Final = "flow"
SAGA: Final = "saga"
TARGET: Final = "target"
CANCELS: Final = "cancels"
"""Label of a way to a flow whose commands the events cancel."""


class Node(NamedTuple):
    """A topic, a flow, a saga, or what a flow calls."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Way:
    """From one node to the next."""

    start: Node
    end: Node
    label: str = ""
    is_conditional: bool = False
    """Not every event goes this way."""
    is_aside: bool = False
    """What comes this way triggers nothing: a row that is looked up, or what cancels."""


@dataclass(frozen=True, slots=True)
class Graph:
    """All ways, in the order of the flows' names."""

    ways: Sequence[Way]

    @property
    def nodes(self) -> list[Node]:
        """Each once, in the order of the ways."""
        return list(dict.fromkeys(node for way in self.ways for node in (way.start, way.end)))

    def cycles(self) -> list[list[Node]]:
        """Shortest rounds, from a topic back to it; each once."""
        onward = self._onward()
        found: dict[frozenset[Node], list[Node]] = {}
        for topic in sorted(node for node in onward if node.kind == TOPIC):
            path = _way_back(topic, onward)
            if path is not None:
                found.setdefault(frozenset(path), path)
        return list(found.values())

    def _onward(self) -> dict[Node, list[Node]]:
        onward: dict[Node, list[Node]] = {}
        for way in self.ways:
            if way.is_aside:
                continue
            onward.setdefault(way.start, []).append(way.end)
            onward.setdefault(way.end, [])
        return onward


def graph_of(registry: Registry, flows: Flows, targets: Mapping[str, str] | None = None) -> Graph:
    """The graph; ``targets`` are words for what flows call, by flow."""
    named = targets or {}
    ways = [way for flow in flows.flows.values() for way in _ways_of(flow, named)]
    ways += [way for join in flows.joins.values() for way in _ways_of_join(join)]
    ways += _ways_of_sagas(flows)
    seen = {node.name for way in ways for node in (way.start, way.end) if node.kind == TOPIC}
    for name, entry in registry.entries.items():
        emit = entry.declaration.emit
        if emit is not None and (name in seen or emit.topic in seen):
            ways.append(Way(Node(TOPIC, name), Node(TOPIC, emit.topic), "results"))
    return Graph(ways)


def _ways_of(flow: Flow, targets: Mapping[str, str]) -> Iterator[Way]:
    name = flow.declaration.name
    node = Node(FLOW, name)
    for topic, conditions in flow.wants.items():
        label = "" if flow.split is None else "each element"
        yield Way(Node(TOPIC, topic), node, label, bool(conditions))
    for lookup in () if flow.lookups is None else flow.lookups.lookups:
        yield Way(Node(TOPIC, lookup.table), node, f"row: {lookup.name}", True, is_aside=True)
    for topic, cancels in flow.cancels.items():
        is_some = all(conditions for _, conditions in cancels)
        yield Way(Node(TOPIC, topic), node, CANCELS, is_some, is_aside=True)
    for action in (flow.declaration.action, flow.declaration.fallback):
        if action is None:
            continue
        if action.kind == "record":
            yield Way(
                node, Node(TOPIC, action.topic), action.kind, action is not flow.declaration.action
            )
        elif action is flow.declaration.action:
            yield Way(node, Node(TARGET, targets.get(name, action.kind)), action.kind)


def _ways_of_join(join: Join) -> Iterator[Way]:
    """From what a flow waits for, and to the topic of its results if it ends in an event."""
    node = Node(FLOW, join.flow)
    for source in join.sources:
        label = source.name if join.word == "when" else join.word
        yield Way(Node(TOPIC, source.topic), node, label, bool(source.conditions))
    if join.gathers is not None:
        yield Way(Node(FLOW, join.gathers), node, "ends")
    if join.emit is not None:
        yield Way(node, Node(TOPIC, join.emit.topic), "event")


def _ways_of_sagas(flows: Flows) -> Iterator[Way]:
    """From what starts them, to the steps of their newest versions and what undoes these."""
    for topic, routes in flows.starts.items():
        for route in routes:
            saga = Node(SAGA, route.trigger.flow)
            yield Way(Node(TOPIC, topic), saga, "starts", bool(route.conditions))
    for spec in sagas_of(flows.sagas).values():
        saga = Node(SAGA, spec.name)
        for step in spec.newest.steps:
            if step.flow is not None:
                yield Way(saga, Node(FLOW, step.flow), step.name)
            if step.undo is not None:
                yield Way(saga, Node(FLOW, step.undo), f"undo {step.name}", True)


def _way_back(start: Node, onward: Mapping[Node, Sequence[Node]]) -> list[Node] | None:
    """The shortest way from a node to itself, both ends included."""
    before: dict[Node, Node] = {}
    border = [start]
    while border:
        ahead: list[Node] = []
        for node in border:
            for following in onward[node]:
                if following not in before:
                    before[following] = node
                    ahead.append(following)
        if start in before:
            path = [start]
            while path[-1] != start or len(path) == 1:
                path.append(before[path[-1]])
            return path[::-1]
        border = ahead
    return None
