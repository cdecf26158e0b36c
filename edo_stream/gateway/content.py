"""What a believed request says: one event or several, as records for Kafka.

The bodies that carry events of their own (CloudEvents, object stores, EventBridge) are read by
the codecs of :mod:`edo_stream.sources`; of the others the source's expressions make one event,
with the provider's bytes as data. All leave as CloudEvents in binary mode.
"""

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from edo_stream.core.contract import Codec, Contract, NoOrder
from edo_stream.core.event import Event, Ignored, Violation, derive_id
from edo_stream.core.headers import time_text
from edo_stream.core.record import StoredRecord
from edo_stream.gateway.declaration import Source
from edo_stream.gateway.expression import Evaluate, Facts, compile_expression
from edo_stream.sources.attributes import has_forbidden_characters, time_ms
from edo_stream.sources.json_data import check
from edo_stream.sources.kinds import KINDS, Kind, Read, reader
from edo_stream.sources.refused import RefusedError
from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import Accepted

MALFORMED: Final = "body-malformed"
UNMAPPED: Final = "unmapped"

_ID_CHARACTERS_MAX: Final = 1_024
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_EPOCH: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
#: Epoch seconds are below until the year 5138, epoch ms have been above since 1973.
_FIRST_MS: Final = 100_000_000_000
_FIELDS_MAX: Final = 1_000

#: What the gateway says of an event: nobody who sends one says it in its place.
_OURS: Final = frozenset({"ce_recordedtime", "ce_verifiedscheme", "ce_verifiedkey"})

Header = tuple[str, bytes]
Headers = list[tuple[str, str | bytes | None]]
"""As the producer takes them."""


class Outgoing(msgspec.Struct, frozen=True):
    """One record to write; its headers are those of a CloudEvent in binary mode."""

    id: bytes
    """Source and id of the event, by which a repetition is known."""
    key: bytes | None
    value: bytes | None
    headers: Headers


class Unread(msgspec.Struct, frozen=True):
    """Why a believed request makes no event; ``cause`` is counted, ``detail`` for a person."""

    cause: str
    detail: str


ReadRecords = Callable[[Request, Accepted, int], Sequence[Outgoing] | Unread]
"""Records of a request; none if it carries no fact that is wanted."""

#: Of each scheme: the body, and where id, type, subject and time are unless the source says it.
_DEFAULTS: Final[dict[str, dict[str, str]]] = {
    "standard-webhooks": {"type": "{/type}", "time": "/timestamp"},
    "svix": {"type": "{/type}", "time": "/timestamp"},
    "stripe": {"type": "com.stripe.{/type}", "time": "/created"},
    "github": {"type": "com.github.{header:x-github-event}"},
    "shopify": {
        "type": "com.shopify.{header:x-shopify-topic}",
        "source": "https://{header:x-shopify-shop-domain}",
    },
    "slack": {"type": "com.slack.{/event/type}", "time": "/event_time"},
    "sns": {"type": "com.amazonaws.sns.{/Type}", "source": "/TopicArn", "time": "/Timestamp"},
    "pubsub": {
        "type": "google.cloud.pubsub.topic.v1.messagePublished",
        "source": "//pubsub.googleapis.com/{/subscription}",
        "time": "/message/publishTime",
    },
}
BODIES: Final = {"eventbridge": "eventbridge", "event-grid": "event-grid", "minio": "minio"}
"""Body of each scheme whose default is not JSON."""
_HEADERS: Final = {
    "github": ["x-github-event", "x-github-hook-id"],
    "shopify": ["x-shopify-topic", "x-shopify-shop-domain", "x-shopify-api-version"],
}
CONTENT_TYPES: Final[dict[str, list[str]]] = {
    "json": ["application/json", "application/*+json"],
    "form": [_FORM],
    "raw": ["*/*"],
    "cloudevents": ["*/*"],
    "event-grid": ["application/json", "application/*+json"],
    "eventbridge": ["application/json", "application/*+json"],
    "s3": ["application/json", "application/*+json", "text/plain"],
    "minio": ["application/json"],
    "gcs": ["application/json", "application/*+json"],
    "azure-blob": ["application/json", "application/*+json"],
}
"""Content types that are accepted for each body, unless the source says it."""
SNS_CONTENT_TYPES: Final = ["text/plain", "application/json"]


