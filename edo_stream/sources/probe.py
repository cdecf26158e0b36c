"""What a probe answers: the events of a record as JSON, or why it has none.

A record is JSON as a person can write it: ``key`` and ``value`` are text, ``{"base64": …}``, null,
or other JSON, which stands for its text; ``headers`` is a list of pairs or an object; ``topic``,
``partition``, ``offset`` and ``timestamp`` may be left out.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Codec, Contract, NoOrder
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.headers import time_text
from edo_stream.core.lines import id_of
from edo_stream.core.record import Headers, StoredRecord
from edo_stream.sources.kinds import Read

_JSON_TYPES: Final = ("application/json", "text/json")
_TOPIC: Final = "probe.source.record"
_INT64_MAX: Final = 2**63 - 1
_ENCODE: Final = msgspec.json.encode


class UnreadableError(Exception):
    """A line is no record; says which member is wrong, and what was expected."""


def probe_contract(kind: str, mapping: Mapping[str, Any] | None = None) -> Contract:
    """The contract of a probe that is given none: no order is asked for, so nothing is missing."""
    return Contract(
        topic=_TOPIC,
        owner="nobody",
        group="probe",
        partitions=1,
        codec=Codec(kind),
        emit="probe.source.event",
        emit_partitions=1,
        dead_letters="probe.source.refused",
        ordering=NoOrder(),
        mapping=mapping or {},
    )


def answer(line: bytes, read: Read) -> bytes:
    """One line of JSON for one record: ``id`` and ``events``, ``violation``, or ``error``.

    A record that carries no fact has no events, and ``ignored`` says why.
    """
    found: Any = None
    try:
        found = _parsed(line)
        record = record_of(found)
    except UnreadableError as unreadable:
        name = id_of(line) if found is None else found.get("id")
        return _line({"id": name, "error": str(unreadable)})
    return _line({"id": found.get("id"), **_told(read(record))})


def _line(answer: dict[str, Any]) -> bytes:
    try:
        return _ENCODE(answer)
    except (ValueError, UnicodeEncodeError, RecursionError):
        return _ENCODE({"id": None, "error": "id cannot be repeated: expected a text or a number"})


def _parsed(line: bytes) -> Any:
    try:
        found = json.loads(line)
    except RecursionError:
        raise UnreadableError("the line is nested too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"the line is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UnreadableError("the line is not a record: expected an object with key and value")
    return found


def record_of(found: Mapping[str, Any]) -> StoredRecord:
    """The record that an object describes.

    Raises:
        UnreadableError: a member is none of a record.
    """
    topic = found.get("topic") or _TOPIC
    if not isinstance(topic, str):
        raise UnreadableError("topic is not a text")
    return StoredRecord(
        topic,
        _number(found, "partition", 0),
        _number(found, "offset", 0),
        _number(found, "timestamp", -1),
        _bytes("key", found.get("key")),
        _bytes("value", found.get("value")),
        tuple(_headers(found.get("headers"))),
    )


def _number(found: Mapping[str, Any], name: str, default: int) -> int:
    value = found.get(name)
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INT64_MAX:
        return value
    raise UnreadableError(f"{name} is not a whole number of 64 bits")


def _bytes(name: str, value: Any) -> bytes | None:
    match value:
        case None:
            return None
        case str():
            # A lone surrogate becomes bytes that are no UTF-8, as it would in a record.
            return value.encode("utf-8", "surrogatepass")
        case {"base64": str(text), **rest} if not rest:
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise UnreadableError(f"{name} is not Base64") from None
        case _:
            try:
                return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
            except (RecursionError, ValueError):
                raise UnreadableError(f"{name} cannot be written as JSON") from None


def _headers(value: Any) -> list[tuple[str, bytes | None]]:
    if value is None:
        return []
    pairs: Sequence[Any] = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list):
        raise UnreadableError("headers is neither a list of [name, value] nor an object")
    found = []
    for pair in pairs:
        match pair:
            case (str(name), item) | [str(name), item]:
                found.append((name, _bytes(f"header {name[:60]}", item)))
            case _:
                raise UnreadableError("headers has an entry that is not [name, value]")
    return found


def _told(found: Sequence[Event] | Violation | Ignored) -> dict[str, Any]:
    match found:
        case Violation():
            violation: dict[str, Any] = {"reason": found.reason, "detail": found.detail}
            if found.key is not None:
                violation["key"] = text_or_base64(found.key)
            if found.position is not None:
                violation["position"] = found.position
            return {"violation": violation}
        case Ignored():
            return {"events": [], "ignored": found.reason}
        case _:
            return {"events": [event_json(event) for event in found]}


def event_json(event: Event) -> dict[str, Any]:
    """An event in CloudEvents' JSON format, with its ordering key and position beside it.

    ``headers`` are those of the user's own, as a list, since a name may occur more than once.
    """
    shown: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": None if event.time_ms is None else _text(time_text(event.time_ms)),
        "datacontenttype": event.content_type,
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
    }
    own = []
    headers: Headers = event.extensions
    for name, value in headers:
        if name.startswith("ce_"):
            shown.setdefault(name[3:], None if value is None else text_or_base64(value))
        else:
            own.append([name, None if value is None else text_or_base64(value)])
    shown = {name: value for name, value in shown.items() if value is not None}
    if event.data is not None:
        shown |= _data(event.data, event.content_type)
    shown["key"] = text_or_base64(event.key)
    if event.position is not None:
        shown["position"] = event.position
    if own:
        shown["headers"] = own
    return shown


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def text_or_base64(value: bytes) -> str | dict[str, str]:
    """Bytes as JSON has them: text, or ``{"base64": …}`` where they are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _data(data: bytes, content_type: str | None) -> dict[str, Any]:
    media = (content_type or "").split(";")[0].strip().lower()
    if not media or media in _JSON_TYPES or media.endswith("+json"):
        try:
            data.decode()
            # Digit for digit, and on one line.
            return {"data": msgspec.Raw(msgspec.json.format(data, indent=-1))}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(data).decode()}
