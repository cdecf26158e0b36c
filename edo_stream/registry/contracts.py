"""One ``contract.yaml`` becomes a topic: checked, then in the words of the core."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edo_stream.core.contract import (
    Codec,
    Contract,
    DedupePolicy,
    KeyOrder,
    MonotonicOrder,
    NoOrder,
    OnFull,
    OnLate,
    OnTimeout,
    OrderingPolicy,
    SequenceOrder,
)
from edo_stream.registry.declaration import (
    INTERNAL_PREFIX,
    MODELS,
    ORDERING_KEYS,
    Declaration,
    Ordering,
)
from edo_stream.registry.document import Document

FILE_NAME: Final = "contract.yaml"


@dataclass(frozen=True, slots=True)
class Topic:
    """One declared topic: its contract for the pipeline, and what only its creation needs."""

    contract: Contract
    description: str
    replication: int
    retention_ms: int
    file: Path


def topic_of(document: Document) -> Topic | None:
    """The topic that a file declares; ``None`` if not, and the document has the findings."""
    if document.findings and document.value is None:
        return None
    if not isinstance(document.value, dict):
        document.find((), "not a contract: write its keys, such as name: shop.order.placed")
        return None
    _find_meaningless(document)
    folder = document.file.parent.name
    try:
        declaration = Declaration.model_validate(document.value, context={"folder": folder})
    except ValidationError as error:
        unread = {finding.line for finding in document.findings}
        for item in error.errors(include_url=False):
            # What could not be read has its finding already, and is missing for that reason.
            if item["input"] is not None or document.line(item["loc"]) not in unread:
                _find(document, item)
        return None
    return None if document.findings else _topic(declaration, document.file)


def _find_meaningless(document: Document) -> None:
    """Find keys that contradict others; from the raw values, whatever else may be wrong."""
    ordering = document.value.get("ordering")
    if not isinstance(ordering, dict):
        return
    policy = ordering.get("policy")
    is_debezium = document.value.get("codec") == Codec.DEBEZIUM.value
    if is_debezium and policy == "sequence":
        document.find(
            ("ordering", "policy"),
            "log positions grow but are not contiguous: write policy: monotonic",
        )
    if is_debezium and "field" in ordering:
        document.find(
            ("ordering", "field"), "Debezium's position is the one of the log: remove field"
        )
    with_meaning = ORDERING_KEYS.get(policy) if isinstance(policy, str) else None
    for name in ordering:
        if with_meaning is None or name in with_meaning or name not in Ordering.model_fields:
            continue
        policies = " or ".join(other for other, keys in ORDERING_KEYS.items() if name in keys)
        document.find(
            ("ordering", name),
            f"{name} means nothing with policy {policy}: remove it, or write policy: {policies}",
        )


def _find(document: Document, error: Any) -> None:
    """Say what a person has to write, for one error of the models."""
    path = tuple(error["loc"])
    name = ".".join(str(part) for part in path)
    match error["type"]:
        case "extra_forbidden":
            message = _unknown(path)
        case "missing":
            message = _missing(path)
        case "literal_error":
            message = f"{name} is {error['input']}: write {error['ctx']['expected']}"
        case "value_error":
            message = f"{name}: {error['ctx']['error']}"
        case "model_type":
            known = ", ".join(MODELS[path].model_fields) if path in MODELS else "its keys"
            message = f"{name} has no keys: write {{…}} with {known}"
        case _:
            message = f"{name} is {error['input']!r:.60}: {_lower(error['msg'])}"
    document.find(path, message)


def _unknown(path: tuple[str | int, ...]) -> str:
    known = MODELS[path[:-1]].model_fields if path[:-1] in MODELS else {}
    near = get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"{path[-1]} is not a key: {advice}"


def _missing(path: tuple[str | int, ...]) -> str:
    name = str(path[-1])
    field = MODELS[path[:-1]].model_fields[name]
    example = field.examples[0] if field.examples else "…"
    place = f" in {path[0]}" if len(path) > 1 else ""
    return f"{name} is missing{place}: write for instance {name}: {example}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].replace("Input", "it")


def _topic(declaration: Declaration, file: Path) -> Topic:
    emit = declaration.emit
    dedupe = declaration.dedupe
    contract = Contract(
        topic=declaration.name,
        owner=declaration.owner,
        group=declaration.group or declaration.name,
        partitions=declaration.partitions,
        codec=Codec(declaration.codec),
        emit=emit.topic,
        emit_partitions=emit.partitions or declaration.partitions,
        dead_letters=declaration.dead_letters.topic
        or f"{INTERNAL_PREFIX}dead-letters.{declaration.name}",
        dedupe=None if dedupe is None else DedupePolicy(tuple(dedupe.key), dedupe.ttl),
        ordering=_ordering(declaration.ordering),
        order_key=None if declaration.key == "record" else declaration.key,
        position=declaration.ordering.field,
        mapping=declaration.mapping,
        write_metadata=declaration.metadata_ids,
        record_bytes_max=declaration.record_bytes_max,
        start=declaration.start,
    )
    return Topic(
        contract, declaration.description, declaration.replication, declaration.retention, file
    )


def _ordering(declared: Ordering) -> OrderingPolicy:
    match declared.policy:
        case "none":
            return NoOrder()
        case "key":
            return KeyOrder()
        case "monotonic":
            return MonotonicOrder(declared.idle_ttl)
        case "sequence":
            return SequenceOrder(
                start=declared.start,
                gap_timeout_ms=declared.gap_timeout,
                on_timeout=OnTimeout(declared.on_timeout),
                held_per_key_max=declared.held_per_key,
                held_per_partition_max=declared.held_per_partition,
                on_full=OnFull(declared.on_full),
                on_late=OnLate(declared.on_late),
                idle_ttl_ms=declared.idle_ttl,
            )
