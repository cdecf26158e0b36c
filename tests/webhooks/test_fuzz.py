"""No request makes a scheme raise, and none is believed that was not signed as it is."""

import base64
import hmac
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edo_stream.webhooks.options import Options
from edo_stream.webhooks.request import Headers, Request
from edo_stream.webhooks.schemes import SCHEMES, verifier
from edo_stream.webhooks.verdict import CAUSES, Accepted, Needed, Rejected
from edo_stream.webhooks.verifier import verify
from tests.webhooks.ask import certificate, key_set, token

NAMES = [
    b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"svix-id", b"svix-timestamp",
    b"svix-signature", b"stripe-signature", b"x-hub-signature-256", b"x-github-delivery",
    b"x-shopify-hmac-sha256", b"shopify-hmac-sha256", b"x-slack-signature",
    b"x-slack-request-timestamp", b"x-signature", b"authorization", b"x-api-key",
    b"aeg-event-type", b"x-amz-sns-rawdelivery",
]  # fmt: skip
VALUES = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            b"", b"v1,", b"v1a,AAAA", b"v1a," + b"A" * 86 + b"==", b"t=1,v1=,v1=a", b"sha256=",
            b"v0=", b"1700000000", b"Bearer x", b"Basic eDp5", b"Bearer " + token().encode(),
            b"Bearer a.b.c", b"Bearer e30.e30.AA", b"SubscriptionValidation", b"\xff\xfe",
        ]
    ),
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"{}", b"[]", b"[" * 5_000, b'{"Type":"Notification","SignatureVersion":"2"}',
            b'{"type":"url_verification","challenge":7}', b'{"Records":[{}]}', b'{"message":{}}',
            b'[{"data":{"validationCode":1}}]', b'{"id":"\\ud800"}', b'{"id":{"id":1}}',
        ]
    ),
)  # fmt: skip
SECRETS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whpk_AAAA", "u:p", "x"]),
        st.sampled_from([certificate(), key_set(), '{"keys":[{"kty":"RSA"}]}', "-----BEGIN"]),
        st.just("whpk_" + base64.b64encode(bytes(32)).decode()),
    ),
    max_size=3,
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SCHEMES),
    SECRETS,
    st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), st.binary(max_size=9)), VALUES)),
    BODIES,
    st.integers(0, 10**14),
    st.binary(max_size=30),
)
def test_no_request_makes_a_scheme_raise(
    scheme: str,
    secrets: list[str],
    fields: list[tuple[bytes, bytes]],
    body: bytes,
    now_ms: int,
    query: bytes,
) -> None:
    compiled = verifier(scheme, Options())
    answer = verify(compiled, secrets, Request(Headers(fields), body, query), now_ms)
    assert isinstance(answer, Accepted | Needed) or answer.cause in CAUSES


KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def signed(scheme: str, body: bytes) -> dict[str, bytes]:
    """Headers that fit the body."""

    def code(signed: bytes, key: bytes = KEY.encode()) -> bytes:
        return hmac.digest(key, signed, "sha256")

    match scheme:
        case "standard-webhooks":
            found = code(b"e1.1700000000." + body, base64.b64decode(KEY))
            return {
                "webhook-id": b"e1",
                "webhook-timestamp": b"1700000000",
                "webhook-signature": b"v1," + base64.b64encode(found),
            }
        case "stripe":
            found = code(b"1700000000." + body)
            return {"stripe-signature": b"t=1700000000,v1=" + found.hex().encode()}
        case "github":
            return {"x-hub-signature-256": b"sha256=" + code(body).hex().encode()}
        case "shopify":
            return {"x-shopify-hmac-sha256": base64.b64encode(code(body))}
        case "slack":
            return {
                "x-slack-request-timestamp": b"1700000000",
                "x-slack-signature": b"v0=" + code(b"v0:1700000000:" + body).hex().encode(),
            }
    return {"x-signature": code(body).hex().encode()}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["standard-webhooks", "stripe", "github", "shopify", "slack", "hmac"]),
    st.binary(min_size=1, max_size=40),
    st.data(),
)
@example("shopify", b"x", None)
def test_one_changed_bit_of_body_or_headers_is_never_believed(
    scheme: str, body: bytes, data: Any
) -> None:
    compiled = verifier(scheme, Options())
    headers = signed(scheme, body)

    def judged(headers: dict[str, bytes], body: bytes) -> Accepted | Rejected | Needed:
        fields = Headers([(name.encode(), value) for name, value in headers.items()])
        return verify(compiled, [KEY], Request(fields, body), 1_700_000_000_000)

    assert isinstance(judged(headers, body), Accepted)
    if data is None:
        return
    place = data.draw(st.sampled_from(["body", *headers]))
    original = body if place == "body" else headers[place]
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    is_case = scheme == "hmac" and place != "body" and bytes(changed).lower() == original.lower()
    if bytes(changed).strip(b" \t") == original or is_case:
        return
    if place == "body":
        assert isinstance(judged(headers, bytes(changed)), Rejected)
    else:
        assert isinstance(judged(headers | {place: bytes(changed)}, body), Rejected)
