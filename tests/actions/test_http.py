"""Side effects by HTTP, against a server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edo_stream.actions.http import HttpExecutor, HttpRequest, retry_after_ms
from edo_stream.actions.rules import CodeRule
from edo_stream.actions.template import Template
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from tests.actions.commands import command

NOW_S = 1_700_000_000.0


def request(url: str, **more: Any) -> HttpRequest:
    return HttpRequest(**{"method": "POST", "url": Template(url), **more})


def run(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    what: Command,
    **more: Any,
) -> Outcome:
    """Send a command to a server that answers so."""

    async def go() -> Outcome:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            sent = request(f"{server.make_url('/')}orders/{{{{ data.id }}}}", **more)
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


def test_a_template_reaches_nothing_but_its_values() -> None:
    async def answer(request: web.Request) -> web.Response:
        raise AssertionError("is not called")

    body = Template("{{ data.__class__.__mro__[1].__subclasses__() }}")
    outcome = run(answer, command({"id": 1}), body=body)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "template"
