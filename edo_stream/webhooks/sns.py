"""Amazon SNS over HTTP(S): an RSA signature in the body, by a certificate that it names.

The signature proves that Amazon SNS sent the message, for anybody's topic: which topics are
meant is the receiver's to say (``topic_arns``). The certificate's address is Amazon's or nothing
is fetched from it.
"""

import base64
import re
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from edo_stream.webhooks.content import id_text, members, required_text
from edo_stream.webhooks.options import WINDOW_MS, Options
from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import (
    CERTIFICATE_REFUSED,
    SIGNATURE_MALFORMED,
    SIGNATURE_MISMATCH,
    SIGNATURE_MISSING,
    TOPIC_REFUSED,
    Accepted,
    NeededError,
    RefusedError,
)
from edo_stream.webhooks.verifier import Keys, Verifier
from edo_stream.webhooks.window import check_window, iso_ms

WHAT: Final = "a message of Amazon SNS"
#: SNS tries for up to an hour, with the timestamp and signature of the first attempt.
PAST_MS: Final = 3_600_000
#: Of a signing certificate, and of the address that confirms a subscription.
_HOST: Final = re.compile(r"sns\.[a-z0-9-]{3,}\.amazonaws\.com(\.cn)?")
_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = (
    "Message",
    "MessageId",
    "SubscribeURL",
    "Timestamp",
    "Token",
    "TopicArn",
    "Type",
)
_SIGNED: Final = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_HASHES: Final = {"1": SHA1(), "2": SHA256()}  # noqa: S303 - version 1 is defined so


def sns(options: Options) -> Verifier:
    """Compile the scheme; a secret, if any, is a certificate to use instead of fetching one."""
    past_ms = PAST_MS if options.window_ms is None else options.window_ms
    topics = frozenset(options.topic_arns)

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        if request.headers.get(b"x-amz-sns-rawdelivery") is not None:
            raise RefusedError(
                SIGNATURE_MISSING, "raw message delivery is unsigned: turn it off at the topic"
            )
        found = members(request.body, WHAT)
        number = _check_signature(keys, request, found)
        topic = required_text(found, "TopicArn", WHAT)
        if topics and topic not in topics:
            raise RefusedError(TOPIC_REFUSED, f"topic {topic[:200]!r} is not an allowed one")
        signed_at_ms = iso_ms(found.get("Timestamp"))
        check_window(signed_at_ms, now_ms, past_ms, WINDOW_MS)
        return Accepted(
            number,
            id_text(found.get("MessageId")),
            signed_at_ms=signed_at_ms,
            confirm_url=_confirm_url(found),
        )

    return Verifier(certificate_key, check, needs_secret=False)


def _check_signature(keys: Keys, request: Request, found: dict[str, Any]) -> int:
    hash_algorithm = _HASHES.get(str(found.get("SignatureVersion")))
    if hash_algorithm is None:
        raise RefusedError(SIGNATURE_MALFORMED, "SignatureVersion is neither 1 nor 2")
    try:
        given = required_text(found, "Signature", WHAT)
        signature = base64.b64decode(given, validate=True)
    except ValueError:
        raise RefusedError(SIGNATURE_MALFORMED, "Signature is not Base64") from None
    address = required_text(found, "SigningCertURL", WHAT)
    if not is_amazons(address) or not urlsplit(address).path.endswith(".pem"):
        raise RefusedError(
            CERTIFICATE_REFUSED, "SigningCertURL is no https://sns.<region>.amazonaws.com/….pem"
        )
    signed = string_to_sign(found)
    for number, key in keys or [(0, _fetched(request, address))]:
        try:
            key.verify(signature, signed, PKCS1v15(), hash_algorithm)
        except InvalidSignature:
            continue
        return number
    raise RefusedError(SIGNATURE_MISMATCH, "the signature does not fit the message")


def string_to_sign(found: dict[str, Any]) -> bytes:
    """Names and values in the documented order, a line each; a missing subject is left out."""
    kind = required_text(found, "Type", WHAT)
    if kind not in _SIGNED:
        raise RefusedError(SIGNATURE_MALFORMED, f"Type {kind[:60]!r} is not one of SNS")
    lines = []
    for name in _SIGNED[kind]:
        value = found.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str):
            raise RefusedError(SIGNATURE_MALFORMED, f"{name} is missing or no text")
        lines += [name, value]
    # A decoded JSON text holds no lone surrogates, so this always encodes.
    return "".join(f"{line}\n" for line in lines).encode()


def is_amazons(address: str) -> bool:
    """Whether an address is one of SNS itself: https, its host, no other port, nobody's name."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    has_blanks = any(character.isspace() or character == "\\" for character in address)
    return (
        parts.scheme == "https"
        and parts.netloc in (parts.hostname, f"{parts.hostname}:443")
        and _HOST.fullmatch(parts.hostname or "") is not None
        and port in (None, 443)
        and not has_blanks
    )


def _fetched(request: Request, address: str) -> RSAPublicKey:
    certificate = request.fetched.get(address)
    if certificate is None:
        raise NeededError(address)
    try:
        return certificate_key(certificate)
    except ValueError as error:
        raise RefusedError(CERTIFICATE_REFUSED, f"the certificate {error}") from None


@lru_cache(maxsize=64)
def certificate_key(text: str) -> RSAPublicKey:
    """RSA key of a certificate in PEM; raises ``ValueError`` for anything else."""
    try:
        key = x509.load_pem_x509_certificate(text.encode()).public_key()
    except (ValueError, UnicodeEncodeError):
        raise ValueError("is not a certificate in PEM") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("has no RSA key")
    return key


def _confirm_url(found: dict[str, Any]) -> str | None:
    """Where a subscription is confirmed; signed, and Amazon's all the same."""
    if found["Type"] != "SubscriptionConfirmation":
        # An unsubscription is confirmed by not going there.
        return None
    address: str = found["SubscribeURL"]
    if not is_amazons(address):
        raise RefusedError(CERTIFICATE_REFUSED, "SubscribeURL is no address of Amazon SNS")
    return address
