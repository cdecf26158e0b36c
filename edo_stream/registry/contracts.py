"""One ``contract.yaml`` becomes a topic: checked, then in the words of the core."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
    TransactionOrder,
)
from edo_stream.registry.declaration import ORDERING_KEYS, Declaration, Emit, Ordering
from edo_stream.registry.document import Document
from edo_stream.registry.mistakes import find_mistake
from edo_stream.registry.names import INTERNAL_PREFIX

FILE_NAME: Final = "contract.yaml"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic that workers read: its contract for the pipeline, and all that is declared."""

    contract: Contract
    declaration: Declaration
    file: Path

    @property
    def description(self) -> str:
        """What happened, in a sentence."""
        return self.declaration.description

    @property
    def replication(self) -> int:
        """Copies in the cluster."""
        return self.declaration.replication

    @property
    def retention_ms(self) -> int:
        """How long Kafka keeps the records."""
        return self.declaration.retention


def declaration_of(document: Document) -> Declaration | None:
    """What a file declares; ``None`` if nothing usable, and the document has the findings."""
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
                find_mistake(document, item)
        return None
    return None if document.findings else declaration


def _find_meaningless(document: Document) -> None:
    """Find keys that contradict others; from the raw values, whatever else may be wrong."""
    is_debezium = document.value.get("codec") == Codec.DEBEZIUM.value
    if document.value.get("key") == "transaction" and not is_debezium:
        document.find(("key",), "only changes of a database have a transaction: codec: debezium")
    ordering = document.value.get("ordering")
    if not isinstance(ordering, dict):
        return
    policy = ordering.get("policy")
    if policy == "transaction" and ordering.get("on_timeout") == OnTimeout.SKIP.value:
        document.find(
            ("ordering", "on_timeout"),
            "a transaction goes on whole or not at all: write dead-letter or hold",
        )
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


def topic_of(declaration: Declaration, file: Path) -> Topic | None:
    """The topic in the words of the core; ``None`` for one that no worker reads."""
    return None if declaration.emit is None else Topic(contract_of(declaration), declaration, file)


def contract_of(declaration: Declaration) -> Contract:
    """What the core is told; of a topic that no worker reads, ``emit`` is the topic itself."""
    emit = declaration.emit or Emit(topic=declaration.name)
    dedupe = declaration.dedupe
    return Contract(
        topic=declaration.name,
        owner=declaration.owner,
        group=declaration.group or declaration.name,
        partitions=declaration.partitions,
        codec=Codec(declaration.codec),
        emit=emit.topic,
        emit_partitions=emit.partitions or declaration.partitions,
        dead_letters=dead_letters_of(declaration),
        dedupe=None if dedupe is None else DedupePolicy(tuple(dedupe.key), dedupe.ttl),
        ordering=_ordering(declaration.ordering),
        order_key=None if declaration.key == "record" else declaration.key,
        position=_position(declaration.ordering),
        mapping=declaration.mapping,
        write_metadata=declaration.metadata_ids,
        record_bytes_max=declaration.record_bytes_max,
        start=declaration.start,
    )


def dead_letters_of(declaration: Declaration) -> str:
    """Topic of the dead letters."""
    return declaration.dead_letters.topic or f"{INTERNAL_PREFIX}dead-letters.{declaration.name}"


def _position(declared: Ordering) -> str:
    return "transactionorder" if declared.policy == "transaction" else declared.field


def _ordering(declared: Ordering) -> OrderingPolicy:
    match declared.policy:
        case "none":
            return NoOrder()
        case "key":
            return KeyOrder()
        case "monotonic":
            return MonotonicOrder(declared.idle_ttl)
        case "transaction":
            is_held = declared.on_timeout == OnTimeout.HOLD.value
            return TransactionOrder(
                timeout_ms=declared.gap_timeout,
                on_timeout=OnTimeout.HOLD if is_held else OnTimeout.DEAD_LETTER,
                held_per_key_max=declared.held_per_key,
                held_per_partition_max=declared.held_per_partition,
                idle_ttl_ms=declared.idle_ttl,
            )
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
