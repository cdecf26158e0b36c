"""Clouds that push with a shared secret: EventBridge, Event Grid, MinIO; and their handshakes."""

import hashlib
from typing import Any, Final

import msgspec

from edo_stream.webhooks.content import id_text, members, required_text
from edo_stream.webhooks.credentials import bearer, shared_secret
from edo_stream.webhooks.mac import text_key
from edo_stream.webhooks.options import Options
from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import BODY_MALFORMED, Accepted, RefusedError, Reply
from edo_stream.webhooks.verifier import Keys, Verifier

_ENVELOPE: Final = "an EventBridge envelope"
_NOTIFICATION: Final = "a notification of MinIO"
_VALIDATION: Final = "Microsoft.EventGrid.SubscriptionValidationEvent"
_EVENTS: Final = msgspec.json.Decoder(list[dict[str, Any]])


def eventbridge(options: Options) -> Verifier:
    """Compile an API destination of EventBridge: its connection's key, and the envelope."""
    find_number = shared_secret(options)

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        number = find_number(keys, request)
        found = members(request.body, _ENVELOPE)
        for name in ("source", "detail-type"):
            required_text(found, name, _ENVELOPE)
        if not isinstance(found.get("detail"), dict):
            raise RefusedError(BODY_MALFORMED, f"the body is not {_ENVELOPE}: detail is missing")
        return Accepted(number, id_text(required_text(found, "id", _ENVELOPE)))

    return Verifier(text_key, check)


def event_grid(options: Options) -> Verifier:
    """Compile Azure Event Grid: a key that its subscription was given, and its handshake.

    The key comes in the address (``?code=…``) or in a header of the delivery's properties.
    """
    find_number = shared_secret(options)

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        number = find_number(keys, request)
        kind = request.headers.get(b"aeg-event-type") or b""
        if kind.lower() == b"subscriptionvalidation":
            return Accepted(number, reply=_validation(request.body))
        return Accepted(number)

    return Verifier(text_key, check)


def _validation(body: bytes) -> Reply:
    try:
        events = _EVENTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        events = []
    for event in events:
        data = event.get("data")
        code = data.get("validationCode") if isinstance(data, dict) else None
        if event.get("eventType") == _VALIDATION and isinstance(code, str):
            return Reply(200, "application/json", msgspec.json.encode({"validationResponse": code}))
    raise RefusedError(BODY_MALFORMED, "the body is not a validation event of Event Grid")


def minio(options: Options) -> Verifier:
    """Compile a webhook target of MinIO: its ``auth_token``, and a bucket notification."""
    token = bearer(options)

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        accepted = token.check(keys, request, now_ms)
        found = members(request.body, _NOTIFICATION)
        records = found.get("Records")
        if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
            raise RefusedError(BODY_MALFORMED, f"the body is not {_NOTIFICATION}: no Records")
        return Accepted(accepted.key, _notification_id(records))

    return Verifier(token.read_key, check)


def _notification_id(records: list[dict[str, Any]]) -> str | None:
    """What never differs between two deliveries: MinIO gives its notifications no id."""
    told = [
        [record.get("eventName"), record.get("eventTime"), record.get("s3")] for record in records
    ]
    return (
        hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()[:32] if told else None
    )
