"""What a ``contract.yaml`` may say: its keys, their values, their defaults.

To add a knob: a field here, its meaning for the pipeline in :mod:`.contracts`. Unknown keys,
missing keys and wrong values are reported from these models (:mod:`.mistakes`); keys that have no
meaning beside others are listed in :data:`ORDERING_KEYS`. What is well formed but cannot be kept,
or contradicts itself, is for :mod:`edo_stream.catalog.lint`: a worker starts with it, a review
does not pass it.

Every field has a description: ``docs/contract.schema.json`` gives it to editors.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from edo_stream.core.contract import DAY_MS, Codec, Start
from edo_stream.registry.names import (
    Date,
    DedupePlace,
    GroupName,
    Key,
    OwnName,
    Place,
    Tag,
    Text,
    TopicName,
    VersionKey,
    VersionNumber,
)
from edo_stream.registry.quantity import Duration, PositiveDuration, Size, time_ms, time_text

#: Keys of ``ordering`` that mean something with each policy.
ORDERING_KEYS: Final[dict[str, frozenset[str]]] = {
    "none": frozenset({"policy"}),
    "key": frozenset({"policy"}),
    "monotonic": frozenset({"policy", "field", "idle_ttl"}),
    "sequence": frozenset(
        {
            "policy",
            "field",
            "start",
            "gap_timeout",
            "on_timeout",
            "held_per_key",
            "held_per_partition",
            "on_full",
            "on_late",
            "idle_ttl",
        }
    ),
    "transaction": frozenset(
        {"policy", "gap_timeout", "on_timeout", "held_per_key", "held_per_partition", "idle_ttl"}
    ),
}

Compatibility = Literal[
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
    "NONE",
]
Delivered = Literal["at-most-once", "at-least-once", "effectively-once"]
FieldRole = Literal["identifier", "fact", "metadata"]
Classification = Literal["public", "internal", "confidential", "restricted"]


def _codec(value: object) -> str:
    names = [codec.value for codec in Codec]
    if value in names:
        return str(value)
    raise ValueError(f"{value} is not a codec: write {', '.join(names[:-1])} or {names[-1]}")


def _off(value: object) -> object:
    if value == "off":
        return None
    if not isinstance(value, dict):
        raise ValueError("write off, or key and ttl such as {key: [source, id], ttl: 7d}")
    return value


def _retry_off(value: object) -> object:
    if value == "off":
        return None
    if not isinstance(value, dict):
        raise ValueError("write off, or a ladder such as {initial: 1s, factor: 2, retries: 5}")
    return value


def _first_number(value: object) -> int | None:
    if value == "first-seen":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{value} is not a start: write first-seen, or the first number, such as 1")


def _first_number_text(value: int | None) -> int | str:
    return "first-seen" if value is None else value


def _start_text(value: Start) -> str:
    if value.at_ms is None:
        return "latest" if value.latest else "earliest"
    return time_text(value.at_ms)


def _start(value: object) -> Start:
    if value == "earliest":
        return Start()
    if value == "latest":
        return Start(latest=True)
    try:
        return Start(at_ms=time_ms(str(value)))
    except ValueError:
        raise ValueError(
            f"{value} is not a start: write earliest, latest, "
            "or a time such as 2026-01-31T12:00:00Z"
        ) from None


def _name_alone(key: str) -> BeforeValidator:
    """Let a plain text stand for an object that has nothing but this key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


Partitions = Annotated[int, Field(ge=1, le=512)]
_FIRST_NUMBER: Final = WithJsonSchema(
    {"anyOf": [{"const": "first-seen"}, {"type": "integer", "minimum": 0}]}
)
_START: Final = WithJsonSchema(
    {"anyOf": [{"enum": ["earliest", "latest"]}, {"type": "string", "format": "date-time"}]}
)
_CODEC: Final = WithJsonSchema({"enum": [codec.value for codec in Codec]})


