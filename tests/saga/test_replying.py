"""Requests that start sagas: each is told how its instance has ended, once."""

import msgspec
import pytest

from edo_stream.core.headers import time_text
from tests.saga.world import REPLIES, START_MS, World, chain, definition, spec


@pytest.fixture
def world() -> World:
    return World(spec(definition(*chain("a", "b"), is_repeatable=True)))


def asked(world: World, name: str = "o1", **headers: str) -> World:
    world.ask_for(name, **headers)
    world.settle()
    return world


def reason(world: World) -> str:
    *_, last = (one for one in world.published if one.topic == REPLIES.topic)
    found: str = msgspec.json.decode(last.value or b"")["reason"]
    return found


def test_what_is_done_has_the_results_of_its_steps(world: World) -> None:
    asked(world).reply("a", result={"stock": 7})
    assert [] == world.replies()
    world.restore()
    world.reply("b", result=[1])
    assert [("r-o1", "done")] == world.replies()
    (reply,) = (one for one in world.published if one.topic == REPLIES.topic)
    assert {"a": {"stock": 7}, "b": [1]} == msgspec.json.decode(reply.value or b"")["results"]
    assert (b"k", 1) == (reply.key, reply.partition)
    assert b"c" == dict(reply.headers)["ce_correlationid"]


def test_what_is_undone_says_why(world: World) -> None:
    asked(world).reply("a")
    world.reply("b", "failed", reason="no-stock")
    assert [] == world.replies()
    world.reply("a.undo")
    assert [("r-o1", "compensated")] == world.replies()
    assert "b: no-stock" == reason(world)


def test_what_is_done_after_all_is_not_told_again(world: World) -> None:
    asked(world).reply("a")
    (second,) = world.open
    world.end(second, "exhausted")
    world.settle()
    ends = world.replies()
    world.end(second, "done")
    world.settle()
    for flow in ("b.undo", "a.undo"):
        for command in [one for one in world.open if one.flow == flow]:
            world.end(command, "done")
            world.settle()
    assert [("r-o1", "compensated")] == world.replies()
    assert ends in ([], world.replies())


def test_what_is_abandoned_is_told(world: World) -> None:
    asked(world).ask("saga.abandon", reason="closed")
    world.settle()
    assert [("r-o1", "abandoned")] == world.replies()
    assert "closed" == reason(world)


def test_whose_key_has_an_instance_is_told_at_once(world: World) -> None:
    asked(asked(world), "o2")
    assert [("r-o2", "skipped")] == world.replies()
    world.reply("a")
    world.reply("b")
    assert [("r-o2", "skipped"), ("r-o1", "done")] == world.replies()


def test_a_request_that_comes_twice_waits_for_its_instance(world: World) -> None:
    asked(asked(world)).reply("a")
    world.reply("b")
    assert [("r-o1", "done")] == world.replies()


def test_whose_time_is_over_begins_nothing(world: World) -> None:
    until = (time_text(START_MS) or b"").decode()
    asked(world, ce_expirytime=until)
    assert ([("r-o1", "failed")], []) == (world.replies(), world.sent())
    assert "expired" == reason(world)
    # An operator wants it run all the same.
    asked(world, ce_expirytime=until, **{"edo-redrive": "1"})
    assert ["a"] == world.sent()
