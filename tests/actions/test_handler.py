"""Handlers in Python."""

import asyncio
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pydantic
import pytest

from edo_stream.actions import (
    BusinessError,
    Call,
    PermanentError,
    Throttled,
    TransientError,
    action,
)
from edo_stream.actions.handler import HandlerError, PythonExecutor, load_handler
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.local.process import wait_gone
from tests.actions.commands import command, in_a_process, misbehave
from tests.actions.test_process import PATIENCE_S


class Order(msgspec.Struct):
    id: str
    items: int


class Invoice(pydantic.BaseModel):
    total: int


def run(
    function: Any, data: Any, meanings: dict[str, FailureClass] | None = None, **more: Any
) -> Outcome:
    async def go() -> Outcome:
        executor = PythonExecutor(function, meanings)
        try:
            return await executor(command(data, **more))
        finally:
            await executor.close()

    return asyncio.run(go())


def test_an_async_handler_gets_its_typed_event_and_its_call() -> None:
    @action(Order)
    async def ship(order: Order, call: Call) -> dict[str, Any]:
        return {"order": order.id, "key": call.idempotency_key, "attempt": call.attempt}

    outcome = run(ship, {"id": "o-7", "items": 2}, attempt=3)
    assert outcome == Done(b'{"order":"o-7","key":"c-1","attempt":3}', "application/json")


def test_a_plain_function_runs_in_a_thread_and_needs_no_decorator() -> None:
    def ship(event: Any) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        return str(event["id"]).encode()

    assert run(ship, {"id": 5}) == Done(b"5")


def test_the_decorator_needs_no_parentheses() -> None:
    @action
    async def ship(event: Any) -> str:
        return str(event["id"])

    assert run(ship, {"id": 5}) == Done(b'"5"', "application/json")


def test_a_handler_may_run_in_a_process_of_its_own() -> None:
    outcome = run(in_a_process, {"items": 4})
    assert isinstance(outcome, Done)
    pid, items = msgspec.json.decode(outcome.data or b"")
    assert items == 4
    assert pid != os.getpid()


def test_pydantic_models_are_read_and_written() -> None:
    @action(Invoice)
    async def bill(invoice: Invoice) -> Invoice:
        return Invoice(total=invoice.total + 1)

    assert run(bill, {"total": 1}) == Done(b'{"total":2}', "application/json")


@pytest.mark.parametrize("event_type", [Order, Invoice])
def test_an_event_of_another_shape_is_poison(event_type: Any) -> None:
    @action(event_type)
    async def ship(event: Any) -> None:
        raise AssertionError("is not called")

    outcome = run(ship, {"id": 5})
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.POISON, "invalid-event")
    assert outcome.detail


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            TransientError("down", retry_after=2.5),
            Failed(FailureClass.TRANSIENT, "transient", "down", 2_500),
        ),
        (PermanentError("no"), Failed(FailureClass.POISON, "permanent", "no")),
        (
            BusinessError("none left", reason="no-stock"),
            Failed(FailureClass.BUSINESS, "no-stock", "none left"),
        ),
        (
            Throttled(retry_after=timedelta(minutes=1)),
            Failed(FailureClass.THROTTLED, "throttled", "", 60_000),
        ),
    ],
)
def test_what_a_handler_raises_says_what_its_failure_means(
    error: Exception, expected: Failed
) -> None:
    async def ship(event: Any) -> None:
        raise error

    def ship_in_thread(event: Any) -> None:
        raise error

    assert run(ship, {}) == expected
    assert run(ship_in_thread, {}) == expected


@pytest.mark.parametrize(
    "name", ["tests.actions.nowhere:f", "tests.actions.commands:nothing", "tests.actions.commands"]
)
def test_a_handler_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(HandlerError, match=name):
        load_handler(name)


def in_processes(*events: dict[str, Any]) -> list[Outcome]:
    """Outcomes of events in the processes of one executor, one after the other."""

    async def go() -> list[Outcome]:
        executor = PythonExecutor(misbehave)
        try:
            return [await executor(command(event)) for event in events]
        finally:
            await executor.close()

    return asyncio.run(go())


