"""CloudEvents 1.0 as Kafka carries them (Kafka protocol binding 1.0.2), both content modes.

Structured mode is turned into the headers that binary mode would have had, then both go the
same way: results always leave in binary mode, with the producer's bytes as data.
"""

import base64
import binascii
import re
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec

from edo_stream.core.contract import Contract, NoOrder
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.pointer import parse_pointer, resolve
from edo_stream.core.record import Headers, Record
from edo_stream.core.remembering import remembered
from edo_stream.sources.attributes import known_text, text, time_and_text, time_ms, whole_number
from edo_stream.sources.json_data import check, metadata_ids, parse
from edo_stream.sources.order import key_is_in_data, key_reader, needs_position
from edo_stream.sources.refused import INVALID, UNDECODABLE, RefusedError

if IS_COMPILED:
    from edo_stream.core._native import (
        KEY_IS_RECORD,
        KEY_IS_SUBJECT,
        POSITION_IS_HEADER,
        POSITION_IS_NONE,
        POSITION_IS_TIME,
        PlainDecoder,
        PlainFirst,
    )

CORE_HEADERS: Final = frozenset(
    {
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_specversion",
        "ce_subject",
        "ce_time",
        "ce_datacontenttype",
        "ce_correlationid",
        "ce_causationid",
        "content-type",
    }
)
"""Headers that an event has as fields of its own; never among its extensions."""

_NAME: Final = re.compile(r"[a-z0-9]+")
_VERSION: Final = re.compile(rb"[0-9]{1,3}\.[0-9]{1,3}")
_JSON: Final = re.compile(r"[^/;\s]+/(json|[^/;\s]+\+json)\s*(;.*)?", re.IGNORECASE | re.DOTALL)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


_STRUCTURED_JSON: Final = re.compile(
    r"application/cloudevents(\+json)?\s*(;.*)?", re.IGNORECASE | re.DOTALL
)

T = TypeVar("T")


class Mode(Enum):
    """Content mode of a record, told by the prefix of its content type."""

    BINARY = "binary"
    STRUCTURED = "structured"
    BATCH = "batch"


class Media(msgspec.Struct, frozen=True):
    """A content type, and what follows from it."""

    text: str | None
    mode: Mode
    is_json: bool


def decoder(contract: Contract) -> Callable[[Record], Decoded]:
    """Compile the decoder of a topic whose contract says ``codec: cloudevents``."""
    event_of = _event_reader(contract)
    violation_of = _violation_reader(contract)
    plain = _plain_decoder(contract) if IS_COMPILED else None

    def decode(record: Record) -> Decoded:
        try:
            headers = record.headers
            attributes = dict(headers)
            is_repeated = len(attributes) != len(headers)
            if is_repeated:
                _refuse_repeated(headers)
            media = _media(attributes.pop("content-type", None))
            if media.mode is Mode.BINARY:
                event = event_of(record.key, attributes, record.value, media)
            else:
                event = event_of(record.key, *_structured(record, attributes, media))
            if is_repeated:
                event.extensions = _with_repeated(event.extensions, headers)
        except RefusedError as refused:
            return violation_of(record, refused)
        return event

    return decode if plain is None else PlainFirst(plain, decode)


def _plain_decoder(contract: Contract) -> "PlainDecoder | None":
    """The compiled way of events that are plain; ``None`` where the data says key or position."""
    if key_is_in_data(contract) or isinstance(contract.ordering, NoOrder):
        return None
    is_needed = needs_position(contract)
    if contract.position == "time":
        position = POSITION_IS_TIME
    elif not contract.position.startswith("/"):
        position = POSITION_IS_HEADER
    elif is_needed:
        return None
    else:
        position = POSITION_IS_NONE
    return PlainDecoder(
        KEY_IS_RECORD if contract.order_key is None else KEY_IS_SUBJECT,
        position,
        is_needed,
        b"ce_" + contract.position.encode(),
        _plain_media,
        _plain_time,
    )


def _plain_media(content_type: bytes | None) -> tuple[str | None, bool] | None:
    try:
        media = _media(content_type)
    except RefusedError:
        return None
    return (media.text, media.is_json) if media.mode is Mode.BINARY else None


