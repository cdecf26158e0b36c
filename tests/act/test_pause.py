"""A paused flow's retries leave their tier to other flows, and run in order when it goes on."""

import pytest

from edo_stream.core.act.outcome import Done
from edo_stream.core.act.policy import Delivery, Order, Singleton
from edo_stream.core.act.turns import Throttle
from edo_stream.core.state import Table
from edo_stream.observe.blocked import BlockedKey, BlockedRows
from tests.act.test_control import ends
from tests.act.world import CONTROL, IDENTITY, TIERS, TRANSIENT, World, policy, spec

DONE = Done(b"{}")
TIER = TIERS[1_000]
WINDOW = 3


def world_of(parked_max: int = 10_000, window_max: int = WINDOW, **rest: object) -> World:
    """Two flows of a group whose windows are small."""
    flows = (policy("ship", **rest), policy("bill"))
    return World(spec(*flows, window_max=window_max, parked_max=parked_max))


def sent(world: World, *commands: str) -> None:
    """Send commands named ``<key><number>``, and let the task read them."""
    for command in commands:
        world.send(command, command[0])
    world.settle()


def failing(world: World, *commands: str, flow: str = "ship") -> None:
    """Commands that run once, and wait for their retry."""
    for command in commands:
        world.send(command, command[0], flow)
        world.settle()
        world.run(TRANSIENT, flow)


def paused(world: World) -> None:
    world.ask("flow.pause", "")
    world.settle()


def resumed(world: World) -> None:
    world.ask("flow.resume", "")
    world.settle()


def later(world: World) -> None:
    """The time of the first tier passes."""
    world.now_ms += 1_000
    world.settle()


def aside(*commands: str, **rest: object) -> World:
    """A world whose paused flow has such retries, due."""
    world = world_of(**rest)
    failing(world, *commands)
    paused(world)
    later(world)
    return world


def may_begin(world: World) -> list[str]:
    """Flows of which something may begin."""
    return [flow for flow in world.pipeline.ready_flows() if flow not in world.pipeline.paused()]


def ran(world: World) -> list[str]:
    """Run all that may be run, to a good end."""
    found = []
    while "ship" in may_begin(world):
        found.append(world.run(DONE))
    return found


def shown(world: World) -> list[BlockedKey]:
    """Keys as ``edo key list`` shows them."""
    rows = BlockedRows()
    for key, value in world.memory.rows.items():
        rows.apply(key, value)
    return sorted(rows.keys("act", IDENTITY.partition))


def all_is_told(world: World) -> bool:
    """Whether every record that was read has its fate, and no row is left."""
    fates = world.fates()
    logs = [
        (topic, log)
        for topic, log in world.logs.items()
        if ".commands." in topic or ".retry." in topic
    ]
    told = all(
        fates.get((topic, one.offset)) not in (None, "h") for topic, log in logs for one in log
    )
    return told and [row for row in world.memory.rows if row != b"o"] == []


@pytest.mark.parametrize("stop", [("flow.pause", "flow.resume"), ("breaker.open", "breaker.close")])
@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("is_one_key", [False, True])
def test_more_retries_than_a_window_holds_do_not_hold_up_another_flow(
    stop: tuple[str, str], order: Order, is_one_key: bool
) -> None:
    world = world_of(order=order)
    numbers = range(3 * WINDOW)
    failing(
        world,
        *(
            f"a{n}" if is_one_key and order is Order.RELAXED else f"{'abcdefghi'[n]}0"
            for n in numbers
        ),
    )
    failing(world, "z1", flow="bill")
    world.ask(stop[0], "")
    later(world)
    world.begin()
    world.settle()
    assert ["bill"] == may_begin(world), "its retry is read behind those that are aside"
    assert "z1" == world.run(DONE, "bill")
    assert world.logs[TIER][-1].offset < world.pipeline.positions()[TIER]
    world.ask(stop[1], "")
    world.settle()
    assert 3 * WINDOW == len(ran(world))
    assert all_is_told(world)


def test_retries_that_were_ready_when_the_pause_came_give_their_window_back() -> None:
    world = world_of()
    failing(world, "a1", "b1", "c1")
    failing(world, "z1", flow="bill")
    later(world)
    assert ["ship"] == may_begin(world), "the window is full of them"
    paused(world)
    assert ["bill"] == may_begin(world)
    assert ["paused"] * 3 == [one.state for one in shown(world) if one.flow == "ship"]


def test_retries_behind_a_command_that_is_ready_are_put_aside_too() -> None:
    world = world_of(order=Order.RELAXED)
    failing(world, "a1", "a2", "a3")
    failing(world, "z1", flow="bill")
    sent(world, "a4")
    later(world)
    paused(world)
    assert ["bill"] == may_begin(world)
    resumed(world)
    assert ["a1", "a2", "a3", "a4"] == ran(world)
    world.run(DONE, "bill")
    assert all_is_told(world)


