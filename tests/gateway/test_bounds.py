"""What a stranger can use up, and what he is told."""

import asyncio
import json
from pathlib import Path

import pytest

from edo_stream.gateway.admission import Bucket, client_address, is_within
from edo_stream.gateway.declaration import Declaration, Limits
from edo_stream.gateway.http import Server
from edo_stream.gateway.outgoing import AWAY
from edo_stream.gateway.pages import Pages
from edo_stream.gateway.remembered import Remembered
from tests.gateway.place import (
    PATIENCE_S,
    SOURCES,
    Place,
    at_place,
    read_answer,
    signed,
    until,
)

BODY = b'{"type":"t","data":{"customer":"c"}}'
KEY = {"x_api_key": "t0ken"}
HEAD = b"POST /signed HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\n"


def test_a_body_is_refused_by_its_length_before_it_is_sent(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        (answer,) = await place.raw(HEAD + b"content-length: 5000\r\nexpect: 100-continue\r\n\r\n")
        assert (413, "size") == (answer.status, answer.cause)

    at_place(tmp_path, use)


def test_a_body_in_chunks_is_refused_once_it_is_too_large(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        chunk = b"400\r\n" + b"x" * 1_024 + b"\r\n"
        sent = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk * 5 + b"0\r\n\r\n"
        (answer,) = await place.raw(sent)
        assert (413, "size") == (answer.status, answer.cause)
        assert place.gateway._in_flight == place.gateway._in_flight_bytes == 0

    at_place(tmp_path, use)


def test_a_body_in_chunks_is_the_same_body(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        told = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in signed(BODY).items()).encode()
        chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, BODY[:5], len(BODY) - 5, BODY[5:])
        (answer,) = await place.raw(HEAD + told + b"transfer-encoding: chunked\r\n\r\n" + chunks)
        assert answer.status == 202
        assert [BODY] == [record.value for _, record in place.topic.events()]

    at_place(tmp_path, use)


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/signed", {"content_type": "text/html"}, (415, "content-type")),
        ("/signed", {"content_type": ""}, (415, "content-type")),
        ("/signed", {"content_type": "application/vnd.x+json; a=b"}, (401, "header-missing")),
        ("/raw", {"content_type": "a/\xff"}, (415, "content-type")),
        ("/signed", {"content_encoding": "gzip"}, (415, "content-encoding")),
        ("/near", {}, (403, "network")),
        ("/nothing", {}, (404, "path")),
        ("/signed/", {}, (404, "path")),
    ],
)
def test_what_is_refused_says_why(
    tmp_path: Path, path: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    async def use(place: Place) -> None:
        answer = await place.post(path, **headers)
        assert expected == (answer.status, answer.cause)

    at_place(tmp_path, use)


def test_other_methods_are_not_taken(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        answer = await place.post("/signed", b"", "GET")
        assert (405, "POST") == (answer.status, answer.headers["allow"])
        assert (await place.post("/signed", b"", "DELETE")).status == 405

    at_place(tmp_path, use)


def test_beyond_its_rate_a_source_is_told_when_to_come_back(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        answers = [await place.post("/limited", b'{"id":%d}' % n, **KEY) for n in range(3)]
        assert [202, 202, 429] == [answer.status for answer in answers]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        assert (await place.post("/raw", b"x", **KEY, content_type="a/b")).status == 202

    at_place(tmp_path, use)


def test_in_a_storm_requests_are_turned_away_before_their_bodies(tmp_path: Path) -> None:
    text = SOURCES.replace("in_flight_bytes: 64KiB", "in_flight_bytes: 64KiB, in_flight: 2")

    async def use(place: Place) -> None:
        place.topic.is_held = True
        asking = [
            asyncio.create_task(place.post("/signed", BODY, **signed(BODY, f"m{number}")))
            for number in range(2)
        ]
        await until(lambda: len(place.topic._held) == 2)
        answer = await place.post("/signed", BODY, **signed(BODY, "m3"))
        assert (429, "storm") == (answer.status, answer.cause)
        assert "retry-after" in answer.headers
        place.topic.release()
        assert [202, 202] == [answer.status for answer in await asyncio.gather(*asking)]
        place.topic.is_held = False
        assert (await place.post("/signed", BODY, **signed(BODY, "m3"))).status == 202

    at_place(tmp_path, use, text)


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        (b"POST /signed HTT", "header-time"),
        (HEAD, "header-time"),
        (HEAD + b"content-length: 10\r\n\r\nabc", "body-time"),
    ],
)
def test_a_request_that_drips_in_is_given_up(tmp_path: Path, sent: bytes, cause: str) -> None:
    async def use(place: Place) -> None:
        (answer,) = await place.raw(sent)
        assert (408, cause) == (answer.status, answer.cause)
        assert place.gateway._in_flight == place.gateway._in_flight_bytes == 0

    at_place(tmp_path, use)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST /signed HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (HEAD + b"content-length: -1\r\n\r\n", 400),
        (b"POST /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", 414),
        (HEAD + b"x-a: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (HEAD + b"x-a: b\r\n" * 200 + b"\r\n", 431),
        (HEAD + b"x-a: " + b"a" * 20_000, 431),
    ],
)
def test_what_is_no_request_is_answered_and_closed(
    tmp_path: Path, sent: bytes, expected: int
) -> None:
    async def use(place: Place) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            assert expected == (await read_answer(reader)).status
            assert await reader.read() == b""
        writer.close()

    at_place(tmp_path, use)


