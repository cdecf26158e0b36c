"""Records of other people's topics, made events by a mapping in the contract.

Theory of operation. A contract with ``codec: mapped`` says in ``mapping`` where in a record the
attributes of an event are (:mod:`.mapped_places`); what it leaves out comes from the record's
position. The value is JSON, Avro (its JSON is the event's data) or bytes. Nothing else is done to
it: a topic that needs more than places needs a program.

=================  =====================================================  ======================
Key of a mapping   Means                                                  Without it
=================  =====================================================  ======================
``format``         ``json``, ``avro`` or ``bytes``                        ``json``
``schema``         the Avro schema
``framing``        ``plain``, or ``confluent``: an id before the data     ``plain``
``id``             what makes two records one event                       ``position``
``source``         who says so                                            ``const:/kafka/<topic>``
``type``           what happened                                          ``const:<topic>``
``subject``        what it happened to                                    none
``time``           when: RFC 3339, or a number of ``time_unit``           ``timestamp``
``time_unit``      ``s``, ``ms``, ``us`` or ``ns``                        ``ms``
``sequence``       the position of ``ordering``                           ``ordering.field``
``key``            what is kept in order                                  the contract's ``key``
``correlation_id``  the transaction it belongs to                         none
``causation_id``   its direct parent                                      none
``content_type``   of the data                                            by the format
=================  =====================================================  ======================
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Contract
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.pointer import MISSING, parse_json
from edo_stream.core.record import Record
from edo_stream.schemas.errors import SchemaError
from edo_stream.schemas.validators import AvroCodec
from edo_stream.schemas.wire import unframed
from edo_stream.sources.attributes import text, time_ms, whole_number
from edo_stream.sources.json_data import check, parse
from edo_stream.sources.mapped_places import Mapped, Place, is_in_value, place, text_of
from edo_stream.sources.objects import extensions_of
from edo_stream.sources.order import key_is_in_data, key_reader, needs_position
from edo_stream.sources.refused import INVALID, UNDECODABLE, MappingError, RefusedError

_PLACES: Final = (
    *("id", "source", "type", "subject", "time", "sequence", "key"),
    *("correlation_id", "causation_id"),
)
_CHOICES: Final = {
    "format": ("json", "avro", "bytes"),
    "framing": ("plain", "confluent"),
    "time_unit": ("s", "ms", "us", "ns"),
}
_KEYS: Final = (*_PLACES, *_CHOICES, "schema", "content_type")
#: Of a unit, in nanoseconds.
_UNITS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_NANOSECONDS_IN_MS: Final = 10**6
_TIME_DIGITS_MAX: Final = 20
_YEAR_9999_MS: Final = 253_402_300_799_999
_CONTENT_TYPES: Final = {
    "json": "application/json",
    "avro": "application/json",
    "bytes": "application/octet-stream",
}

ReadData = Callable[[bytes], tuple[bytes, Any]]
"""Data of the event, and the document that places point into."""


def decoder(contract: Contract) -> Callable[[Record], Decoded]:
    """Compile the decoder of a topic whose contract says ``codec: mapped``.

    Raises:
        MappingError: the mapping has a key, a place or a schema that cannot be used.
    """
    mapping = _checked(contract.mapping)
    if mapping.get("format") == "bytes":
        _check_bytes(contract, mapping)
    event_of = _event_reader(contract, mapping)

    def decode(record: Record) -> Decoded:
        if record.value is None:
            return Ignored("tombstone")
        try:
            return event_of(record, record.value)
        except RefusedError as refused:
            return Violation(refused.reason, refused.detail, record.key)

    return decode


def _checked(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in mapping.items():
        if name not in _KEYS:
            raise MappingError(f"mapping.{name} is not a key: there are {', '.join(_KEYS)}")
        choices = _CHOICES.get(name)
        if choices is not None and value not in choices:
            raise MappingError(f"mapping.{name} is {value!s:.40}: write {' or '.join(choices)}")
    if "content_type" in mapping and not isinstance(mapping["content_type"], str):
        raise MappingError("mapping.content_type is no text: write one such as text/csv")
    is_avro = mapping.get("format") == "avro"
    if is_avro != ("schema" in mapping):
        raise MappingError(
            "mapping.schema is missing: format avro needs it"
            if is_avro
            else "mapping.schema means nothing without format: avro"
        )
    if "framing" in mapping and not is_avro:
        raise MappingError("mapping.framing means nothing without format: avro")
    return mapping


def _check_bytes(contract: Contract, mapping: Mapping[str, Any]) -> None:
    """There are no places in bytes."""
    for name in _PLACES:
        if is_in_value(mapping.get(name)):
            raise MappingError(f"mapping.{name} points into the value, which is bytes")
    if key_is_in_data(contract):
        raise MappingError("mapping.format is bytes: there is no key in the value")


def _event_reader(
    contract: Contract, mapping: Mapping[str, Any]
) -> Callable[[Record, bytes], Event]:
    form = mapping.get("format", "json")
    defaults = {
        "id": "position",
        "source": f"const:/kafka/{contract.topic}",
        "type": f"const:{contract.topic}",
        "time": "timestamp",
    }
    places = {
        name: place(name, mapping.get(name, defaults.get(name)))
        for name in _PLACES
        if name in mapping or name in defaults
    }
    sequence = _sequence(contract, mapping)
    read_key = _key_reader(contract, places)
    is_parsed = (
        any(is_in_value(mapping.get(name)) for name in _PLACES)
        or key_is_in_data(contract)
        or (sequence is not None and contract.position.startswith("/"))
    )
    read_data = _data_reader(mapping, is_parsed)
    unit = _UNITS[mapping.get("time_unit", "ms")]
    content_type = mapping.get("content_type", _CONTENT_TYPES[form])

    def read(record: Record, value: bytes) -> Event:
        data, document = read_data(value)
        mapped = Mapped(record, document)
        subject = _optional(places, "subject", mapped)
        return Event(
            id=_required(places, "id", mapped),
            source=_required(places, "source", mapped),
            type=_required(places, "type", mapped),
            key=read_key(mapped, subject),
            data=data,
            content_type=content_type,
            subject=subject,
            time_ms=_time_ms(places["time"](mapped), unit),
            position=None if sequence is None else _position(sequence(mapped)),
            correlation_id=_optional(places, "correlation_id", mapped),
            causation_id=_optional(places, "causation_id", mapped),
            extensions=extensions_of(record),
        )

    return read


def _sequence(contract: Contract, mapping: Mapping[str, Any]) -> Place | None:
    if "sequence" in mapping:
        return place("sequence", mapping["sequence"])
    if not needs_position(contract):
        return None
    if contract.position.startswith("/") and mapping.get("format") != "bytes":
        return place("sequence", contract.position)
    raise MappingError(
        "mapping.sequence is missing: the contract's ordering compares positions; "
        "write a place, or offset"
    )


def _key_reader(
    contract: Contract, places: Mapping[str, Place]
) -> Callable[[Mapped, str | None], bytes]:
    key = places.get("key")
    if key is None:
        of_contract = key_reader(contract)
        return lambda mapped, subject: of_contract(mapped.record.key, subject, mapped.document)
    if contract.order_key is not None:
        raise MappingError(f"mapping.key and key: {contract.order_key} are both given: keep one")

    def read(mapped: Mapped, subject: str | None) -> bytes:
        found = text_of(key(mapped))
        if found is None:
            raise RefusedError(INVALID, "no key: there is no text or number at its place")
        return found.encode()

    return read


def _data_reader(mapping: Mapping[str, Any], is_parsed: bool) -> ReadData:
    match mapping.get("format", "json"):
        case "bytes":
            return lambda value: (value, MISSING)
        case "avro":
            return _avro_reader(mapping["schema"], mapping.get("framing") == "confluent")
        case _:
            return _parsed if is_parsed else _unparsed


def _unparsed(value: bytes) -> tuple[bytes, Any]:
    check(value)
    return value, MISSING


def _parsed(value: bytes) -> tuple[bytes, Any]:
    # Numbers keep every digit: two ids that a double cannot tell apart are two ids.
    document = parse_json(value)
    if document is MISSING:
        parse(value)
        raise RefusedError(UNDECODABLE, "value is not JSON")
    return value, document


def _avro_reader(schema: object, is_framed: bool) -> ReadData:
    try:
        declared = msgspec.json.decode(schema) if isinstance(schema, str) else schema
        codec = AvroCodec(declared)
    except (msgspec.DecodeError, SchemaError) as error:
        raise MappingError(f"mapping.schema: {error}") from None
    if _has_weightless_array(codec.schema):
        # A few bytes could ask for any number of them.
        raise MappingError("mapping.schema has an array of null: there is nothing in it to read")

    def read(value: bytes) -> tuple[bytes, Any]:
        try:
            found = codec.decode(unframed(value)[1] if is_framed else value)
            data = msgspec.json.encode(found)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            detail = " ".join(str(error).split())[:200]
            raise RefusedError(UNDECODABLE, f"value is not Avro of the schema: {detail}") from None
        return data, parse_json(data)

    return read


def _has_weightless_array(schema: Any) -> bool:
    """Whether an array has items of no bytes."""
    match schema:
        case {"type": "array", "items": "null"} | {"type": "array", "items": {"type": "null"}}:
            return True
        case {"type": "array", "items": {"type": "record", "fields": []}}:
            return True
        case {"type": "array", "items": {"type": "fixed", "size": 0}}:
            return True
        case dict():
            return any(_has_weightless_array(part) for part in schema.values())
        case list():
            return any(_has_weightless_array(part) for part in schema)
        case _:
            return False


def _required(places: Mapping[str, Place], name: str, mapped: Mapped) -> str:
    found = text_of(places[name](mapped))
    if found is None:
        raise RefusedError(INVALID, f"{name} is missing: there is no text or number at its place")
    return text(name, _utf8(name, found))


def _optional(places: Mapping[str, Place], name: str, mapped: Mapped) -> str | None:
    where = places.get(name)
    value = MISSING if where is None else where(mapped)
    if value is MISSING or value is None or value == "":
        return None
    found = text_of(value)
    if found is None:
        raise RefusedError(INVALID, f"{name} is neither a text nor a number")
    return text(name, _utf8(name, found))


def _utf8(name: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise RefusedError(INVALID, f"{name} has a lone surrogate") from None


def _time_ms(value: Any, unit: int) -> int | None:
    if value is MISSING or value is None:
        return None
    if isinstance(value, str) and not (value.isdigit() and value.isascii()):
        return time_ms("time", _utf8("time", value))
    if isinstance(value, int | str | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        if number.is_finite() and number.adjusted() <= _TIME_DIGITS_MAX:
            found = int(number * unit // _NANOSECONDS_IN_MS)
            if 0 <= found <= _YEAR_9999_MS:
                return found
    raise RefusedError(INVALID, "time is neither an RFC 3339 time nor a number since 1970")


def _position(value: Any) -> int:
    found = whole_number(value)
    if found is None:
        raise RefusedError(INVALID, "no position: there is no whole number at the sequence's place")
    return found
