"""Schemes of single providers: Stripe, GitHub, Shopify, Slack. Each signs with a shared secret."""

from typing import Any, Final

import msgspec

from edo_stream.webhooks.content import id_in, id_text
from edo_stream.webhooks.mac import encoder, find_key, text_key
from edo_stream.webhooks.options import WINDOW_MS, Options
from edo_stream.webhooks.request import Headers, Request
from edo_stream.webhooks.verdict import (
    HEADER_REPEATED,
    SIGNATURE_MALFORMED,
    SIGNATURE_MISSING,
    TIMESTAMP_MALFORMED,
    Accepted,
    RefusedError,
    Reply,
)
from edo_stream.webhooks.verifier import Keys, Verifier
from edo_stream.webhooks.window import check_window, epoch_ms

_hex = encoder("hex")
_base64 = encoder("base64")


def stripe(options: Options) -> Verifier:
    """Compile Stripe's scheme: ``Stripe-Signature: t=…,v1=…``, over ``<t>.<body>``.

    The secret is the whole text, ``whsec_`` included. The window holds for the future as well,
    unlike in Stripe's own libraries.
    """
    window_ms = WINDOW_MS if options.window_ms is None else options.window_ms

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        given = request.headers.required(b"stripe-signature", SIGNATURE_MISSING)
        timestamp, signatures = _stripe_parts(given)
        signed_at_ms = epoch_ms(timestamp)
        signed = b"%b.%b" % (timestamp, request.body)
        number = find_key(keys, signed, signatures, "sha256", _hex)
        check_window(signed_at_ms, now_ms, window_ms, window_ms)
        return Accepted(number, id_in(request.body), signed_at_ms=signed_at_ms)

    return Verifier(text_key, check)


def _stripe_parts(given: bytes) -> tuple[bytes, list[bytes]]:
    times, signatures = [], []
    for part in given.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name == b"t":
            times.append(value)
        elif name == b"v1":
            signatures.append(value)
    if len(times) != 1:
        raise RefusedError(TIMESTAMP_MALFORMED, f"stripe-signature has {len(times)} parts t=")
    if not signatures:
        raise RefusedError(SIGNATURE_MALFORMED, "stripe-signature has no part v1=")
    return times[0], signatures


def github(options: Options) -> Verifier:
    """Compile GitHub's scheme: ``X-Hub-Signature-256: sha256=…``, over the body alone.

    Nothing signed tells a replay from a delivery, and the delivery's id is not signed.
    """
    prefix: Final = b"sha256="

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        given = request.headers.required(b"x-hub-signature-256", SIGNATURE_MISSING)
        if not given.startswith(prefix):
            raise RefusedError(SIGNATURE_MALFORMED, "x-hub-signature-256 has no sha256=")
        number = find_key(keys, request.body, [given.removeprefix(prefix)], "sha256", _hex)
        event_id = id_text(request.headers.get(b"x-github-delivery"))
        return Accepted(number, event_id, is_id_signed=False)

    return Verifier(text_key, check)


def shopify(options: Options) -> Verifier:
    """Compile Shopify's scheme: ``X-Shopify-Hmac-SHA256``, in Base64, over the body alone."""

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        given = _shopify_header(request.headers, b"hmac-sha256")
        if not given:
            raise RefusedError(SIGNATURE_MISSING, "header x-shopify-hmac-sha256 is missing")
        number = find_key(keys, request.body, [given], "sha256", _base64)
        event_id = id_text(_shopify_header(request.headers, b"webhook-id"))
        return Accepted(number, event_id, is_id_signed=False)

    return Verifier(text_key, check)


def _shopify_header(headers: Headers, name: bytes) -> bytes | None:
    """Newer deliveries have the names without ``X-``."""
    old, new = headers.get(b"x-shopify-" + name), headers.get(b"shopify-" + name)
    if old is not None and new is not None and old != new:
        raise RefusedError(
            HEADER_REPEATED, f"shopify-{name.decode()} and x-shopify-{name.decode()} differ"
        )
    return new if old is None else old


class _SlackBody(msgspec.Struct, gc=False):
    type: Any = None
    challenge: Any = None


_SLACK_BODY: Final = msgspec.json.Decoder(_SlackBody)


def slack(options: Options) -> Verifier:
    """Compile Slack's scheme: ``X-Slack-Signature: v0=…``, over ``v0:<timestamp>:<body>``."""
    window_ms = WINDOW_MS if options.window_ms is None else options.window_ms
    prefix: Final = b"v0="

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        timestamp = request.headers.required(b"x-slack-request-timestamp")
        given = request.headers.required(b"x-slack-signature", SIGNATURE_MISSING)
        if not given.startswith(prefix):
            raise RefusedError(SIGNATURE_MALFORMED, "x-slack-signature has no v0=")
        signed_at_ms = epoch_ms(timestamp)
        signed = b"v0:%b:%b" % (timestamp, request.body)
        number = find_key(keys, signed, [given.removeprefix(prefix)], "sha256", _hex)
        check_window(signed_at_ms, now_ms, window_ms, window_ms)
        return Accepted(
            number,
            id_in(request.body, "event_id"),
            signed_at_ms=signed_at_ms,
            reply=_challenge(request.body),
        )

    return Verifier(text_key, check)


def _challenge(body: bytes) -> Reply | None:
    """The answer to Slack's test of an endpoint; ``None`` if the body is none."""
    if b"url_verification" not in body:
        return None
    try:
        found = _SLACK_BODY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if found.type != "url_verification" or not isinstance(found.challenge, str):
        return None
    answer = msgspec.json.encode({"challenge": found.challenge})
    return Reply(200, "application/json", answer)
