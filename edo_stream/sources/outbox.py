"""Events that a service wrote to an outbox table, as they come out of the database's log.

Two ways lead here, and the record says which one it came:

- *Captured*: an envelope of Debezium whose row is one of :mod:`edo_stream.outbox`, or of the table
  that Debezium's documentation has (``aggregatetype``, ``aggregateid``, ``payload``). Inserts and
  rows of a snapshot are events; deletes clean the table up and are ignored; an update would
  rewrite history and is refused.
- *Routed* by Debezium's outbox event router: the payload alone, with its id in the header ``id``.
  What else is known depends on what the router was told to add; with ``ce_`` headers, or in
  structured mode, it is a CloudEvent and read as one.

There is no position: one key has many rows, and a snapshot reads all of them at one place of the
log. The order is that of the topic (``policy: key``), and repetitions are told by their id.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from edo_stream.core.contract import Contract, NoOrder
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources import cloudevents
from edo_stream.sources.attributes import has_forbidden_characters, time_ms
from edo_stream.sources.cloudevents import CORE_HEADERS
from edo_stream.sources.connect_json import header_value, unwrapped
from edo_stream.sources.json_data import parse
from edo_stream.sources.order import key_is_in_data, key_reader, needs_position
from edo_stream.sources.refused import INVALID, UNDECODABLE, MappingError, RefusedError

_EXTENSION: Final = re.compile(r"[a-z0-9]{1,64}")
_JSON: Final = "application/json"
_TEXT: Final = "text/plain"
_MAPPING: Final = ("source", "type")
#: The router's topics, unless it is told otherwise: what follows is the aggregate's type.
_ROUTED: Final = "outbox.event."
_TYPE_HEADERS: Final = ("type", "eventType", "event_type", "eventtype")
_CORRELATION_HEADERS: Final = ("correlationid", "correlationId", "correlation_id")
_CAUSATION_HEADERS: Final = ("causationid", "causationId", "causation_id")
_TAKEN: Final = frozenset(
    {"id", *_TYPE_HEADERS, *_CORRELATION_HEADERS, *_CAUSATION_HEADERS, *CORE_HEADERS}
)


def decoder(contract: Contract) -> Callable[[Record], Decoded]:
    """Compile the decoder of a topic whose contract says ``codec: outbox``.

    Raises:
        MappingError: the mapping has other keys than ``source`` and ``type``, or they are no text.
    """
    given = _mapping(contract.mapping)
    decode_cloudevent = cloudevents.decoder(contract)
    captured_of = _Captured(contract, given)
    routed_of = _Routed(contract, given)
    is_position_needed = needs_position(contract)

    def read(record: Record) -> Decoded:
        if is_position_needed:
            raise RefusedError(
                INVALID, "no position: an outbox has none; write ordering: {policy: key}"
            )
        if _is_cloudevent(record):
            return decode_cloudevent(record)
        payload = None if record.value is None else unwrapped(record.value)
        envelope = _object(payload)
        if envelope is not None and "op" in envelope and "source" in envelope:
            return captured_of.event(record, envelope)
        return routed_of.event(record, payload)

    def decode(record: Record) -> Decoded:
        try:
            return read(record)
        except RefusedError as refused:
            return Violation(refused.reason, refused.detail, record.key)

    return decode


def _mapping(mapping: Mapping[str, Any]) -> dict[str, str]:
    for name, value in mapping.items():
        if name not in _MAPPING:
            raise MappingError(f"mapping.{name} is not known: there are {', '.join(_MAPPING)}")
        if not isinstance(value, str) or not value or has_forbidden_characters(value):
            raise MappingError(f"mapping.{name} is no text: write for instance /shop")
    return dict(mapping)


def _is_cloudevent(record: Record) -> bool:
    for name, value in record.headers:
        if name == "ce_specversion":
            return True
        if name == "content-type" and value is not None:
            return value.lower().startswith(b"application/cloudevents")
    return False


def _object(payload: bytes | None) -> dict[str, Any] | None:
    """The JSON object that a payload is, if it looks like one."""
    if payload is None or payload.lstrip()[:1] != b"{":
        return None
    found = parse(payload)
    return found if isinstance(found, dict) else None


class _Captured:
    """Rows of the outbox table, in Debezium's envelope."""

    def __init__(self, contract: Contract, given: Mapping[str, str]) -> None:
        self._read_key = key_reader(contract)
        self._is_parsed = key_is_in_data(contract)
        self._is_spread = contract.partitions > 1 and not isinstance(contract.ordering, NoOrder)
        self._is_keyed_by_row = contract.order_key is None
        self._given = given

    def event(self, record: Record, envelope: dict[str, Any]) -> Decoded:
        """The event of an inserted row."""
        match envelope.get("op"):
            case "d" | "t":
                return Ignored("cleaned-up")
            case "c" | "r":
                row = envelope.get("after")
            case "u":
                raise RefusedError(
                    INVALID, "op is u: a row of an outbox is inserted once, and never updated"
                )
            case _:
                raise RefusedError(INVALID, "op is unknown: expected c, r or d of an outbox")
        if not isinstance(row, dict):
            raise RefusedError(INVALID, "after is missing: expected the row that was inserted")
        if self._is_spread:
            _require_key_column(record, row)
        return self._of_row(record, _standard(row) if "aggregateid" in row else row)

    def _of_row(self, record: Record, row: dict[str, Any]) -> Event:
        key = _text(row, "key")
        subject = _optional(row, "subject") or key
        data, content_type = _data_of(row)
        document = parse(data) if self._is_parsed and data is not None else None
        time = _optional(row, "time")
        return Event(
            id=_text(row, "id"),
            source=_optional(row, "source") or self._given.get("source") or _text(row, "source"),
            type=_text(row, "type"),
            key=key.encode() if self._is_keyed_by_row else self._read_key(None, subject, document),
            data=data,
            content_type=content_type,
            subject=subject,
            time_ms=None if time is None else time_ms("time", time.encode()),
            correlation_id=_optional(row, "correlation_id"),
            causation_id=_optional(row, "causation_id"),
            extensions=(*_extensions(row.get("extensions")), *_own(record)),
        )


