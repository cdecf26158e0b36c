"""Side effects by HTTP, against a server."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edo_stream.actions.http import (
    ANSWER_BYTES_MAX,
    HttpExecutor,
    HttpRequest,
    retry_after_ms,
)
from edo_stream.actions.rules import CodeRule
from edo_stream.actions.template import Place, Template, UnfilledError, place_of, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from tests.actions.commands import command

NOW_S = 1_700_000_000.0


def request(url: str, **more: Any) -> HttpRequest:
    return HttpRequest(**{"method": "POST", "url": Template(url, Place.URL), **more})


def run(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    what: Command,
    path: str = "orders/{{ data.id }}",
    **more: Any,
) -> Outcome:
    """Send a command to a server that answers so."""

    async def go() -> Outcome:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            sent = request(f"{server.make_url('/')}{path}", **more)
            return await HttpExecutor(sent, lambda: session, lambda: NOW_S)(what)

    return asyncio.run(go())


def test_a_request_carries_the_event_its_key_and_its_trace() -> None:
    seen: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.Response:
        seen.update(path=request.path, body=await request.read(), **request.headers)
        return web.json_response({"parcel": 7})

    outcome = run(answer, command({"id": 5}), headers={"X-Try": Template("{{ attempt }}")})
    assert outcome == Done(b'{"parcel": 7}', "application/json")
    assert seen["path"] == "/orders/5"
    assert seen["body"] == b'{"id":5}'
    assert seen["Idempotency-Key"] == "c-1"
    assert seen["Content-Type"] == "application/json"
    assert seen["traceparent"] == "00-ab-cd-01"
    assert seen["X-Try"] == "1"


def test_a_body_may_be_a_template_and_a_header_a_secret() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer s3cret"
        return web.Response(body=await request.read())

    body = Template('{"order": {{ data.id|json }}, "note": {{ data.note|json }}}')
    secrets = {"Authorization": lambda: "Bearer s3cret"}
    outcome = run(answer, command({"id": 5, "note": 'a"b'}), body=body, secrets=secrets)
    assert isinstance(outcome, Done)
    assert outcome.data == b'{"order": 5, "note": "a\\"b"}'


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (400, {}, Failed(FailureClass.POISON, "http-400", "Bad Request")),
        (302, {"Location": "/x"}, Failed(FailureClass.POISON, "http-302", "Found")),
        (404, {}, Failed(FailureClass.BUSINESS, "http-404", "Not Found")),
        (500, {}, Failed(FailureClass.TRANSIENT, "http-500", "Internal Server Error")),
        (503, {}, Failed(FailureClass.TRANSIENT, "http-503", "Service Unavailable")),
        (
            503,
            {"Retry-After": "7"},
            Failed(FailureClass.THROTTLED, "http-503", "Service Unavailable", 7_000),
        ),
        (
            429,
            {"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"},
            Failed(FailureClass.THROTTLED, "http-429", "Too Many Requests", 10_000),
        ),
    ],
)
def test_the_status_says_how_it_ended(
    status: int, headers: dict[str, str], expected: Failed
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    rules = (CodeRule(404, 404, FailureClass.BUSINESS),)
    assert run(answer, command({"id": 5}), rules=rules) == expected


def test_a_template_that_cannot_be_filled_is_poison_and_nothing_is_sent() -> None:
    async def answer(request: web.Request) -> web.Response:
        raise AssertionError("is not called")

    outcome = run(answer, command({"other": 5}))
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.POISON, "template")
    assert "id" in outcome.detail


def test_nobody_who_listens_is_transient() -> None:
    async def go() -> Outcome:
        async with aiohttp.ClientSession() as session:
            sent = request("http://127.0.0.1:1/")
            return await HttpExecutor(sent, lambda: session, lambda: NOW_S)(command({}))

    outcome = asyncio.run(go())
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "connection")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("3", 3_000),
        (" 3 ", 3_000),
        ("99999999999999", 86_400_000),
        ("-1", None),
        ("soon", None),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 0),
        ("Tue, 14 Nov 2020 22:13:20 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, expected: int | None) -> None:
    assert expected == retry_after_ms(text, NOW_S)


@pytest.mark.parametrize("text", ["{{ data.id ", "{% if %}", "{{ 1 | nope }}"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a template"):
        Template(text)


def test_a_name_that_no_command_has_is_refused() -> None:
    with pytest.raises(ValueError, match="dta is not known: write one of attempt, "):
        Template("{{ dta.id }}")
    assert Template("{% for item in data %}{{ item }}{% endfor %}").fill({"data": [1, 2]}) == "12"


def test_a_template_reaches_nothing_but_its_values() -> None:
    async def answer(request: web.Request) -> web.Response:
        raise AssertionError("is not called")

    body = Template("{{ data.__class__.__mro__[1].__subclasses__() }}")
    outcome = run(answer, command({"id": 1}), body=body)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "template"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a/b", "/orders/a%2Fb/label?of=a/b&all=1"),
        ("a?b=c#d&e", "/orders/a%3Fb=c%23d&e/label?of=a?b%3Dc%23d%26e&all=1"),
        ("//evil.example/x", "/orders/%2F%2Fevil.example%2Fx/label?of=//evil.example/x&all=1"),
        ("%2e%2e", "/orders/%252e%252e/label?of=%252e%252e&all=1"),
        (True, "/orders/true/label?of=true&all=1"),
        ("..", None),
        (".", None),
        ("", None),
        (None, None),
    ],
)
def test_a_value_is_one_part_of_the_url_whatever_it_holds(value: Any, expected: str | None) -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.query["of"] == (value if isinstance(value, str) else "true")
        paths.append(request.raw_path)
        return web.Response()

    url = "orders/{{ data.id }}/label?of={{ data.id }}&all=1"
    outcome = run(answer, command({"id": value}), path=url)
    if expected is None:
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.reason) == (FailureClass.POISON, "template")
    assert paths == ([] if expected is None else [expected])


def test_the_author_may_say_that_a_value_is_several_parts() -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.Response()

    run(answer, command({"id": "a/b c"}), path="{{ data.id|path }}?{{ {'q': data.id}|urlencode }}")
    assert paths == ["/a/b%20c?q=a/b+c"]


def test_a_value_ends_no_header_and_an_event_s_own_headers_do_not_either() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert "traceparent" not in request.headers
        return web.Response(body=request.headers.get("X-Note", "").encode())

    headers = {"X-Note": Template("{{ data.note }}")}
    bad = run(answer, command({"id": 1, "note": "x\r\nHost: evil"}), headers=headers)
    assert isinstance(bad, Failed)
    assert (bad.failure, bad.reason) == (FailureClass.POISON, "template")
    assert "evil" not in bad.detail
    trace = (("ce_traceparent", b"00\r\nEvil: 1"),)
    assert run(answer, command({"id": 1}, headers=trace)) == Done()
    content = (("content-type", b"text/plain\r\nEvil: 1"),)
    assert isinstance(run(answer, command({"id": 1}, headers=content)), Failed)


def test_a_header_has_one_value_however_it_is_written() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers.getall("Idempotency-Key") == ["mine"]
        return web.Response()

    headers = {"idempotency-KEY": Template("mine")}
    assert run(answer, command({"id": 1}), headers=headers) == Done()


def test_an_answer_in_parts_is_read_whole_and_a_huge_one_up_to_a_bound() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        size = int(request.path.rpartition("/")[2])
        with suppress(ConnectionError):
            for _ in range(0, size, 10_000):
                await response.write(b"x" * 10_000)
                await asyncio.sleep(0)
        return response

    small = run(answer, command({"id": 50_000}))
    assert small == Done(b"x" * 50_000, "text/plain")
    huge = run(answer, command({"id": 3_000_000}))
    assert huge == Done(b"x" * ANSWER_BYTES_MAX, "application/octet-stream")


def test_what_a_receiver_repeats_of_the_credentials_is_taken_out() -> None:
    async def answer(request: web.Request) -> web.Response:
        echo = request.headers["Authorization"]
        status = 200 if request.path.endswith("1") else 404
        return web.Response(body=echo.encode(), reason=echo, status=status)

    secrets = {"Authorization": lambda: "Bearer s3cret-token"}
    assert run(answer, command({"id": 1}), secrets=secrets) == Done(
        b"***", "application/octet-stream"
    )
    refused = run(answer, command({"id": 2}), secrets=secrets)
    assert isinstance(refused, Failed)
    assert refused.detail == "***"


def test_a_redirect_is_not_followed() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/orders/1"
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    assert run(answer, command({"id": 1})) == Failed(FailureClass.POISON, "http-302", "Found")


def test_a_receiver_that_hangs_up_is_transient() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        if request.path.endswith("1"):
            request.transport.close()
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x")
        request.transport.close()
        return response

    for number in (1, 2):
        outcome = run(answer, command({"id": number}))
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "connection")


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/", "https://127.0.0.1:{port}/"])
def test_a_name_or_certificate_that_cannot_be_used_is_transient(url: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        raise AssertionError("is not called")

    async def go() -> Outcome:
        app = web.Application()
        app.router.add_route("*", "/", answer)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            sent = request(url.replace("{port}", str(server.port)))
            return await HttpExecutor(sent, lambda: session, lambda: NOW_S)(command({}))

    outcome = asyncio.run(go())
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "connection")


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ('{"note": "{{ data.v }}"}', 'x", "paid": "yes', '{"note": "x\\", \\"paid\\": \\"yes"}'),
        ('{"note": {{ data.v|json }}}', 'a"b', '{"note": "a\\"b"}'),
        ('{"note": {{ data.v|json }}}', None, '{"note": null}'),
        ('{"count": {{ data.v }}}', 5, '{"count": 5}'),
        ('{"all": {{ data.v }}}', {"a": [True]}, '{"all": {"a":[true]}}'),
        ('{"count": {{ data.v }}}', '5, "paid": 1', None),
        ("{{ data.v }}", 'a"b', 'a"b'),
        ("{{ data.v }}", None, None),
        ("{{ data.v.items }}", {"items": 7}, "7"),
        ("{{ data.v + 1 }}", "a", None),
    ],
)
def test_a_value_stays_one_in_json_too(template: str, value: Any, expected: str | None) -> None:
    filled = Template(template, place_of(template))
    values = values_of(command({"v": value}))
    if expected is None:
        with pytest.raises(UnfilledError):
            filled.fill(values)
    else:
        assert filled.fill(values) == expected


@pytest.mark.parametrize(
    "text",
    ["", "1.5", "0x10", "1 s", "Tue, 14 Nov 99999 22:13:30 GMT", "Tue", ",", "Wed, 32 Foo 2023"],
)
def test_what_is_no_retry_after_is_none(text: str) -> None:
    assert retry_after_ms(text, NOW_S) is None
