"""HMAC as most providers have it: a header, an encoding, a prefix, and what is signed."""

import re
from collections.abc import Callable
from typing import Final

from edo_stream.webhooks.content import id_text
from edo_stream.webhooks.mac import encoder, find_key, key_reader
from edo_stream.webhooks.options import WINDOW_MS, Options
from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import (
    SIGNATURE_MALFORMED,
    SIGNATURE_MISSING,
    TIMESTAMP_MALFORMED,
    Accepted,
    RefusedError,
)
from edo_stream.webhooks.verifier import Keys, Verifier
from edo_stream.webhooks.window import check_window, epoch_ms

DEFAULT_HEADER: Final = "X-Signature"

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_UNIT_MS: Final = {"s": 1_000, "ms": 1}

Part = Callable[[Request], bytes]


def generic_hmac(options: Options) -> Verifier:
    """Compile the scheme.

    Raises:
        ValueError: the options contradict each other; says what to write.
    """
    sign = _template(options)
    header = (options.header or DEFAULT_HEADER).lower().encode()
    time_header = _optional(options.timestamp_header)
    id_header = _optional(options.id_header)
    prefix, encode = options.prefix.encode(), encoder(options.encoding)
    window_ms = WINDOW_MS if options.window_ms is None else options.window_ms
    # Some write their hexadecimal in capitals; it is the same number.
    is_hex = options.encoding == "hex"

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        given = request.headers.required(header, SIGNATURE_MISSING)
        if not given.startswith(prefix):
            raise RefusedError(SIGNATURE_MALFORMED, f"the signature has no {options.prefix}")
        signature = given.removeprefix(prefix)
        signed_at_ms = None
        if time_header is not None:
            timestamp = request.headers.required(time_header, TIMESTAMP_MALFORMED)
            signed_at_ms = epoch_ms(timestamp, _UNIT_MS[options.timestamp_unit])
        given_codes = [signature.lower() if is_hex else signature]
        number = find_key(keys, sign(request), given_codes, options.algorithm, encode)
        if signed_at_ms is not None:
            check_window(signed_at_ms, now_ms, window_ms, window_ms)
        event_id = None if id_header is None else id_text(request.headers.get(id_header))
        is_id_signed = "{id}" in options.template
        return Accepted(number, event_id, is_id_signed, signed_at_ms)

    return Verifier(key_reader(options.secret_encoding), check)


def _optional(name: str | None) -> bytes | None:
    return None if name is None else name.lower().encode()


def _template(options: Options) -> Callable[[Request], bytes]:
    """Compile what is signed."""
    if options.template == "{body}":
        if options.timestamp_header is not None:
            raise ValueError(
                "timestamp_header proves nothing unless it is signed: write template, "
                "such as {timestamp}.{body}"
            )
        return lambda request: request.body
    if "{body}" not in options.template:
        raise ValueError(f"template {options.template!r} does not sign the body: add {{body}}")
    texts = _PLACE.split(options.template)
    if any("{" in text or "}" in text for text in texts[::2]):
        raise ValueError(f"template {options.template!r} has an unpaired brace")
    parts: list[Part] = []
    for number, text in enumerate(texts):
        parts.append(_place(text, options) if number % 2 else _text(text.encode()))
    if options.timestamp_header is not None and "{timestamp}" not in options.template:
        raise ValueError("timestamp_header proves nothing unless template has {timestamp}")
    return lambda request: b"".join([part(request) for part in parts])


def _text(text: bytes) -> Part:
    return lambda request: text


def _place(name: str, options: Options) -> Part:
    if name == "body":
        return lambda request: request.body
    header = {
        "timestamp": ("timestamp_header", options.timestamp_header),
        "id": ("id_header", options.id_header),
    }.get(name)
    if header is not None:
        option, wanted = header
        if wanted is None:
            raise ValueError(f"template has {{{name}}}: write {option} as well")
        return _header(wanted)
    kind, _, wanted = name.partition(":")
    if kind == "header" and wanted:
        return _header(wanted)
    raise ValueError(
        f"template has {{{name}}}: known are {{body}}, {{timestamp}}, {{id}} and {{header:NAME}}"
    )


def _header(name: str) -> Part:
    wanted = name.lower().encode()
    return lambda request: request.headers.required(wanted)