def _require_key_column(record: Record, row: dict[str, Any]) -> None:
    """Refuse records that Kafka spread by the row's id: their order is lost between partitions."""
    key = None if record.key is None else unwrapped(record.key)
    found = _object(key)
    if found is not None and found.keys() == {"id"} and found["id"] == row.get("id"):
        raise RefusedError(
            INVALID,
            "the record's key is the row's id, which spreads events of one key over partitions: "
            "set message.key.columns of the connector to <schema>.<table>:key",
        )


def _standard(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table that Debezium's documentation has, by the names of ours."""
    payload = row.get("payload")
    return {
        "id": row.get("id"),
        "source": f"/outbox/{row.get('aggregatetype')}",
        "key": row.get("aggregateid"),
        "data": payload if isinstance(payload, str | None) else orjson.dumps(payload).decode(),
        **{name: value for name, value in row.items() if name not in ("payload", "id")},
    }


def _data_of(row: dict[str, Any]) -> tuple[bytes | None, str | None]:
    binary = _optional(row, "data_binary")
    declared = _optional(row, "content_type")
    if binary is not None:
        try:
            return base64.b64decode(binary, validate=True), declared
        except (binascii.Error, ValueError):
            raise RefusedError(UNDECODABLE, "data_binary is not Base64") from None
    data = row.get("data")
    if data is None:
        return None, declared
    if not isinstance(data, str):
        raise RefusedError(INVALID, "data is not a text")
    content_type = declared or _JSON
    if content_type.split(";")[0].strip().lower() == _JSON:
        parse(data.encode())
    return data.encode(), content_type


def _extensions(value: Any) -> list[tuple[str, bytes]]:
    if isinstance(value, str):
        value = parse(value.encode("utf-8", "replace"))
    if value is None:
        return []
    if not isinstance(value, dict):
        raise RefusedError(INVALID, "extensions is not a JSON object of texts")
    found = []
    for name in value:
        if _EXTENSION.fullmatch(name) is None or f"ce_{name}" in CORE_HEADERS:
            raise RefusedError(
                INVALID, f"extension {name[:60]!r}: names are a-z and 0-9, of their own"
            )
        found.append((f"ce_{name}", _text(value, name).encode()))
    return found


class _Routed:
    """What the outbox event router makes of a row."""

    def __init__(self, contract: Contract, given: Mapping[str, str]) -> None:
        self._read_key = key_reader(contract)
        self._is_parsed = key_is_in_data(contract)
        self._given = given

    def event(self, record: Record, payload: bytes | None) -> Decoded:
        """The event of a routed record."""
        headers = {name: header_value(value) for name, value in record.headers}
        event_id = headers.get("id")
        if event_id is None:
            if payload is None:
                return Ignored("tombstone")
            raise RefusedError(
                INVALID,
                "header id is missing: expected the output of Debezium's outbox event router, "
                "or a captured row of an outbox with op and source",
            )
        key = None if record.key is None else unwrapped(record.key)
        subject = None if key is None else _plain(key)
        data, content_type = _payload(payload)
        document = parse(data) if self._is_parsed and data is not None else None
        aggregate = record.topic.removeprefix(_ROUTED)
        return Event(
            id=_text({"header id": event_id}, "header id"),
            source=self._given.get("source") or f"/outbox/{aggregate}",
            type=_first(headers, _TYPE_HEADERS) or self._given.get("type") or aggregate,
            key=self._read_key(None if subject is None else subject.encode(), subject, document),
            data=data,
            content_type=content_type,
            subject=subject,
            time_ms=record.timestamp if record.timestamp >= 0 else None,
            correlation_id=_first(headers, _CORRELATION_HEADERS),
            causation_id=_first(headers, _CAUSATION_HEADERS),
            extensions=_own(record),
        )


def _payload(payload: bytes | None) -> tuple[bytes | None, str | None]:
    """The payload as the service wrote it: JSON, JSON in a JSON string, or text."""
    if payload is None or payload == b"null":
        return None, None
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload, _TEXT if _is_text(payload) else None
    if isinstance(found, dict) and "payload" in found:
        # The router put columns beside it: ``column:envelope``.
        found = found["payload"]
        payload = b"null" if found is None else orjson.dumps(found)
        if found is None:
            return None, None
    if not isinstance(found, str):
        return payload, _JSON
    try:
        orjson.loads(found)
    except orjson.JSONDecodeError:
        return found.encode(), _TEXT
    return found.encode(), _JSON


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _plain(key: bytes) -> str:
    """A key as text: bare, a JSON string, or the JSON that it is."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return key.hex()
    if text.startswith('"'):
        found = orjson.loads(key) if _is_json(key) else text
        text = found if isinstance(found, str) else text
    return key.hex() if has_forbidden_characters(text) else text


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def _own(record: Record) -> tuple[tuple[str, Any], ...]:
    return tuple(item for item in record.headers if item[0] not in _TAKEN)


def _first(headers: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((_text(headers, name) for name in names if headers.get(name)), None)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and value and not has_forbidden_characters(value):
        return value
    found = "missing" if value is None else "empty or not a text without control characters"
    raise RefusedError(INVALID, f"{name} is {found}")


def _optional(row: Mapping[str, Any], name: str) -> str | None:
    return None if row.get(name) in (None, "") else _text(row, name)
