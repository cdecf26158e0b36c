"""What flows say of their keys' commands: singletons, throttles, limits, cancels, and pauses."""

import msgspec
import pytest

from edo_stream.core.act.ladder import RetryPolicy
from edo_stream.core.act.operations import parse_act_operation
from edo_stream.core.act.outcome import Done
from edo_stream.core.act.policy import Delivery, Singleton
from edo_stream.core.act.switches import Paused
from edo_stream.core.act.turns import KeyLimit, Throttle
from edo_stream.core.contract import DAY_MS
from edo_stream.core.event import Violation
from tests.act.world import (
    BUSINESS,
    CONTROL,
    POISON,
    STOPPED,
    TRANSIENT,
    World,
    header,
    policy,
    spec,
)

COMMANDS, OUTCOMES = "edo.commands.ship", "edo.outcomes.ship"
DONE = Done(b"{}")


def sent(world: World, *commands: str) -> None:
    """Send commands named ``<key><number>``, and let the task read them."""
    for command in commands:
        world.send(command, command[0])
    world.settle()


def cancelled(world: World, key: str) -> None:
    world.send_cancel("e-1", key)
    world.settle()


def ends(world: World) -> list[str]:
    """What was told of commands, in order."""
    return [
        f"{header(one, 'ce_causationid')} {header(one, 'ce_type').rpartition('.')[2]}"
        for one in world.published
        if one.topic == OUTCOMES
    ]


def told(world: World) -> dict[str, str]:
    """The data of the last outcome."""
    last = [one for one in world.published if one.topic == OUTCOMES][-1]
    return msgspec.json.decode(last.value or b"", type=dict[str, str])


def world_of(**rest: object) -> World:
    return World(spec(policy(**rest)))


def test_skip_ends_what_comes_while_another_one_of_its_key_runs() -> None:
    world = world_of(singleton=Singleton.SKIP)
    sent(world, "a1")
    first = world.take()
    sent(world, "a2", "b1")
    assert ["a2 skipped"] == ends(world)
    assert {"reason": "singleton", "running": "a1"} == told(world)
    world.pipeline.finish(first, DONE)
    world.settle()
    sent(world, "a3")
    assert {"b1", "a3"} == {world.run(DONE), world.run(DONE)}
    assert {"p", "e"} == set(world.fates().values())


def test_skip_also_while_a_retry_is_waited_for_and_after_a_restart() -> None:
    world = world_of(singleton=Singleton.SKIP)
    sent(world, "a1")
    world.run(TRANSIENT)
    sent(world, "a2")
    world.begin()
    sent(world, "a3")
    assert ["a2 skipped", "a3 skipped"] == ends(world)
    assert "a1" == told(world)["running"]


def test_what_was_sent_again_is_not_skipped() -> None:
    world = world_of(singleton=Singleton.SKIP)
    sent(world, "a1")
    headers: list[tuple[str, bytes | None]] = [("ce_id", b"a0"), ("edo-redrive", b"1")]
    world.append(COMMANDS, b"a", b"{}", headers)
    world.settle()
    assert ["a1", "a0"] == [world.run(DONE), world.run(DONE)]


def test_queue_lets_the_newest_wait_and_skips_who_has_waited() -> None:
    world = world_of(singleton=Singleton.QUEUE)
    sent(world, "a1")
    first = world.take()
    sent(world, "a2", "a3", "a4")
    assert ["a2 skipped", "a3 skipped"] == ends(world)
    assert {"reason": "singleton", "replaced-by": "a4"} == told(world)
    world.pipeline.finish(first, DONE)
    world.settle()
    assert "a4" == world.run(DONE)


def test_queue_replaces_what_is_parked_behind_a_retry() -> None:
    world = world_of(singleton=Singleton.QUEUE)
    sent(world, "a1")
    world.run(TRANSIENT)
    sent(world, "a2")
    world.begin()
    sent(world, "a3")
    world.now_ms += 1_000
    world.settle()
    assert ["a1", "a3"] == [world.run(DONE), world.run(DONE)]
    assert ["a2 skipped", "a1 done", "a3 done"] == ends(world)


