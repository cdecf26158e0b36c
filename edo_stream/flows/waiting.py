"""Flows that wait, as their files say it: some run an action then, others end in an event."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from edo_stream.flows.correlation import Join, ResultFlow, join_of
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow
from edo_stream.registry import Finding, Registry
from edo_stream.registry.document import Document
from edo_stream.registry.mistakes import find_mistake

_OTHER_KEYS = ("on", "action")


def is_result_flow(document: Document) -> bool:
    """Whether a file is of a flow that ends in an event."""
    value: Any = document.value
    return isinstance(value, dict) and "emit" in value


def result_flow(document: Document, registry: Registry) -> list[Join]:
    """What such a flow waits for; nothing where its file cannot be read."""
    if document.findings:
        return []
    for name in _OTHER_KEYS:
        if name in document.value:
            document.find((name,), f"{name}: a flow with emit ends in an event: leave one out")
    if document.findings:
        return []
    try:
        flow = ResultFlow.model_validate(document.value, context={"file": document.file.stem})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            find_mistake(document, item, ResultFlow)
        return []
    return [join_of(document, (flow.name, flow.owner, flow.when, flow.emit), registry)]


def waiting_flow(document: Document, flow: FlowDeclaration, registry: Registry) -> list[Join]:
    """What a flow with an action waits for, if it does."""
    if (flow.when is None) == (not flow.on):
        place = ("when",) if flow.on else ()
        found = "both" if flow.on else "neither"
        message = f"{found} of on and when: write for instance on: shop.order.placed"
        document.find(place, message)
    if flow.when is None:
        return []
    for name in ("key", "input"):
        if getattr(flow, name) is not None:
            message = f"{name} is not of a flow with when: its command is the result, by its key"
            document.find((name,), message)
    if flow.replies is not None:
        message = "replies is not of a flow with when: several events lead to its command"
        document.find(("replies",), message)
    return [join_of(document, (flow.name, flow.owner, flow.when, None), registry)]


def group_clashes(
    flows: Iterable[Flow], joins: Iterable[Join], registry: Registry
) -> list[Finding]:
    """Groups that are also others': their tasks would have the same names."""
    acting = {flow.declaration.group for flow in flows}
    return [
        Finding(join.file, 1, f"when.group {group} is another group's name: take another")
        for join in joins
        if (group := join.when.group) in acting or group in registry.groups
    ]
