"""What becomes of commands whose events asked for a reply."""

from typing import Any

import msgspec
import pytest

from edo_stream.core.accounts import Fate
from edo_stream.core.act.operations import Verb
from edo_stream.core.act.outcome import Done
from edo_stream.core.act.policy import Delivery
from edo_stream.core.asked import ASKERS, Asker, encode_askers
from edo_stream.core.effects import Publish
from edo_stream.core.headers import time_text
from tests.act.world import BUSINESS, POISON, START_MS, TRANSIENT, World, header, policy, spec

COMMANDS, OUTCOMES, DEAD = "edo.commands.ship", "edo.outcomes.ship", "edo.dead.ship"
REPLIES = "edo.replies.shop"
DONE = Done(b'{"parcel": 7}', "application/json")


@pytest.fixture
def world() -> World:
    return World(spec(policy(replies=REPLIES, reply_partitions=4)))


def request(world: World, command: str, reply_to: str = f"{REPLIES}/3", **more: str) -> None:
    """Send a command as an event leads to it that asks for a reply."""
    told = {
        "ce_id": command,
        "ce_type": "ship.order",
        "ce_causationid": f"request-{command}",
        "ce_correlationid": f"talk-{command}",
        "ce_edoreplyto": reply_to,
        **more,
    }
    headers: list[tuple[str, bytes | None]] = [(name, text.encode()) for name, text in told.items()]
    world.append(COMMANDS, command[:1].encode(), b"{}", headers)
    world.settle()


def until(at_ms: int) -> dict[str, str]:
    return {"ce_expirytime": (time_text(at_ms) or b"").decode()}


def replies(world: World) -> list[Publish]:
    return [one for one in world.published if one.topic == REPLIES]


def told(publish: Publish) -> Any:
    return msgspec.json.decode(publish.value or b"")


def test_a_result_is_told_to_who_asked_for_it(world: World) -> None:
    request(world, "a1")
    world.run(DONE)
    (reply,) = replies(world)
    assert (3, b"a", DONE.data) == (reply.partition, reply.key, reply.value)
    said = ("ce_type", "ce_correlationid", "ce_edorequestid", "ce_causationid", "content-type")
    assert ["edo.ship.done", "talk-a1", "request-a1", "a1", "application/json"] == [
        header(reply, name) for name in said
    ]
    assert ["a1"] == world.ids(OUTCOMES)


def test_a_reply_is_written_by_the_step_of_its_end(world: World) -> None:
    request(world, "a1")
    world.pipeline.finish(world.take(), DONE)
    effects = world.step()
    assert {OUTCOMES, REPLIES} <= {one.topic for one in effects.publish}
    first = [one for one in effects.publish if one.topic == REPLIES]
    world.abort()
    world.settle()
    world.pipeline.finish(world.take(), DONE)
    again = [one for one in world.step().publish if one.topic == REPLIES]
    assert header(first[0], "ce_id") == header(again[0], "ce_id"), "a repetition has its id"


@pytest.mark.parametrize(
    ("outcome", "kind", "failure"),
    [(BUSINESS, "failed", "business"), (POISON, "dead-letter", "poison")],
)
def test_a_failure_is_told_as_well(world: World, outcome: Any, kind: str, failure: str) -> None:
    request(world, "a1")
    world.run(outcome)
    (reply,) = replies(world)
    assert (f"edo.ship.{kind}", failure) == (header(reply, "ce_type"), told(reply)["class"])
    assert outcome.reason == told(reply)["reason"]


def test_what_is_tried_again_is_told_at_its_end_alone(world: World) -> None:
    request(world, "a1")
    world.run(TRANSIENT)
    assert [] == replies(world)
    world.now_ms += 2_000
    world.settle()
    world.run(DONE)
    assert ["2"] == [header(one, "edo-attempt") for one in replies(world)]


@pytest.mark.parametrize("verb", [Verb.DROP, Verb.SKIP])
def test_what_an_operator_ends_is_told(world: World, verb: Verb) -> None:
    request(world, "a1")
    world.run(TRANSIENT)
    world.ask(verb.value, "a")
    world.settle()
    kind = "dropped" if verb is Verb.DROP else "dead-letter"
    assert [f"edo.ship.{kind}"] == [header(one, "ce_type") for one in replies(world)]


def test_what_nobody_knows_is_told_so() -> None:
    once = policy(replies=REPLIES, delivery=Delivery.AT_MOST_ONCE)
    world = World(spec(once))
    request(world, "a1")
    world.take()
    world.begin()
    world.settle()
    assert ["edo.ship.unknown"] == [header(one, "ce_type") for one in replies(world)]


