"""Cycles: an event that leads to itself does so for ever."""

from collections.abc import Iterator

from edo_stream.flows.graph import FLOW, Node
from edo_stream.flows.rules.case import FlowCase
from edo_stream.registry.document import Place


def find_cycles(case: FlowCase) -> None:
    """No record that a flow writes leads back to an event that triggers it."""
    own = Node(FLOW, case.name)
    for path in case.graph.cycles():
        if own not in path:
            continue
        following = path[path.index(own) + 1].name
        way = " → ".join(node.name for node in path)
        for place in _writing(case, following):
            told = ".".join(map(str, place))
            case.find(
                place, f"{told}: a cycle, {way}: write to a topic that triggers none of these"
            )


def _writing(case: FlowCase, topic: str) -> Iterator[Place]:
    """Where a flow says that it writes to a topic."""
    if case.join is not None and case.join.emit is not None and case.join.emit.topic == topic:
        yield ("emit", "topic")
    for name in ("action", "fallback"):
        action = getattr(case.declaration, name, None)
        if action is not None and action.kind == "record" and action.topic == topic:
            yield (name, "topic")
