"""Keys: what orders a flow's commands is in the events of its topics."""

from edo_stream.flows.rules.case import FlowCase


def find_unknown_keys(case: FlowCase) -> None:
    """A key that points into the data points at what a schema has."""
    key = None if case.declaration is None else case.declaration.key
    if key is None or not key.startswith("/"):
        return
    for topic in case.topics:
        shape = case.shapes.of(topic)
        why = None if shape is None else shape.unknown(key)
        if why is not None:
            case.find(("key",), f"key: {why}: each event of {topic} would be a dead letter")
