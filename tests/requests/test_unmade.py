"""Requests of which no command can be made: their dead letters are told as well."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as changed

from edo_stream.core.asked import Replies
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts, UndecidedError, UnmadeError
from edo_stream.core.record import StoredRecord
from edo_stream.core.routing import Condition, Route, Router, Routes
from edo_stream.core.trigger import FlowTrigger
from tests.core.bench import IDENTITY, NOW_MS, TOPIC, contract

RECORD = StoredRecord(TOPIC, 5, 7, NOW_MS, b"record", b"{}")
REPLIES = Replies("ship", "edo.replies.shop", 4)
TRIGGER = FlowTrigger("ship", "edo.commands.ship", "edo.dead-letters.ship", 8, replies=REPLIES)
EVENT = Event("e-1", "/shop", TOPIC, b"k", b'{"n": 1}', correlation_id="talk")
ASKING = changed(EVENT, extensions=(("ce_edoreplyto", b"edo.replies.shop/3"),))


def written(route: Route, event: Event, is_compiled: bool) -> list[Publish]:
    router = Router(IDENTITY, contract(), Routes([route]))
    return list((router.fastest if is_compiled else router).commands(RECORD, event, NOW_MS))


def headers(publish: Publish) -> dict[str, bytes | None]:
    return dict(publish.headers)


def unmade(_: Facts) -> bytes:
    raise UnmadeError("no n")


def undecided(_: Facts) -> bool:
    raise UndecidedError("no n")


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (Route(replace(TRIGGER, key="/none")), "no-key"),
        (Route(replace(TRIGGER, make=unmade)), "input"),
        (Route(replace(TRIGGER, bytes_max=1_100)), "too-large"),
        (Route(TRIGGER, (Condition(None, undecided),)), "undecided"),
    ],
)
def test_who_asked_is_told_that_there_is_no_command(
    route: Route, reason: str, is_compiled: bool
) -> None:
    letter, reply = written(route, ASKING, is_compiled)
    assert ("edo.dead-letters.ship", "edo.replies.shop") == (letter.topic, reply.topic)
    assert 3 == reply.partition
    told: Any = msgspec.json.decode(reply.value or b"")
    assert (reason, "poison") == (told["reason"], told["class"])
    said = headers(reply)
    assert (b"edo.ship.dead-letter", b"talk", b"e-1") == (
        said["ce_type"],
        said["ce_correlationid"],
        said["ce_edorequestid"],
    )
    (alone,) = written(route, EVENT, is_compiled)
    assert alone.topic == letter.topic, "who has not asked is not told"


@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_request_makes_no_command_elsewhere_and_travels_on(is_compiled: bool) -> None:
    (command,) = written(Route(TRIGGER), ASKING, is_compiled)
    assert b"edo.replies.shop/3" == headers(command)["ce_edoreplyto"]
    other = changed(EVENT, extensions=(("ce_edoreplyto", b"shop.order.placed/3"),))
    (letter,) = written(Route(replace(TRIGGER, key="/none")), other, is_compiled)
    assert (headers(letter)["edo-reply-refused"] or b"").startswith(b"shop.order.placed/3: flow")