def test_replace_cancels_all_before_and_waits_for_the_run_to_end() -> None:
    world = world_of(singleton=Singleton.REPLACE)
    sent(world, "a1")
    first = world.take()
    sent(world, "a2", "a3")
    assert ["a2 cancelled"] == ends(world)
    assert ["a1"] == [command.id for command in world.pipeline.cancelled()]
    assert [] == world.pipeline.ready_flows(), "not before a1 has ended"
    world.pipeline.finish(first, STOPPED)
    world.settle()
    assert {"reason": "replaced", "command": "a2"} == told(world)
    assert "a3" == world.run(DONE)


def test_a_throttled_key_rests_while_others_go_on_and_nothing_is_lost() -> None:
    world = world_of(throttle=Throttle(limit=2, per_ms=10_000))
    sent(world, "a1", "a2", "a3", "b1")
    assert ["a1", "b1"] == [world.run(DONE), world.run(DONE)]
    assert [] == world.pipeline.ready_flows()
    assert world.now_ms + 5_000 == world.pipeline.next_due_ms()
    assert {COMMANDS: (2, world.now_ms)} == world.pipeline.held(), "parked: others may go on"
    assert 4 == world.pipeline.positions()[COMMANDS]
    for command in ("a2", "a3"):
        world.now_ms += 4_999
        world.settle()
        assert [] == world.pipeline.ready_flows()
        world.now_ms += 1
        world.settle()
        assert command == world.run(DONE)


def test_a_restart_gives_no_second_burst() -> None:
    world = world_of(throttle=Throttle(limit=2, per_ms=10_000, burst=2))
    sent(world, "a1", "a2", "a3")
    assert ["a1", "a2"] == [world.run(DONE), world.run(DONE)]
    world.begin()
    world.settle()
    assert [] == world.pipeline.ready_flows()
    world.now_ms += 5_000
    world.settle()
    assert "a3" == world.run(DONE)


def test_a_start_counts_even_if_its_run_is_lost() -> None:
    world = world_of(throttle=Throttle(limit=1, per_ms=10_000))
    sent(world, "a1")
    world.take()
    world.begin()
    world.settle()
    assert [] == world.pipeline.ready_flows(), "the run had begun"
    world.now_ms += 10_000
    world.settle()
    assert "a1" == world.run(DONE)


def test_a_retry_has_had_its_turn() -> None:
    world = world_of(throttle=Throttle(limit=1, per_ms=60_000))
    sent(world, "a1")
    world.run(TRANSIENT)
    world.now_ms += 1_000
    world.settle()
    assert "a1" == world.run(DONE)


def test_a_throttle_forgets_keys_that_have_rested() -> None:
    world = world_of(throttle=Throttle(limit=1, per_ms=10_000))
    sent(world, "a1")
    world.run(DONE)
    world.now_ms += 10_000
    sent(world, "b1")
    world.run(DONE)
    assert [b"tship\0b"] == [row for row in world.memory.rows if row[:1] == b"t"]


@pytest.mark.parametrize("relaxed", [None, Throttle(limit=2, per_ms=60_000)])
def test_what_rests_does_not_wait_for_a_throttle_that_was_relaxed(relaxed: Throttle | None) -> None:
    world = world_of(throttle=Throttle(limit=1, per_ms=DAY_MS))
    sent(world, "a1", "a2")
    world.run(DONE)
    world.spec = spec(policy(throttle=relaxed))
    world.begin()
    world.settle()
    if relaxed is not None:
        assert world.now_ms + 30_000 == world.pipeline.next_due_ms()
        world.now_ms += 30_000
        world.settle()
    assert "a2" == world.run(DONE)
    assert relaxed is None or world.now_ms + 30_000 == _free_ms(world)


def _free_ms(world: World) -> int:
    return int.from_bytes(world.memory.rows[b"tship\0a"]) // 1_000


def test_what_rests_over_a_restart_rests_as_long_as_before() -> None:
    world = world_of(throttle=Throttle(limit=2, per_ms=10_000))
    sent(world, "a1", "a2", "a3")
    world.run(DONE)
    due_ms = world.pipeline.next_due_ms()
    world.now_ms += 1_000
    world.begin()
    world.settle()
    assert due_ms == world.pipeline.next_due_ms()
    assert [] == world.pipeline.ready_flows()