def body_of(source: Source) -> str:
    """How the body of a source is read."""
    return source.body or BODIES.get(source.verify.scheme, "json")


def records_reader(name: str, source: Source) -> ReadRecords:
    """Compile what makes records of a source's requests."""
    stamp = _stamper(source)
    own_key = None if source.key is None else compile_expression(source.key)
    match body_of(source):
        case "json" | "form" | "raw" as body:
            return _mapped(name, source, body, stamp)
        case "cloudevents":
            return _cloudevents(name, own_key, stamp)
        case "event-grid":
            return _event_grid(name, own_key, stamp)
        case kind:
            return _of_kind(name, KINDS[kind], own_key, stamp)


Stamp = Callable[[Request, int], Headers]


def _stamper(source: Source) -> Stamp:
    """Compile what the gateway says of an event: when it came, and by what it was believed.

    With it go the headers of the request that the source wants.
    """
    scheme = source.verify.scheme
    verified = ("ce_verifiedscheme", scheme.encode())
    wanted = _HEADERS.get(scheme, []) if source.headers is None else source.headers
    carried = [(name, name.encode()) for name in dict.fromkeys(name.lower() for name in wanted)]

    def stamp(request: Request, now_ms: int) -> Headers:
        headers: Headers = [("ce_recordedtime", time_text(now_ms) or b""), verified]
        for name in (b"traceparent", b"tracestate"):
            value = request.headers.first(name)
            if value and len(value) < 512 and value.isascii():
                headers.append((name.decode(), value))
        for shown, name in carried:
            value = request.headers.first(name)
            if value:
                headers.append((shown, value))
        return headers

    return stamp


# -- one event, by expressions


def _mapped(name: str, source: Source, body: str, stamp: Stamp) -> ReadRecords:
    mapping = _Mapping(name, source)
    read_body = _body_reader(body, source.form_field)

    def read(request: Request, accepted: Accepted, now_ms: int) -> Sequence[Outgoing] | Unread:
        try:
            value, content_type, document = read_body(request)
        except RefusedError as refused:
            return Unread(MALFORMED, refused.detail)
        facts = Facts(request, name, accepted.event_id, document)
        try:
            headers, key, identity = mapping.attributes(facts)
        except RefusedError as refused:
            return Unread(UNMAPPED, refused.detail)
        headers.append(("content-type", content_type))
        headers += stamp(request, now_ms)
        return [Outgoing(identity, key, value, headers)]

    return read


class _Mapping:
    """Expressions of a source, compiled; those that it wrote itself must find something."""

    def __init__(self, name: str, source: Source) -> None:
        defaults = _DEFAULTS.get(source.verify.scheme, {})
        self._fallback_type = f"webhook.{name}"
        self._fallback_source = f"/webhooks/{name}"
        self._id = compile_expression(source.id or "{id}")
        self._type = _or_default(source.type, defaults.get("type"))
        self._source = _or_default(source.source, defaults.get("source"))
        self._subject = _or_default(source.subject, None)
        self._time = _or_default(source.time, defaults.get("time"))
        self._key = _or_default(source.key, None)
        self._is_type_own = source.type is not None
        self._is_source_own = source.source is not None
        self._is_time_own = source.time is not None

    def attributes(self, facts: Facts) -> tuple[Headers, bytes | None, bytes]:
        """Headers of the attributes, the record's key, and the event's identity."""
        event_id = _required("id", self._id, facts)
        event_type = self._filled("type", self._type, self._is_type_own, facts)
        source = self._filled("source", self._source, self._is_source_own, facts)
        headers: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", event_id.encode()),
            ("ce_source", source.encode()),
            ("ce_type", event_type.encode()),
        ]
        key = None
        if self._subject is not None:
            subject = _required("subject", self._subject, facts)
            headers.append(("ce_subject", subject.encode()))
        time = None if self._time is None else _time(self._time(facts))
        if time is None and self._is_time_own:
            raise RefusedError(UNMAPPED, "there is no time where the source's mapping says it is")
        if time is not None:
            headers.append(("ce_time", time))
        if self._key is not None:
            key = _required("key", self._key, facts).encode()
        return headers, key, f"{source}\x1f{event_id}".encode()

    def _filled(self, name: str, expression: Evaluate | None, is_own: bool, facts: Facts) -> str:
        if is_own:
            assert expression is not None
            return _required(name, expression, facts)
        found = None if expression is None else expression(facts)
        if found is None or _is_unfit(found):
            return self._fallback_type if name == "type" else self._fallback_source
        return found


