"""An event on its way to the task that owns its correlation key: a record of the internal topic.

The record's key is the correlation key, its timestamp that of the event's record. Its value is one
msgpack array with all that is needed of the event; it rests in the state as it came.
"""

from base64 import b64encode
from typing import Any, Final

import msgspec

from edo_stream.core.asked import Asker
from edo_stream.core.event import Violation
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8


class Joined(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event of an input of a flow; fields are only ever appended."""

    flow: str
    input: str
    id: str
    source: str
    type: str
    position: str
    """``topic/partition/offset`` of the event's own record."""
    data: bytes | None = None
    is_json: bool = False
    """Whether ``data`` is JSON."""
    time_ms: int | None = None
    subject: str | None = None
    correlation_id: str | None = None
    content_type: str | None = None
    member: str | None = None
    """Which member of the set it is of, or what makes it another one than the others."""
    expect: int | None = None
    """How many there are, as a manifest says it, or each of them."""
    members: tuple[str, ...] | None = None
    """Of a manifest: which there are."""
    is_failed: bool = False
    """Of a command's end: it did not do what it was to do."""
    asker: Asker | None = None
    """Who asks to be told what comes of it."""


class _Addressed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of a :class:`Joined`."""

    flow: str


_LAST: Final = "content_type"
"""The last field that every event may have."""
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Joined)
_FLOW_DECODER: Final = msgspec.msgpack.Decoder(_Addressed)


def encode_joined(joined: Joined) -> bytes:
    """The value of a record."""
    return _ENCODER.encode(joined)


def joined_frame(flow: str, name: str) -> tuple[bytes, bytes]:
    """What values begin with of a plain event of an input, and what they end with."""
    fields = msgspec.structs.fields(Joined)
    last = [field.name for field in fields].index(_LAST)
    told = [flow, name, *[None] * (len(fields) - 2)]
    ends = [_ENCODER.encode(field.default) for field in fields[last + 1 :]]
    return _ENCODER.encode(told)[: 2 - len(fields)], b"".join(ends)


def flow_of(value: bytes | None) -> str | None:
    """The flow that a record's value is for; ``None``: it is no such value."""
    try:
        return _FLOW_DECODER.decode(value or b"").flow
    except (ValueError, RecursionError):
        return None


def decode_joined(value: bytes | None) -> Joined | Violation:
    """Read a record's value, which only tasks should have written."""
    try:
        return _DECODER.decode(value or b"")
    except (ValueError, RecursionError) as error:
        return Violation("undecodable", f"not an event of a correlation: {error}")


def shown(joined: Joined) -> dict[str, Any]:
    """The event as results have it; JSON data stays as it was written."""
    event: dict[str, Any] = {
        "id": joined.id,
        "source": joined.source,
        "type": joined.type,
        "position": joined.position,
    }
    if joined.subject is not None:
        event["subject"] = joined.subject
    if joined.time_ms is not None and (time := time_text(joined.time_ms)) is not None:
        event["time"] = time.decode()
    if joined.member is not None:
        event["member"] = joined.member
    if joined.is_failed:
        event["failed"] = True
    if joined.data is None:
        event["data"] = None
    elif joined.is_json:
        event["data"] = msgspec.Raw(joined.data)
    else:
        event["data_base64"] = b64encode(joined.data).decode()
    return event


_ENVELOPE_BYTES: Final = 160
"""Of an event in a result, besides its texts: names, time and punctuation."""


def size_of(joined: Joined) -> int:
    """Bytes that the event takes in a result, rounded up."""
    text = joined.id + joined.source + joined.type + joined.position
    text += (joined.subject or "") + (joined.member or "")
    is_plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    # As JSON writes it, any other character may take six bytes.
    text_bytes = len(text) if is_plain else 6 * len(text)
    data_bytes = len(joined.data or b"")
    if not joined.is_json:
        data_bytes = data_bytes * 4 // 3 + 4
    return _ENVELOPE_BYTES + text_bytes + data_bytes


def headers_of(joined: Joined) -> list[Header]:
    """The event's own headers, as a dead letter repeats them."""
    headers: list[Header] = [
        SPECVERSION,
        ("ce_id", utf8(joined.id)),
        ("ce_source", utf8(joined.source)),
        ("ce_type", utf8(joined.type)),
    ]
    if joined.subject is not None:
        headers.append(("ce_subject", utf8(joined.subject)))
    if joined.time_ms is not None and (time := time_text(joined.time_ms)) is not None:
        headers.append(("ce_time", time))
    if joined.correlation_id is not None:
        headers.append(("ce_correlationid", utf8(joined.correlation_id)))
    if joined.content_type is not None:
        headers.append(("content-type", utf8(joined.content_type)))
    elif joined.is_json:
        headers.append(JSON_CONTENT)
    return headers