def test_what_a_run_that_goes_on_holds_back_is_put_aside_when_it_ends() -> None:
    world = world_of(order=Order.RELAXED)
    failing(world, "a1", "a2", "a3")
    failing(world, "z1", flow="bill")
    sent(world, "a4")
    running = world.take()
    paused(world)
    later(world)
    assert [] == may_begin(world), "they wait for the run, in the window"
    world.pipeline.finish(running, DONE)
    world.settle()
    assert ["bill"] == may_begin(world)


def test_a_flow_that_is_paused_and_whose_breaker_is_open_goes_on_without_both() -> None:
    world = aside("a1", "b1")
    world.ask("breaker.open", "")
    world.settle()
    resumed(world)
    assert [] == world.pipeline.ready_flows()
    world.ask("breaker.close", "")
    world.settle()
    assert ["a1", "b1"] == ran(world)
    assert all_is_told(world)


def test_a_key_goes_on_in_order_behind_the_retry_that_was_aside() -> None:
    world = world_of()
    failing(world, "a1")
    sent(world, "a2")
    paused(world)
    sent(world, "a3")
    later(world)
    sent(world, "a4")
    assert [] == may_begin(world)
    resumed(world)
    retry = world.take()
    assert ("a1", 2) == (retry.command.id, retry.command.attempt)
    world.pipeline.finish(retry, DONE)
    world.settle()
    assert ["a2", "a3", "a4"] == ran(world)
    assert all_is_told(world)


def test_a_retry_that_was_aside_fails_again_and_keeps_its_place() -> None:
    world = aside("a1")
    sent(world, "a2")
    resumed(world)
    assert "a1" == world.run(TRANSIENT)
    paused(world)
    world.now_ms += 2_000
    world.settle()
    (key,) = shown(world)
    assert ("paused", "a1", 3) == (key.state, key.head, key.attempt)
    resumed(world)
    assert ["a1", "a2"] == ran(world)
    assert [1, 2, 3] == [run.attempt for run in world.runs if run.command_id == "a1"]
    assert all_is_told(world)


@pytest.mark.parametrize("is_crash", [False, True])
def test_what_is_aside_outlives_its_worker_and_runs_once(is_crash: bool) -> None:
    commands = [f"{key}1" for key in "abcdefg"]
    world = aside(*commands)
    (world.begin if is_crash else world.abort)()
    world.settle()
    assert [] == may_begin(world)
    world.ask("flow.resume", "")
    effects = world.step()
    assert effects.publish
    (world.begin if is_crash else world.abort)()
    world.settle()
    assert commands == ran(world)
    assert [2] * 7 == [run.attempt for run in world.runs[7:]]
    assert all_is_told(world)


def test_a_pause_while_keys_come_back_puts_them_aside_again() -> None:
    commands = [f"{key}1" for key in "abcdefg"]
    world = aside(*commands)
    resumed(world)
    assert "a1" == world.run(DONE)
    paused(world)
    assert [] == may_begin(world)
    assert ["paused"] * 6 == [one.state for one in shown(world)]
    world.begin()
    resumed(world)
    assert sorted(commands[1:]) == sorted(ran(world))
    assert all_is_told(world)


def test_keys_come_back_a_window_at_a_time() -> None:
    world = aside(*(f"{key}1" for key in "abcdefg"))
    resumed(world)
    assert ["draining"] * 3 + ["paused"] * 4 == sorted(one.state for one in shown(world))
    assert [f"{key}1" for key in "abcdefg"] == ran(world)


def test_commands_of_a_paused_flow_take_no_room_from_those_of_others() -> None:
    world = world_of(parked_max=2, window_max=20)
    failing(world, "a1", "b1", "c1")
    paused(world)
    sent(world, "a2", "a3", "b2")
    assert [0, 0, 0] == [one.parked for one in shown(world)]
    assert world.pipeline.room("edo.commands.bill")
    resumed(world)
    assert [2, 1, 0] == [one.parked for one in shown(world)], "parked, now that its turn may come"


def test_beyond_the_bound_of_the_rows_retries_wait_in_the_window_and_go_on() -> None:
    world = aside(*(f"{key}1" for key in "abcdefg"), parked_max=2)
    assert 2 == len([one for one in shown(world) if one.state == "paused"])
    assert 0 == world.pipeline.room(TIER), "as full as it was without rows"
    assert world.pipeline.room("edo.commands.bill"), "retries take no room from commands"
    world.ask("retry.drop", "a")
    world.ask("flow.resume", "")
    world.settle()
    assert [f"{key}1" for key in "bcdefg"] == sorted(ran(world))
    assert all_is_told(world)


