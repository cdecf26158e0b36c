"""From a request to records and an answer."""

import asyncio
import datetime
import hmac
import json
import time
from pathlib import Path

import pytest

from edo_stream.gateway.outgoing import AWAY, FULL, TOO_LARGE
from tests.gateway.place import SOURCES, Place, at_place, signed, until
from tests.webhooks.ask import CERTIFICATE_URL, certificate, sns_message
from tests.webhooks.test_credentials import EVENTBRIDGE, VALIDATION

BODY = json.dumps({"type": "invoice.paid", "data": {"customer": "c1"}}).encode()
KEY = {"x_api_key": "t0ken"}


def test_a_believed_request_becomes_a_cloudevent(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        answer = await place.post("/signed", BODY, **signed(BODY), traceparent="00-1-2-01")
        assert (202, b'{"accepted":true}') == (answer.status, answer.body)
        ((topic, record),) = place.topic.events()
        headers = dict(record.headers)
        assert ("shop.payment.received", b"c1", BODY) == (topic, record.key, record.value)
        assert headers.pop("ce_recordedtime") is not None
        assert {
            "ce_specversion": b"1.0",
            "ce_id": b"msg_1",
            "ce_source": b"/webhooks/signed",
            "ce_type": b"invoice.paid",
            "content-type": b"application/json",
            "ce_verifiedscheme": b"standard-webhooks",
            "ce_verifiedkey": b"env:SECRET",
            "traceparent": b"00-1-2-01",
        } == headers

    at_place(tmp_path, use)


def test_what_is_not_believed_is_on_no_topic_and_its_sample_has_no_secrets(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        answer = await place.post(
            "/signed", b'{"card":"4111"}', **signed(BODY), authorization="Bearer s3cret"
        )
        assert (401, "signature-mismatch") == (answer.status, answer.cause)
        assert place.topic.events() == []
        (sample,) = place.topic.samples()
        assert ("signed", 401, "signature-mismatch") == tuple(
            sample[name] for name in ("source", "status", "cause")
        )
        text = json.dumps(sample)
        assert "authorization" in sample["headers"]
        assert not any(
            secret in text for secret in ("s3cret", "4111", signed(BODY)["webhook_signature"])
        )

    at_place(tmp_path, use)


def test_the_log_has_a_line_for_each_request_without_payload_or_query(tmp_path: Path) -> None:
    async def use(place: Place) -> list[str]:
        await place.post("/signed?token=s3cret", BODY, **signed(BODY))
        await place.post("/signed", BODY)
        return place.log

    lines = [json.loads(line) for text in at_place(tmp_path, use) for line in text.splitlines()]
    assert [("signed", 202, ""), ("signed", 401, "header-missing")] == [
        (line["source"], line["status"], line["cause"]) for line in lines
    ]
    assert "s3cret" not in str(lines)


@pytest.mark.parametrize(("outcome", "status"), [(AWAY, 503), (FULL, 503), (TOO_LARGE, 413)])
def test_what_kafka_does_not_take_is_not_acknowledged(
    tmp_path: Path, outcome: str, status: int
) -> None:
    async def use(place: Place) -> None:
        place.topic.outcome = outcome
        answer = await place.post("/signed", BODY, **signed(BODY))
        assert (status, outcome) == (answer.status, answer.cause)
        assert (status == 503) == ("retry-after" in answer.headers)
        # It is not remembered: sent again, it is written.
        place.topic.outcome = None
        assert (await place.post("/signed", BODY, **signed(BODY))).status == 202
        assert len(place.topic.events()) == 1

    at_place(tmp_path, use)


def test_no_answer_comes_before_kafkas(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        place.topic.is_held = True
        asking = asyncio.create_task(place.post("/signed", BODY, **signed(BODY)))
        await until(lambda: place.topic._held)
        assert not asking.done()
        place.topic.release()
        assert (await asking).status == 202

    at_place(tmp_path, use)


def test_a_repetition_is_answered_as_the_first_and_written_once(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        for _ in range(3):
            assert (await place.post("/signed", BODY, **signed(BODY))).status == 202
        assert len(place.topic.events()) == 1

    at_place(tmp_path, use)


def test_a_repetition_beside_the_first_shares_its_outcome(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        place.topic.is_held = True
        asking = [
            asyncio.create_task(place.post("/signed", BODY, **signed(BODY))) for _ in range(3)
        ]
        await until(lambda: place.gateway._in_flight == 3)
        assert len(place.topic._held) == 1
        place.topic.outcome = AWAY
        place.topic.release()
        assert [503, 503, 503] == [answer.status for answer in await asyncio.gather(*asking)]

    at_place(tmp_path, use)


def test_an_unsigned_id_does_not_hide_another_event(tmp_path: Path) -> None:
    def github(body: bytes) -> dict[str, str]:
        code = hmac.digest(b"hush", body, "sha256").hex()
        return {
            "x_hub_signature_256": f"sha256={code}",
            "x_github_event": "push",
            "x_github_delivery": "d1",
        }

    async def use(place: Place) -> None:
        for body in (b'{"a":1}', b'{"a":1}', b'{"a":2}'):
            assert (await place.post("/github", body, **github(body))).status == 202
        events = [dict(record.headers)["ce_type"] for _, record in place.topic.events()]
        assert [b"com.github.push"] * 2 == events

    at_place(tmp_path, use)


EVENT = {"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", "subject": "k", "data": 1}


@pytest.mark.parametrize(
    ("headers", "body", "ids"),
    [
        ({"content_type": "application/cloudevents+json"}, EVENT, [b"e1"]),
        (
            {"content_type": "application/cloudevents-batch+json"},
            [EVENT, EVENT | {"id": "e2", "partitionkey": "p"}],
            [b"e1", b"e2"],
        ),
        ({"content_type": "application/cloudevents-batch+json"}, [], []),
        (
            {
                "ce_id": "Euro%20%E2%82%AC%20%F0%9F%98%80",
                "ce_source": "/s",
                "ce_type": "t",
                "ce_specversion": "1.0",
            },
            {"any": "thing"},
            ["Euro € 😀".encode()],
        ),
    ],
)
def test_cloudevents_come_in_all_three_modes(
    tmp_path: Path, headers: dict[str, str], body: object, ids: list[bytes]
) -> None:
    async def use(place: Place) -> None:
        answer = await place.post(
            "/events", json.dumps(body).encode(), authorization="Bearer t0ken", **headers
        )
        assert answer.status == 202
        assert ids == [dict(record.headers)["ce_id"] for _, record in place.topic.events()]

    at_place(tmp_path, use)


@pytest.mark.parametrize("is_structured", [False, True])
def test_nobody_else_says_how_an_event_was_believed(tmp_path: Path, is_structured: bool) -> None:
    said = {"verifiedscheme": "stripe", "verifiedkey": "env:S", "recordedtime": "1999-01-01T00:00Z"}

    async def use(place: Place) -> None:
        structured = {"content_type": "application/cloudevents+json"}
        attributes = {name: value for name, value in (EVENT | said).items() if name != "data"}
        binary = {f"ce_{name}": str(value) for name, value in attributes.items()}
        headers, body = (structured, EVENT | said) if is_structured else (binary, {})
        answer = await place.post(
            "/events", json.dumps(body).encode(), authorization="Bearer t0ken", **headers
        )
        assert answer.status == 202
        ((_, record),) = place.topic.events()
        found = [header for header in record.headers if header[0][3:] in said]
        assert [("ce_verifiedscheme", b"bearer"), ("ce_verifiedkey", b"env:TOKEN")] == found[1:]
        assert ("ce_recordedtime", b"1999-01-01T00:00Z") != found[0]

    at_place(tmp_path, use)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content_type": "application/cloudevents+json"}, b"{"),
        ({"content_type": "application/cloudevents+json"}, b'{"specversion":"0.3"}'),
        ({"content_type": "application/cloudevents-batch+json"}, b'[{"specversion":"1.0"}]'),
        ({"content_type": "application/cloudevents-batch+json"}, b"{}"),
        ({"ce_id": "1"}, b"{}"),
        (
            {"ce_id": "%C0%A0", "ce_source": "/s", "ce_type": "t", "ce_specversion": "1.0"},
            b"{}",
        ),
    ],
)
def test_what_is_no_cloudevent_is_said_to_be_none(
    tmp_path: Path, headers: dict[str, str], body: bytes
) -> None:
    async def use(place: Place) -> None:
        answer = await place.post("/events", body, authorization="Bearer t0ken", **headers)
        assert (400, "body-malformed") == (answer.status, answer.cause)
        assert place.topic.events() == []

    at_place(tmp_path, use)


def test_an_attribute_given_twice_is_ambiguous(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        names = (b"id", b"source", b"type", b"specversion", b"id")
        lines = b"".join(b"ce-%b: 1.0\r\n" % name for name in names)
        head = b"POST /events HTTP/1.1\r\nauthorization: Bearer t0ken\r\ncontent-length: 0\r\n"
        (answer,) = await place.raw(head + lines + b"\r\n")
        assert (400, "body-malformed") == (answer.status, answer.cause)

    at_place(tmp_path, use)


def test_the_handshake_of_cloudevents_is_answered(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        answer = await place.post("/events", b"", "OPTIONS", WebHook_Request_Origin="a.example")
        assert (200, "*") == (answer.status, answer.headers["webhook-allowed-origin"])
        assert (await place.post("/signed", b"", "OPTIONS")).status == 405

    at_place(tmp_path, use)


def test_a_form_becomes_json_and_expressions_read_it(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        form = {"content_type": "application/x-www-form-urlencoded", "x_shop": "north"}
        body = b"id=7&kind=a+b%C3%BC&tag=x&tag=y&none="
        assert (await place.post("/form", body, **KEY, **form)).status == 202
        ((_, record),) = place.topic.events()
        assert {"id": "7", "kind": "a bü", "tag": ["x", "y"], "none": ""} == json.loads(
            record.value or b""
        )
        headers = dict(record.headers)
        assert (b"7", "a bü-north".encode()) == (headers["ce_id"], headers["ce_subject"])
        missing = await place.post("/form", b"id=8", **KEY, **form)
        assert (400, "unmapped") == (missing.status, missing.cause)
        malformed = await place.post("/form", b"id=%FF&kind=x", **KEY, **form)
        assert (400, "body-malformed") == (malformed.status, malformed.cause)

    at_place(tmp_path, use)


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    numbers = ["0.12345678901234567891", "0.12345678901234567892", "1.5e3", "1e999", "1e-9", "12"]

    async def use(place: Place) -> None:
        for number in numbers:
            body = f'{{"id":{number}}}'.encode()
            assert (await place.post("/limited", body, **KEY)).status == 202
        ids = [dict(record.headers)["ce_id"] for _, record in place.topic.events()]
        assert [*numbers[:2], "1500", "1E+999", "0.000000001", "12"] == [
            (one or b"").decode() for one in ids
        ]

    at_place(tmp_path, use, SOURCES.replace("rate: 1/m", "rate: 100/s").replace("burst: 2", ""))


def test_a_raw_body_goes_through_untouched(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        body = bytes(range(256))
        answer = await place.post("/raw", body, **KEY, content_type="image/png")
        assert answer.status == 202
        ((_, record),) = place.topic.events()
        assert (body, b"image/png") == (record.value, dict(record.headers)["content-type"])

    at_place(tmp_path, use)


CLOUDS = """\
sources:
  bridge:
    topic: shop.cloud.happened
    verify: {scheme: eventbridge, secrets: ["env:TOKEN"]}
  grid:
    topic: shop.cloud.happened
    verify: {scheme: event-grid, secrets: ["env:TOKEN"]}
  sns:
    topic: shop.cloud.happened
    verify: {scheme: sns, topic_arns: ["arn:aws:sns:us-east-1:123456789012:MyTopic"]}
"""
EVENTS = """\
    topic: shop.event.happened
    verify: {scheme: bearer, secrets: ["env:TOKEN"]}
    body: cloudevents
"""


def test_the_clouds_push_is_read_by_its_own_form(tmp_path: Path) -> None:
    blob = VALIDATION[0] | {"eventType": "Microsoft.Storage.BlobCreated", "subject": "/b/1"}

    async def use(place: Place) -> None:
        await place.post("/bridge", json.dumps(EVENTBRIDGE).encode(), **KEY)
        await place.post("/grid?code=t0ken", json.dumps([blob, blob | {"id": "2"}]).encode())
        assert [EVENTBRIDGE["id"], blob["id"], "2"] == [
            (dict(record.headers)["ce_id"] or b"").decode() for _, record in place.topic.events()
        ]
        validated = await place.post(
            "/grid?code=t0ken",
            json.dumps(VALIDATION).encode(),
            aeg_event_type="SubscriptionValidation",
        )
        assert b"512d38b6-c7b8-40c8-89fe-f46f9e9622b6" in validated.body
        assert len(place.topic.events()) == 3

    at_place(tmp_path, use, CLOUDS)


def test_headers_go_along_with_events_that_the_body_carries(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        body = json.dumps(EVENTBRIDGE).encode()
        await place.post("/bridge", body, **KEY, x_region="eu")
        event = {
            "content_type": "application/cloudevents-batch+json",
            "authorization": "Bearer t0ken",
        }
        batch = json.dumps([EVENT, EVENT | {"id": "e2"}]).encode()
        await place.post("/events", batch, **event, x_tenant="north", x_other="no")
        assert [[("x-region", b"eu")], *[[("x-tenant", b"north")]] * 2] == [
            [header for header in record.headers if header[0].startswith("x-")]
            for _, record in place.topic.events()
        ]

    text = f"{CLOUDS}  events:\n    headers: [X-Tenant, x-tenant]\n{EVENTS}"
    at_place(tmp_path, use, text.replace("  grid:", "    headers: [X-Region]\n  grid:"))


MAPPED = """\
sources:
  events:
    key: /customer
    topic: shop.event.happened
    verify: {scheme: bearer, secrets: ["env:TOKEN"]}
    body: cloudevents
  bridge:
    key: /customer
    topic: shop.cloud.happened
    verify: {scheme: eventbridge, secrets: ["env:TOKEN"]}
  grid:
    key: /data/customer
    topic: shop.cloud.happened
    verify: {scheme: event-grid, secrets: ["env:TOKEN"]}
  timed:
    id: /id
    time: /at
    topic: shop.event.happened
    verify: {scheme: api-key, secrets: ["env:TOKEN"]}
"""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/events", EVENT),
        ("/events", EVENT | {"data": {"customer": ""}}),
        ("/events", EVENT | {"data": {"customer": "x" * 2_000}}),
        ("/bridge", EVENTBRIDGE),
        ("/grid?code=t0ken", VALIDATION),
        ("/timed", {"id": 1}),
        ("/timed", {"id": 1, "at": "yesterday"}),
    ],
)
def test_what_a_source_says_where_it_is_must_be_there(
    tmp_path: Path, path: str, body: object
) -> None:
    async def use(place: Place) -> None:
        kind = "application/cloudevents+json" if path == "/events" else "application/json"
        more = KEY | {"authorization": "Bearer t0ken", "content_type": kind}
        answer = await place.post(path, json.dumps(body).encode(), **more)
        assert (400, "unmapped") == (answer.status, answer.cause)
        assert place.topic.events() == []

    at_place(tmp_path, use, MAPPED)


def test_sns_fetches_its_certificate_once_and_confirms_subscriptions(tmp_path: Path) -> None:
    fetched: list[str] = []

    def fetch(url: str) -> str:
        fetched.append(url)
        return certificate()

    def now() -> dict[str, str]:
        now_s = time.time_ns() / 1e9
        return {"Timestamp": datetime.datetime.fromtimestamp(now_s, datetime.UTC).isoformat()}

    async def use(place: Place) -> None:
        for number in range(3):
            body = json.dumps(sns_message(MessageId=f"m{number}", **now())).encode()
            assert (await place.post("/sns", body, content_type="text/plain")).status == 202
        assert [CERTIFICATE_URL] == fetched
        confirm = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
        message = sns_message(
            Type="SubscriptionConfirmation", Token="t", SubscribeURL=confirm, **now()
        )
        answer = await place.post("/sns", json.dumps(message).encode())
        assert (200, [CERTIFICATE_URL, confirm]) == (answer.status, fetched)
        assert len(place.topic.events()) == 3

    at_place(tmp_path, use, CLOUDS, fetch)


def test_a_certificate_that_cannot_be_had_asks_for_another_try(tmp_path: Path) -> None:
    def fetch(url: str) -> str:
        raise TimeoutError

    async def use(place: Place) -> None:
        answer = await place.post("/sns", json.dumps(sns_message()).encode())
        assert (503, "document-unavailable") == (answer.status, answer.cause)
        assert "retry-after" in answer.headers

    at_place(tmp_path, use, CLOUDS, fetch)


def test_a_secret_is_rotated_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    text = SOURCES.replace('secrets: ["env:TOKEN"]', f'secrets: ["file:{file}"]')

    async def use(place: Place) -> None:
        async def status(key: str) -> int:
            return (await place.post("/raw", b"x", x_api_key=key, content_type="a/b")).status

        assert (202, 401) == (await status("old"), await status("new"))
        file.write_text("old\nnew\n")
        place.gateway._refresh()
        assert (202, 202) == (await status("old"), await status("new"))
        # What cannot be read leaves the keys of before.
        file.unlink()
        place.gateway._refresh()
        assert await status("new") == 202
        file.write_text("new\n")
        place.gateway._refresh()
        assert (401, 202) == (await status("old"), await status("new"))

    at_place(tmp_path, use, text)
