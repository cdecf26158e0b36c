"""What becomes of commands, one rule at a time."""

import msgspec
import pytest

from edo_stream.core.act.ladder import RetryPolicy
from edo_stream.core.act.operations import parse_act_operation
from edo_stream.core.act.outcome import Done, Failed, FailureClass
from edo_stream.core.act.policy import AfterDeadLetter, Delivery, Order
from edo_stream.core.event import Violation
from tests.act.world import (
    BUSINESS,
    CONTROL,
    POISON,
    THROTTLED,
    TRANSIENT,
    World,
    header,
    policy,
    spec,
)

COMMANDS, OUTCOMES, DEAD = "edo.commands.ship", "edo.outcomes.ship", "edo.dead.ship"
ONE_S, TWO_S, FOUR_S = "edo.retry.act.1s", "edo.retry.act.2s", "edo.retry.act.4s"
DONE = Done(b'{"parcel": 7}', "application/json")


@pytest.fixture
def world() -> World:
    return World(spec(policy()))


def sent(world: World, *commands: str) -> None:
    """Send commands named ``<key><number>``, and let the task read them."""
    for command in commands:
        world.send(command, command[0])
    world.settle()


def test_a_command_that_succeeds_ends_as_an_outcome_that_names_it(world: World) -> None:
    sent(world, "a1")
    world.run(DONE)
    (outcome,) = [one for one in world.published if one.topic == OUTCOMES]
    assert (outcome.key, outcome.value) == (b"a", b'{"parcel": 7}')
    assert header(outcome, "ce_type") == "edo.ship.done"
    assert header(outcome, "ce_causationid") == "a1"
    assert header(outcome, "content-type") == "application/json"
    assert header(outcome, "edo-origin") == f"{COMMANDS}/2/0"
    assert world.pipeline.positions()[COMMANDS] == 1


def test_keys_run_side_by_side_and_a_key_one_by_one(world: World) -> None:
    sent(world, "a1", "a2", "b1")
    works = [world.take(), world.take()]
    assert ["a1", "b1"] == [work.command.id for work in works]
    assert world.pipeline.ready_flows() == []
    world.pipeline.finish(works[0], DONE)
    world.settle()
    assert world.take().command.id == "a2"


def test_before_a_commit_nothing_runs_that_only_the_commit_lets_run(world: World) -> None:
    sent(world, "a1", "a2", "b1")
    world.pipeline.finish(world.take(), DONE)

    effects = world.step()

    # After a crash a1 would run again: behind a2, if that had begun.
    assert "b1" == world.take().command.id
    assert world.pipeline.peek("ship", is_committed=False) is None
    world.commit(effects)
    assert "a2" == world.take().command.id


def test_what_is_done_beyond_a_slow_command_is_not_run_again_after_a_restart(world: World) -> None:
    sent(world, "a1", "b1", "c1")
    slow, _, _ = works = [world.take() for _ in range(3)]
    for work in works[1:]:
        world.pipeline.finish(work, DONE)
    world.settle()
    assert world.pipeline.positions()[COMMANDS] == slow.record.offset
    world.begin()
    world.settle()
    assert world.take().command.id == "a1"
    assert world.pipeline.ready_flows() == []


def test_a_failing_head_waits_on_the_tiers_and_is_given_up_after_the_last(world: World) -> None:
    sent(world, "a1")
    begun_ms, waits = world.now_ms, []
    for _ in range(4):
        assert world.run(TRANSIENT) == "a1"
        due_ms = world.pipeline.next_due_ms()
        if due_ms is not None:
            waits.append(due_ms - world.now_ms)
            world.now_ms = due_ms - 1
            world.settle()
            assert world.pipeline.ready_flows() == [], "never early"
            world.now_ms = due_ms
            world.settle()
    assert waits == [1_000, 2_000, 4_000]
    assert [run.attempt for run in world.runs] == [1, 2, 3, 4]
    assert [world.ids(tier) for tier in (ONE_S, TWO_S, FOUR_S)] == [["a1"]] * 3
    (letter,) = [one for one in world.published if one.topic == DEAD]
    assert header(letter, "edo-attempts") == "4"
    assert header(letter, "edo-first-ms") == str(begun_ms)
    assert (header(letter, "edo-class"), header(letter, "edo-reason")) == ("transient", "http-503")
    assert header(letter, "edo-owner") == "shop-team"
    assert letter.value == b"{}"