def test_an_operator_lets_a_key_that_rests_run_at_once_and_it_counts() -> None:
    world = world_of(throttle=Throttle(limit=2, per_ms=10_000))
    sent(world, "a1", "a2", "a3")
    world.run(DONE)
    world.ask("retry.run-now", "a")
    world.settle()
    world.begin()
    world.settle()
    assert "a2" == world.run(TRANSIENT), "also after a restart"
    world.settle()
    assert [] == world.pipeline.ready_flows(), "its retry waits like any other"
    world.now_ms += 1_000
    world.settle()
    assert "a2" == world.run(DONE)
    world.now_ms += 3_999
    world.settle()
    assert [] == world.pipeline.ready_flows(), "a2 counts"
    world.now_ms += 1
    world.settle()
    assert "a3" == world.run(DONE)


def test_beyond_the_rate_limit_commands_end_as_limited() -> None:
    world = world_of(rate_limit=KeyLimit(limit=1, per_ms=10_000))
    sent(world, "a1", "a2", "b1")
    assert ["a1", "b1"] == [world.run(DONE), world.run(DONE)]
    assert "a2 limited" in ends(world)
    assert {"q", "e"} == set(world.fates().values())
    world.now_ms += 9_999
    sent(world, "a3")
    assert {"reason": "rate-limit", "limit": "1 in 10000 ms"} == told(world)
    world.now_ms += 1
    sent(world, "a4")
    assert "a4" == world.run(DONE)


def test_a_limit_is_by_when_commands_were_made_however_late_they_are_read() -> None:
    world = world_of(rate_limit=KeyLimit(limit=1, per_ms=10_000))
    world.send("a1", "a")
    world.now_ms += 10_000
    world.send("a2", "a")
    world.now_ms += 9_999
    world.send("a3", "a")
    world.now_ms += 3_600_000
    world.settle()
    assert ["a1", "a2"] == [world.run(DONE), world.run(DONE)]
    assert "a3 limited" == ends(world)[-1]


def test_a_command_that_counts_is_not_limited_by_itself_after_a_restart() -> None:
    world = world_of(rate_limit=KeyLimit(limit=1, per_ms=10_000))
    sent(world, "a1", "a2")
    world.begin()
    world.settle()
    assert "a1" == world.run(DONE)
    assert ["a1 done", "a2 limited"] == ends(world)


def test_a_thousand_limited_commands_end_in_one_step() -> None:
    world = world_of(rate_limit=KeyLimit(limit=1, per_ms=10_000), parked_per_key_max=5_000)
    sent(world, "a1")
    world.run(TRANSIENT)
    sent(world, *(f"a{number}" for number in range(2, 2_000)))
    world.now_ms += 1_000
    world.settle()
    world.run(DONE)
    assert 1_999 == len(ends(world))


def test_a_limit_forgets_keys_once_later_commands_are_read() -> None:
    world = world_of(rate_limit=KeyLimit(limit=1, per_ms=10_000))
    sent(world, "a1")
    world.run(DONE)
    world.now_ms += DAY_MS // 2
    world.begin()
    world.settle()
    assert [b"lship\0a"] == [row for row in world.memory.rows if row[:1] == b"l"]
    sent(world, "b1")
    assert [b"lship\0b"] == [row for row in world.memory.rows if row[:1] == b"l"]


def test_a_limit_remembers_a_key_while_one_that_was_made_before_waits() -> None:
    world = world_of(rate_limit=KeyLimit(limit=1, per_ms=500))
    sent(world, "a1")
    world.run(TRANSIENT)
    sent(world, "a2")
    world.now_ms += 800
    sent(world, "b1")
    world.now_ms += 200
    world.settle()
    assert {"b1", "a1"} == {world.run(DONE), world.run(DONE)}
    assert "a2 limited" in ends(world)


def test_a_cancel_ends_what_waits_and_not_what_comes_after_it() -> None:
    world = world_of()
    sent(world, "a1", "a2", "b1")
    world.send_cancel("e-1", "a")
    sent(world, "a3")
    assert ["a2 cancelled", "a1 cancelled"] == ends(world), "neither had begun"
    expected = {
        "reason": "event",
        "event": "e-1",
        "type": "shop.order.cancelled",
        "position": "shop.order.cancelled/0/7",
    }
    assert expected == told(world)
    assert {"b1", "a3"} == {world.run(DONE), world.run(DONE)}
    assert ["c", "c", "e", "a", "e"] == [world.fates()[COMMANDS, n] for n in (0, 1, 2, 3, 4)]