def test_a_process_is_kept_for_the_next_call_and_may_print() -> None:
    first, second = in_processes({"do": "tell"}, {"do": "tell"})
    assert isinstance(first, Done)
    assert first == second
    assert msgspec.json.decode(first.data or b"")["attempt"] == 1


def test_what_a_process_cannot_hand_over_says_what_it_is() -> None:
    refused, raised, given, gone = in_processes(
        {"do": "refuse"}, {"do": "raise"}, {"do": "give"}, {"do": "exit"}
    )
    assert refused == Failed(FailureClass.BUSINESS, "no-stock", "none left", 3_000)
    assert raised == Failed(FailureClass.TRANSIENT, "executor-failed", "UnpicklableError")
    assert isinstance(given, Failed)
    assert (given.failure, given.reason) == (FailureClass.POISON, "result")
    assert gone == Failed(FailureClass.TRANSIENT, "executor-failed", "SystemExit")


def test_a_process_that_dies_takes_only_its_own_call_with_it() -> None:
    died, told = in_processes({"do": "die"}, {"do": "tell"})
    assert died == Failed(
        FailureClass.TRANSIENT, "process-died", "the process ended while it ran, with code 7"
    )
    assert isinstance(told, Done)


def _written(marker: Path) -> list[psutil.Process]:
    text = marker.read_text() if marker.exists() else ""
    return [psutil.Process(int(pid)) for pid in text.split()] if " " in text else []


async def _begun(marker: Path) -> list[psutil.Process]:
    async with asyncio.timeout(PATIENCE_S):
        while not (processes := _written(marker)):  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)
    return processes


def test_a_cancelled_call_ends_its_process_and_what_that_has_started(tmp_path: Path) -> None:
    marker = tmp_path / "pids"

    async def go() -> None:
        executor = PythonExecutor(misbehave)
        event = {"do": "hang", "marker": str(marker)}
        call = asyncio.create_task(executor(command(event)))
        processes = await _begun(marker)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await executor.close()
        assert wait_gone(processes, PATIENCE_S) == []

    asyncio.run(go())


def test_processes_end_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    worker = f"""
import asyncio
from edo_stream.actions.handler import PythonExecutor
from tests.actions.commands import command, misbehave
event = {{"do": "hang", "marker": {str(marker)!r}}}
asyncio.run(PythonExecutor(misbehave)(command(event)))
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", worker], cwd=root) as started:
        processes = asyncio.run(_begun(marker))
        started.kill()
    assert wait_gone(processes, PATIENCE_S) == []


def test_a_thread_that_hangs_keeps_no_other_waiting() -> None:
    released = threading.Event()

    def hang(event: Any) -> None:
        released.wait(PATIENCE_S)

    def quick(event: Any) -> str:
        return "done"

    async def go() -> None:
        slow, fast = PythonExecutor(hang), PythonExecutor(quick)
        hanging = [asyncio.create_task(slow(command())) for _ in range(100)]
        await asyncio.sleep(0)
        assert await fast(command()) == Done(b'"done"', "application/json")
        hanging[0].cancel()
        await asyncio.sleep(0.01)
        assert not hanging[0].done(), "its thread still runs"
        released.set()
        ended = await asyncio.gather(*hanging, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError)
        assert ended[1:] == [Done()] * 99

    asyncio.run(go())


class NoStockError(Exception):
    pass


def test_rules_say_what_other_exceptions_mean() -> None:
    async def ship(event: Any) -> None:
        raise NoStockError("secret")

    meanings = {"NoStockError": FailureClass.BUSINESS}
    assert run(ship, {}, meanings) == Failed(FailureClass.BUSINESS, "NoStockError")
    by_module = {f"{__name__}.NoStockError": FailureClass.THROTTLED}
    assert run(ship, {}, by_module) == Failed(FailureClass.THROTTLED, "NoStockError")
    of_its_base = {"builtins.Exception": FailureClass.POISON}
    assert run(ship, {}, of_its_base) == Failed(FailureClass.POISON, "NoStockError")
    with pytest.raises(NoStockError):
        run(ship, {}, {"ValueError": FailureClass.POISON})


IN_A_PROCESS = """
from edo_stream.actions import action
@action(dict, pool='process')
async def f(event): ...
"""
PARTLY_FILLED = """
import functools
async def g(event, call, x): return 'called'
f = functools.partial(g, x=1)
"""
WRAPPED = """
import functools
def wrap(g):
    @functools.wraps(g)
    def inner(*a): return g(*a)
    return inner