def test_later_commands_of_a_failing_key_are_parked_and_drained_in_order(world: World) -> None:
    sent(world, "a1", "a2")
    world.run(TRANSIENT)
    sent(world, "a3", "b1")
    assert world.run(DONE) == "b1", "another key goes on"
    assert world.pipeline.ready_flows() == []
    assert world.pipeline.held() == {COMMANDS: (2, world.now_ms)}
    assert world.pipeline.positions()[COMMANDS] == 4, "they rest in rows, not in the log"
    world.begin()
    world.now_ms += 1_000
    world.settle()
    assert [world.run(DONE) for _ in range(3)] == ["a1", "a2", "a3"]
    assert set(world.fates().values()) <= set("era")
    assert world.pipeline.held() == {}


def test_relaxed_order_lets_later_commands_pass() -> None:
    world = World(spec(policy(order=Order.RELAXED)))
    sent(world, "a1", "a2")
    world.run(TRANSIENT)
    assert world.run(DONE) == "a2"
    world.now_ms += 1_000
    world.settle()
    assert world.run(DONE) == "a1"


def test_relaxed_a_retry_that_is_due_does_not_wait_behind_what_has_never_run() -> None:
    world = World(spec(policy(order=Order.RELAXED)))
    sent(world, "a1", "a2", "a3", "a4", "a5")
    assert ["a1", "a2"] == [world.run(TRANSIENT), world.run(TRANSIENT)]
    third = world.take()

    world.now_ms += 1_000
    world.settle()
    world.pipeline.finish(third, DONE)
    world.settle()

    assert ["a1", "a2", "a4", "a5"] == [world.run(DONE) for _ in range(4)]


def test_business_failures_are_events_and_poison_is_a_dead_letter_at_once(world: World) -> None:
    sent(world, "a1", "a2", "a3")
    world.run(BUSINESS)
    world.run(POISON)
    world.run(DONE)
    types = [header(one, "ce_type") for one in world.published if one.topic == OUTCOMES]
    assert types == ["edo.ship.failed", "edo.ship.done"]
    assert world.ids(DEAD) == ["a2"]


def test_a_throttled_run_counts_no_attempt_and_waits_as_long_as_asked(world: World) -> None:
    sent(world, "a1")
    for _ in range(9):
        world.run(THROTTLED)
        assert world.pipeline.next_due_ms() == world.now_ms + 3_000
        world.now_ms += 3_000
        world.settle()
    assert {run.attempt for run in world.runs} == {1}
    assert len(world.ids(FOUR_S)) == 9, "the smallest tier that is not shorter"


def test_a_wait_beyond_the_longest_tier_goes_through_it_repeatedly(world: World) -> None:
    sent(world, "a1")
    begun_ms = world.now_ms
    world.run(Failed(FailureClass.TRANSIENT, "http-503", retry_after_ms=9_500))
    while not world.pipeline.ready_flows():
        due_ms = world.pipeline.next_due_ms()
        assert due_ms is not None
        assert due_ms - world.now_ms <= 4_000
        world.now_ms = due_ms
        world.settle()
    assert world.now_ms == begun_ms + 9_500
    assert world.take().command.attempt == 2


def test_a_total_time_ends_retries() -> None:
    world = World(spec(policy(retry=RetryPolicy(1_000, 2, 4_000, 50, total_ms=3_500))))
    sent(world, "a1")
    for _ in range(3):
        world.run(TRANSIENT)
        world.now_ms = world.pipeline.next_due_ms() or world.now_ms
        world.settle()
    assert world.ids(DEAD) == ["a1"]
    assert len(world.runs) == 3


def test_a_key_that_stops_waits_for_an_operator() -> None:
    world = World(spec(policy(after_dead_letter=AfterDeadLetter.STOP)))
    sent(world, "a1", "a2", "a3")
    world.run(POISON)
    world.begin()
    world.settle()
    assert world.pipeline.ready_flows() == []
    world.ask("key.skip", "a")
    world.settle()
    assert world.ids(DEAD) == ["a1", "a2"]
    assert world.run(POISON) == "a3"
    sent(world, "a4")
    world.ask("key.continue", "a")
    world.settle()
    assert world.run(DONE) == "a4"