def _required(name: str, expression: Evaluate, facts: Facts) -> str:
    """What an expression finds that a source wrote itself."""
    found = expression(facts)
    if found is None:
        raise RefusedError(UNMAPPED, f"{name} is not where the source's mapping says it is")
    if _is_unfit(found):
        raise RefusedError(UNMAPPED, f"{name} has control characters, or is too long")
    return found


def _is_unfit(text: str) -> bool:
    return len(text) > _ID_CHARACTERS_MAX or has_forbidden_characters(text)


def _or_default(text: str | None, default: str | None) -> Evaluate | None:
    chosen = default if text is None else text
    return None if chosen is None else compile_expression(chosen)


def _time(text: str | None) -> bytes | None:
    """RFC 3339 text of a time as providers write it; ``None`` for what is none."""
    if not text:
        return None
    if _EPOCH.fullmatch(text):
        number = float(text)
        return time_text(round(number if number >= _FIRST_MS else number * 1_000))
    try:
        time_ms("time", text.encode())
    except (RefusedError, UnicodeEncodeError):
        return None
    return text.encode()


ReadBody = Callable[[Request], tuple[bytes, bytes, bytes]]
"""Data of the event, its content type, and the JSON that expressions read."""


def _body_reader(body: str, form_field: str | None) -> ReadBody:
    if body == "json":
        return _json_body
    if body == "form":
        return lambda request: _form_body(request, form_field)
    return _raw_body


def _json_body(request: Request) -> tuple[bytes, bytes, bytes]:
    body = request.body
    check(body)
    content_type = request.headers.first(b"content-type") or b""
    # SNS calls its JSON text/plain.
    is_json = b"json" in content_type.lower()
    return body, content_type if is_json else _JSON.encode(), body


def _form_body(request: Request, field: str | None) -> tuple[bytes, bytes, bytes]:
    """A form as a JSON object: a name's text, or all of them if it is there more than once."""
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(request.body),
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except (ValueError, UnicodeDecodeError):
        raise RefusedError(MALFORMED, "the body is not a form in URL encoding and UTF-8") from None
    if field is not None:
        values = [value for name, value in pairs if name == field]
        if len(values) != 1:
            raise RefusedError(MALFORMED, f"the form has {len(values)} fields {field}")
        body = values[0].encode()
        check(body)
        return body, _JSON.encode(), body
    found: dict[str, Any] = {}
    for name, value in pairs:
        known = found.get(name)
        if known is None:
            found[name] = value
        else:
            found[name] = [*known, value] if isinstance(known, list) else [known, value]
    data = msgspec.json.encode(found)
    return data, _JSON.encode(), data


def _raw_body(request: Request) -> tuple[bytes, bytes, bytes]:
    content_type = request.headers.first(b"content-type") or b"application/octet-stream"
    return request.body, content_type, request.body


# -- events that the body carries


def _reader_of(kind: Kind, codec: Codec) -> Read:
    contract = Contract(
        topic="gateway",
        owner="gateway",
        group="gateway",
        partitions=1,
        codec=codec,
        emit="gateway",
        emit_partitions=1,
        dead_letters="gateway",
        ordering=NoOrder(),
    )
    return reader(kind, contract)


