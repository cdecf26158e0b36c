"""Runs of commands, and what stands before a receiver."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from edo_stream.core.act.breaker import BreakerPolicy, BreakerState
from edo_stream.core.act.command import Command
from edo_stream.core.act.limits import LEASE_MS, RateLimit
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.core.act.work import Work
from edo_stream.core.record import StoredRecord
from edo_stream.engine.fleet import Gate
from edo_stream.engine.runs import WorkerRuns
from edo_stream.engine.target import Protection, Target
from edo_stream.testing.loop import VirtualLoop
from tests.act.fleet import gate_of, may_begin

RECORD = StoredRecord("edo.commands.ship", 0, 0, 0, b"k", b"{}")
DOWN = Failed(FailureClass.TRANSIENT, "http-503")
QUICK = BreakerPolicy(consecutive=2, open_ms=100, open_max_ms=100, probes=1)


def work(command_id: str, **more: Any) -> Work:
    parts: dict[str, Any] = {"attempt": 1, "due_ms": 0, **more}
    return Work(
        Command(command_id, "ship", "t", b"k", b"{}", (), 0, "edo.commands.ship/0/0", **parts),
        RECORD,
    )


class Receiver:
    """An executor that ends when it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.ends: dict[str, asyncio.Future[Outcome]] = {}

    async def __call__(self, command: Command) -> Outcome:
        self.calls.append(command.id)
        end = self.ends[command.id] = asyncio.get_running_loop().create_future()
        return await end


def target(executor: Callable[[Command], Awaitable[Outcome]], **more: Any) -> Target:
    protection = Protection(**more.pop("protection", {}))
    gate: Gate = more.pop("gate", None) or gate_of(breaker=QUICK)
    return Target("ship", executor, protection, gate, **more)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """In virtual time: what waits costs nothing."""
    loop = VirtualLoop(Random(3), steps_max=1_000_000)
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.dispose()


async def settle() -> None:
    """Until nothing is left to do at once: only then does virtual time go on."""
    await asyncio.sleep(0.001)


def test_a_run_outlives_its_task_and_is_found_by_the_next_one() -> None:
    async def go() -> None:
        receiver, worker = Receiver(), WorkerRuns()
        aim, told = target(receiver), []
        runs = worker.of("act", 3)
        runs.attend(lambda *_: told.append("the task that has gone"))
        await may_begin(aim)
        runs.start(work("c1"), aim.begin(b"k"))
        await settle()
        runs.let_go()
        again, same = work("c1"), worker.of("act", 3)
        same.attend(lambda *end: told.append(end))
        worker.keep({("act", 3)})
        assert same.knows(again.command)
        same.adopt(again)
        receiver.ends["c1"].set_result(Done(b"x"))
        await settle()
        assert told == [(again, Done(b"x"))]
        assert (receiver.calls, aim.running) == (["c1"], 0)
        same.recorded(again)
        assert not same.knows(again.command)

    run(go())


def test_an_end_that_was_not_recorded_is_not_run_again() -> None:
    async def go() -> None:
        receiver, told = Receiver(), []
        runs = WorkerRuns().of("act", 0)
        runs.attend(lambda *end: told.append(end))
        aim = target(receiver)
        await may_begin(aim)
        runs.start(work("c1"), aim.begin(b"k"))
        await settle()
        runs.let_go()
        receiver.ends["c1"].set_result(Done())
        await settle()
        assert told == []
        again = work("c1")
        runs.adopt(again)
        assert told == [(again, Done())]
        assert not runs.knows(work("c1", due_ms=5).command), "throttled, it is another run"
        assert not runs.knows(work("c1", attempt=2).command)

    run(go())


def test_runs_of_a_partition_that_is_gone_are_cancelled() -> None:
    async def go() -> None:
        receiver, worker = Receiver(), WorkerRuns()
        aim = target(receiver)
        await may_begin(aim)
        worker.of("act", 1).start(work("c1"), aim.begin(b"k"))
        await settle()
        worker.keep({("act", 2)})
        await worker.close()
        assert receiver.ends["c1"].cancelled()
        assert aim.running == 0
        runs = worker.of("act", 1)
        runs.start(work("c2"), aim.begin(b"k"))
        await runs.stop()
        assert (receiver.calls, aim.running) == (["c1"], 0), "nor has one begun that was about to"

    run(go())