@pytest.mark.parametrize(("op", "letters"), [("retry.drop", []), ("key.skip", ["a1"])])
def test_an_operator_gives_up_a_waiting_head(world: World, op: str, letters: list[str]) -> None:
    sent(world, "a1", "a2")
    world.run(TRANSIENT)
    world.ask(op, "a")
    world.settle()
    assert world.run(DONE) == "a2"
    assert world.ids(DEAD) == letters
    world.now_ms += 1_000_000
    world.settle()
    assert world.pipeline.ready_flows() == []


def test_a_command_that_a_saga_waits_for_is_not_dropped() -> None:
    world = World(spec(policy(is_awaited=True)))
    sent(world, "a1")
    world.run(TRANSIENT)
    world.ask("retry.drop", "a")
    world.settle()
    (notice,) = [one for one in world.published if one.topic == "edo.gaps"]
    assert b"key skip makes it a dead letter" in (notice.value or b"")
    world.ask("key.skip", "a")
    world.settle()
    assert world.ids(DEAD) == ["a1"]


def test_an_operator_runs_a_waiting_head_at_once(world: World) -> None:
    sent(world, "a1")
    world.run(TRANSIENT)
    world.ask("retry.run-now", "a")
    world.settle()
    assert world.run(DONE) == "a1"


@pytest.mark.parametrize(
    ("op", "flow", "why"),
    [
        ("key.continue", "ship", "the key is not blocked"),
        ("retry.drop", "nope", "unknown flow"),
        ("gap.skip", "ship", "op: unknown 'gap.skip'"),
    ],
)
def test_what_cannot_be_done_is_refused(world: World, op: str, flow: str, why: str) -> None:
    world.ask(op, "a", flow)
    world.settle()
    (notice,) = [one for one in world.published if one.topic == "edo.gaps"]
    assert header(notice, "ce_type") == "edo.operation.refused"
    assert msgspec.json.decode(notice.value or b"")["reason"] == why


def test_at_most_once_commits_the_start_and_never_runs_again() -> None:
    world = World(spec(policy(delivery=Delivery.AT_MOST_ONCE)))
    sent(world, "a1", "a2")
    assert world.pipeline.take("ship") is None, "its start is not committed yet"
    world.commit(world.step())
    (work,) = world.pipeline.begun()
    assert work.command.id == "a1"
    world.begin()
    world.settle()
    (outcome,) = [one for one in world.published if one.topic == OUTCOMES]
    assert header(outcome, "ce_type") == "edo.ship.unknown"
    assert header(outcome, "ce_causationid") == "a1"
    assert world.take().command.id == "a2"


def test_a_start_that_was_not_committed_is_begun_again() -> None:
    world = World(spec(policy(delivery=Delivery.AT_MOST_ONCE)))
    sent(world, "a1")
    assert world.pipeline.take("ship") is None
    world.step()
    world.abort()
    world.settle()
    assert world.take().command.id == "a1"
    assert world.ids(OUTCOMES) == []


def test_parked_commands_at_their_bound_stay_in_the_log() -> None:
    world = World(spec(policy(parked_per_key_max=2), window_max=4))
    sent(world, "a1")
    world.run(TRANSIENT)
    sent(world, *(f"a{number}" for number in range(2, 12)))
    assert world.pipeline.held()[COMMANDS][0] == 2
    assert world.pipeline.room(COMMANDS) == 0, "the partition pauses"
    world.now_ms += 1_000
    world.settle()
    assert [world.run(DONE) for _ in range(11)] == [f"a{number}" for number in range(1, 12)]


