"""Handlers in Python: a function, what type its event has, and where it runs.

An ``async`` function runs in the worker's event loop, where it must not block; any other runs in a
thread, or with ``pool="process"`` in a process of its own, where it may compute. What it returns
becomes the outcome's data: nothing, bytes, or anything that :mod:`msgspec` writes as JSON.
"""

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import Executor as Pool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from edo_stream.actions.errors import ActionError
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

_THREADS_MAX: Final = 64
_PROCESSES_MAX: Final = 4
_JSON: Final = "application/json"
_SPEC: Final = "__edo_action__"

F = TypeVar("F", bound=Callable[..., Any])
Where = Literal["thread", "process"]


class Call(msgspec.Struct, frozen=True):
    """What a handler is told besides its event."""

    id: str
    """The command's id: the same for every attempt."""
    idempotency_key: str
    """What a receiver may know it by."""
    flow: str
    key: bytes
    attempt: int
    """Counted from 1."""
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class _Spec:
    event_type: Any
    pool: Where
    wants_call: bool


class HandlerError(Exception):
    """A flow names a handler that cannot be used; says what to change."""


def action(event_type: Any = Any, *, pool: Where = "thread") -> Callable[[F], F]:
    """Declare a function as a flow's handler.

    ``event_type`` is what the event's JSON is read as: a msgspec or data class, a pydantic model,
    or :data:`typing.Any`. The function takes the event, and a :class:`Call` if it has a second
    parameter.
    """

    def declare(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())
        setattr(function, _SPEC, _Spec(event_type, pool, wants_call=len(parameters) > 1))
        return function

    return declare


def import_from(folder: Path) -> None:
    """Let handlers be imported from a folder: the one that the flows' own is in."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)


def load_handler(name: str) -> Callable[..., Any]:
    """Import ``package.module:function``.

    Raises:
        HandlerError: there is no such function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise HandlerError(f"{name}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise HandlerError(f"{name}: {module_name} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]  # callable, as checked


class PythonExecutor:
    """Runs commands by a handler."""

    def __init__(self, function: Callable[..., Any]) -> None:
        spec = getattr(function, _SPEC, None)
        if spec is None:
            action()(function)
            spec = getattr(function, _SPEC)
        self._function = function
        self._spec: _Spec = spec
        self._decode = _decoder(spec.event_type)
        self._is_async = inspect.iscoroutinefunction(function)

    async def __call__(self, command: Command) -> Outcome:
        """Run one command."""
        try:
            event = self._decode(command.data or b"null")
        except (ValueError, TypeError) as error:
            return Failed(FailureClass.POISON, "invalid-event", str(error)[:500])
        arguments = (event, call_of(command)) if self._spec.wants_call else (event,)
        try:
            if self._is_async:
                result = await self._function(*arguments)
            else:
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(
                    _pool(self._spec.pool), self._function, *arguments
                )
        except ActionError as error:
            return error.outcome()
        except BrokenExecutor:
            # Another process of the pool may have died of another command; all of them are new.
            _pool.cache_clear()
            return Failed(FailureClass.TRANSIENT, "process-died", "the process ended while it ran")
        return done(result)


def call_of(command: Command) -> Call:
    """What a handler is told of its command."""
    return Call(
        command.id,
        command.idempotency_key,
        command.flow,
        command.key,
        command.attempt,
        command.correlation_id,
    )


def done(result: Any) -> Outcome:
    """The outcome of what a handler has returned."""
    match result:
        case None:
            return Done()
        case bytes():
            return Done(result)
        case Done() | Failed():
            return result
        case _:
            return Done(_json(result), _JSON)


def _json(result: Any) -> bytes:
    dump = getattr(result, "model_dump_json", None)
    if dump is not None:
        text: str = dump()
        return text.encode()
    return msgspec.json.encode(result)


def _decoder(event_type: Any) -> Callable[[bytes], Any]:
    validate = getattr(event_type, "model_validate_json", None)
    if validate is not None:
        return validate  # type: ignore[no-any-return]  # pydantic's
    return msgspec.json.Decoder(event_type).decode


@cache
def _pool(where: Where) -> Pool:
    if where == "process":
        import multiprocessing  # noqa: PLC0415 - only who asks for processes pays for it

        # Not forked: the worker has threads, and connections that no other process may use.
        return ProcessPoolExecutor(_PROCESSES_MAX, multiprocessing.get_context("spawn"))
    return ThreadPoolExecutor(_THREADS_MAX, "action")
