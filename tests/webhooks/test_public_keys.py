"""Schemes with certificates and key sets: SNS and Pub/Sub."""

import json

import pytest

from edo_stream.webhooks.sns import is_amazons, string_to_sign
from edo_stream.webhooks.verdict import (
    BODY_MALFORMED,
    CERTIFICATE_REFUSED,
    CREDENTIALS_MISSING,
    DOCUMENT_UNAVAILABLE,
    KEY_UNKNOWN,
    SECRET_UNUSABLE,
    SIGNATURE_MALFORMED,
    SIGNATURE_MISMATCH,
    SIGNATURE_MISSING,
    TIMESTAMP_MALFORMED,
    TIMESTAMP_TOO_NEW,
    TIMESTAMP_TOO_OLD,
    TOKEN_MALFORMED,
    TOKEN_REFUSED,
    TOPIC_REFUSED,
    Answer,
    Needed,
)
from tests.webhooks.ask import (
    CERTIFICATE_URL,
    NOW_MS,
    TOPIC,
    accepted,
    ask,
    base64url,
    cause,
    certificate,
    key_set,
    public_pem,
    sns_message,
    token,
)

HOUR_MS = 3_600_000
CONFIRM = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37"


def asked(message: dict[str, str], now_ms: int = NOW_MS, **options: object) -> Answer:
    body = json.dumps(message).encode()
    return ask("sns", [], {}, body, now_ms, fetched={CERTIFICATE_URL: certificate()}, **options)


@pytest.mark.parametrize("version", ["1", "2"])
def test_sns_is_verified_in_both_versions(version: str) -> None:
    answer = accepted(asked(sns_message(version, Subject="Ünïcode\nand lines")))
    assert answer.event_id == "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"


def test_the_string_to_sign_is_as_documented() -> None:
    message = sns_message(Subject="My First Message")
    expected = (
        "Message\nHello world!\nMessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n"
        "Subject\nMy First Message\nTimestamp\n2023-11-14T22:13:20.000Z\n"
        f"TopicArn\n{TOPIC}\nType\nNotification\n"
    )
    assert expected.encode() == string_to_sign(message)


def test_a_certificate_is_asked_for_by_its_address() -> None:
    body = json.dumps(sns_message()).encode()
    assert Needed(CERTIFICATE_URL) == ask("sns", [], {}, body)


def test_a_certificate_may_be_given_as_a_secret() -> None:
    body = json.dumps(sns_message()).encode()
    secrets = [certificate("another"), certificate()]
    assert accepted(ask("sns", secrets, {}, body)).key == 1
    assert cause(ask("sns", ["no certificate"], {}, body)) == SECRET_UNUSABLE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"Message": "Hello"}, SIGNATURE_MISMATCH),
        ({"Subject": "added"}, SIGNATURE_MISMATCH),
        ({"SignatureVersion": "1"}, SIGNATURE_MISMATCH),
        ({"SignatureVersion": "3"}, SIGNATURE_MALFORMED),
        ({"Signature": "§"}, SIGNATURE_MALFORMED),
        ({"Type": "Other"}, SIGNATURE_MALFORMED),
        ({"Timestamp": 5}, SIGNATURE_MALFORMED),
        ({"SigningCertURL": "https://sns.evil.example/x.pem"}, CERTIFICATE_REFUSED),
        ({"SigningCertURL": "https://[::1/x.pem"}, CERTIFICATE_REFUSED),
        ({"SigningCertURL": None}, BODY_MALFORMED),
    ],
)
def test_a_message_that_sns_did_not_sign_is_rejected(change: dict[str, str], expected: str) -> None:
    assert expected == cause(asked(sns_message() | change))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://sns.us-east-1.amazonaws.com/a.pem", True),
        ("https://sns.cn-north-1.amazonaws.com.cn/a.pem", True),
        ("https://sns.us-gov-west-1.amazonaws.com:443/a.pem", True),
        ("http://sns.us-east-1.amazonaws.com/a.pem", False),
        ("https://sns.us-east-1.amazonaws.com:8443/a.pem", False),
        ("https://sns.us-east-1.amazonaws.com.evil.example/a.pem", False),
        ("https://evil.example/sns.us-east-1.amazonaws.com/a.pem", False),
        ("https://sns.us-east-1.amazonaws.com@evil.example/a.pem", False),
        ("https://a:b@sns.us-east-1.amazonaws.com/a.pem", False),
        ("https://bucket.s3.amazonaws.com/a.pem", False),
        ("https://sns.us-east-1.amazonaws.com\\@evil.example/a.pem", False),
        ("https://sns.us-east-1.amazonaws.com:x/a.pem", False),
        ("", False),
    ],
)
def test_only_addresses_of_sns_itself_are_fetched(address: str, expected: bool) -> None:
    assert expected == is_amazons(address)


