"""What a ``contract.yaml`` may say: its keys, their values, their defaults.

To add a knob: a field here, its meaning for the pipeline in :mod:`.contracts`. Unknown keys,
missing keys and wrong values are reported from these models; keys that have no meaning beside
others are listed in :data:`ORDERING_KEYS`.
"""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from edo_stream.core.contract import DAY_MS, Start
from edo_stream.registry.quantity import Duration, Size, time_ms

_PART: Final = r"[a-z0-9][a-z0-9_-]*"
_TOPIC: Final = re.compile(rf"{_PART}(\.{_PART}){{2,}}")
_GROUP: Final = re.compile(rf"{_PART}(\.{_PART})*")
_ATTRIBUTE: Final = re.compile(r"[a-z][a-z0-9]{0,19}")
#: Kafka's own limit is 249; internal topics add a prefix.
_TOPIC_CHARACTERS_MAX: Final = 200
INTERNAL_PREFIX: Final = "edo."

DEDUPE_ATTRIBUTES: Final = ("source", "id", "type", "subject", "key")

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
}


def _topic(value: object) -> str:
    if not isinstance(value, str) or not _TOPIC.fullmatch(value):
        raise ValueError(
            f"{value} is not a topic name: write <domain>.<entity>.<event-type> in lower case, "
            "three parts or more, such as shop.order.placed"
        )
    if value.startswith(INTERNAL_PREFIX):
        raise ValueError(f"{value}: names that begin with {INTERNAL_PREFIX} are internal")
    if len(value) > _TOPIC_CHARACTERS_MAX:
        raise ValueError(f"topic name has {len(value)} characters: {_TOPIC_CHARACTERS_MAX} at most")
    return value


def _own_name(value: object, info: ValidationInfo) -> str:
    name = _topic(value)
    folder = (info.context or {}).get("folder", name)
    if name != folder:
        raise ValueError(
            f"{name} is not the name of its folder: write {folder}, or rename the folder"
        )
    return name


def _group(value: object) -> str:
    if not isinstance(value, str) or not _GROUP.fullmatch(value):
        raise ValueError(f"{value} is not a group name: write lower-case letters, digits, - and .")
    return value


def _key(value: object) -> str:
    if value in ("record", "subject") or _is_pointer(value):
        return str(value)
    raise ValueError(
        f"{value} is not a key: write record, subject, or a JSON pointer such as /order/id"
    )


def _field(value: object) -> str:
    if _is_pointer(value) or (isinstance(value, str) and _ATTRIBUTE.fullmatch(value)):
        return str(value)
    raise ValueError(
        f"{value} is not a field: write a CloudEvents attribute such as sequence, "
        "or a JSON pointer such as /order/number"
    )


def _dedupe_field(value: object) -> str:
    if value in DEDUPE_ATTRIBUTES or _is_pointer(value):
        return str(value)
    raise ValueError(
        f"{value} is not a dedupe field: write one of {', '.join(DEDUPE_ATTRIBUTES)}, "
        "or a JSON pointer such as /order/number"
    )


def _is_pointer(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and not re.search(r"~(?![01])", value)


def _off(value: object) -> object:
    if value == "off":
        return None
    if not isinstance(value, dict):
        raise ValueError("write off, or key and ttl such as {key: [source, id], ttl: 7d}")
    return value


def _first_number(value: object) -> int | None:
    if value == "first-seen":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{value} is not a start: write first-seen, or the first number, such as 1")


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


TopicName = Annotated[str, BeforeValidator(_topic)]
Text = Annotated[str, Field(min_length=1, max_length=1_000)]
Partitions = Annotated[int, Field(ge=1, le=512)]


class Declared(BaseModel):
    """Base of the models: nothing unknown, nothing converted behind the author's back."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Dedupe(Declared):
    key: Annotated[list[Annotated[str, BeforeValidator(_dedupe_field)]], Field(min_length=1)] = [
        "source",
        "id",
    ]
    ttl: Duration = 7 * DAY_MS


class Ordering(Declared):
    policy: Literal["none", "key", "monotonic", "sequence"] = Field(examples=["key"])
    field: Annotated[str, BeforeValidator(_field)] = "sequence"
    start: Annotated[int | None, BeforeValidator(_first_number)] = None
    gap_timeout: Duration = 30_000
    on_timeout: Literal["skip", "dead-letter", "hold"] = "skip"
    # All that a key holds may go on in one transaction.
    held_per_key: Annotated[int, Field(ge=1, le=20_000)] = 1_000
    held_per_partition: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    on_full: Literal["skip", "dead-letter"] = "skip"
    on_late: Literal["dead-letter", "emit", "drop"] = "dead-letter"
    idle_ttl: Duration = 30 * DAY_MS


class Emit(Declared):
    topic: TopicName = Field(examples=["shop.order.accepted"])
    partitions: Partitions | None = None


class DeadLetters(Declared):
    topic: TopicName | None = None


class Declaration(Declared):
    """A whole ``contract.yaml``."""

    name: Annotated[str, BeforeValidator(_own_name)] = Field(examples=["shop.order.placed"])
    owner: Text = Field(examples=["team-orders"])
    description: Text = Field(examples=["An order was placed in the shop."])
    codec: Literal["cloudevents", "debezium"] = Field(examples=["cloudevents"])
    partitions: Partitions = Field(examples=[4])
    group: Annotated[str, BeforeValidator(_group)] | None = None
    replication: Annotated[int, Field(ge=1, le=9)] = 1
    mapping: dict[str, Any] = Field(default={}, examples=["{id: /order/id}"])
    key: Annotated[str, BeforeValidator(_key)] = "record"
    dedupe: Annotated[Dedupe | None, BeforeValidator(_off)] = Dedupe()
    ordering: Ordering = Ordering(policy="key")
    emit: Emit = Field(examples=["{topic: shop.order.accepted}"])
    dead_letters: DeadLetters = DeadLetters()
    start: Annotated[Any, BeforeValidator(_start)] = Start()
    metadata_ids: bool = False
    retention: Duration = 7 * DAY_MS
    record_bytes_max: Annotated[Size, Field(ge=1_024, le=64 << 20)] = 1 << 20


#: The model behind each part of the file.
MODELS: Final[dict[tuple[str | int, ...], type[Declared]]] = {
    (): Declaration,
    ("dedupe",): Dedupe,
    ("ordering",): Ordering,
    ("emit",): Emit,
    ("dead_letters",): DeadLetters,
}