def test_slots_and_a_stopped_flow_make_wait_and_an_end_calls_back() -> None:
    async def go() -> None:
        receiver, called = Receiver(), []
        aim = target(receiver, protection={"concurrency": 1, "letters_max": 1})
        await may_begin(aim)
        running = asyncio.create_task(aim.begin(b"k").run(work("c1").command))
        await settle()
        assert aim.wait_ms(lambda: called.append("end")) > 0
        receiver.ends["c1"].set_result(Done())
        await running
        assert called == ["end"]
        aim.decided(DOWN, gave_up=True)
        assert aim.wait_ms(lambda: called.append("mended")) > 0
        aim.operate(is_open=False)
        assert called == ["end", "mended"]
        assert aim.wait_ms(lambda: None) == 0
        aim.operate(is_open=True)
        assert (aim.breaker, aim.wait_ms(lambda: None) > 0) == (BreakerState.OPEN, True)

    run(go())


def test_a_token_that_has_expired_since_begins_nothing() -> None:
    async def go() -> None:
        aim = target(Receiver(), gate=gate_of(RateLimit(20)))
        await may_begin(aim)
        await asyncio.sleep((LEASE_MS + 60) / 1000)
        assert aim.begin(b"a") is None
        assert aim.running == 0
        await may_begin(aim)
        assert aim.begin(b"a") is not None

    run(go())


def test_a_rate_and_the_rate_of_a_key_are_kept() -> None:
    async def go() -> None:
        per_key = {"rate_per_key": RateLimit(0.1)}
        aim = target(Receiver(), gate=gate_of(RateLimit(20)), protection=per_key)
        clock, begun = asyncio.get_running_loop(), []
        for key in (b"a", b"b", b"c"):
            await may_begin(aim)
            aim.begin(key)
            begun.append(clock.time())
        # Clocks have grains.
        assert begun[2] - begun[0] >= 0.098
        assert aim.key_wait_ms(b"a") > 9_000
        assert aim.key_wait_ms(b"d") == 0

    run(go())


@pytest.mark.parametrize("has_fallback", [False, True])
def test_a_broken_receiver_is_probed_by_one_run_at_a_time(has_fallback: bool) -> None:
    async def go() -> None:
        receiver, used = Receiver(), []

        async def fall_back(command: Command) -> Outcome:
            used.append(command.id)
            return Done()

        aim = target(receiver, fallback=fall_back if has_fallback else None)
        for name in ("c1", "c2"):
            await may_begin(aim)
            ending = asyncio.create_task(aim.begin(b"k").run(work(name).command))
            await settle()
            receiver.ends[name].set_result(DOWN)
            assert await ending == DOWN
        assert (aim.wait_ms(lambda: None) == 0) == has_fallback
        count = 0
        while len(receiver.calls) < 3:
            # Until the owner lets one probe.
            await may_begin(aim)
            probe = asyncio.create_task(aim.begin(b"k").run(work(f"p{count}").command))
            count += 1
            await asyncio.sleep(0.001)
        if has_fallback:
            assert used == [f"p{number}" for number in range(count - 1)]
            assert await aim.begin(b"k").run(work("other").command) == Done()
            assert used[-1] == "other"
        else:
            assert (count, aim.wait_ms(lambda: None) > 0) == (1, True)
        assert aim.breaker is BreakerState.HALF_OPEN
        receiver.ends[receiver.calls[2]].set_result(Done())
        await probe
        await may_begin(aim)
        while aim.breaker is not BreakerState.CLOSED:
            await settle()

    run(go())


def test_whatever_an_executor_does_an_outcome_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def raises(command: Command) -> Outcome:
        raise KeyError("an executor's bug")

    async def hangs(command: Command) -> Outcome:
        await asyncio.sleep(60)
        return Done()

    release = asyncio.Event()

    async def ignores(command: Command) -> Outcome:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await release.wait()
        return Done()

    async def go() -> None:
        cases = ((raises, "executor-failed"), (hangs, "timeout"), (ignores, "timeout"))
        for executor, reason in cases:
            aim = target(executor, protection={"timeout_s": 0.01})
            await may_begin(aim)
            outcome = await aim.begin(b"k").run(work("c1").command)
            assert isinstance(outcome, Failed)
            assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, reason)
            assert aim.running == 0
        release.set()
        await settle()

    monkeypatch.setattr("edo_stream.engine.target._GRACE_S", 0.02)
    run(go())