def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    def request(number: int) -> bytes:
        told = signed(BODY, f"m{number}") if number % 2 else {}
        lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in told.items()).encode()
        return HEAD + lines + b"content-length: %d\r\n\r\n" % len(BODY) + BODY

    async def use(place: Place) -> None:
        answers = await place.raw(b"".join(map(request, range(150))), 150)
        assert [401, 202] * 75 == [answer.status for answer in answers]

    at_place(tmp_path, use)


def test_a_sender_that_has_said_all_still_gets_his_answer(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        told = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in signed(BODY).items()).encode()
        sent = HEAD + told + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
        (answer,) = await place.raw(sent, ends=True)
        assert answer.status == 202

    at_place(tmp_path, use)


def test_an_offered_upgrade_is_not_taken_and_the_request_answered(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        answer = await place.post(
            "/signed", BODY, **signed(BODY), connection="Upgrade, HTTP2-Settings", upgrade="h2c"
        )
        assert answer.status == 202

    at_place(tmp_path, use)


def test_beyond_its_connections_the_gateway_says_so(tmp_path: Path) -> None:
    text = SOURCES.replace("limits: {", "limits: {connections: 2, ")

    async def use(place: Place) -> None:
        held = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(2)]
        await until(lambda: len(place.server.connections) == 2)
        answer = await place.post("/signed", BODY)
        assert (503, "connections") == (answer.status, answer.cause)
        for _, writer in held:
            writer.close()
        await until(lambda: not place.server.connections)
        assert (await place.post("/signed", BODY, **signed(BODY))).status == 202

    at_place(tmp_path, use, text)


def test_strangers_who_hold_connections_make_room_for_others(tmp_path: Path) -> None:
    text = SOURCES.replace(
        "limits: {header_time: 300ms", "limits: {connections: 2, header_time: 9s"
    )

    async def use(place: Place) -> None:
        held = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(2)]
        await until(lambda: len(place.server.waiting) == 2)
        for connection in place.server.waiting:
            place.server.waiting[connection] -= 1.0
        assert (await place.post("/signed", BODY, **signed(BODY))).status == 202
        # The one that had waited for longest was closed, the other was not.
        assert await held[0][0].read() == b""
        assert not held[1][0].at_eof()
        for _, writer in held:
            writer.close()

    at_place(tmp_path, use, text)


def test_strangers_who_hold_bodies_back_make_room_for_others(tmp_path: Path) -> None:
    text = SOURCES.replace("size: 4KiB", "size: 60KiB").replace("body_time: 300ms", "body_time: 9s")

    async def use(place: Place) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(HEAD + b"content-length: 50000\r\n\r\n" + b"x" * 49_000)
        await until(lambda: place.gateway._in_flight_bytes == 49_000)
        (slowest,) = place.gateway._receiving
        large = BODY + b" " * 20_000
        told = signed(large)
        assert (await place.post("/signed", large, **told)).status == 429
        slowest.started_s -= 1.0
        assert (await place.post("/signed", large, **told)).status == 202
        assert (await read_answer(reader)).status == 408
        assert place.gateway._in_flight == place.gateway._in_flight_bytes == 0
        writer.close()

    at_place(tmp_path, use, text)


