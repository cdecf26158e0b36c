"""Which flows of a topic may run again on events of the past, and why others may not."""

from typing import Final

from edo_stream.core.replay import DOUBLES, Bounds
from edo_stream.flows import Flow, Flows
from edo_stream.registry import Registry

WAITS: Final = "waits"
"""It fires when several events are there; one of them again is none."""
LOOKS_UP: Final = "looks-up"
"""Its rows are others today."""
SAGA: Final = "saga"
"""Its key has had its instance; a person starts another one by an event of its own."""

_STRICTEST: Final = ("forbidden", "sandbox-only")


def bounds_of(registry: Registry, flows: Flows, topic: str, may_double: bool) -> dict[str, Bounds]:
    """By flow that a topic's events trigger; ``may_double`` lets records be written twice."""
    return {
        trigger.flow: _bounds(registry, flows.flows[trigger.flow], may_double)
        for trigger in flows.triggers(topic)
    }


def left_out(flows: Flows, topic: str) -> dict[str, str]:
    """What else events of a topic lead to, and why no replay does, by name."""
    found = {
        join.flow: WAITS
        for join in flows.joins.values()
        if any(source.topic == topic for source in join.sources)
    }
    sagas = {route.trigger.flow: SAGA for route in flows.starts.get(topic, ())}
    return dict(sorted((found | sagas).items()))


def _bounds(registry: Registry, flow: Flow, may_double: bool) -> Bounds:
    declared = flow.declaration
    if flow.lookups is not None:
        return Bounds(LOOKS_UP)
    actions = (
        [declared.action] if declared.fallback is None else [declared.action, declared.fallback]
    )
    said = {action.replay for action in actions}
    for word in _STRICTEST:
        if word in said:
            return Bounds(word)
    remembered_ms: int | None = None
    for action in actions:
        if action.kind != "record" or may_double:
            continue
        read = registry.topics.get(action.topic)
        dedupe = None if read is None else read.contract.dedupe
        if dedupe is None:
            return Bounds(DOUBLES)
        remembered_ms = min(
            dedupe.ttl_ms, dedupe.ttl_ms if remembered_ms is None else remembered_ms
        )
    return Bounds(None, remembered_ms)