def test_a_partition_full_of_parked_commands_pauses_the_topics_of_commands_only() -> None:
    world = World(spec(policy(), parked_max=3))
    sent(world, "a1")
    world.run(TRANSIENT)
    sent(world, "a2", "a3", "a4")
    assert world.pipeline.room(COMMANDS) == 0
    assert world.pipeline.room(ONE_S) > 0, "what releases them comes on a tier"


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([], "ce_id: expected a header"),
        ([("ce_id", b"\xff")], "headers: expected UTF-8"),
        ([("ce_id", b"x"), ("edo-attempt", b"0")], "edo-attempt: expected a number"),
        ([("ce_id", b"x"), ("edo-attempt", b"9" * 99)], "edo-attempt: expected a number"),
        ([("ce_id", b"x"), ("edo-redrive", None)], "edo-redrive: expected a number"),
    ],
)
def test_what_is_no_command_is_a_dead_letter_with_its_bytes(
    world: World, headers: list[tuple[str, bytes | None]], detail: str
) -> None:
    world.append(COMMANDS, b"a", b"\x00", headers)
    sent(world, "a1")
    assert world.run(DONE) == "a1"
    (letter,) = [one for one in world.published if one.topic == DEAD]
    assert header(letter, "edo-detail").startswith(detail)
    assert letter.value == b"\x00"


def test_a_retry_of_a_flow_that_is_gone_is_a_dead_letter(world: World) -> None:
    world.append(ONE_S, b"a", b"1", [("ce_id", b"x"), ("edo-flow", b"gone")])
    world.settle()
    assert world.ids("edo.dead") == ["x"]


def test_retries_that_are_on_the_tiers_survive_a_change_of_order() -> None:
    world = World(spec(policy(order=Order.RELAXED)))
    sent(world, "a1")
    world.run(TRANSIENT)
    world.spec = spec(policy())
    world.begin()
    world.now_ms += 1_000
    world.settle()
    assert world.run(DONE) == "a1"


def test_an_operator_s_word_about_a_breaker_outlives_a_restart(world: World) -> None:
    world.ask("breaker.open", "")
    world.settle()
    assert world.pipeline.switched() == {"ship": True}
    assert world.pipeline.switched() == {}
    world.begin()
    assert world.pipeline.switched() == {"ship": True}
    world.ask("breaker.close", "")
    world.settle()
    assert world.pipeline.switched() == {"ship": False}
    world.begin()
    assert world.pipeline.switched() == {}


def marked(world: World, command: str, replay: str) -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("ce_id", command.encode()),
        ("edo-replay", replay.encode()),
    ]
    world.append(COMMANDS, command[:1].encode(), b"{}", headers)
    world.settle()


def test_a_replayed_command_that_ends_alike_has_the_same_outcome_marked(world: World) -> None:
    sent(world, "a1")
    world.run(DONE)
    marked(world, "a1", "r")
    world.run(DONE)
    marked(world, "a1", "s")
    world.run(BUSINESS)
    first, again, other = [one for one in world.published if one.topic == OUTCOMES]
    assert header(first, "ce_id") == header(again, "ce_id")
    assert header(first, "ce_id") != header(other, "ce_id")
    assert "edo-replay" not in dict(first.headers)
    assert header(again, "edo-replay") == "r"


def test_the_dead_letter_of_a_replayed_command_is_one_of_its_own(world: World) -> None:
    sent(world, "a1")
    world.run(POISON)
    marked(world, "a1", "r")
    world.run(TRANSIENT)
    world.now_ms += 1_000
    world.settle()
    world.run(POISON)
    first, again = [one for one in world.published if one.topic == DEAD]
    assert header(first, "edo-id") != header(again, "edo-id")
    assert header(again, "edo-replay") == "r"


def test_what_a_replay_has_counted_is_told_once_committed(world: World) -> None:
    note = {
        "op": "replay.note",
        "flow": "ship",
        "key": "",
        "replay": "r",
        "counts": {"replayed": 3, "duplicate": 1},
    }
    world.append(CONTROL, b"ship", msgspec.json.encode(note), [])
    aborted = world.step()
    world.abort()
    effects = world.step()
    world.commit(effects)
    counts = {("ship", "replayed"): 3, ("ship", "duplicate"): 1}
    assert counts == aborted.replayed == effects.replayed
    assert world.step().replayed == {}


@pytest.mark.parametrize(
    "request_", [{"op": "replay.note"}, {"op": "key.skip", "counts": {"replayed": 1}}]
)
def test_counts_come_with_a_replays_note_and_no_other_request(request_: dict[str, object]) -> None:
    value = msgspec.json.encode({"flow": "ship", "key": "", **request_})
    operation, _ = parse_act_operation(value)
    assert isinstance(operation, Violation)
    assert operation.detail == "counts: expected with replay.note only"