def _plain_time(value: bytes) -> tuple[int, bytes | None] | None:
    try:
        return time_and_text("ce_time", value)
    except RefusedError:
        return None


Header = tuple[str, Any]
"""Name and bytes; ``None`` where the header is null, which only a user's own may be."""
Attributes = dict[str, Any]
"""Headers of binary mode by name, without ``content-type``; the reader takes what it knows."""
ReadEvent = Callable[[bytes | None, Attributes, bytes | None, Media], Event]


def _event_reader(contract: Contract) -> ReadEvent:
    read_key = key_reader(contract)
    read_position = _position_reader(contract)
    read_data = _data_reader(contract)
    position_header = "ce_" + contract.position

    def read(key: bytes | None, attributes: Attributes, data: bytes | None, media: Media) -> Event:
        take = attributes.pop
        version = take("ce_specversion", None)
        if version != b"1.0":
            _refuse_version(version, attributes)
        # Before the core attributes are taken away: one of them may be the position.
        position = attributes.get(position_header)
        event_id = text("ce_id", take("ce_id", None))
        source = known_text("ce_source", take("ce_source", None))
        event_type = known_text("ce_type", take("ce_type", None))
        subject = _optional_text("ce_subject", take("ce_subject", None))
        time = take("ce_time", None)
        event_time_ms, time_text = time_and_text("ce_time", time) if time else _NO_TIME
        document, correlation_id, causation_id = read_data(data, media)
        return Event(
            event_id,
            source,
            event_type,
            read_key(key, subject, document),
            data,
            media.text,
            subject,
            event_time_ms,
            read_position(position, event_time_ms, document),
            _optional_text("ce_correlationid", take("ce_correlationid", None)) or correlation_id,
            _optional_text("ce_causationid", take("ce_causationid", None)) or causation_id,
            _extensions(attributes),
            time_text,
        )

    return read


_NO_TIME: Final = (None, None)


def _optional_text(name: str, value: bytes | None) -> str | None:
    # Empty counts as absent: the specification forbids an empty subject, yet its own
    # documents have some (extensions/verifiability.md), and nothing is lost by it.
    return text(name, value) if value else None


def _extensions(attributes: Attributes) -> tuple[Header, ...]:
    """Headers that travel on: what is left when the core attributes have been taken."""
    if "ce_datacontenttype" in attributes:
        # Not an attribute of binary mode: content-type says it (Kafka binding §3.2.3.1).
        del attributes["ce_datacontenttype"]
    for name, value in attributes.items():
        if name.startswith("ce_"):
            if not _is_attribute_name(name[3:]):
                raise RefusedError(
                    INVALID, f"header {name[:60]!r}: attribute names are a-z and 0-9, and not data"
                )
            if value is None or not value.isascii():
                text(f"header {name}", value)
    return tuple(attributes.items())


@remembered(1_024)
def _is_attribute_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name != "data"


ReadData = Callable[[bytes | None, Media], tuple[object, str | None, str | None]]
"""Parsed data if the contract needs it, correlation id and causation id if the data has them."""
_NOTHING: Final = (None, None, None)


def _data_reader(contract: Contract) -> ReadData:
    is_position_in_data = needs_position(contract) and contract.position.startswith("/")
    return _parsed if key_is_in_data(contract) or is_position_in_data else _checked


def _parsed(data: bytes | None, media: Media) -> tuple[object, str | None, str | None]:
    if not data:
        return _NOTHING
    document = parse(data)
    if isinstance(document, dict) and "metadata" in document:
        return document, *metadata_ids(document["metadata"])
    return document, None, None


def _checked(data: bytes | None, media: Media) -> tuple[object, str | None, str | None]:
    # Empty data is not JSON, but the official Python SDK writes it for "no data".
    if not data:
        return _NOTHING
    if media.is_json:
        metadata = check(data)
    elif media.text is None and data[0] == 0x7B:
        # Nothing says that this is JSON, so nothing is wrong when it is not.
        try:
            metadata = check(data)
        except RefusedError:
            return _NOTHING
    else:
        return _NOTHING
    return (None, *metadata_ids(parse(metadata))) if metadata else _NOTHING


ReadPosition = Callable[[bytes | None, int | None, object], int | None]
"""Position from its header, the event's time and the parsed data."""


