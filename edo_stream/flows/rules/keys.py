"""Keys: what orders a flow's commands is in the events of its topics."""

from edo_stream.flows.rules.case import FlowCase
from edo_stream.flows.shapes import NUMBER, TEXT


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


def find_unusable_lookups(case: FlowCase) -> None:
    """The key of a row is in the events, and is what a key can be."""
    looked_up = {} if case.declaration is None else case.declaration.lookup or {}
    for name, rules in looked_up.items():
        key = rules.key
        if key is None or not key.startswith("/"):
            continue
        for topic in case.topics:
            shape = case.shapes.of(topic)
            if shape is None:
                continue
            why, kinds = shape.unknown(key), shape.kinds(key)
            if why is None and kinds is not None and not kinds & {TEXT, NUMBER}:
                why = f"{key} is {' or '.join(sorted(kinds))}, and a row's key a text or a number"
            if why is not None:
                message = f"lookup.{name}: key: {why}: no event of {topic} has a row"
                case.find(("lookup", name, "key"), message)
