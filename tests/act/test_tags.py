"""What an event cancels by another field than the key, place by place; see test_control_model."""

import pytest

from edo_stream.core.act.command import parse_command
from edo_stream.core.act.tags import CANCEL_TAG, TAGS, encode_tag, encode_tags, tags_of
from edo_stream.core.event import Violation
from edo_stream.core.record import StoredRecord
from tests.act.test_control import DONE, ends, world_of
from tests.act.world import TIERS, TRANSIENT, World


@pytest.fixture
def world() -> World:
    return world_of(has_tags=True)


def cancel(world: World, tag: str = "x") -> None:
    world.send_cancel(f"e{len(world.published)}", tag, is_tag=True)


def test_a_head_whose_retry_was_not_read_ends_when_it_is(world: World) -> None:
    world.send("a1", "a", tag="x")
    world.settle()
    world.run(TRANSIENT)
    world.begin()
    # The tiers are behind: what cancels is read first.
    cancel(world)
    found = world.batches()
    batches = [one for one in found if one.topic not in TIERS.values()]
    assert len(batches) < len(found)
    world.commit(world.pipeline.step(batches, world.now_ms, world.now_ms))
    assert [] == ends(world)
    world.reading = dict(world.pipeline.positions())
    world.settle()
    assert ["a1 cancelled"] == ends(world)


def test_what_is_meant_of_a_key_that_waits_ends_and_its_head_goes_on(world: World) -> None:
    for command, tag in (("a1", "y"), ("a2", "x"), ("a3", ""), ("a4", "x"), ("a5", "y")):
        world.send(command, "a", tag=tag)
    world.settle()
    world.run(TRANSIENT)
    cancel(world)
    world.settle()
    assert ["a2 cancelled", "a4 cancelled"] == ends(world)
    world.begin()
    world.now_ms += 100_000
    world.settle()
    for _ in range(3):
        world.run(DONE)
    assert ["a1 done", "a3 done", "a5 done"] == ends(world)[2:]


def test_a_flow_whose_file_says_it_no_longer_loses_nothing(world: World) -> None:
    world.send("a1", "a", tag="x")
    world.send("a2", "a", tag="x")
    world.settle()
    world.run(TRANSIENT)
    world.spec = world_of(has_tags=False).spec
    world.begin()
    cancel(world)
    world.now_ms += 100_000
    world.settle()
    world.run(DONE)
    world.run(DONE)
    assert ["a1 done", "a2 done"] == ends(world)


def test_a_long_value_is_as_good_as_a_short_one() -> None:
    long = "x" * 5_000
    (tag,) = tags_of("f", encode_tags({"/a": long}), None)
    assert (tag,) == tags_of("f", None, encode_tag("/a", long))
    assert len(tag) < 100
    assert (tag,) != tags_of("f", None, encode_tag("/a", long[1:]))


@pytest.mark.parametrize("name", [TAGS, CANCEL_TAG])
def test_headers_that_are_none_of_ours_make_no_command(name: str) -> None:
    headers = (("ce_id", b"1"), (name, b"{"))
    found = parse_command(StoredRecord("t", 0, 0, 0, b"k", b"{}", headers), "f")
    assert isinstance(found, Violation)
