"""Which Kafka topics there must be, with their partitions and configuration."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from edo_stream.core.contract import DAY_MS
from edo_stream.registry.contracts import Topic
from edo_stream.registry.declaration import Declaration
from edo_stream.registry.entry import Entry
from edo_stream.registry.names import INTERNAL_PREFIX
from edo_stream.registry.quantity import duration_text

ACCOUNTS: Final = f"{INTERNAL_PREFIX}accounts"
GAPS: Final = f"{INTERNAL_PREFIX}gaps"
ACCOUNTS_PARTITIONS: Final = 8
GAPS_PARTITIONS: Final = 8

CONTROL_RETENTION_MS: Final = 7 * DAY_MS
DEAD_LETTERS_RETENTION_MS: Final = 30 * DAY_MS
REPLICAS_FOR_TWO_IN_SYNC: Final = 3

_INTERNAL_RETENTION_MS: Final = 14 * DAY_MS
#: Who keeps the rows of a table, and was away for longer, may not see that one was deleted.
_TOMBSTONES_KEPT_MS: Final = 7 * DAY_MS
#: A result or dead letter is its source's record and some headers.
_HEADROOM_BYTES: Final = 64 * 1024


class Role(Enum):
    """What a topic is for."""

    SOURCE = "source"
    DECLARED = "declared"
    """It has a contract, and no worker reads it."""
    EMIT = "emit"
    DEAD_LETTERS = "dead-letters"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create; ``config`` in Kafka's own names and texts."""

    name: str
    partitions: int
    replication: int
    role: Role
    config: dict[str, str] = field(default_factory=dict)


def control_topic(group: str) -> str:
    """Name of the topic that carries operators' requests to the tasks of a group."""
    return f"{INTERNAL_PREFIX}control.{group}"


def retry_topic(group: str, delay_ms: int) -> str:
    """Name of the topic where events of a group wait before they are tried again."""
    return f"{INTERNAL_PREFIX}retry.{group}.{duration_text(delay_ms)}"


def deleted_by_age(retention_ms: int, bytes_max: int | None = None) -> dict[str, str]:
    """How a topic of events is kept; ``bytes_max`` is that of a batch, else the broker's own."""
    config = {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}
    if bytes_max is not None:
        config["max.message.bytes"] = str(bytes_max)
    return config


def topic_plan(
    topics: Iterable[Topic],
    unread: Iterable[Entry],
    groups: dict[str, int],
    internal_replication: int,
) -> tuple[TopicSpec, ...]:
    """All topics but the changelogs, sorted by name; ``groups`` gives their partitions."""
    plan: dict[str, TopicSpec] = {}
    read = list(topics)
    for topic in read:
        _add(plan, _declared(topic.declaration, Role.SOURCE))
    for entry in unread:
        _add(plan, _declared(entry.declaration, Role.DECLARED))
    for topic in read:
        _add(plan, _emit(topic))
        _add(plan, _dead_letters(topic))
        for spec in _retry_tiers(topic):
            _add(plan, spec)
    for name, partitions in ((ACCOUNTS, ACCOUNTS_PARTITIONS), (GAPS, GAPS_PARTITIONS)):
        config = _config(_INTERNAL_RETENTION_MS, internal_replication)
        _add(plan, TopicSpec(name, partitions, internal_replication, Role.INTERNAL, config))
    for group, partitions in groups.items():
        config = _config(CONTROL_RETENTION_MS, internal_replication)
        spec = TopicSpec(
            control_topic(group), partitions, internal_replication, Role.INTERNAL, config
        )
        _add(plan, spec)
    return tuple(plan[name] for name in sorted(plan))


def _add(plan: dict[str, TopicSpec], spec: TopicSpec) -> None:
    """Add a topic, or widen one that others name too; a source's own contract is the last word."""
    known = plan.setdefault(spec.name, spec)
    if known is spec or known.role in (Role.SOURCE, Role.DECLARED):
        return
    config = known.config | {
        name: str(max(int(known.config[name]), int(spec.config[name])))
        for name in ("retention.ms", "max.message.bytes")
    }
    plan[spec.name] = replace(
        known,
        partitions=max(known.partitions, spec.partitions),
        replication=max(known.replication, spec.replication),
        config=config,
    )


def _declared(declaration: Declaration, role: Role) -> TopicSpec:
    replication = declaration.replication
    config = _config(declaration.retention, replication, declaration.record_bytes_max)
    config["cleanup.policy"] = declaration.cleanup
    if "compact" in declaration.cleanup:
        config["delete.retention.ms"] = str(_TOMBSTONES_KEPT_MS)
    return TopicSpec(declaration.name, declaration.partitions, replication, role, config)


def _emit(topic: Topic) -> TopicSpec:
    contract = topic.contract
    bytes_max = contract.record_bytes_max + _HEADROOM_BYTES
    config = _config(topic.retention_ms, topic.replication, bytes_max)
    return TopicSpec(contract.emit, contract.emit_partitions, topic.replication, Role.EMIT, config)


def _dead_letters(topic: Topic) -> TopicSpec:
    contract = topic.contract
    bytes_max = contract.record_bytes_max + _HEADROOM_BYTES
    config = _config(DEAD_LETTERS_RETENTION_MS, topic.replication, bytes_max)
    return TopicSpec(
        contract.dead_letters, contract.partitions, topic.replication, Role.DEAD_LETTERS, config
    )


def _retry_tiers(topic: Topic) -> list[TopicSpec]:
    """A topic for each wait of the ladder: what waits equally long waits in order."""
    contract, retry = topic.contract, topic.declaration.retry
    waits_ms = sorted(set(retry.waits_ms)) if retry is not None else []
    bytes_max = contract.record_bytes_max + _HEADROOM_BYTES
    config = _config(_INTERNAL_RETENTION_MS, topic.replication, bytes_max)
    return [
        TopicSpec(
            retry_topic(contract.group, wait_ms),
            contract.partitions,
            topic.replication,
            Role.INTERNAL,
            config,
        )
        for wait_ms in waits_ms
    ]


def _config(retention_ms: int, replication: int, bytes_max: int | None = None) -> dict[str, str]:
    config = deleted_by_age(retention_ms, bytes_max)
    if replication >= REPLICAS_FOR_TWO_IN_SYNC:
        # One replica may be down, and what was acknowledged survives the loss of another.
        config["min.insync.replicas"] = "2"
    return config
