"""JSON as Kafka Connect's converters write it: bare, or beside the schema that it has."""

from typing import Any, Final

import msgspec
import orjson

#: A longer header is none that a connector writes.
_HEADER_BYTES_MAX: Final = 4_096


class _Wrapped(msgspec.Struct, gc=False):
    schema: msgspec.Raw = msgspec.Raw(b"")
    payload: msgspec.Raw = msgspec.Raw(b"")


_WRAPPED: Final = msgspec.json.Decoder(_Wrapped)


def unwrapped(raw: bytes) -> bytes:
    """The payload of ``{"schema": …, "payload": …}``; anything else as it is.

    A bare value may have members of these names; a schema is an object, or null beside a null.
    """
    if b'"payload"' not in raw:
        return raw
    try:
        found = _WRAPPED.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw
    payload = bytes(found.payload)
    schema = bytes(found.schema)
    is_wrapped = schema.startswith(b"{") or (schema == b"null" and payload == b"null")
    return payload if payload and is_wrapped else raw


def header_value(value: bytes | None) -> Any:
    """A header as converters write it: bare text, a JSON string, or JSON with its schema.

    ``None`` for null, and for what is too long for a header of a connector.
    """
    if value is None or len(value) > _HEADER_BYTES_MAX:
        return None
    if value[:1] in (b'"', b"{"):
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            found = None
        if isinstance(found, str):
            return found
        if isinstance(found, dict) and found.keys() == {"schema", "payload"}:
            return found["payload"]
    return value.decode("utf-8", "replace")
