"""Standard Webhooks, and Svix, from which it comes: HMAC (v1) and ed25519 (v1a).

``webhook-signature`` holds one signature for each key that the sender has; versions that are not
known are skipped, so that a sender may add one. Signed is ``<id>.<timestamp>.<body>``.
"""

import base64
import hmac
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edo_stream.webhooks.content import id_text
from edo_stream.webhooks.mac import SIGNATURES_MAX, base64_key, encoder
from edo_stream.webhooks.options import WINDOW_MS, Options
from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import (
    SIGNATURE_MALFORMED,
    SIGNATURE_MISMATCH,
    SIGNATURE_MISSING,
    Accepted,
    RefusedError,
)
from edo_stream.webhooks.verifier import Keys, Verifier
from edo_stream.webhooks.window import check_window, epoch_ms

_SEED_BYTES: Final = 32
_PAIR_BYTES: Final = 64

_encode = encoder("base64")


def standard_webhooks(options: Options) -> Verifier:
    """Compile the scheme of standardwebhooks.com."""
    return _verifier(b"webhook-", options)


def svix(options: Options) -> Verifier:
    """Compile the scheme under Svix's own header names."""
    return _verifier(b"svix-", options)


def _verifier(names: bytes, options: Options) -> Verifier:
    window_ms = WINDOW_MS if options.window_ms is None else options.window_ms
    id_header, time_header = names + b"id", names + b"timestamp"
    signature_header = names + b"signature"

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        event_id = request.headers.required(id_header)
        timestamp = request.headers.required(time_header)
        given = request.headers.required(signature_header, SIGNATURE_MISSING)
        signed_at_ms = epoch_ms(timestamp)
        signed = b"%b.%b.%b" % (event_id, timestamp, request.body)
        number = _find_key(keys, signed, given)
        check_window(signed_at_ms, now_ms, window_ms, window_ms)
        return Accepted(number, id_text(event_id), signed_at_ms=signed_at_ms)

    return Verifier(_read_key, check)


def _find_key(keys: Keys, signed: bytes, given: bytes) -> int:
    codes, signatures = [], []
    for token in given.split()[:SIGNATURES_MAX]:
        version, _, value = token.partition(b",")
        if version == b"v1":
            codes.append(value)
        elif version == b"v1a":
            signatures.append(value)
    for number, key in keys:
        if isinstance(key, bytes):
            expected = _encode(hmac.digest(key, signed, "sha256")) if codes else b""
            if any(hmac.compare_digest(expected, code) for code in codes):
                return number
        elif any(_is_signed(key, signed, signature) for signature in signatures):
            return number
    if codes or signatures:
        raise RefusedError(SIGNATURE_MISMATCH, "no signature fits the body and any of the secrets")
    raise RefusedError(SIGNATURE_MALFORMED, "there is no signature of version v1 or v1a")


def _is_signed(key: Ed25519PublicKey, signed: bytes, signature: bytes) -> bool:
    try:
        value = base64.b64decode(signature, validate=True)
        key.verify(value, signed)
    except (ValueError, InvalidSignature):
        return False
    # Canonical Base64 only, as with codes.
    return _encode(value) == signature


def _read_key(secret: str) -> bytes | Ed25519PublicKey:
    prefix, _, rest = secret.partition("_")
    read = _READERS.get(prefix) if rest else None
    return base64_key(secret) if read is None else read(rest)


def _public(text: str) -> Ed25519PublicKey:
    key = base64_key(text)
    if len(key) != _SEED_BYTES:
        raise ValueError(f"is no ed25519 key: {len(key)} bytes instead of {_SEED_BYTES}")
    return Ed25519PublicKey.from_public_bytes(key)


def _of_private(text: str) -> Ed25519PublicKey:
    key = base64_key(text)
    if len(key) not in (_SEED_BYTES, _PAIR_BYTES):
        raise ValueError(f"is no ed25519 key: {len(key)} bytes instead of {_SEED_BYTES}")
    return Ed25519PrivateKey.from_private_bytes(key[:_SEED_BYTES]).public_key()


_READERS: Final[dict[str, Callable[[str], bytes | Ed25519PublicKey]]] = {
    "whsec": base64_key,
    "whpk": _public,
    "whsk": _of_private,
}
