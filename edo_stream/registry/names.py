"""Names, places and dates as contracts write them: each checked, with what to write instead.

A type here is a pydantic annotation: a function that checks the text, and the JSON Schema that an
editor is given for it.
"""

import re
from datetime import date
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

_PART: Final = r"[a-z0-9][a-z0-9_-]*"
_TOPIC_PATTERN: Final = rf"{_PART}(\.{_PART}){{2,}}"
_TOPIC: Final = re.compile(_TOPIC_PATTERN)
_GROUP_PATTERN: Final = rf"{_PART}(\.{_PART})*"
_GROUP: Final = re.compile(_GROUP_PATTERN)
_ATTRIBUTE_PATTERN: Final = r"[a-z][a-z0-9]{0,19}"
_ATTRIBUTE: Final = re.compile(_ATTRIBUTE_PATTERN)
_VERSION: Final = re.compile(r"[1-9][0-9]{0,5}")
_TAG_PATTERN: Final = r"[a-z0-9][a-z0-9_.:-]{0,59}"
_TAG: Final = re.compile(_TAG_PATTERN)
_POINTER_PATTERN: Final = r"/([^~]|~[01])*"
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: Kafka's own limit is 249; internal topics add a prefix.
_TOPIC_CHARACTERS_MAX: Final = 200
INTERNAL_PREFIX: Final = "edo."

DEDUPE_ATTRIBUTES: Final = ("source", "id", "type", "subject", "key")


def topic_name(value: object) -> str:
    """Name of a topic that a contract may use."""
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
    name = topic_name(value)
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
    if value in ("record", "subject", "transaction") or is_pointer(value):
        return str(value)
    raise ValueError(
        f"{value} is not a key: write record, subject, or a JSON pointer such as /order/id; "
        "of changes of a database also transaction"
    )


def _place(value: object) -> str:
    if is_pointer(value) or (isinstance(value, str) and _ATTRIBUTE.fullmatch(value)):
        return str(value)
    raise ValueError(
        f"{value} is not a field: write a CloudEvents attribute such as sequence, "
        "or a JSON pointer such as /order/number"
    )


def _dedupe_place(value: object) -> str:
    if value in DEDUPE_ATTRIBUTES or is_pointer(value):
        return str(value)
    raise ValueError(
        f"{value} is not a dedupe field: write one of {', '.join(DEDUPE_ATTRIBUTES)}, "
        "or a JSON pointer such as /order/number"
    )


def is_pointer(value: object) -> bool:
    """Whether a value is a JSON pointer (RFC 6901) to something below the root."""
    return isinstance(value, str) and value.startswith("/") and not re.search(r"~(?![01])", value)


def _date(value: object) -> date:
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError(f"{value} is not a date: write one such as 2026-01-31")


def version_number(value: object) -> int:
    """Number of a schema's version, from 1."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and _VERSION.fullmatch(value.removeprefix("v")):
        return int(value.removeprefix("v"))
    raise ValueError(f"{value} is not a version: write its number, such as 1")


def _tag(value: object) -> str:
    if isinstance(value, str) and _TAG.fullmatch(value):
        return value
    raise ValueError(f"{value} is not a tag: write lower-case letters, digits, -, _, . and :")


def _pattern(pattern: str, *words: str) -> WithJsonSchema:
    """What an editor is told: words that are allowed, or a text of the pattern."""
    text = {"type": "string", "pattern": f"^{pattern}$"}
    return WithJsonSchema({"anyOf": [{"enum": [*words]}, text]} if words else text)


TopicName = Annotated[str, BeforeValidator(topic_name), _pattern(_TOPIC_PATTERN)]
OwnName = Annotated[str, BeforeValidator(_own_name), _pattern(_TOPIC_PATTERN)]
GroupName = Annotated[str, BeforeValidator(_group), _pattern(_GROUP_PATTERN)]
Key = Annotated[str, BeforeValidator(_key), _pattern(_POINTER_PATTERN, "record", "subject")]
"""``record``, ``subject``, or a pointer into the data."""
Place = Annotated[
    str, BeforeValidator(_place), _pattern(rf"({_POINTER_PATTERN}|{_ATTRIBUTE_PATTERN})")
]
"""An attribute, or a pointer into the data."""
DedupePlace = Annotated[
    str, BeforeValidator(_dedupe_place), _pattern(_POINTER_PATTERN, *DEDUPE_ATTRIBUTES)
]
Date = Annotated[date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
VersionNumber = Annotated[
    int, BeforeValidator(version_number), WithJsonSchema({"type": "integer", "minimum": 1})
]
VersionKey = Annotated[
    int, BeforeValidator(version_number), WithJsonSchema({"type": "string", "pattern": "^v?[1-9]"})
]
"""A version as the key of a mapping, which YAML reads as a number and JSON as a text."""
Tag = Annotated[str, BeforeValidator(_tag), _pattern(_TAG_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=1_000)]