def _position_reader(contract: Contract) -> ReadPosition:
    is_needed = needs_position(contract)
    if contract.position.startswith("/"):
        return _position_in_data(contract.position) if is_needed else _no_position
    if contract.position == "time":
        return _position_is_time(is_needed)
    return _position_in_header(contract.position, is_needed)


def _no_position(header: bytes | None, event_time_ms: int | None, document: object) -> None:
    return None


def _position_in_data(path: str) -> ReadPosition:
    tokens = parse_pointer(path)

    def read(header: bytes | None, event_time_ms: int | None, document: object) -> int:
        position = whole_number(resolve(document, tokens))
        if position is None:
            raise RefusedError(INVALID, f"no position: data has no whole number at {path}")
        return position

    return read


def _position_is_time(is_needed: bool) -> ReadPosition:
    def read(header: bytes | None, event_time_ms: int | None, document: object) -> int | None:
        if event_time_ms is None and is_needed:
            raise RefusedError(INVALID, "no position: the contract's is time, and it is missing")
        return event_time_ms

    return read


def _position_in_header(name: str, is_needed: bool) -> ReadPosition:
    def read(header: bytes | None, event_time_ms: int | None, document: object) -> int | None:
        position = None if header is None else whole_number(header)
        if position is None and is_needed:
            found = "missing" if header is None else "not a whole number"
            raise RefusedError(INVALID, f"no position: attribute {name} is {found}")
        return position

    return read


@remembered(1_024)
def _media(content_type: bytes | None) -> Media:
    if not content_type:
        return Media(None, Mode.BINARY, is_json=False)
    name = text("content-type", content_type)
    lower = name.lower()
    # The batch type begins like the structured one, so it is asked for first.
    if lower.startswith("application/cloudevents-batch"):
        mode = Mode.BATCH
    elif lower.startswith("application/cloudevents"):
        mode = Mode.STRUCTURED
    else:
        mode = Mode.BINARY
    return Media(name, mode, _JSON.fullmatch(name) is not None)


_NO_MEDIA: Final = Media(None, Mode.BINARY, is_json=False)
_JSON_MEDIA: Final = Media("application/json", Mode.BINARY, is_json=True)


def _structured(
    record: Record, headers: Attributes, media: Media
) -> tuple[Attributes, bytes | None, Media]:
    """Turn structured mode into the headers, data and content type of binary mode."""
    members = _members(record.value, media)
    # Headers may repeat the attributes (Kafka binding §3.3.3); the value is what counts.
    attributes = {name: value for name, value in headers.items() if not name.startswith("ce_")}
    for name, raw in members.items():
        if name not in ("data", "data_base64"):
            value = _attribute(name, raw)
            if value is not None:
                attributes["ce_" + name] = value
    data_media = _media(attributes.pop("ce_datacontenttype", None))
    if _is_present(members.get("data_base64")):
        if "data" in members:
            raise RefusedError(INVALID, "structured event has both data and data_base64")
        # Nothing is inferred about binary data: no content type means none (JSON format §3.1.1).
        return attributes, _binary_data(members["data_base64"]), data_media
    if "data" not in members:
        return attributes, None, data_media
    if data_media.text is None:
        data_media = _JSON_MEDIA
    return attributes, _text_data(members["data"], data_media), data_media