def test_runs_at_once_follow_what_the_receiver_bears() -> None:
    async def go() -> None:
        async def throttles(command: Command) -> Outcome:
            return Failed(FailureClass.THROTTLED, "http-429")

        aim = target(throttles, protection={"concurrency": 64, "is_adaptive": True})
        assert aim.limit == 4
        await may_begin(aim)
        await aim.begin(b"k").run(work("c1").command)
        assert aim.limit == 2
        assert target(throttles).limit == 16

    run(go())


def test_a_freed_slot_goes_to_the_one_that_has_waited_longest() -> None:
    async def go() -> None:
        receiver, worker = Receiver(), WorkerRuns()
        aim, order = target(receiver, protection={"concurrency": 1}), []
        await may_begin(aim)

        def caller(name: str) -> Callable[[], None]:
            """One that has always more to run, like a partition with a backlog."""
            runs = worker.of(name, 0)

            def take() -> None:
                while len(order) < 9 and not aim.wait_ms(take):
                    order.append(name)
                    runs.start(work(f"{name}{len(order)}"), aim.begin(b"k"))

            runs.attend(lambda *_: take())
            return take

        for name in "abc":
            caller(name)()
        for _ in range(9):
            await settle()
            receiver.ends[receiver.calls[-1]].set_result(Done())
        await settle()
        # The first has asked twice before the others came.
        assert "".join(order) == "aabcabcab"
        await worker.close()

    run(go())


def test_a_run_whose_command_is_cancelled_is_ended_and_says_so() -> None:
    async def go() -> None:
        receiver, worker = Receiver(), WorkerRuns()
        aim, told = target(receiver), []
        runs = worker.of("act", 3)
        runs.attend(lambda work, outcome: told.append((work.command.id, outcome.failure)))  # type: ignore[union-attr]
        await may_begin(aim)
        for command in ("c1", "c2"):
            slot = aim.begin(b"k")
            assert slot is not None
            runs.start(work(command), slot)
        # One before its first instruction, the other while it runs; saying it twice is once.
        runs.cancel(work("c2").command)
        await settle()
        assert [("c2", FailureClass.CANCELLED)] == told
        runs.cancel(work("c1").command)
        runs.cancel(work("c1").command)
        await settle()
        assert ("c1", FailureClass.CANCELLED) == told[1]
        assert receiver.ends["c1"].cancelled()
        assert (["c1"], 0, 0) == (receiver.calls, aim.running, runs.running)
        runs.recorded(work("c1"))
        assert not runs.knows(work("c1").command)
        await worker.close()

    run(go())


def test_a_run_that_is_cancelled_while_nobody_attends_is_not_begun_again() -> None:
    async def go() -> None:
        receiver, worker = Receiver(), WorkerRuns()
        aim, told = target(receiver), list[object]()
        runs = worker.of("act", 3)
        runs.attend(lambda *end: told.append(end))
        await may_begin(aim)
        slot = aim.begin(b"k")
        assert slot is not None
        runs.start(work("c1"), slot)
        await settle()
        runs.cancel(work("c1").command)
        runs.let_go()
        again = work("c1")
        assert runs.knows(again.command), "it is to be adopted after the next commit"
        await settle()
        assert ([], runs.running) == (told, 0)
        assert runs.knows(again.command)
        runs.adopt(again)
        assert [(again, Failed(FailureClass.CANCELLED, "cancelled"))] == told
        runs.recorded(again)
        assert not runs.knows(again.command)
        await worker.close()

    run(go())


def test_a_run_that_ended_before_it_could_be_cancelled_keeps_its_end() -> None:
    async def go() -> None:
        receiver, worker = Receiver(), WorkerRuns()
        aim, told = target(receiver), []
        runs = worker.of("act", 3)
        runs.attend(lambda work, outcome: told.append(outcome))
        await may_begin(aim)
        slot = aim.begin(b"k")
        assert slot is not None
        runs.start(work("c1"), slot)
        await settle()
        receiver.ends["c1"].set_result(Done(b"x"))
        await settle()
        runs.cancel(work("c1").command)
        await settle()
        assert [Done(b"x")] == told
        await worker.close()

    run(go())
