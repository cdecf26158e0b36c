"""Schemes with passwords, tokens and keys; the clouds' push and its handshakes."""

import base64
import json

import pytest

from edo_stream.webhooks.verdict import (
    BODY_MALFORMED,
    CREDENTIALS_MISSING,
    CREDENTIALS_WRONG,
    HEADER_REPEATED,
    SECRET_UNUSABLE,
)
from tests.webhooks.ask import accepted, ask, cause

#: From the specification of the basic scheme (RFC 7617).
ALADDIN = {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}

EVENTBRIDGE = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "111122223333",
    "time": "2017-12-22T18:43:48Z",
    "region": "us-west-1",
    "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
    "detail": {"instance-id": "i-1234567890abcdef0", "state": "terminated"},
}

#: From the documentation of Event Grid.
VALIDATION = [
    {
        "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
        "topic": "/subscriptions/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
        "subject": "",
        "data": {
            "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
            "validationUrl": "https://rp-eastus2.eventgrid.azure.net:553/validate",
        },
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": "2018-01-25T22:12:19.4556811Z",
        "metadataVersion": "1",
        "dataVersion": "1",
    }
]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (ALADDIN, "Accepted"),
        ({"authorization": ALADDIN["Authorization"].replace("Basic", "bASIC")}, "Accepted"),
        ({}, CREDENTIALS_MISSING),
        ({"authorization": "Basic"}, CREDENTIALS_MISSING),
        ({"authorization": "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, CREDENTIALS_MISSING),
        ({"authorization": "Basic §"}, CREDENTIALS_WRONG),
        ({"authorization": "Basic QWxhZGRpbjo="}, CREDENTIALS_WRONG),
    ],
)
def test_basic(headers: dict[str, str], expected: str) -> None:
    assert expected == cause(ask("basic", ["Aladdin:open sesame"], headers))


def test_a_basic_secret_needs_user_and_password() -> None:
    assert cause(ask("basic", ["password"], ALADDIN)) == SECRET_UNUSABLE


def test_a_password_may_have_colons_and_other_scripts() -> None:
    given = base64.b64encode("u:p:ä€".encode()).decode()
    assert accepted(ask("basic", ["u:p:ä€"], {"authorization": f"Basic {given}"}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bearer t0ken", "Accepted"),
        ("bearer   t0ken", "Accepted"),
        ("Bearer t0keN", CREDENTIALS_WRONG),
        ("Bearer ", CREDENTIALS_MISSING),
        ("t0ken", CREDENTIALS_MISSING),
        ("Bearer \U0001f511", CREDENTIALS_WRONG),
    ],
)
def test_bearer(value: str, expected: str) -> None:
    assert expected == cause(ask("bearer", ["old", "t0ken"], {"authorization": value}))


def test_two_authorizations_are_ambiguous() -> None:
    twice = [("authorization", "Bearer t"), ("Authorization", "Bearer t")]
    assert cause(ask("bearer", ["t"], twice)) == HEADER_REPEATED


def test_an_api_key_is_in_the_header_that_is_said_after_its_prefix() -> None:
    assert accepted(ask("api-key", ["k"], {"x-api-key": "k"}))
    assert accepted(ask("api-key", ["k"], {"x-mine": "Key k"}, header="X-Mine", prefix="Key "))
    assert cause(ask("api-key", ["k"], {"x-api-key": "k"}, header="X-Mine")) == CREDENTIALS_MISSING


def test_an_api_key_may_be_in_the_query_once() -> None:
    assert accepted(ask("api-key", ["k/ü"], {}, query=b"a=1&code=k%2F%C3%BC", query_option="code"))


def test_a_query_parameter_given_twice_is_ambiguous() -> None:
    assert cause(ask("event-grid", ["k"], {}, query=b"code=k&code=k")) == CREDENTIALS_MISSING


@pytest.mark.parametrize(
    "headers",
    [{"x-api-key": "u:k"}, {"authorization": "Bearer u:k"}, {"authorization": "Basic dTpr"}],
)
def test_eventbridge_takes_each_way_of_a_connection(headers: dict[str, str]) -> None:
    body = json.dumps(EVENTBRIDGE).encode()
    assert accepted(ask("eventbridge", ["u:k"], headers, body)).event_id == EVENTBRIDGE["id"]


def test_eventbridge_takes_only_the_way_that_is_said() -> None:
    body = json.dumps(EVENTBRIDGE).encode()
    answer = ask("eventbridge", ["k"], {"authorization": "Bearer k"}, body, auth="api-key")
    assert cause(answer) == CREDENTIALS_MISSING


@pytest.mark.parametrize("missing", ["id", "source", "detail-type", "detail"])
def test_what_is_no_envelope_of_eventbridge_is_refused(missing: str) -> None:
    body = json.dumps({k: v for k, v in EVENTBRIDGE.items() if k != missing}).encode()
    assert cause(ask("eventbridge", ["k"], {"x-api-key": "k"}, body)) == BODY_MALFORMED


def test_event_grids_validation_is_answered_with_its_code() -> None:
    headers = {"aeg-event-type": "SubscriptionValidation"}
    body = json.dumps(VALIDATION).encode()
    reply = accepted(ask("event-grid", ["k"], headers, body, query=b"code=k")).reply
    assert reply is not None
    assert {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"} == json.loads(reply.body)


def test_event_grids_validation_needs_the_key_and_a_code() -> None:
    headers = {"aeg-event-type": "SubscriptionValidation"}
    body = json.dumps(VALIDATION).encode()
    assert cause(ask("event-grid", ["k"], headers, body)) == CREDENTIALS_MISSING
    assert cause(ask("event-grid", ["k"], headers, b"[{}]", query=b"code=k")) == BODY_MALFORMED
    assert cause(ask("event-grid", ["k"], headers, b"\xff", query=b"code=k")) == BODY_MALFORMED


def test_minios_notification_has_an_id_that_a_repetition_shares() -> None:
    headers = {"authorization": "Bearer t"}
    record = {"eventName": "s3:ObjectCreated:Put", "s3": {"object": {"sequencer": "17A"}}}
    bodies = [
        json.dumps({"EventName": "s3:ObjectCreated:Put", "Key": "b/k", "Records": [record]}),
        json.dumps({"Records": [record | {"s3": {"object": {"sequencer": "17B"}}}]}),
    ]
    ids = [accepted(ask("minio", ["t"], headers, body.encode())).event_id for body in bodies]
    assert len({*ids}) == 2
    assert cause(ask("minio", ["t"], headers, b"{}")) == BODY_MALFORMED