def test_stopping_answers_what_is_under_way_and_takes_no_more(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        place.topic.is_held = True
        asking = asyncio.create_task(place.post("/signed", BODY, **signed(BODY)))
        idle = await asyncio.open_connection("127.0.0.1", place.port)
        await until(lambda: place.topic._held and len(place.server.connections) == 2)
        draining = asyncio.create_task(place.server.drain(5.0))
        assert await idle[0].read() == b""
        assert place.gateway.unready_reasons() == ["the gateway is stopping"]
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", place.port)
        place.topic.release()
        assert (202, True) == ((await asking).status, await draining)
        idle[1].close()

    at_place(tmp_path, use)


def test_the_pages_say_how_it_is(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        await place.post("/signed", BODY, **signed(BODY))
        await place.post("/signed", BODY)
        assert (await place.post("/healthz", b"", "GET")).status == 200
        assert (await place.post("/readyz", b"", "GET")).status == 200
        metrics = (await place.post("/metrics", b"", "GET")).body.decode()
        counted = 'edo_gateway_requests_total{cause="%s",source="signed",status="%d"} 1.0'
        assert counted % ("", 202) in metrics
        assert counted % ("header-missing", 401) in metrics
        place.topic.outcome = AWAY
        place.gateway._watching.cancel()
        watching = asyncio.create_task(place.gateway._watch())
        await asyncio.sleep(0)
        ready = await place.post("/readyz", b"", "GET")
        watching.cancel()
        assert (503, False) == (ready.status, json.loads(ready.body)["ok"])

    at_place(tmp_path, use)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=2.0, burst=3)
    assert [0, 0, 0, 0.5] == [bucket.take(10.0) for _ in range(4)]
    assert 0 == bucket.take(10.5)
    assert 0.5 == bucket.take(10.5)
    # A clock that goes back gives nothing.
    assert bucket.take(9.0) > 0


def test_a_client_behind_proxies_is_the_last_that_is_none() -> None:
    proxies = Declaration.model_validate(
        {
            "trusted_proxies": ["10.0.0.0/8", "::1"],
            "sources": {"a": {"topic": "a.b.c", "verify": {"scheme": "github"}}},
        }
    ).trusted_proxies
    assert client_address("10.0.0.1", b"6.6.6.6, 1.2.3.4, 10.0.0.2", proxies) == "1.2.3.4"
    assert client_address("9.9.9.9", b"1.2.3.4", proxies) == "9.9.9.9"
    assert client_address("10.0.0.1", None, proxies) == "10.0.0.1"
    assert client_address("10.0.0.1", b"\xff", proxies) == "ÿ"
    assert is_within("::ffff:10.1.2.3", proxies)
    assert not is_within("ÿ", proxies)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("X-Forwarded-For: 10.1.1.1\r\nX-Forwarded-For: 127.0.0.9\r\n", 202),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 127.0.0.9\r\n", 403),
        ("X-Forwarded-For: 10.1.1.1\r\nX-Forwarded-For: 6.6.6.6\r\n", 403),
        ("X-Forwarded-For: 10.1.1.1\r\nX-Forwarded-For:\r\n", 202),
    ],
)
def test_each_proxy_may_write_a_line_of_its_own(tmp_path: Path, lines: str, status: int) -> None:
    body = b'{"id":1}'
    head = (
        f"POST /near HTTP/1.1\r\n{lines}Content-Type: application/json\r\nContent-Length: 8\r\n\r\n"
    )

    async def use(place: Place) -> None:
        (answer,) = await place.raw(head.encode() + body)
        assert answer.status == status

    at_place(tmp_path, use, "trusted_proxies: [127.0.0.0/8]\n" + SOURCES)


def test_the_oldest_are_forgotten_first() -> None:
    remembered = Remembered(2)
    for key in (b"a", b"b", b"c"):
        assert not remembered.joins(key, lambda outcome: None)
        remembered.settle(key, None)
    assert [False, True, True] == [remembered.is_acknowledged(key) for key in (b"a", b"b", b"c")]


def test_the_pages_may_have_a_port_of_their_own(tmp_path: Path) -> None:
    async def use(place: Place) -> None:
        place.gateway.serve(place.server, shows_pages=False)
        assert (await place.post("/metrics", b"", "GET")).status == 404
        pages = Server(Pages(place.gateway.page), Limits())
        own = Place(await pages.listen("127.0.0.1", 0), place.topic, place.gateway, pages)
        assert (await own.post("/metrics", b"", "GET")).status == 200
        assert (await own.post("/signed", BODY)).status == 404
        await pages.drain(1.0)

    at_place(tmp_path, use)