def test_a_cancel_ends_a_run_and_only_then_the_next_begins() -> None:
    world = world_of()
    sent(world, "a1")
    first = world.take()
    cancelled(world, "a")
    sent(world, "a2")
    assert ["a1"] == [command.id for command in world.pipeline.cancelled()]
    assert [] == world.pipeline.ready_flows()
    world.pipeline.finish(first, STOPPED)
    world.settle()
    assert ["a1 cancelled"] == ends(world)
    assert "a2" == world.run(DONE)


@pytest.mark.parametrize(
    ("outcome", "end"), [(DONE, "done"), (BUSINESS, "failed"), (TRANSIENT, "cancelled")]
)
def test_a_run_that_was_through_before_it_could_be_ended_says_so(outcome: Done, end: str) -> None:
    world = world_of()
    sent(world, "a1")
    first = world.take()
    cancelled(world, "a")
    world.pipeline.finish(first, outcome)
    world.settle()
    assert [f"a1 {end}"] == ends(world)
    assert [] == [row for row in world.memory.rows if row[:1] == b"x"]


def test_a_cancelled_run_is_not_repeated_by_the_next_worker() -> None:
    world = world_of()
    sent(world, "a1")
    world.take()
    cancelled(world, "a")
    world.begin()
    world.settle()
    assert ["a1 cancelled"] == ends(world)
    assert [] == world.pipeline.ready_flows()


def test_a_run_that_is_known_is_told_again_to_end() -> None:
    world = world_of()
    sent(world, "a1")
    first = world.take()
    cancelled(world, "a")
    world.pipeline.is_known = lambda command: command.id == "a1"
    world.abort()
    world.settle()
    assert ["a1"] == [command.id for command in world.pipeline.cancelled()]
    assert "a1" == world.take().command.id, "it is adopted, not repeated"
    world.pipeline.finish(first, STOPPED)
    world.settle()
    assert ["a1 cancelled"] == ends(world)


def test_a_cancel_ends_a_retry_and_what_is_parked_behind_it() -> None:
    world = world_of()
    sent(world, "a1")
    world.run(TRANSIENT)
    sent(world, "a2", "a3")
    cancelled(world, "a")
    assert ["a2 cancelled", "a3 cancelled", "a1 cancelled"] == ends(world)
    assert {} == world.pipeline.held()
    sent(world, "a4")
    assert "a4" == world.run(DONE)


def test_a_cancel_ends_a_retry_that_was_not_read_yet() -> None:
    world = world_of()
    sent(world, "a1")
    world.pipeline.finish(world.take(), TRANSIENT)
    world.commit(world.step())
    world.send_cancel("e-1", "a")
    tier = world.logs.pop("edo.retry.act.1s")
    world.settle()
    assert [] == ends(world)
    world.begin()
    world.logs["edo.retry.act.1s"] = tier
    world.settle()
    assert ["a1 cancelled"] == ends(world)
    assert [b"o"] == list(world.memory.rows)


def test_a_cancel_ends_what_rests_for_its_throttle() -> None:
    world = world_of(throttle=Throttle(limit=1, per_ms=10_000))
    sent(world, "a1")
    world.run(DONE)
    sent(world, "a2", "a3")
    cancelled(world, "a")
    assert {"a2 cancelled", "a3 cancelled"} == set(ends(world)[1:])
    assert {} == world.pipeline.held()


def test_a_cancel_is_announced_to_a_task_that_is_far_behind() -> None:
    world = World(spec(policy(), window_max=3))
    sent(world, "a1", "b1", "c1", "a2", "a3")
    world.take()
    world.send_cancel("e-1", "a")
    sent(world, "a4")
    assert ["a1"] == [command.id for command in world.pipeline.cancelled()]
    assert 3 == world.reading[COMMANDS], "its mark is far from being read"
    world.begin()
    world.settle()
    assert ["a1 cancelled", "a2 cancelled"] == ends(world), "and nothing has begun"
    assert {"b1", "c1", "a4"} == {world.run(DONE) for _ in range(3)}
    assert {"a1 cancelled", "a2 cancelled", "a3 cancelled", "b1 done", "c1 done", "a4 done"} == {
        *ends(world)
    }
    assert [b"o"] == list(world.memory.rows)


