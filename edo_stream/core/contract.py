"""What the pipeline is told about a topic: the rules of its contract, frozen at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

DAY_MS = 86_400_000
TRANSACTION_KEY = "transaction"
"""As a contract's key: events are keyed by the transaction of their source."""


class Codec(Enum):
    """How records of the topic are written."""

    CLOUDEVENTS = "cloudevents"
    DEBEZIUM = "debezium"
    MAXWELL = "maxwell"
    OUTBOX = "outbox"
    S3 = "s3"
    MINIO = "minio"
    GCS = "gcs"
    AZURE_BLOB = "azure-blob"
    EVENTBRIDGE = "eventbridge"
    MAPPED = "mapped"


class OnTimeout(Enum):
    """What happens to a key whose gap outlasts ``gap_timeout_ms``."""

    SKIP = "skip"
    DEAD_LETTER = "dead-letter"
    HOLD = "hold"


class OnFull(Enum):
    """What happens to an event that finds the gap buffer full.

    Never a pause: the event that closes the gap would come on the paused partition.
    """

    SKIP = "skip"
    DEAD_LETTER = "dead-letter"


class OnLate(Enum):
    """What happens to an event whose number was passed by a skip."""

    DEAD_LETTER = "dead-letter"
    EMIT = "emit"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class NoOrder:
    """Events go on as they come; their order within a key means nothing."""


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """Events of a key go on in the order of their partition."""


@dataclass(frozen=True, slots=True)
class MonotonicOrder:
    """Events of a key carry a growing position; what is not later than the last is stale."""

    idle_ttl_ms: int = 30 * DAY_MS
    """A key not seen for so long is forgotten (stream time)."""


@dataclass(frozen=True, slots=True)
class SequenceOrder:
    """Events of a key are numbered without gaps; a number that is missing is waited for."""

    start: int | None = None
    """First number of a key; ``None`` takes the first one seen."""
    gap_timeout_ms: int = 30_000
    on_timeout: OnTimeout = OnTimeout.SKIP
    held_per_key_max: int = 1_000
    held_per_partition_max: int = 10_000
    on_full: OnFull = OnFull.SKIP
    on_late: OnLate = OnLate.DEAD_LETTER
    idle_ttl_ms: int = 30 * DAY_MS
    """A key not seen for so long starts anew by ``start`` (stream time)."""


@dataclass(frozen=True, slots=True)
class TransactionOrder:
    """Events of a key are one transaction of their source; they go on together, by number."""

    timeout_ms: int = 30_000
    on_timeout: OnTimeout = OnTimeout.DEAD_LETTER
    """``SKIP`` means nothing here: a transaction is whole, or it is none."""
    held_per_key_max: int = 1_000
    held_per_partition_max: int = 10_000
    idle_ttl_ms: int = 30 * DAY_MS
    """A transaction that is over is remembered for so long (stream time)."""


OrderingPolicy = NoOrder | KeyOrder | MonotonicOrder | SequenceOrder | TransactionOrder


@dataclass(frozen=True, slots=True)
class DedupePolicy:
    """Events with the same key values within the time-to-live are one event."""

    fields: tuple[str, ...] = ("source", "id")
    """Attributes (``source``, ``id``, ``type``, ``subject``, ``key``) or JSON pointers into the
    data, such as ``/order/number``."""
    ttl_ms: int = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Start:
    """Where a source is read from when its group has never committed."""

    at_ms: int | None = None
    """Records from this time on, epoch ms; with ``latest`` ignored."""
    latest: bool = False


@dataclass(frozen=True, slots=True)
class Contract:
    """One topic: who owns it, how it is read, what is promised about its events."""

    topic: str
    owner: str
    group: str
    """Co-partition group: topics of a group have the same partitions and share their tasks."""
    partitions: int
    codec: Codec
    emit: str
    """Topic of the results."""
    emit_partitions: int
    dead_letters: str
    """Topic of the dead letters."""
    dedupe: DedupePolicy | None = DedupePolicy()
    ordering: OrderingPolicy = KeyOrder()
    order_key: str | None = None
    """``None``: the record's key. Else ``subject``, ``transaction`` or a JSON pointer into the
    data."""
    position: str = "sequence"
    """Where the position is read: a CloudEvents attribute, or a JSON pointer into the data.
    Debezium always uses the log position."""
    mapping: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the codec's format leaves open, in the codec's own words; its decoder checks it."""
    write_metadata: bool = False
    """Results repeat the correlation and causation ids in ``metadata`` of their JSON data."""
    record_bytes_max: int = 1_048_576
    """``max.message.bytes`` of the topic; its results and dead letters may be 64 KiB larger."""
    emit_bytes_max: int | None = None
    """What the topic of results takes, where a contract of its own says so."""
    start: Start = Start()
