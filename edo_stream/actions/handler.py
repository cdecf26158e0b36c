"""Handlers in Python: a function, what type its event has, and where it runs.

An ``async`` function runs in the worker's event loop, where it must not block; any other runs in a
thread, or with ``pool="process"`` in a process of its own, where it may compute. What it returns
becomes the outcome's data: nothing, bytes, or anything that :mod:`msgspec` writes as JSON.
"""

import importlib
import inspect
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from typing import Any, Final, Literal, TypeVar

from edo_stream.actions.invocation import Call, Invocation, Meanings, call_of, reader_of
from edo_stream.actions.processes import Processes
from edo_stream.actions.threads import in_thread
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Outcome

_SPEC: Final = "__edo_action__"
_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_ARGUMENTS_MAX: Final = 2

F = TypeVar("F", bound=Callable[..., Any])
Where = Literal["thread", "process"]


@dataclass(frozen=True, slots=True)
class _Spec:
    event_type: Any = Any
    pool: Where = "thread"


class HandlerError(Exception):
    """A flow names a handler that cannot be used; says what to change."""


def action(event_type: Any = Any, *, pool: Where = "thread") -> Callable[[F], F]:
    """Declare a function as a flow's handler.

    ``event_type`` is what the event's JSON is read as: a msgspec or data class, a pydantic model,
    or :data:`typing.Any`. The function takes the event, and a :class:`Call` if it has a second
    parameter. Without parentheses the event is :data:`typing.Any`.
    """
    if inspect.isfunction(event_type):
        return action()(event_type)

    def declare(function: F) -> F:
        setattr(function, _SPEC, _Spec(event_type, pool))
        return function

    return declare


def load_handler(name: str) -> Callable[..., Any]:
    """Import ``package.module:function``.

    Raises:
        HandlerError: there is no such function, or none that can be a handler.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise HandlerError(f"{name}: {_why_not_imported(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise HandlerError(f"{name}: {module_name} has no function {function_name!r}")
    _check(name, function)
    return function  # type: ignore[no-any-return]  # callable, as checked


def _why_not_imported(error: BaseException) -> str:
    """One line, with the place in the module that is to be changed."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{what.partition(' (')[0]} ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename != importlib.__file__
    ]
    # The first one is this module.
    return f"{what} ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else what


def _check(name: str, function: Callable[..., Any]) -> None:
    inner = inspect.unwrap(function)
    if inspect.isclass(function):
        raise HandlerError(f"{name}: is a class; name a function")
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise HandlerError(f"{name}: yields; a handler returns what the outcome is to hold")
    parameters = inspect.signature(function).parameters.values()
    needed = [one for one in parameters if one.default is Parameter.empty]
    positional = [one for one in needed if one.kind in _POSITIONAL]
    keywords = [one.name for one in needed if one.kind is Parameter.KEYWORD_ONLY]
    if keywords or len(positional) > _ARGUMENTS_MAX or not _takes(function, 1):
        raise HandlerError(f"{name}: takes {inspect.signature(function)}; write (event, call)")
    if _is_async(function) and _spec(function).pool == "process":
        raise HandlerError(f"{name}: is async, which runs in the event loop: leave pool out")


def _takes(function: Callable[..., Any], most: int) -> bool:
    """Whether it has a place for so many arguments."""
    kinds = [one.kind for one in inspect.signature(function).parameters.values()]
    places = sum(kind in _POSITIONAL for kind in kinds)
    return places >= most or Parameter.VAR_POSITIONAL in kinds


def _spec(function: Callable[..., Any]) -> _Spec:
    spec: _Spec = getattr(function, _SPEC, _Spec())
    return spec


def _is_async(function: Callable[..., Any]) -> bool:
    called = type(function).__call__
    return inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
        called
    )


def invocation_of(function: Callable[..., Any], meanings: Meanings) -> Invocation:
    """How to call a handler."""
    read = reader_of(_spec(function).event_type)
    return Invocation(function, read, _takes(function, 2), meanings)


class PythonExecutor:
    """Runs commands by a handler; ``meanings`` is what exceptions mean, by their class's name."""

    def __init__(self, function: Callable[..., Any], meanings: Meanings | None = None) -> None:
        self._invocation = invocation_of(function, meanings or {})
        self._processes: Processes | None = None
        self._run: Callable[[bytes | None, Call], Awaitable[Outcome]]
        if _is_async(function):
            self._run = self._invocation.wait
        elif _spec(function).pool == "process":
            name = f"{function.__module__}:{function.__qualname__}"
            self._processes = Processes(name, self._invocation.meanings)
            self._run = self._processes.run
        else:
            self._run = self._in_thread

    async def __call__(self, command: Command) -> Outcome:
        """Run one command."""
        return await self._run(command.data, call_of(command))

    async def close(self) -> None:
        """End the handler's processes."""
        if self._processes is not None:
            await self._processes.close()

    async def _in_thread(self, data: bytes | None, call: Call) -> Outcome:
        return await in_thread(partial(self._invocation, data, call), f"action {call.flow}")