def _members(value: bytes | None, media: Media) -> dict[str, msgspec.Raw]:
    if media.mode is Mode.BATCH:
        raise RefusedError(
            UNDECODABLE, "batch mode is not defined for Kafka: send one event in each record"
        )
    if _STRUCTURED_JSON.fullmatch(media.text or "") is None:
        raise RefusedError(
            UNDECODABLE, "structured mode is read as application/cloudevents+json only"
        )
    if value is None:
        raise RefusedError(UNDECODABLE, "null value: structured mode has no tombstones")
    try:
        value.decode()
        return _MEMBERS.decode(value)
    except msgspec.ValidationError:
        raise RefusedError(UNDECODABLE, "structured event is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(UNDECODABLE, "structured event is not well-formed JSON") from None


def _attribute(name: str, raw: msgspec.Raw) -> bytes | None:
    """Value of an attribute as its header has it; ``None`` for null, which means absent."""
    value = parse(raw)
    match value:
        case None:
            return None
        case str():
            return value.encode()
        case bool() if "ce_" + name not in CORE_HEADERS:
            return b"true" if value else b"false"
        case int() if "ce_" + name not in CORE_HEADERS:
            return b"%d" % value
    shown = name[:60] if _is_attribute_name(name) else repr(name[:60])
    raise RefusedError(INVALID, f"attribute {shown} has a value of the wrong JSON type")


def _is_present(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw) != b"null"


def _binary_data(raw: msgspec.Raw) -> bytes:
    value = parse(raw)
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise RefusedError(UNDECODABLE, "data_base64 is not a Base64 string (RFC 4648 §4)")


def _text_data(raw: msgspec.Raw, media: Media) -> bytes:
    if media.is_json:
        return bytes(raw)
    value = parse(raw)
    if isinstance(value, str):
        return value.encode()
    raise RefusedError(
        INVALID, "data is not a JSON string, although datacontenttype is not a JSON type"
    )


def _with_repeated(extensions: tuple[Header, ...], headers: Headers) -> tuple[Header, ...]:
    """Give the user's own headers back in full: a name may occur more than once among them."""
    attributes = [item for item in extensions if item[0].startswith("ce_")]
    own: list[Header] = [item for item in headers if not _is_attribute_header(item[0])]
    return (*attributes, *own)


def _is_attribute_header(name: str) -> bool:
    return name.startswith("ce_") or name == "content-type"


def _refuse_repeated(headers: Headers) -> None:
    """Refuse an attribute given twice: which one is meant is anybody's guess."""
    seen: set[str] = set()
    for name, _ in headers:
        if name in seen and _is_attribute_header(name):
            raise RefusedError(INVALID, f"header {name[:60]!r} occurs more than once")
        seen.add(name)


def _refuse_version(version: bytes | None, attributes: Attributes) -> None:
    if version is None:
        found = [name for name in attributes if name.lower().startswith("ce_")]
        raise RefusedError(
            UNDECODABLE,
            "not a CloudEvent: ce_specversion is missing"
            if found
            else "not a CloudEvent: there are neither ce_ headers (names in lower case) nor "
            "a content-type of application/cloudevents+json",
        )
    shown = version.decode() if _VERSION.fullmatch(version) else "not a version number"
    raise RefusedError(UNDECODABLE, f"specversion is {shown}: only CloudEvents 1.0 is read")


ReadViolation = Callable[[Record, RefusedError], Violation]


def _violation_reader(contract: Contract) -> ReadViolation:
    """Compile the reader of what can still be known about a record that is no event."""
    read_key = key_reader(contract)
    read_position = _position_reader(contract)
    is_parsed = _data_reader(contract) is _parsed

    def read(record: Record, refused: RefusedError) -> Violation:
        attributes, data = _salvage(record)
        document = _or_none(lambda: parse(data)) if is_parsed and data else None
        subject = _or_none(lambda: _optional_text("ce_subject", attributes.get("ce_subject")))
        position = attributes.get("ce_" + contract.position)
        time = attributes.get("ce_time")
        event_time_ms = _or_none(lambda: time_ms("ce_time", time)) if time else None
        return Violation(
            refused.reason,
            refused.detail,
            _or_none(lambda: read_key(record.key, subject, document)),
            _or_none(lambda: read_position(position, event_time_ms, document)),
        )

    return read


def _salvage(record: Record) -> tuple[Attributes, bytes | None]:
    """Attributes that are readable without doubt: an ambiguous one must not fill a slot."""
    attributes: Attributes = {}
    repeated: set[str] = set()
    for name, value in record.headers:
        if name in attributes:
            repeated.add(name)
        attributes[name] = value
    for name in repeated:
        del attributes[name]
    media = _or_none(lambda: _media(attributes.get("content-type")))
    if media is None or media.mode is Mode.BINARY:
        return attributes, record.value
    members = _or_none(lambda: _members(record.value, media)) or {}
    for name, raw in members.items():
        found = _or_none(lambda: _attribute(name, raw))  # noqa: B023 - called at once
        if found is not None:
            attributes["ce_" + name] = found
    return attributes, bytes(members["data"]) if "data" in members else None


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except RefusedError:
        return None
