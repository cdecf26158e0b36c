"""Google Pub/Sub push with authentication: an OpenID Connect token, signed by Google (RS256).

Anybody with a Google account has such tokens: what makes one ours is the audience and the
service account's address that the subscription was given.
"""

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edo_stream.webhooks.content import id_text, members
from edo_stream.webhooks.options import Options
from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import (
    BODY_MALFORMED,
    CREDENTIALS_MISSING,
    DOCUMENT_UNAVAILABLE,
    KEY_UNKNOWN,
    SIGNATURE_MISMATCH,
    TIMESTAMP_TOO_NEW,
    TIMESTAMP_TOO_OLD,
    TOKEN_MALFORMED,
    TOKEN_REFUSED,
    Accepted,
    NeededError,
    RefusedError,
)
from edo_stream.webhooks.verifier import Keys, Verifier

GOOGLE_KEYS: Final = "https://www.googleapis.com/oauth2/v3/certs"
_ISSUERS: Final = ("https://accounts.google.com", "accounts.google.com")
#: Between Google's clock and ours.
_SKEW_MS: Final = 60_000
_WHAT: Final = "a push of Pub/Sub"

NamedKeys = Sequence[tuple[str | None, RSAPublicKey]]


def pubsub(options: Options) -> Verifier:
    """Compile the scheme; a secret, if any, is a key (PEM) or key set (JWKS) for Google's."""
    skew_ms = _SKEW_MS if options.window_ms is None else options.window_ms

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        scheme, _, token = (request.headers.get(b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token.strip():
            raise RefusedError(CREDENTIALS_MISSING, "there is no bearer token")
        header, claims, signed, signature = _parts(token.strip())
        if header.get("alg") != "RS256":
            raise RefusedError(TOKEN_MALFORMED, "the token is not signed with RS256")
        number = _check_signature(keys, request, header.get("kid"), signed, signature)
        _check_claims(claims, options)
        issued_at_ms = _check_times(claims, now_ms, skew_ms)
        return Accepted(number, _message_id(request.body), signed_at_ms=issued_at_ms)

    return Verifier(read_key_set, check, needs_secret=False)


Claims = Mapping[str, Any]


def _parts(token: bytes) -> tuple[Claims, Claims, bytes, bytes]:
    """Header, claims, signed bytes and signature of a compact JWT."""
    parts = token.split(b".")
    if len(parts) == 3:
        try:
            header, claims = (_object(_base64url(part)) for part in parts[:2])
            return header, claims, b".".join(parts[:2]), _base64url(parts[2])
        except (ValueError, RecursionError):
            pass
    raise RefusedError(TOKEN_MALFORMED, "the token is not a signed JWT")


def _object(text: bytes) -> Claims:
    return msgspec.json.decode(text, type=dict[str, Any])


def _base64url(text: bytes) -> bytes:
    if b"+" in text or b"/" in text or b"=" in text:
        raise ValueError("not Base64 for URLs")
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _check_signature(
    keys: Keys, request: Request, key_id: object, signed: bytes, signature: bytes
) -> int:
    sets: Keys = keys or [(0, _google_keys(request))]
    is_known = False
    for number, named in sets:
        for name, key in named:
            # A key without a name is tried for every token.
            if name is not None and key_id is not None and name != key_id:
                continue
            is_known = True
            try:
                key.verify(signature, signed, PKCS1v15(), SHA256())
            except InvalidSignature:
                continue
            return number
    if is_known:
        raise RefusedError(SIGNATURE_MISMATCH, "the token's signature does not fit")
    raise RefusedError(KEY_UNKNOWN, "the token is signed with a key that is not in the key set")


def _google_keys(request: Request) -> NamedKeys:
    text = request.fetched.get(GOOGLE_KEYS)
    if text is None:
        raise NeededError(GOOGLE_KEYS)
    try:
        return read_key_set(text)
    except ValueError as error:
        raise RefusedError(DOCUMENT_UNAVAILABLE, f"Google's key set {error}") from None


@lru_cache(maxsize=64)
def read_key_set(text: str) -> NamedKeys:
    """Keys of a JWKS, or of one public key or certificate in PEM; ``ValueError`` for others."""
    if text.lstrip().startswith("-----BEGIN"):
        return [(None, _pem_key(text.encode()))]
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
        entries = [entry for entry in found["keys"] if entry.get("kty") == "RSA"]
        named = [(entry.get("kid"), _jwk_key(entry)) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("is neither a key set (JWKS) nor a key in PEM") from None
    if not named:
        raise ValueError("has no RSA key")
    return named


def _pem_key(text: bytes) -> RSAPublicKey:
    try:
        if b"BEGIN CERTIFICATE" in text:
            key: object = x509.load_pem_x509_certificate(text).public_key()
        else:
            key = load_pem_public_key(text)
    except ValueError:
        raise ValueError("is not a public key or certificate in PEM") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("has no RSA key")
    return key


def _jwk_key(entry: Mapping[str, str]) -> RSAPublicKey:
    modulus, exponent = (
        int.from_bytes(_base64url(entry[name].rstrip("=").encode())) for name in ("n", "e")
    )
    return RSAPublicNumbers(exponent, modulus).public_key()


def _check_claims(claims: Claims, options: Options) -> None:
    if claims.get("iss") not in _ISSUERS:
        raise RefusedError(TOKEN_REFUSED, "the token is not issued by accounts.google.com")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if options.audience is not None and options.audience not in audiences:
        raise RefusedError(TOKEN_REFUSED, "the token is for another audience")
    if options.email is None:
        return
    if claims.get("email") != options.email or claims.get("email_verified") is not True:
        raise RefusedError(TOKEN_REFUSED, "the token is another service account's")


def _check_times(claims: Claims, now_ms: int, skew_ms: int) -> int:
    expires_ms, issued_ms = _seconds(claims, "exp"), _seconds(claims, "iat")
    if now_ms > expires_ms + skew_ms:
        raise RefusedError(TIMESTAMP_TOO_OLD, "the token is expired")
    if now_ms < max(issued_ms, _seconds(claims, "nbf", issued_ms)) - skew_ms:
        raise RefusedError(TIMESTAMP_TOO_NEW, "the token is issued in the future")
    return issued_ms


def _seconds(claims: Claims, name: str, default_ms: int | None = None) -> int:
    value = claims.get(name)
    if value is None and default_ms is not None:
        return default_ms
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
        return int(value * 1_000)
    raise RefusedError(TOKEN_MALFORMED, f"the token has no time {name}")


def _message_id(body: bytes) -> str | None:
    message = members(body, _WHAT).get("message")
    if not isinstance(message, dict):
        raise RefusedError(BODY_MALFORMED, f"the body is not {_WHAT}: message is missing")
    return id_text(message.get("messageId") or message.get("message_id"))