@wrap
async def f(event): return 'called'
"""


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


async def _later() -> None:
    pass


@pytest.mark.parametrize("result", [object(), {1: object()}, (n for n in ()), _cycle(), "\ud800"])
def test_a_result_that_is_no_json_is_poison_and_not_run_again(result: Any) -> None:
    async def ship(event: Any) -> Any:
        return result

    def hand_back(event: Any) -> Any:
        return _later()

    for function in (ship, hand_back):
        outcome = run(function, {})
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.reason) == (FailureClass.POISON, "result")


def test_an_event_of_another_shape_is_told_without_its_values() -> None:
    @action(Invoice)
    async def bill(invoice: Invoice) -> None:
        raise AssertionError("is not called")

    outcome = run(bill, {"total": "4111-secret"})
    assert outcome == Failed(FailureClass.POISON, "invalid-event", "total: int_parsing")
    deep = run(bill, None, raw=b"[" * 100_000)
    assert isinstance(deep, Failed)
    assert deep.reason == "invalid-event"


@pytest.mark.parametrize(
    ("wait", "expected"),
    [(-5, 0), (1e300, 86_400_000), (float("nan"), 0), (timedelta.max, 86_400_000)],
)
def test_a_wait_that_a_handler_asks_for_is_bounded(wait: Any, expected: int) -> None:
    assert TransientError(retry_after=wait).outcome().retry_after_ms == expected


def test_what_a_handler_says_of_a_failure_is_text() -> None:
    error = BusinessError(ValueError("no"), reason=5)
    assert error.outcome() == Failed(FailureClass.BUSINESS, "5", "no")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(event:\n", r"SyntaxError: .* \(.*flawed.py:1\)"),
        ("import nowhere_at_all\n", r"ModuleNotFoundError: .*nowhere_at_all.* \(.*flawed.py:1\)"),
        ("\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*flawed.py:2\)"),
        ("import sys\nsys.exit(1)\n", r"SystemExit: 1 \(.*flawed.py:2\)"),
        ("def g(event): ...\n", "has no function 'f'"),
        ("f = 5\n", "has no function 'f'"),
        ("class f: ...\n", "is a class"),
        ("async def f(event):\n    yield 1\n", "yields"),
        ("def f(event):\n    yield 1\n", "yields"),
        ("def f(): ...\n", r"takes \(\); write \(event, call\)"),
        ("def f(event, call, more): ...\n", "write \\(event, call\\)"),
        ("def f(event, *, must): ...\n", "write \\(event, call\\)"),
        (IN_A_PROCESS, "is async"),
    ],
)
def test_a_handler_that_cannot_be_one_is_told_with_its_place(
    source: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flawed.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flawed", raising=False)
    with pytest.raises(HandlerError, match=f"flawed:f: .*{expected}"):
        load_handler("flawed:f")


@pytest.mark.parametrize(
    "source",
    [
        "def f(event, *, more=1): return 'called'\n",
        "def f(*everything): return 'called'\n",
        "class F:\n    def __call__(self, event): return 'called'\nf = F()\n",
        "class F:\n    async def __call__(self, event): return 'called'\nf = F()\n",
        PARTLY_FILLED,
        WRAPPED,
    ],
)
def test_whatever_can_be_called_with_an_event_is_a_handler(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flawed.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flawed", raising=False)
    assert run(load_handler("flawed:f"), {}) == Done(b'"called"', "application/json")