def test_a_topic_of_somebody_else_is_refused_although_sns_signed_it() -> None:
    other = sns_message(TopicArn="arn:aws:sns:us-east-1:666666666666:Theirs")
    assert accepted(asked(sns_message(), topic_arns=(TOPIC,)))
    assert cause(asked(other, topic_arns=(TOPIC,))) == TOPIC_REFUSED


def test_sns_has_an_hour_to_try_again() -> None:
    assert accepted(asked(sns_message(), NOW_MS + HOUR_MS))
    assert cause(asked(sns_message(), NOW_MS + HOUR_MS + 1_000)) == TIMESTAMP_TOO_OLD
    assert cause(asked(sns_message(), NOW_MS - 301_000)) == TIMESTAMP_TOO_NEW
    assert cause(asked(sns_message(Timestamp="yesterday"))) == TIMESTAMP_MALFORMED


def test_a_subscription_is_confirmed_at_amazons_address_only() -> None:
    request = {"Type": "SubscriptionConfirmation", "Token": "2336412f37"}
    assert CONFIRM == accepted(asked(sns_message(**request, SubscribeURL=CONFIRM))).confirm_url
    elsewhere = sns_message(**request, SubscribeURL="https://evil.example/")
    assert cause(asked(elsewhere)) == CERTIFICATE_REFUSED


def test_raw_delivery_is_unsigned() -> None:
    assert cause(ask("sns", [], {"x-amz-sns-rawdelivery": "true"})) == SIGNATURE_MISSING


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"Type":'])
def test_a_body_that_is_no_message_is_refused(body: bytes) -> None:
    assert cause(ask("sns", [], {}, body)) in (BODY_MALFORMED, SIGNATURE_MALFORMED)


PUSH = b'{"message":{"messageId":"136969346945","data":"aGVsbG8="},"subscription":"s"}'


def pushed(bearer: str, secrets: tuple[str, ...] = (key_set(),), **options: object) -> Answer:
    headers = {"authorization": f"Bearer {bearer}"}
    return ask("pubsub", secrets, headers, PUSH, **options)


@pytest.mark.parametrize("keys", [key_set(), public_pem(), certificate()])
def test_pubsub_is_verified_with_a_key_set_or_a_key(keys: str) -> None:
    answer = accepted(
        pushed(
            token(),
            (key_set("another"), keys),
            audience="https://example.com/push",
            email="push@project.iam.gserviceaccount.com",
        )
        if keys != key_set()
        else pushed(token(), (keys,))
    )
    assert answer.event_id == "136969346945"


def test_googles_key_set_is_asked_for() -> None:
    headers = {"authorization": f"Bearer {token()}"}
    needed = ask("pubsub", [], headers, PUSH)
    assert isinstance(needed, Needed)
    assert accepted(ask("pubsub", [], headers, PUSH, fetched={needed.url: key_set()}))
    answer = ask("pubsub", [], headers, PUSH, fetched={needed.url: "<html>"})
    assert cause(answer) == DOCUMENT_UNAVAILABLE


@pytest.mark.parametrize(
    ("bearer", "options", "expected"),
    [
        (token("another"), {}, SIGNATURE_MISMATCH),
        (token(header={"kid": "k2"}), {}, KEY_UNKNOWN),
        (token(header={"alg": "none"}), {}, TOKEN_MALFORMED),
        (token(header={"alg": "HS256"}), {}, TOKEN_MALFORMED),
        (token().rpartition(".")[0] + ".", {}, SIGNATURE_MISMATCH),
        (token(iss="https://evil.example"), {}, TOKEN_REFUSED),
        (token(), {"audience": "https://example.com/other"}, TOKEN_REFUSED),
        (token(), {"email": "other@example.com"}, TOKEN_REFUSED),
        (
            token(email_verified=False),
            {"email": "push@project.iam.gserviceaccount.com"},
            TOKEN_REFUSED,
        ),
        (token(exp=1_699_999_000), {}, TIMESTAMP_TOO_OLD),
        (token(iat=1_700_000_900), {}, TIMESTAMP_TOO_NEW),
        (token(nbf=1_700_000_900), {}, TIMESTAMP_TOO_NEW),
        (token(exp="soon"), {}, TOKEN_MALFORMED),
        (token(exp=None), {}, TOKEN_MALFORMED),
        ("a.b", {}, TOKEN_MALFORMED),
        ("§.§.§", {}, TOKEN_MALFORMED),
        (f"{base64url(b'[]')}.{base64url(b'{}')}.", {}, TOKEN_MALFORMED),
        ("", {}, CREDENTIALS_MISSING),
    ],
)
def test_a_token_that_is_not_for_us_is_rejected(
    bearer: str, options: dict[str, str], expected: str
) -> None:
    assert expected == cause(pushed(bearer, **options))