def _of_kind(name: str, kind: Kind, own_key: Evaluate | None, stamp: Stamp) -> ReadRecords:
    codec = next(codec for codec in Codec if KINDS.get(codec.value) is kind)
    read_events = _reader_of(kind, codec)
    key_of = _key_reader(name, own_key)

    def read(request: Request, accepted: Accepted, now_ms: int) -> Sequence[Outgoing] | Unread:
        content_type = request.headers.first(b"content-type")
        headers = () if content_type is None else (("content-type", content_type),)
        found = read_events(StoredRecord("gateway", 0, 0, now_ms, None, request.body, headers))
        if isinstance(found, Violation):
            return Unread(MALFORMED, found.detail)
        if isinstance(found, Ignored):
            return []
        stamped = stamp(request, now_ms)
        try:
            return [_record(event, key_of(event, request), stamped) for event in found]
        except RefusedError as refused:
            return Unread(refused.reason, refused.detail)

    return read


def _cloudevents(name: str, own_key: Evaluate | None, stamp: Stamp) -> ReadRecords:
    """CloudEvents over HTTP: binary, structured and batch mode."""
    read_events = _reader_of(KINDS["cloudevents"], Codec.CLOUDEVENTS)
    key_of = _key_reader(name, own_key)

    def read_one(
        headers: tuple[Header, ...], value: bytes | None, request: Request, now_ms: int
    ) -> Outgoing:
        found = read_events(StoredRecord("gateway", 0, 0, now_ms, None, value, headers))
        if isinstance(found, Violation):
            raise RefusedError(MALFORMED, found.detail)
        assert not isinstance(found, Ignored), "the codec ignores no CloudEvent"
        event = found[0]
        outgoing = _record(event, key_of(event, request), stamp(request, now_ms))
        time = dict(headers).get("ce_time") or _time_member(value)
        # As it was written: the codec's has milliseconds.
        return outgoing if time is None else _with_time(outgoing, time)

    def read(request: Request, accepted: Accepted, now_ms: int) -> Sequence[Outgoing] | Unread:
        content_type = request.headers.first(b"content-type") or b""
        media = content_type.lower()
        try:
            if media.startswith(b"application/cloudevents-batch"):
                one = (("content-type", b"application/cloudevents+json"),)
                return [read_one(one, part, request, now_ms) for part in _batch(request.body)]
            if media.startswith(b"application/cloudevents"):
                one = (("content-type", content_type),)
                return [read_one(one, request.body, request, now_ms)]
            return [read_one(_binary(request), request.body or None, request, now_ms)]
        except RefusedError as refused:
            return Unread(refused.reason, refused.detail)

    return read


class _Timed(msgspec.Struct, gc=False):
    time: Any = None


_TIMED: Final = msgspec.json.Decoder(_Timed)


def _time_member(value: bytes | None) -> bytes | None:
    """The time of an event in structured mode, which its codec has found to be one."""
    try:
        time = _TIMED.decode(value or b"").time
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return time.encode() if isinstance(time, str) else None


def _with_time(outgoing: Outgoing, time: bytes) -> Outgoing:
    headers: Headers = [
        (name, time if name == "ce_time" else value) for name, value in outgoing.headers
    ]
    return Outgoing(outgoing.id, outgoing.key, outgoing.value, headers)


_BATCH: Final = msgspec.json.Decoder(list[msgspec.Raw])


