"""Requests that wait, and what becomes of the replies that are read; no broker."""

import asyncio
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from edo_stream.outgoing import NotProducedError
from edo_stream.producer import Sent
from edo_stream.requester import (
    Book,
    Heard,
    NoReplyError,
    Reply,
    Requester,
    RequestFailedError,
    read_reply,
)
from edo_stream.settings import read_settings

pytestmark = pytest.mark.asyncio

CONTRACT = """\
name: shop.label.wanted
owner: team-tests
description: A label is wanted.
codec: cloudevents
partitions: 1
emit: {topic: shop.label.wanted.out}
"""


def headers(
    request: str, correlation: str = "c", end: str = "done"
) -> list[tuple[str, bytes | None]]:
    return [
        ("ce_type", f"edo.ship.{end}".encode()),
        ("ce_correlationid", correlation.encode()),
        ("ce_causationid", b"command"),
        ("edo-flow", b"ship"),
        ("ce_edorequestid", request.encode()),
        ("content-type", b"application/json"),
    ]


async def test_a_reply_is_given_to_the_request_that_it_names() -> None:
    book = Book()
    one, other = book.open("one", "c"), book.open("other", "c")
    book.hear(headers("other"), b'{"n": 7}')
    assert (False, True) == (one.done(), other.done())
    assert {"n": 7} == (await other).result()
    book.close("one")
    book.close("other")
    assert Heard(resolved=1) == book.heard


async def test_a_late_reply_is_counted_and_resolves_no_later_request() -> None:
    book = Book()
    book.open("first", "talk")
    book.close("first")
    second = book.open("second", "talk")
    book.hear(headers("first", "talk"), b"{}")
    assert not second.done(), "its correlation is the same, and it is another request"
    book.hear(headers("second", "talk"), b"{}")
    assert "second" == (await second).request
    book.hear(headers("second", "talk"), b"{}")
    book.close("second")
    assert Heard(resolved=1, late=2) == book.heard


async def test_the_same_request_again_takes_the_reply_of_the_first_time() -> None:
    book = Book()
    book.open("one", "c")
    with pytest.raises(ValueError, match="waits for its reply already"):
        book.open("one", "c")
    book.close("one")
    again = book.open("one", "c")
    book.hear(headers("one"), b"1")
    assert 1 == (await again).result()
    book.close("one")


async def test_replies_of_others_and_what_is_none_are_counted() -> None:
    book = Book()
    mine = book.open("mine", "c")
    book.hear(headers("theirs"), b"{}")
    book.hear(headers("mine", "another"), b"{}")
    book.hear([], b"{}")
    book.hear([("ce_type", b"\xff")], None)
    book.hear([("ce_type", None)], None)
    assert not mine.done()
    book.close("mine")
    assert Heard(others=5) == book.heard


async def test_who_waits_is_told_that_nothing_can_be_read_any_more() -> None:
    book = Book()
    waiting = book.open("one", "c")
    book.fail(KafkaError("gone"))
    with pytest.raises(KafkaError, match="gone"):
        await waiting
    with pytest.raises(KafkaError, match="gone"):
        book.open("two", "c")
    book.close("one")


async def test_what_is_remembered_and_what_waits_has_a_bound() -> None:
    book = Book()
    for number in range(10_000):
        book.open(f"n{number}", "c")
    with pytest.raises(ValueError, match="10,000 requests wait"):
        book.open("more", "c")
    for number in range(10_000):
        book.close(f"n{number}")
    book.open("last", "c")
    book.close("last")
    book.hear(headers("n0"), None)
    book.hear(headers("n1"), None)
    assert Heard(late=1, others=1) == book.heard


async def test_a_failure_is_an_error_that_says_why() -> None:
    reply = read_reply(headers("r", end="failed"), b'{"class": "business", "reason": "no-stock"}')
    assert isinstance(reply, Reply)
    with pytest.raises(RequestFailedError, match="flow ship: failed: no-stock"):
        reply.result()


def requester(root: Path, broker: str = "127.0.0.1:1") -> Requester:
    folder = root / "topics" / "shop.label.wanted"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(CONTRACT)
    environ = {"EDO_BROKER": broker, "EDO_TOPICS": str(root / "topics")}
    return Requester("/tests", "shop", settings=read_settings(environ))


async def test_without_a_broker_nothing_begins_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises((KafkaError, OSError)):
        async with requester(tmp_path):
            raise AssertionError("it must not begin")


@pytest.mark.parametrize("place", ["_require_topic", "_listen", "_read"])
async def test_who_gives_up_while_it_begins_leaves_nothing(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that never ends is cancelled, and what began before it is closed."""
    stopped = []

    class Client:
        async def stop(self) -> None:
            stopped.append(True)

    async def hang(*_: object) -> None:
        await asyncio.sleep(3_600)

    async def go_on(*_: object) -> None:
        return None

    async def listen(_: Requester, stack: object) -> Client:
        client = Client()
        stack.push_async_callback(client.stop)  # type: ignore[attr-defined]
        return client

    monkeypatch.setattr(Requester, "_require_topic", go_on)
    monkeypatch.setattr(Requester, "_listen", listen)
    monkeypatch.setattr(Requester, "_read", hang)
    monkeypatch.setattr(Requester, place, hang)
    one = requester(tmp_path)
    monkeypatch.setattr(one, "_producer", _Hanging() if place == "_read" else one._producer)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), one:
            raise AssertionError("it must not begin")
    assert stopped == ([True] if place == "_read" else [])
    assert 1 == len(asyncio.all_tasks())


class _Hanging:
    """A producer that does not start."""

    async def __aenter__(self) -> None:
        await asyncio.sleep(3_600)

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("it has not begun")


async def test_a_topic_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Admin:
        def __init__(self, *_: object) -> None:
            pass

        async def __aenter__(self) -> "Admin":
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def present(self, _: object) -> dict[str, object]:
            return {}

    monkeypatch.setattr("edo_stream.requester.Admin", Admin)
    with pytest.raises(NotProducedError, match="a flow has to say replies: shop"):
        async with requester(tmp_path):
            raise AssertionError("it must not begin")


class _Written:
    """A producer whose events are written, and to which nobody replies."""

    def prepare(self, *_: object) -> None:
        return None

    async def deliver(self, _: object) -> list[Sent]:
        return [Sent("shop.label.wanted", 0, 7, "one")]


async def test_without_a_reply_it_is_told_what_may_happen_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event may wait for others, or have started a saga, and goes on then."""
    one = requester(tmp_path)
    monkeypatch.setattr(one, "_producer", _Written())
    with pytest.raises(NoReplyError, match="is at shop") as told:
        await one.request("shop.label.wanted", "k", {}, timeout=0.01)
    assert "shop.label.wanted-0, offset 7. A command of it alone does not begin" in str(told.value)
    assert "what waits for other events, is split, or is a saga" in str(told.value)
