"""Cycles: an event that leads to itself does so for ever."""

from edo_stream.flows.graph import FLOW, Node
from edo_stream.flows.rules.case import FlowCase


def find_cycles(case: FlowCase) -> None:
    """No record that a flow writes leads back to an event that triggers it."""
    own = Node(FLOW, case.declaration.name)
    for path in case.graph.cycles():
        if own not in path:
            continue
        following = path[path.index(own) + 1].name
        for name in ("action", "fallback"):
            action = getattr(case.declaration, name)
            if action is not None and action.kind == "record" and action.topic == following:
                way = " → ".join(node.name for node in path)
                case.find(
                    (name, "topic"),
                    f"{name}.topic: a cycle, {way}: write to a topic that triggers none of these",
                )
