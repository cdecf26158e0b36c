"""A small history, hurt at every single place: every call, every callback, every delivery."""

from collections.abc import Callable

import pytest

from tests.simulation.small import run_small, small_scenario
from tests.simulation.world import Outcome, Worker, World


def _failures(outcomes: dict[object, Outcome]) -> dict[object, list[str]]:
    return {place: each.failures for place, each in outcomes.items() if each.failures}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_call_of_a_port_harms_nothing(when: str) -> None:
    def crash_at(call: int) -> Outcome:
        world = World(small_scenario())
        world.faults.crash_at_call = (call, when)
        return world.run()

    calls = World(small_scenario()).run().calls
    outcomes: dict[object, Outcome] = {call: crash_at(call) for call in range(calls)}
    assert _failures(outcomes) == {}
    assert calls > 40
    assert all(each.fired[f"crash-{when}-call"] == 1 for each in outcomes.values())


def test_a_crash_between_any_two_callbacks_harms_nothing() -> None:
    outcomes, steps = _at_every_step(1, lambda world, worker: worker.process.kill)
    assert _failures(outcomes) == {}
    assert steps > 250
    assert all("w0.1" in each.process_steps for each in outcomes.values())


def test_a_process_that_sleeps_past_its_session_at_any_callback_harms_nothing() -> None:
    def sleep(world: World, worker: Worker) -> Callable[[], None]:
        def act() -> None:
            worker.process.pause()
            world.loop.later(15.0, worker.process.resume)

        return act

    outcomes, steps = _at_every_step(2, sleep)
    assert _failures(outcomes) == {}
    assert steps > 150
    assert any(each.fenced_requests for each in outcomes.values())


def _at_every_step(
    machines: int, make_act: Callable[[World, Worker], Callable[[], None]]
) -> tuple[dict[object, Outcome], int]:
    """Run the history once for each callback of each of its first workers."""

    def run(name: str, step: int) -> Outcome:
        world = World(small_scenario(machines))

        def prepare(worker: Worker) -> None:
            if worker.process.name == name:
                worker.process.acts_at_step = step
                worker.process.act = make_act(world, worker)

        world.prepare = prepare
        world.scenario.hurts_until_s = 22.0 if machines > 1 else 6.0
        return world.run()

    steps = World(small_scenario(machines)).run().process_steps
    places = [(name, step) for name, count in steps.items() for step in range(1, count + 1)]
    return {place: run(*place) for place in places}, len(places)


@pytest.mark.parametrize(
    "fault",
    [
        "init-fails",
        "stop-hangs",
        "produce-refused",
        "produce-unacked",
        "produce-duplicate",
        "produce-answer-lost",
        "offsets-fail",
        "offsets-answer-lost",
        "commit-not-asked",
        "commit-lost",
        "commit-hangs",
        "commit-refused",
        "end-answer-lost",
        "batch-dropped",
        "queue-full",
        "delivery-slow",
        "ask-fails",
        "consumer-stopped",
        "restore-fails",
    ],
)
def test_a_fault_at_any_opportunity_harms_nothing(fault: str) -> None:
    # Faults of restores and stops have their opportunities after a reset.
    reset = {"commit_lost": 1} if fault in ("stop-hangs", "restore-fails") else {}
    name = fault.replace("-", "_")
    opportunities = _opportunities(fault, reset)
    outcomes: dict[object, Outcome] = {
        nth: run_small(**reset, **{name: nth}) for nth in range(opportunities)
    }
    assert _failures(outcomes) == {}
    assert opportunities > 0
    assert all(each.fired[fault] == 1 for each in outcomes.values())


def _opportunities(fault: str, reset: dict[str, int]) -> int:
    world = World(small_scenario())
    world.faults.at = {name.replace("_", "-"): nth for name, nth in reset.items()}
    world.run()
    return world.faults.opportunities[fault]
