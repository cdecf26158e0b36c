"""Requests for the tests of the schemes, and keys that they are signed with."""

import base64
import datetime
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from edo_stream.webhooks.options import Options
from edo_stream.webhooks.request import Headers, Request
from edo_stream.webhooks.schemes import verifier
from edo_stream.webhooks.sns import string_to_sign
from edo_stream.webhooks.verdict import Accepted, Answer, Rejected
from edo_stream.webhooks.verifier import verify

NOW_MS = 1_700_000_000_000


def ask(
    scheme: str,
    secrets: Sequence[str],
    headers: Mapping[str, str] | Sequence[tuple[str, str]],
    body: bytes = b"{}",
    now_ms: int = NOW_MS,
    query: bytes = b"",
    fetched: Mapping[str, str] | None = None,
    **options: Any,
) -> Answer:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    fields = Headers([(name.encode(), value.encode()) for name, value in pairs])
    request = Request(fields, body, query, fetched or {})
    if "query_option" in options:
        options["query"] = options.pop("query_option")
    return verify(verifier(scheme, Options(**options)), secrets, request, now_ms)


def cause(answer: Answer) -> str:
    """The cause of a rejection, or the type of another answer."""
    return answer.cause if isinstance(answer, Rejected) else type(answer).__name__


def accepted(answer: Answer) -> Accepted:
    assert isinstance(answer, Accepted), answer
    return answer


@cache
def rsa_key(name: str = "ours") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def certificate(name: str = "ours") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(rsa_key(name).public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36_500))
        .sign(rsa_key(name), SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


def public_pem(name: str = "ours") -> str:
    key = rsa_key(name).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


CERTIFICATE_URL = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem"
TOPIC = "arn:aws:sns:us-east-1:123456789012:MyTopic"


def sns_message(version: str = "2", key: str = "ours", **members: str) -> dict[str, str]:
    """A signed notification of SNS."""
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": "Hello world!",
        "Timestamp": "2023-11-14T22:13:20.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL,
    } | members
    algorithm = SHA1() if version == "1" else SHA256()
    signature = rsa_key(key).sign(string_to_sign(message), padding.PKCS1v15(), algorithm)
    return message | {"Signature": base64.b64encode(signature).decode()}


def token(key: str = "ours", header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """A bearer token like Google's."""
    now_s = NOW_MS // 1_000
    body = {
        "iss": "https://accounts.google.com",
        "aud": "https://example.com/push",
        "email": "push@project.iam.gserviceaccount.com",
        "email_verified": True,
        "iat": now_s - 10,
        "exp": now_s + 3_590,
    } | claims
    parts = [{"alg": "RS256", "kid": "k1", "typ": "JWT"} | dict(header or {}), body]
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    signature = rsa_key(key).sign(signed.encode(), padding.PKCS1v15(), SHA256())
    return f"{signed}.{base64url(signature)}"


def key_set(key: str = "ours", key_id: str = "k1") -> str:
    numbers = rsa_key(key).public_key().public_numbers()
    modulus = base64url(numbers.n.to_bytes(256))
    entry = {"kty": "RSA", "kid": key_id, "n": modulus, "e": "AQAB", "alg": "RS256"}
    return json.dumps({"keys": [entry]})


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