def _batch(body: bytes) -> list[bytes]:
    try:
        return [bytes(part) for part in _BATCH.decode(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RefusedError(MALFORMED, "the batch is not a JSON array") from None


def _binary(request: Request) -> tuple[Header, ...]:
    """Headers of the HTTP binding as those of Kafka's: ``ce-id`` is ``ce_id``, unescaped."""
    headers: list[Header] = []
    for name, value in request.headers.items():
        if name.startswith(b"ce-"):
            if request.headers.is_repeated(name):
                shown = name.decode("latin-1")[:40]
                raise RefusedError(MALFORMED, f"header {shown} is there more than once")
            headers.append((f"ce_{name[3:].decode('latin-1')}", _unescaped(name, value)))
        elif name == b"content-type":
            headers.append(("content-type", value))
    return tuple(headers)


def _unescaped(name: bytes, value: bytes) -> bytes:
    if value.startswith(b'"') and value.endswith(b'"') and len(value) > 1:
        value = re.sub(rb"\\(.)", rb"\1", value[1:-1])
    if b"%" not in value:
        return value
    found = unquote_to_bytes(value)
    try:
        found.decode()
    except UnicodeDecodeError:
        shown = name.decode("latin-1")[:40]
        raise RefusedError(MALFORMED, f"header {shown} is not percent-encoded UTF-8") from None
    return found


def _key_reader(name: str, own: Evaluate | None) -> Callable[[Event, Request], bytes | None]:
    """The record's key: the source's expression, the partition key, or the subject."""

    def read(event: Event, request: Request) -> bytes | None:
        if own is not None:
            facts = Facts(request, name, event.id, event.data or b"")
            return _required("key", own, facts).encode()
        for extension, value in event.extensions:
            if extension == "ce_partitionkey" and value:
                return value
        return None if event.subject is None else event.subject.encode()

    return read


def _record(event: Event, key: bytes | None, stamped: Headers) -> Outgoing:
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
    ]
    for name, value in (
        ("ce_subject", event.subject),
        ("ce_correlationid", event.correlation_id),
        ("ce_causationid", event.causation_id),
        ("content-type", event.content_type),
    ):
        if value is not None:
            headers.append((name, value.encode()))
    time = None if event.time_ms is None else time_text(event.time_ms)
    if time is not None:
        headers.append(("ce_time", time))
    headers += [header for header in event.extensions if header[0] not in _OURS]
    headers += stamped
    return Outgoing(f"{event.source}\x1f{event.id}".encode(), key, event.data, headers)


# -- Event Grid's own schema


_EVENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_EVENT_GRID: Final = ("id", "topic", "subject", "eventType", "eventTime")


def _event_grid(name: str, own_key: Evaluate | None, stamp: Stamp) -> ReadRecords:
    """Events of Event Grid, in its own schema or as CloudEvents; each element is one event."""
    as_cloudevents = _cloudevents(name, own_key, stamp)
    key_of = _key_reader(name, own_key)

    def read(request: Request, accepted: Accepted, now_ms: int) -> Sequence[Outgoing] | Unread:
        content_type = (request.headers.first(b"content-type") or b"").lower()
        if content_type.startswith(b"application/cloudevents"):
            return as_cloudevents(request, accepted, now_ms)
        try:
            check(request.body)
            stamped = stamp(request, now_ms)
            events = [_grid_event(raw) for raw in _EVENTS.decode(request.body)]
            return [_record(event, key_of(event, request), stamped) for event in events]
        except RefusedError as refused:
            is_unmapped = refused.reason == UNMAPPED
            return Unread(UNMAPPED if is_unmapped else MALFORMED, refused.detail)
        except (msgspec.MsgspecError, RecursionError):
            return Unread(MALFORMED, "the body is not a list of events of Event Grid")

    return read


def _grid_event(raw: msgspec.Raw) -> Event:
    """An event whose data is the whole element, as the codecs of object stores read it."""
    found = msgspec.json.decode(raw)
    texts = [_grid_text(found, name) for name in _EVENT_GRID]
    event_id, topic, subject, event_type, time = texts
    return Event(
        id=event_id,
        source=topic,
        type=event_type,
        key=b"",
        data=bytes(raw),
        content_type=_JSON,
        subject=subject or None,
        time_ms=time_ms("eventTime", time.encode()),
    )


def _grid_text(found: object, name: str) -> str:
    text = found.get(name) if isinstance(found, dict) else None
    if isinstance(text, str) and not _is_unfit(text) and (text or name == "subject"):
        return text
    raise RefusedError(MALFORMED, f"an event of Event Grid has no {name}")


def digest_identity(identity: bytes, body: bytes) -> bytes:
    """Identity of an event whose id the proof does not cover: a repetition has the same body."""
    return derive_id(identity.decode("utf-8", "replace"), sha256(body).hexdigest()).encode()