class Declared(BaseModel):
    """Base of the models: nothing unknown, nothing converted behind the author's back."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Dedupe(Declared):
    key: Annotated[list[DedupePlace], Field(min_length=1)] = Field(
        default=["source", "id"],
        description="Events with the same values are one event: attributes (source, id, type, "
        "subject, key) or JSON pointers into the data.",
    )
    ttl: PositiveDuration = Field(default=7 * DAY_MS, description="How long they are remembered.")


class Ordering(Declared):
    policy: Literal["none", "key", "monotonic", "sequence", "transaction"] = Field(
        examples=["key"],
        description="none; key: as they come; monotonic: never back; sequence: numbered without "
        "gaps, a missing number is waited for; transaction: whole, or not at all.",
    )
    field: Place = Field(
        default="sequence",
        description="Where the number is: an attribute, or a JSON pointer into the data.",
    )
    start: Annotated[
        int | None,
        BeforeValidator(_first_number),
        PlainSerializer(_first_number_text, when_used="json"),
        _FIRST_NUMBER,
    ] = Field(default=None, description="First number of a key.")
    gap_timeout: Duration = Field(
        default=30_000, description="How long a missing number is waited for."
    )
    on_timeout: Literal["skip", "dead-letter", "hold"] = Field(
        default="skip", description="And then."
    )
    # All that a key holds may go on in one transaction.
    held_per_key: Annotated[int, Field(ge=1, le=20_000)] = Field(
        default=1_000, description="How many events of one key may wait."
    )
    held_per_partition: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=10_000, description="How many events of all keys of a partition may wait."
    )
    on_full: Literal["skip", "dead-letter"] = Field(
        default="skip", description="When too many wait: skip the gap, or dead-letter the event."
    )
    on_late: Literal["dead-letter", "emit", "drop"] = Field(
        default="dead-letter", description="When a number that was skipped comes after all."
    )
    idle_ttl: PositiveDuration = Field(
        default=30 * DAY_MS, description="A key that is not seen for so long starts anew."
    )


class Emit(Declared):
    topic: TopicName = Field(
        examples=["shop.order.accepted"],
        description="Where the events go, each once and in order.",
    )
    partitions: Partitions | None = Field(
        default=None, description="Default: as many as the source."
    )
    version: VersionNumber | None = Field(
        default=None,
        description="Schema version of what is written, for readers that are pinned to it; "
        "default: the newest.",
    )


class DeadLetters(Declared):
    topic: TopicName | None = Field(default=None, description="Default: edo.dead-letters.<name>.")
    owner: Text | None = Field(default=None, description="Who looks at them; default: the owner.")
    acknowledge_within: PositiveDuration | None = Field(
        default=None, description="How soon its owner has to acknowledge a dead letter."
    )


class Deprecation(Declared):
    since: Date = Field(examples=["2026-01-31"], description="From then on, use the replacement.")
    sunset: Date | None = Field(default=None, description="From then on it is refused.")
    replacement: TopicName | None = Field(default=None, description="The topic to use instead.")
    acknowledged: list[Text] = Field(
        default=[],
        description="Consumers, by name, that have agreed to the sunset; it needs each one.",
    )


class SchemaVersion(Declared):
    note: Text = Field(
        examples=["Adds the currency."], description="What is new in it, for its readers."
    )
    deprecation: Deprecation | None = Field(default=None, description="When it goes out of use.")
    upcast: list[dict[str, Any]] = Field(
        default=[],
        description="How data of the version before becomes data of this one, step by step: "
        "rename, move, default, remove, or python.",
    )
    downcast: list[dict[str, Any]] = Field(
        default=[],
        description="How data of this version becomes data of the one before; default: upcast "
        "undone.",
    )


class Violations(Declared):
    policy: Literal["dead-letter", "warn"] = Field(
        default="dead-letter", description="What becomes of an event that breaks its schema."
    )
    until: Date | None = Field(
        default=None, description="Last day of warn; from then on violations are dead letters."
    )


class Schema(Declared):
    format: Literal["json", "avro"] = Field(
        examples=["json"],
        description="Files beside the contract: v1.schema.json, v2.schema.json …, or v1.avsc …",
    )
    compatibility: Compatibility = Field(
        default="BACKWARD",
        description="What a new version must keep: BACKWARD: it reads older data; FORWARD: older "
        "versions read its data; FULL: both; …_TRANSITIVE: of all versions, not only the last.",
    )
    versions: Annotated[dict[VersionKey, SchemaVersion], Field(min_length=1)] = Field(
        examples=["{1: {note: First version.}}"],
        description="A note for each version, by its number.",
    )
    violations: Violations = Field(
        default=Violations(), description="What becomes of an event that breaks its schema."
    )
    wire: Literal["plain", "confluent"] = Field(
        default="plain",
        description="plain: the data alone; confluent: led by a magic byte and the schema's id.",
    )


class Producer(Declared):
    name: Text = Field(examples=["checkout"], description="The service that writes events here.")
    source: Text | None = Field(
        default=None,
        description="The CloudEvents source that it writes; what has another is refused.",
    )
    owner: Text | None = Field(default=None, description="Who answers for it.")


class Consumer(Declared):
    name: Text = Field(examples=["billing"], description="The service that reads the events.")
    group: Text | None = Field(default=None, description="Its consumer group.")
    versions: Annotated[list[VersionNumber], Field(min_length=1)] | None = Field(
        default=None, description="Schema versions that it accepts."
    )
    owner: Text | None = Field(default=None, description="Who answers for it.")


class Described(Declared):
    """What a field of the data, or an attribute, is."""

    role: FieldRole = Field(
        examples=["identifier"],
        description="identifier: names something; fact: what happened; metadata: about the event.",
    )
    description: Text | None = Field(default=None, description="What it means.")
    classification: Classification | None = Field(
        default=None, description="Default: the contract's own."
    )


class Delivery(Declared):
    produce: Delivered = Field(
        default="at-least-once",
        description="From the producers to the topic; dedupe makes it effective.",
    )
    process: Delivered = Field(
        default="effectively-once", description="From the topic to its results, inside Kafka."
    )
    act: Delivered | None = Field(default=None, description="From a command to the outside world.")


class Retry(Declared):
    initial: PositiveDuration = Field(default=1_000, description="Wait before the first retry.")
    factor: Annotated[float, Field(ge=1, le=10, strict=False)] = Field(
        default=2.0, description="Each further wait is so many times as long."
    )
    max: PositiveDuration = Field(default=30_000, description="No wait is longer.")
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=5, description="How often it is tried again after the first attempt."
    )
    jitter: Annotated[float, Field(ge=0, le=1, strict=False)] = Field(
        default=0.0, description="Share of a wait that may be added to it."
    )
    total: Duration | None = Field(
        default=None, description="After so long nothing is tried again."
    )

    @property
    def is_cut_short(self) -> bool:
        """Whether nothing is ever tried again, since the time for it ends before the first."""
        return self.total is not None and self.total < self.initial

    @property
    def waits_ms(self) -> tuple[int, ...]:
        """Wait before each retry, without jitter."""
        waits = (self.initial * self.factor**retry for retry in range(self.retries))
        return tuple(int(min(wait, self.max)) for wait in waits)


class Objective(Declared):
    trigger_to_ready: PositiveDuration = Field(
        examples=["30s"], description="From the fact in the world to the result on its topic."
    )
    percentile: Annotated[float, Field(gt=0, le=100, strict=False)] = Field(
        default=99.0, description="Share of the events that make it."
    )


class Rate(Declared):
    expected: Annotated[float, Field(gt=0, strict=False)] = Field(
        examples=[50], description="Events a second on a usual day."
    )
    peak: Annotated[float, Field(gt=0, strict=False)] | None = Field(
        default=None, description="Events a second in the busiest hour."
    )
    burst: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Events that may come all at once."
    )


class Declaration(Declared):
    """A whole ``contract.yaml``."""

    name: OwnName = Field(
        examples=["shop.order.placed"],
        description="The topic, <domain>.<entity>.<event-type>; also the name of its folder.",
    )
    owner: Text = Field(
        examples=["team-orders"], description="Who is asked when something is wrong with it."
    )
    description: Text = Field(
        examples=["An order was placed in the shop."], description="What happened, in a sentence."
    )
    kind: Literal["event", "command"] = Field(
        default="event",
        description="A fact, named in the past tense, or a request to do something.",
    )
    category: Literal["business", "system", "integration"] = Field(
        default="business", description="Whom it means something to."
    )
    classification: Classification = Field(
        default="internal", description="Who may see the data, unless a field says otherwise."
    )
    tags: list[Tag] = Field(default=[], description="For finding it.")
    producers: Annotated[
        list[Annotated[Producer, _name_alone("name")]], Field(description="Who may write it.")
    ] = []
    consumers: list[Consumer] = Field(default=[], description="Who reads it, and which versions.")
    related: list[TopicName] = Field(
        default=[], description="Topics that a reader should know as well."
    )
    codec: Annotated[str, BeforeValidator(_codec), _CODEC] = Field(
        examples=["cloudevents"], description="How records are written."
    )
    mapping: dict[str, Any] = Field(
        default={},
        examples=["{id: /order/id}"],
        description="What the codec's format leaves open, in the codec's own words.",
    )
    source: dict[str, Any] | None = Field(
        default=None, description="Where the events come from, when it is not a producer of ours."
    )
    schema_: Schema | None = Field(default=None, alias="schema", description="What the data is.")
    fields: dict[Place, Annotated[Described, _name_alone("role")]] = Field(
        default={}, description="Role of each field, by JSON pointer or attribute."
    )
    partitions: Partitions = Field(
        examples=[4], description="How many tasks can work on it at the same time."
    )
    group: GroupName | None = Field(
        default=None,
        description="Topics of a group have the same partitions and share their tasks.",
    )
    replication: Annotated[int, Field(ge=1, le=9)] = Field(
        default=1, description="Copies in the cluster; 3 in production."
    )
    retention: PositiveDuration = Field(
        default=7 * DAY_MS, description="How long Kafka keeps the records."
    )
    cleanup: Literal["delete", "compact", "compact,delete"] = Field(
        default="delete",
        description="delete: by age; compact: the last record of each key is kept.",
    )
    record_bytes_max: Annotated[Size, Field(ge=1_024, le=64 << 20)] = Field(
        default=1 << 20, description="A larger record cannot be written."
    )
    key: Key = Field(
        default="record",
        description="What is kept in order: the record's key, its subject, or a JSON pointer.",
    )
    partition_key: Key | None = Field(
        default=None,
        description="What producers make the record's key of: subject, or a JSON pointer; "
        "default: as key.",
    )
    dedupe: Annotated[
        Dedupe | None,
        BeforeValidator(_off),
    ] = Field(default=Dedupe(), description="What makes two events one; or off.")
    ordering: Ordering = Field(
        default=Ordering(policy="key"), description="Order of a key's events."
    )
    delivery: Delivery = Field(default=Delivery(), description="What is promised at each stage.")
    retry: Annotated[Retry | None, BeforeValidator(_retry_off)] = Field(
        default=None, description="How work on an event that failed is tried again; or off."
    )
    emit: Emit | None = Field(
        default=None,
        examples=["{topic: shop.order.accepted}"],
        description="Where workers write the events; without it, no worker reads the topic.",
    )
    dead_letters: DeadLetters = Field(
        default=DeadLetters(), description="Where records go that are not events, or came too late."
    )
    slo: Objective | None = Field(default=None, description="How soon a result has to be there.")
    rate: Rate | None = Field(default=None, description="How many events come.")
    start: Annotated[
        Any,
        BeforeValidator(_start),
        PlainSerializer(_start_text, str, when_used="json"),
        _START,
    ] = Field(default=Start(), description="Where to begin when this was never read.")
    metadata_ids: bool = Field(
        default=False,
        description="Also write correlation and causation ids into metadata of the data.",
    )
    deprecation: Deprecation | None = Field(default=None, description="When it goes out of use.")

    @property
    def record_key(self) -> str:
        """What the records' key is made of: ``record`` leaves it to the producers."""
        return self.partition_key or self.key

    @property
    def versions(self) -> Mapping[int, SchemaVersion]:
        """Declared schema versions by number, ascending; none without a schema."""
        declared = {} if self.schema_ is None else self.schema_.versions
        return dict(sorted(declared.items()))
