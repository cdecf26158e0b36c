"""Handlers in Python."""

import asyncio
import os
import threading
from datetime import timedelta
from typing import Any

import msgspec
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
from tests.actions.commands import command, in_a_process


class Order(msgspec.Struct):
    id: str
    items: int


class Invoice(pydantic.BaseModel):
    total: int


def run(function: Any, data: Any, **more: Any) -> Outcome:
    return asyncio.run(PythonExecutor(function)(command(data, **more)))


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