def test_what_is_announced_after_its_mark_was_read_cancels_nothing_more() -> None:
    world = world_of()
    sent(world, "a1")
    world.send_cancel("e-1", "a")
    announcement = world.logs[CONTROL].pop()
    sent(world, "a2")
    world.begin()
    world.settle()
    world.logs[CONTROL].append(announcement)
    world.settle()
    assert ["a1 cancelled"] == ends(world)
    assert "a2" == world.run(DONE)
    assert [b"o"] == list(world.memory.rows)


def test_an_announcement_whose_mark_is_lost_does_not_cancel_for_ever() -> None:
    world = world_of()
    world.send_cancel("e-1", "a")
    world.logs[COMMANDS].clear()
    sent(world, "a1")
    assert ["a1 cancelled"] == ends(world)
    world.now_ms += 3_600_001
    sent(world, "a2")
    assert "a2" == world.run(DONE)
    assert [b"o"] == list(world.memory.rows)


def test_announced_a_run_that_comes_again_is_not_ended_beside_itself() -> None:
    world = World(spec(policy(), window_max=1))
    sent(world, "a1")
    first = world.take()
    world.send_cancel("e-1", "a")
    sent(world, "a2")
    world.pipeline.is_known = lambda command: command.id == "a1"
    world.abort()
    world.settle()
    assert [] == ends(world), "its run has not ended"
    assert "a1" == world.take().command.id
    world.pipeline.finish(first, STOPPED)
    world.settle()
    assert ["a1 cancelled"] == ends(world)
    assert "a2" == world.run(DONE)


def test_announced_a_run_that_comes_again_and_fails_is_not_retried() -> None:
    world = world_of()
    sent(world, "a1")
    first = world.take()
    world.pipeline.is_known = lambda command: command.id == "a1"
    world.abort()
    world.send_cancel("e-1", "a")
    # The commands are behind: what is announced is read first.
    batches = [one for one in world.batches() if one.topic == CONTROL]
    world.commit(world.pipeline.step(batches, world.now_ms, world.now_ms))
    world.reading = dict(world.pipeline.positions())
    world.commit(world.step(records_max=1))
    assert ["a1"] == [command.id for command in world.pipeline.cancelled()]
    assert first.command == world.take().command, "it is adopted, not repeated"
    world.pipeline.finish(first, TRANSIENT)
    world.settle()
    assert ["a1 cancelled"] == ends(world)
    assert [b"o"] == list(world.memory.rows)


def aborted_while_it_runs(world: World, retries: int) -> None:
    """The step that has read a command, or its retry, is given up; its run goes on."""
    sent(world, "a1")
    for _ in range(retries):
        world.run(TRANSIENT)
        world.now_ms += 1_000
        world.settle()
    world.take()
    world.pipeline.is_known = lambda command: command.id == "a1"
    world.abort()


@pytest.mark.parametrize("retries", [0, 1])
def test_a_run_that_comes_again_in_one_step_with_its_cancel_is_ended_first(retries: int) -> None:
    world = world_of()
    aborted_while_it_runs(world, retries)
    world.send_cancel("e-1", "a")
    sent(world, "a2")
    assert [] == ends(world), "its run has not ended"
    assert ["a1"] == [command.id for command in world.pipeline.cancelled()]
    again = world.take()
    assert ("a1", 1 + retries) == (again.command.id, again.command.attempt)
    assert [] == world.pipeline.ready_flows(), "one of its key at a time"
    world.pipeline.finish(again, STOPPED)
    world.settle()
    assert ["a1 cancelled"] == ends(world)
    assert "a2" == world.run(DONE)