def test_a_key_that_an_older_version_has_blocked_keeps_its_head_in_the_window() -> None:
    world = world_of()
    failing(world, "a1")
    sent(world, "a2")
    queue = b"ship\0a"
    row = world.pipeline._hand.keys.get(queue)
    assert row is not None
    first = next(key for key in world.memory.rows if key[:1] == b"p")
    table = Table(world.memory)
    table.write(first[:-8] + bytes(8), world.memory.rows[first])
    table.write(first, None)
    row.first, row.next = 0, 1
    world.pipeline._hand.keys.put(queue, row)
    world.pipeline._hand.keys.flush()
    world.memory.write({**table.local, **world.state.local})
    world.begin()
    paused(world)
    later(world)
    assert ["waiting"] == [one.state for one in shown(world)]
    resumed(world)
    assert ["a1", "a2"] == ran(world)
    assert all_is_told(world)


@pytest.mark.parametrize("verb", ["retry.drop", "key.skip"])
def test_an_operator_ends_a_retry_that_is_aside(verb: str) -> None:
    world = aside("a1")
    sent(world, "a2")
    world.ask(verb, "a")
    world.settle()
    assert [] == may_begin(world)
    assert (["a1"] if verb == "key.skip" else []) == world.ids("edo.dead.ship")
    resumed(world)
    assert ["a2"] == ran(world)
    assert all_is_told(world)


def test_an_operator_cannot_let_a_retry_run_whose_flow_is_paused() -> None:
    world = aside("a1")
    world.ask("retry.run-now", "a")
    world.settle()
    refused = [one for one in world.published if one.value and b"not while" in one.value]
    assert 1 == len(refused)
    assert b"retry.run-now: not while the key is paused" in (refused[0].value or b"")
    assert [] == may_begin(world)


@pytest.mark.parametrize("is_throttled", [False, True])
def test_an_operator_cannot_let_a_key_run_that_waits_while_its_flow_is_paused(
    is_throttled: bool,
) -> None:
    world = world_of(throttle=Throttle(limit=1, per_ms=60_000) if is_throttled else None)
    sent(world, "a1", "a2")
    world.run(DONE if is_throttled else TRANSIENT)
    paused(world)
    before = [one.state for one in shown(world)]
    world.ask("retry.run-now", "a")
    world.settle()
    refused = [one for one in world.published if one.value and b"not while" in one.value]
    assert 1 == len(refused)
    assert b"and its flow paused" in (refused[0].value or b"")
    assert before == [one.state for one in shown(world)], "it has kept its time"
    resumed(world)
    assert [] == may_begin(world)


@pytest.mark.parametrize("is_tag", [False, True])
def test_a_retry_that_is_aside_is_cancelled(is_tag: bool) -> None:
    world = world_of(has_tags=True)
    for command in ("a1", "a2"):
        world.send(command, "a", tag="x")
    world.settle()
    world.run(TRANSIENT)
    paused(world)
    later(world)
    world.begin()
    world.send_cancel("e-1", "x" if is_tag else "a", is_tag=is_tag)
    world.settle()
    assert {"a1 cancelled", "a2 cancelled"} == {*ends(world)}
    assert [] == shown(world)


def test_a_command_that_comes_while_its_key_is_aside_is_skipped_or_replaces_it() -> None:
    world = aside("a1", singleton=Singleton.SKIP)
    sent(world, "a2")
    assert ["a2 skipped"] == ends(world)
    world = aside("a1", singleton=Singleton.REPLACE)
    sent(world, "a2")
    assert ["a1 cancelled"] == ends(world)
    resumed(world)
    assert ["a2"] == ran(world)


def test_what_runs_at_most_once_begins_once_after_it_was_aside() -> None:
    world = aside("a1", delivery=Delivery.AT_MOST_ONCE)
    world.begin()
    resumed(world)
    retry = world.take()
    assert ("a1", 2) == (retry.command.id, retry.command.attempt)
    world.begin()
    world.settle()
    assert ["a1 unknown"] == ends(world)
    assert 2 == len(world.runs)


def test_a_key_that_rests_while_its_flow_is_paused_keeps_its_throttle() -> None:
    world = world_of(throttle=Throttle(1, 10_000))
    sent(world, "a1", "a2")
    world.run(DONE)
    paused(world)
    world.now_ms += 20_000
    world.settle()
    assert ["paused"] == [one.state for one in shown(world)]
    sent(world, "a3")
    resumed(world)
    assert ["a2"] == ran(world)
    assert ["resting"] == [one.state for one in shown(world)], "the next one an interval later"
    world.now_ms += 10_000
    world.settle()
    assert ["a3"] == ran(world)


def test_who_asks_sees_which_retries_are_aside_and_why() -> None:
    world = aside("a1")
    sent(world, "a2")
    (key,) = shown(world)
    assert ("ship", "paused", "a1", 2, None, 1) == (
        key.flow,
        key.state,
        key.head,
        key.attempt,
        key.due_ms,
        key.parked,
    )
    assert key.is_retry
    assert "transient: http-503" == key.error
    assert 1 == world.pipeline.held()["edo.commands.ship"][0]
    assert world.logs[CONTROL]