@pytest.mark.parametrize(
    "reply_to",
    [
        "shop.order.placed",
        "edo.replies.others/1",
        f"{REPLIES}/4",
        f"{REPLIES}/-1",
        f"{REPLIES}/" + "9" * 5_000,
        f"{REPLIES}/1/2",
    ],
)
@pytest.mark.parametrize(("outcome", "topic"), [(DONE, OUTCOMES), (POISON, DEAD)])
def test_a_request_makes_no_worker_write_elsewhere(
    world: World, reply_to: str, outcome: Any, topic: str
) -> None:
    request(world, "a1", reply_to)
    world.run(outcome)
    (end,) = [one for one in world.published if one.topic == topic]
    assert {topic, "edo.accounts"} == {one.topic for one in world.published}
    assert header(end, "edo-reply-refused").startswith(reply_to[:16])
    assert len(header(end, "edo-reply-refused")) < 400


def test_ids_that_would_not_fit_are_not_repeated(world: World) -> None:
    request(world, "a1", ce_correlationid="x" * 2_000)
    world.run(DONE)
    assert [] == replies(world)
    assert [""] != [
        header(one, "edo-reply-refused") for one in world.published if one.topic == OUTCOMES
    ]


def test_without_a_partition_it_follows_from_the_correlation(world: World) -> None:
    request(world, "a1", REPLIES)
    request(world, "b1", REPLIES, ce_correlationid="talk-a1")
    world.run(DONE)
    world.run(DONE)
    assert 1 == len({one.partition for one in replies(world)})


def test_a_flow_that_does_not_reply_takes_a_request_for_any_event() -> None:
    world = World(spec(policy()))
    request(world, "a1", **until(START_MS - 1))
    assert not world.pipeline.expire("ship", world.now_ms)
    world.run(DONE)
    (outcome,) = [one for one in world.published if one.topic == OUTCOMES]
    assert "" == header(outcome, "edo-reply-refused")


def test_a_request_is_not_run_once_its_time_is_over(world: World) -> None:
    request(world, "a1", **until(START_MS + 1_000))
    request(world, "a2", **until(START_MS + 9_000))
    assert not world.pipeline.expire("ship", START_MS + 999)
    assert world.pipeline.expire("ship", START_MS + 1_000)
    world.settle()
    (reply,) = replies(world)
    assert ("edo.ship.failed", "expired") == (header(reply, "ce_type"), told(reply)["reason"])
    assert ["a1"] == world.ids(OUTCOMES)
    world.run(DONE)
    assert ["a2"] == [run.command_id for run in world.runs], "its key goes on"
    assert world.fates()[COMMANDS, 0] == Fate.FAILED.value


def test_what_is_sent_again_or_replayed_is_run_whatever_its_time(world: World) -> None:
    request(world, "a1", **until(START_MS - 1), **{"edo-redrive": "1"})
    request(world, "b1", **until(START_MS - 1), **{"edo-replay": "r"})
    assert not world.pipeline.expire("ship", world.now_ms)
    world.run(DONE)
    world.run(DONE)
    assert ["a1"] == [header(one, "ce_causationid") for one in replies(world)], (
        "a replay tells none"
    )


@pytest.mark.parametrize("text", ["tomorrow", "2020-01-01T00:00:00", "", "\udcff"])
def test_a_time_that_is_none_never_comes(world: World, text: str) -> None:
    told = [("ce_expirytime", text.encode("utf-8", "surrogateescape"))]
    headers = [("ce_id", b"a1"), ("ce_edoreplyto", REPLIES.encode()), *told]
    world.append(COMMANDS, b"a", b"{}", headers)
    world.settle()
    assert not world.pipeline.expire("ship", world.now_ms)


def asked(world: World, *askers: Asker) -> None:
    """A command of many events, of which several have asked."""
    headers = [("ce_id", b"a1"), (ASKERS, encode_askers(askers)), ("ce_expirytime", b"2020-01-01")]
    world.append(COMMANDS, b"a", b"{}", [*headers])
    world.settle()


def test_each_of_those_who_have_asked_by_the_events_of_a_command_is_told(world: World) -> None:
    asked(world, Asker(3, "r1", "t1"), Asker(0, "r2", "t2"), Asker("nowhere", "", ""))
    world.run(TRANSIENT)
    assert [] == replies(world)
    world.now_ms += 10_000
    world.settle()
    world.run(DONE)
    first, second = replies(world)
    assert [(3, "r1", "t1"), (0, "r2", "t2")] == [
        (one.partition, header(one, "ce_edorequestid"), header(one, "ce_correlationid"))
        for one in (first, second)
    ]
    assert header(first, "ce_id") != header(second, "ce_id")
    (outcome,) = [one for one in world.published if one.topic == OUTCOMES]
    assert "nowhere" == header(outcome, "edo-reply-refused")


def test_a_partition_that_there_is_none_of_is_written_to_by_nobody(world: World) -> None:
    asked(world, Asker(4, "r1", "t1"), Asker(3, "r2", "t2"))
    world.run(DONE)
    assert ["r2"] == [header(one, "ce_edorequestid") for one in replies(world)]


def test_who_has_asked_is_no_business_of_a_replay(world: World) -> None:
    asked_by = encode_askers([Asker(3, "r1", "t1")])
    world.append(
        COMMANDS, b"a", b"{}", [("ce_id", b"a1"), (ASKERS, asked_by), ("edo-replay", b"r")]
    )
    world.settle()
    world.run(DONE)
    assert [] == replies(world)