@pytest.mark.parametrize(
    ("delivery", "is_told"), [(Delivery.AT_LEAST_ONCE, True), (Delivery.AT_MOST_ONCE, False)]
)
def test_announced_a_retry_that_comes_again_is_not_ended_beside_its_run(
    delivery: Delivery, is_told: bool
) -> None:
    world = world_of(delivery=delivery)
    aborted_while_it_runs(world, retries=1)
    world.send_cancel("e-1", "a")
    mark = world.logs[COMMANDS].pop()
    world.settle()
    assert [] == ends(world), "its run has not ended"
    assert is_told is bool(world.pipeline.cancelled())
    again = world.pipeline.take("ship")
    assert again is not None
    world.logs[COMMANDS].append(mark)
    world.settle()
    world.pipeline.finish(again, DONE)
    world.settle()
    assert ["a1 done"] == ends(world)
    assert [b"o"] == list(world.memory.rows)


@pytest.mark.parametrize("retries", [0, 1])
def test_at_most_once_a_run_that_comes_again_is_let_to_its_end(retries: int) -> None:
    world = world_of(delivery=Delivery.AT_MOST_ONCE)
    aborted_while_it_runs(world, retries)
    cancelled(world, "a")
    assert ([], []) == (world.pipeline.cancelled(), ends(world))
    again = world.pipeline.take("ship")
    assert again is not None
    world.pipeline.finish(again, DONE)
    world.settle()
    assert ["a1 done"] == ends(world)


def test_at_most_once_a_run_that_has_begun_is_let_to_its_end() -> None:
    world = world_of(delivery=Delivery.AT_MOST_ONCE)
    sent(world, "a1", "a2")
    first = world.take()
    cancelled(world, "a")
    assert [] == world.pipeline.cancelled()
    world.pipeline.finish(first, DONE)
    world.settle()
    assert ["a2 cancelled", "a1 done"] == ends(world)


def test_a_stopped_key_keeps_its_stop_when_what_waits_behind_it_is_cancelled() -> None:
    from edo_stream.core.act.policy import AfterDeadLetter  # noqa: PLC0415 - only here

    world = world_of(after_dead_letter=AfterDeadLetter.STOP)
    sent(world, "a1", "a2")
    world.run(POISON)
    cancelled(world, "a")
    sent(world, "a3")
    assert ["a2 cancelled"] == ends(world)
    assert [] == world.pipeline.ready_flows()


def test_a_pause_holds_over_a_restart_and_takes_commands_in() -> None:
    world = world_of()
    request = {"op": "flow.pause", "flow": "ship", "key": "", "by": "ann", "reason": "carrier"}
    world.append(CONTROL, None, msgspec.json.encode(request), [])
    sent(world, "a1")
    begun_ms = world.now_ms
    world.now_ms += 1_000
    world.ask("flow.pause", "")
    world.begin()
    world.settle()
    assert {"ship": Paused(begun_ms)} == world.pipeline.paused(), "since it was paused first"
    assert "a1" == world.pipeline.peek("ship").id  # type: ignore[union-attr]
    world.ask("flow.resume", "")
    world.settle()
    assert {} == world.pipeline.paused()
    assert [b"o"] == [row for row in world.memory.rows if row[:1] in b"oh"]


def test_paused_a_run_that_goes_on_is_found_before_what_may_not_begin() -> None:
    world = world_of()
    sent(world, "a1", "b1")
    world.ask("flow.pause", "")
    world.settle()
    world.pipeline.is_known = lambda command: command.id == "b1"
    world.abort()
    world.settle()
    assert "b1" == world.pipeline.peek("ship").id  # type: ignore[union-attr]


def test_a_pause_says_who_wants_it_and_why() -> None:
    request = {"op": "flow.pause", "flow": "f", "key": "", "by": "ann", "reason": "r"}
    operation, repeated = parse_act_operation(msgspec.json.encode(request))
    assert not isinstance(operation, Violation)
    assert ("ann", "r") == (operation.by, operation.reason)
    assert "ann" == repeated["by"]


def test_a_retry_policy_without_retries_is_cancelled_like_any_other() -> None:
    world = world_of(retry=RetryPolicy(1_000, 2, 4_000, 0))
    sent(world, "a1")
    first = world.take()
    cancelled(world, "a")
    world.pipeline.finish(first, POISON)
    world.settle()
    assert ["a1 cancelled"] == ends(world), "not a dead letter"
