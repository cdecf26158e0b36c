"""Objects that were created in a store: one shape for all stores, whatever their notification.

Theory of operation. A codec of a store finds the creations in a message (:data:`Find`); this
module makes events of them:

- ``id`` is what names this creation in its store, ``bucket/key#version#sequencer``: stores deliver
  a notification more than once and give each copy an id of its own, or none.
- ``subject`` and, unless the contract names another, the ordering key are ``bucket/key``: stores
  order the notifications of one object, never those of two.
- ``position`` is the store's own sequencer or generation, so that ``ordering: monotonic`` drops
  what an overwritten object had to say too late.
- ``data`` is JSON that is alike for all stores: store, bucket, key, size, etag, version, sequencer,
  contentType, time, reason, and the untouched ``notification``.

Only committed creations are events. Deletions, tags, attempts and test messages are ignored.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Contract
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources.attributes import has_forbidden_characters, time_ms
from edo_stream.sources.cloudevents import CORE_HEADERS
from edo_stream.sources.json_data import parse
from edo_stream.sources.order import key_reader, needs_position
from edo_stream.sources.refused import INVALID, UNDECODABLE, MappingError, RefusedError

TYPE: Final = "object.created"
_CONTENT_TYPE: Final = "application/json"
#: A longer name enters the id as its digest: ids travel in headers and in state.
_NAME_CHARACTERS_MAX: Final = 1_100
_TEXT_CHARACTERS_MAX: Final = 4_096
_MESSAGES_MAX: Final = 10_000

_encode: Final = msgspec.json.Encoder().encode


class Created(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """One creation, as the data of its event has it."""

    store: str
    """``s3``, ``minio``, ``gcs``, ``azure-blob``."""
    bucket: str
    """Bucket or container."""
    key: str
    """Name of the object, decoded."""
    size: int | None = None
    etag: str | None = None
    version: str | None = None
    sequencer: str | None = None
    content_type: str | None = None
    time: str | None = None
    """RFC 3339, as the store wrote it."""
    reason: str | None = None
    """What created it, in the store's words, such as ``ObjectCreated:Put``."""
    url: str | None = None
    notification: msgspec.Raw = msgspec.Raw(b"")


class Finding(msgspec.Struct, gc=False):
    """A creation, and what its event needs besides."""

    source: str
    """CloudEvents source: the bucket."""
    created: Created
    position: int | None
    identity: str
    """What tells apart the creations of one object."""


Find = Callable[[Record], Sequence[Finding] | Ignored]
"""Finds the creations in a message.

Raises:
    RefusedError: it is no such message.
"""


def reader(
    contract: Contract, find: Find
) -> Callable[[Record], Sequence[Event] | Violation | Ignored]:
    """Compile what reads all events of a message; it never raises.

    Raises:
        MappingError: the contract has a mapping, and there is nothing to map.
    """
    if contract.mapping:
        raise MappingError(f"mapping means nothing with codec {contract.codec.value}: remove it")
    read_key = None if contract.order_key is None else key_reader(contract)
    is_position_needed = needs_position(contract)

    def event_of(record: Record, found: Finding) -> Event:
        created = found.created
        name = f"{created.bucket}/{created.key}"
        subject = shown(name)
        if found.position is None and is_position_needed:
            raise RefusedError(
                INVALID, f"no position: the notification of {created.store} has no sequencer"
            )
        data = _encode(created)
        return Event(
            id=f"{name_in_id(name)}#{found.identity}",
            source=found.source,
            type=TYPE,
            key=name.encode() if read_key is None else read_key(None, subject, parse(data)),
            data=data,
            content_type=_CONTENT_TYPE,
            subject=subject,
            time_ms=None if created.time is None else time_ms("time", created.time.encode()),
            position=found.position,
            extensions=extensions_of(record),
        )

    def read(record: Record) -> Sequence[Event] | Violation | Ignored:
        try:
            found = find(record)
            if isinstance(found, Ignored):
                return found
            return [event_of(record, one) for one in found]
        except RefusedError as refused:
            return Violation(refused.reason, refused.detail, record.key)

    return read


def extensions_of(record: Record) -> tuple[tuple[str, Any], ...]:
    """Headers that travel on: all but those that the event has as fields of its own."""
    return tuple(item for item in record.headers if item[0] not in CORE_HEADERS)


def shown(name: str) -> str:
    """A name as an attribute may carry it: what CloudEvents forbids is percent-encoded."""
    if not has_forbidden_characters(name):
        return name
    return "".join(_percent(one) if has_forbidden_characters(one) else one for one in name)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def name_in_id(name: str) -> str:
    """The name, or its digest where the text would be long, or would be two names' text."""
    if len(name) <= _NAME_CHARACTERS_MAX and not has_forbidden_characters(name):
        return name
    return sha256(name.encode()).hexdigest()


def created_of(findings: Sequence[Finding | Ignored], nothing: str) -> Sequence[Finding] | Ignored:
    """The creations of a message of several; ignored, with the first reason, if there is none."""
    created = [one for one in findings if isinstance(one, Finding)]
    if created:
        return created
    return next((one for one in findings if isinstance(one, Ignored)), Ignored(nothing))


def object_of(raw: bytes | msgspec.Raw) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RefusedError: it is none.
    """
    try:
        document = parse(raw)
    except RefusedError as refused:
        raise RefusedError(UNDECODABLE, refused.detail.replace("data is", "value is")) from None
    if isinstance(document, dict):
        return document
    raise RefusedError(UNDECODABLE, "value is not a JSON object")


_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members_of(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, unparsed.

    Raises:
        RefusedError: it is none, or nested too deeply.
    """
    try:
        return _MEMBERS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(UNDECODABLE, "value is not a JSON object") from None


def objects_of(raw: bytes | msgspec.Raw, where: str) -> list[msgspec.Raw]:
    """The members of a JSON array, unparsed.

    Raises:
        RefusedError: it is none, or has too many.
    """
    try:
        found = _RAWS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(INVALID, f"{where} is not an array") from None
    if len(found) > _MESSAGES_MAX:
        raise RefusedError(
            INVALID, f"{where} has {len(found):,} members: {_MESSAGES_MAX:,} at most"
        )
    return found


def within(document: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """A member that must be an object."""
    value = document.get(name)
    if isinstance(value, dict):
        return value
    raise RefusedError(INVALID, f"{where}{name} is missing or not an object")


def required(document: dict[str, Any], name: str, where: str) -> str:
    """A member that must be a text, not empty."""
    value = optional(document, name, where)
    if value:
        return value
    raise RefusedError(INVALID, f"{where}{name} is missing or empty")


def optional(document: dict[str, Any], name: str, where: str) -> str | None:
    """A member that is a text, if it is there."""
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RefusedError(INVALID, f"{where}{name} is not a text")
    if len(value) > _TEXT_CHARACTERS_MAX:
        raise RefusedError(
            INVALID,
            f"{where}{name} has {len(value):,} characters: {_TEXT_CHARACTERS_MAX:,} at most",
        )
    return value


def plain(document: dict[str, Any], name: str, where: str) -> str | None:
    """A member that is a text without control characters, if it is there: it enters an id."""
    value = optional(document, name, where)
    if value is not None and has_forbidden_characters(value):
        raise RefusedError(INVALID, f"{where}{name} contains control characters or noncharacters")
    return value


def size_of(document: dict[str, Any], name: str, where: str) -> int | None:
    """A member that is a number of bytes, as a JSON number or its text, if it is there."""
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise RefusedError(INVALID, f"{where}{name} is not a number of bytes")
