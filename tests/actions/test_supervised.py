"""What holds for each executor, whatever it does."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edo_stream.actions.supervised import DATA_BYTES_MAX, Supervised
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.gateway.secrets import SecretUnreadError
from tests.actions.commands import command

Run = Callable[[Command], Awaitable[Outcome]]


def run(executor: Run) -> Outcome:
    async def go() -> Outcome:
        return await Supervised(executor, 1)(command())

    return asyncio.run(go())


def test_none_ends_the_worker() -> None:
    async def leave(_: Command) -> Outcome:
        sys.exit(1)

    async def interrupt(_: Command) -> Outcome:
        raise KeyboardInterrupt

    assert run(leave) == Failed(FailureClass.TRANSIENT, "executor-failed", "SystemExit")
    assert run(interrupt) == Failed(FailureClass.TRANSIENT, "executor-failed", "KeyboardInterrupt")


def test_a_cancellation_of_its_own_is_a_failure_of_its_own() -> None:
    async def wait(_: Command) -> Outcome:
        inner = asyncio.ensure_future(asyncio.sleep(10))
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner
        return Done()

    outcome = run(wait)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "cancelled")


def test_a_secret_that_is_not_there_any_more_is_transient() -> None:
    async def ask(_: Command) -> Outcome:
        raise SecretUnreadError("env:TOKEN: the variable is not set or empty")

    assert run(ask) == Failed(
        FailureClass.TRANSIENT, "secret", "env:TOKEN: the variable is not set or empty"
    )


def test_when_too_many_do_not_end_nothing_more_is_begun() -> None:
    async def go() -> None:
        released = asyncio.Event()

        async def hang(_: Command) -> Outcome:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            return Done(b"late")

        executor = Supervised(hang, stuck_max=2)
        runs = [asyncio.create_task(executor(command())) for _ in range(3)]
        await asyncio.sleep(0)
        runs[0].cancel()
        await asyncio.sleep(0)
        runs.append(asyncio.create_task(executor(command())))
        await asyncio.sleep(0)
        assert not runs[3].done(), "one that hangs is not too many"
        runs[1].cancel()
        await asyncio.sleep(0)
        refused = await executor(command())
        assert isinstance(refused, Failed)
        assert (refused.failure, refused.reason) == (FailureClass.TRANSIENT, "stuck")
        released.set()
        await asyncio.gather(*runs)
        assert await executor(command()) == Done(b"late")

    asyncio.run(go())


def test_a_result_that_no_record_holds_is_left_out_and_the_command_is_done() -> None:
    async def give(_: Command) -> Outcome:
        return Done(b"x" * (DATA_BYTES_MAX + 1))

    assert run(give) == Done(b'{"left_out":{"bytes":524289}}', "application/json")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Failed(FailureClass.BUSINESS, "\ud800" * 200, "\ud800"), ("?" * 100, "?", None)),
        (Failed(FailureClass.THROTTLED, "r", "", 1 << 70), ("r", "", 86_400_000)),
        (Failed(FailureClass.THROTTLED, "r", "", -5), ("r", "", 0)),
        (Failed(FailureClass.FENCED, 5, ValueError("x")), ("5", "x", None)),
        (Failed(FailureClass.CANCELLED, "r", ""), ("r", "", None)),
        (Failed("business", "r", "", "soon"), ("r", "", None)),
    ],
)
def test_what_it_tells_of_a_failure_can_be_written(
    told: Failed, expected: tuple[str, str, int | None]
) -> None:
    async def fail(_: Command) -> Outcome:
        return told

    outcome = run(fail)
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.detail, outcome.retry_after_ms) == expected
    assert outcome.failure in (told.failure, FailureClass.TRANSIENT)
    assert outcome.failure is not FailureClass.FENCED, "nobody would be told of it"
    assert outcome.failure is not FailureClass.CANCELLED, "it would run again at once, for ever"


@pytest.mark.parametrize("told", [Done("text"), Done(b"", 5), Done(5), "text", None])
def test_an_outcome_that_cannot_be_written_is_poison_and_stops_no_transaction(told: Any) -> None:
    async def give(_: Command) -> Any:
        return told

    outcome = run(give)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.POISON, "result")
