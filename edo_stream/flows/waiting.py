"""Flows that wait, as their files say it: some run an action then, others end in an event."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from edo_stream.core.contract import NoOrder
from edo_stream.core.correlation.feed import ValueOf
from edo_stream.core.facts import Make
from edo_stream.core.routing import Condition
from edo_stream.flows.combine import Batch, Combine, Debounce
from edo_stream.flows.correlation import (
    COMBINED,
    COMMAND_BYTES,
    Join,
    JoinSource,
    ResultFlow,
    combined,
    join_of,
)
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow
from edo_stream.flows.when import Emit, When
from edo_stream.registry import Finding, Registry
from edo_stream.registry.document import Document
from edo_stream.registry.mistakes import find_mistake
from edo_stream.registry.quantity import duration_text, size_text

_OTHER_KEYS = ("on", "action")
_COMBINES: Final = ("debounce", "batch")
#: What a flow does with one event, and why not with many.
_ONE_EVENT: Final = {
    "split": "split what its action writes",
    "lookup": "look up by a flow whose action writes the events of this one",
}
#: Of a command, what is neither its events nor the rest of its data.
_ENVELOPE_BYTES: Final = 32 * 1024
_BATCH_BYTES_MIN: Final = 1024


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
        flow = ResultFlow.model_validate(document.value, context={"file": document.name})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            find_mistake(document, item, ResultFlow)
        return []
    return [_replying(document, (flow.name, flow.owner, flow.when, flow.emit), registry, flow)]


def waiting_flow(document: Document, flow: FlowDeclaration, registry: Registry) -> list[Join]:
    """What a flow with an action waits for, if it does."""
    if (flow.when is None) == (not flow.on):
        place = ("when",) if flow.on else ()
        found = "both" if flow.on else "neither"
        message = f"{found} of on and when: write for instance on: shop.order.placed"
        document.find(place, message)
    if flow.when is None:
        return []
    for name in ("key", "input", *_COMBINES):
        if getattr(flow, name) is not None:
            message = f"{name} is not of a flow with when: its command is the result, by its key"
            document.find((name,), message)
    return [_replying(document, (flow.name, flow.owner, flow.when, None), registry, flow)]


def _replying(
    document: Document,
    declared: tuple[str, str, When, Emit | None],
    registry: Registry,
    flow: FlowDeclaration | ResultFlow,
) -> Join:
    """What a flow waits for, and by what name it replies to requests among it."""
    if flow.replies is not None and declared[2].sliding is not None:
        message = "replies: an event of a sliding window is in several results: write tumbling"
        document.find(("replies",), message)
    return replace(join_of(document, declared, registry), replies=flow.replies)


def combine_of(flow: FlowDeclaration) -> Combine | None:
    """How a flow makes one command of many events, if it does."""
    return None if flow.when is not None else flow.debounce or flow.batch


def combining_flow(
    document: Document,
    flow: FlowDeclaration,
    wanted: tuple[Mapping[str, Sequence[Condition]], Make | None],
    registry: Registry,
) -> Join | None:
    """The same, compiled; ``wanted`` are which events it wants, and what is made of them."""
    declared = combine_of(flow)
    if declared is None:
        return None
    if flow.debounce is not None and flow.batch is not None:
        document.find(("batch",), "both of debounce and batch: leave one out")
    word = _COMBINES[isinstance(declared, Batch)]
    for name, why in _ONE_EVENT.items():
        if getattr(flow, name) is not None:
            document.find((name,), f"{name} is not of a flow with {word}: {why}")
    _check_combine(document, declared)
    wants, make = wanted
    sources = []
    for topic, conditions in wants.items():
        contract = registry.contracts.get(topic)
        if contract is None:
            continue  # It is found where all topics are.
        if flow.key is None and isinstance(contract.ordering, NoOrder):
            message = f"key is missing: events of {topic} have none: write for instance key: /id"
            document.find((word,), message)
        sources.append(
            JoinSource(
                name=COMBINED,
                topic=topic,
                partitions=contract.partitions,
                conditions=tuple(conditions),
                key=ValueOf(flow.key),
                member=None,
                expect=None,
                is_list=False,
                bytes_max=contract.record_bytes_max,
            )
        )
    return Join(
        flow=flow.name,
        owner=flow.owner,
        when=declared,
        kind=combined(declared),
        sources=tuple(sources),
        emit=None,
        file=document.file,
        make=make,
        replies=flow.replies,
    )


def _check_combine(document: Document, declared: Combine) -> None:
    if isinstance(declared, Debounce):
        if not declared.quiet:
            message = "debounce.quiet is 0ms: every event would be a command: leave debounce out"
            document.find(("debounce", "quiet"), message)
        elif declared.max < declared.quiet:
            quiet, found = duration_text(declared.quiet), duration_text(declared.max)
            message = f"debounce.max: expected at least quiet, {quiet}, found {found}"
            document.find(("debounce", "max"), message)
        return
    if not declared.after:
        message = "batch.after is 0ms: no event would find another one: leave batch out"
        document.find(("batch", "after"), message)
    most = COMMAND_BYTES - _ENVELOPE_BYTES
    if not _BATCH_BYTES_MIN <= declared.bytes <= most:
        found, least = size_text(declared.bytes), size_text(_BATCH_BYTES_MIN)
        message = f"batch.bytes: expected {least} to {size_text(most)}, found {found}"
        document.find(("batch", "bytes"), message)


def group_clashes(
    flows: Iterable[Flow], joins: Iterable[Join], registry: Registry
) -> list[Finding]:
    """Groups that are also others': their tasks would have the same names."""
    acting = {flow.declaration.group for flow in flows}
    return [
        Finding(join.file, 1, f"{join.word}.group {group} is another group's name: take another")
        for join in joins
        if (group := join.when.group) in acting or group in registry.groups
    ]
