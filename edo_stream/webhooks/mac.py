"""Message authentication codes: computed over exact bytes, compared in constant time."""

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from typing import Final

from edo_stream.webhooks.options import Algorithm, Encoding, SecretEncoding
from edo_stream.webhooks.verdict import SIGNATURE_MISMATCH, RefusedError
from edo_stream.webhooks.verifier import Keys

SIGNATURES_MAX: Final = 16
"""Of one request: more are no rotation, and each may cost a comparison for each secret."""

Encode = Callable[[bytes], bytes]


def encoder(encoding: Encoding) -> Encode:
    """Return the function that writes a code as text.

    Texts are compared, not the bytes that they decode to: the last character of Base64 has
    unused bits, and a signature with others there is not the one that was given.
    """
    match encoding:
        case "hex":
            return binascii.hexlify
        case "base64":
            return lambda digest: binascii.b2a_base64(digest, newline=False)
        case "base64url":
            return base64.urlsafe_b64encode


def find_key(
    keys: Keys, signed: bytes, given: Sequence[bytes], algorithm: Algorithm, encode: Encode
) -> int:
    """Number of the secret with which one of the given signatures was made.

    Raises:
        RefusedError: none fits.
    """
    for number, key in keys:
        expected = encode(hmac.digest(key, signed, algorithm))
        for signature in given[:SIGNATURES_MAX]:
            if hmac.compare_digest(expected, signature):
                return number
    raise RefusedError(SIGNATURE_MISMATCH, "no signature fits the body and any of the secrets")


def text_key(secret: str) -> bytes:
    """The key of schemes that take the secret's text as it is."""
    if not secret:
        raise ValueError("is empty")
    try:
        return secret.encode()
    except UnicodeEncodeError:
        raise ValueError("is not a Unicode text") from None


def key_reader(encoding: SecretEncoding) -> Callable[[str], bytes]:
    """Return the function that makes a key of a secret's text."""
    match encoding:
        case "text":
            return text_key
        case "base64":
            return base64_key
        case "hex":
            return _hex_key


def base64_key(secret: str) -> bytes:
    """The key of a secret that is written in Base64, with or without its padding."""
    text = secret.strip().rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("is not Base64") from None
    if not key:
        raise ValueError("is empty")
    return key


def _hex_key(secret: str) -> bytes:
    try:
        key = bytes.fromhex(secret)
    except ValueError:
        raise ValueError("is not hexadecimal") from None
    if not key:
        raise ValueError("is empty")
    return key
