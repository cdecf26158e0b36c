"""Actions in tests: handlers run, records are written, and what would go outside is written down.

A handler runs in the virtual time of the test, in its thread: it may await :func:`asyncio.sleep`,
but no socket. Instead of a request, a program or a statement, the action is filled in and kept, and
its outcome is *done*; a test that wants another one says so by :meth:`Actions.answer`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from edo_stream.actions.errors import ActionError, TransientError
from edo_stream.actions.executors import executor_of
from edo_stream.actions.handler import invocation_of, load_handler
from edo_stream.actions.invocation import call_of, outcome_of
from edo_stream.actions.outside import Outside
from edo_stream.actions.rendered import rendered
from edo_stream.actions.template import UnfilledError
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.engine.target import Executor
from edo_stream.flows.flow import Flow
from edo_stream.registry import Registry

#: What these do stays within Kafka, or is nothing.
_INSIDE: Final = frozenset({"record", "noop"})


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a flow's action."""

    flow: str
    key: str
    attempt: int
    """Counted from 1."""
    idempotency_key: str
    data: Any
    """The command's JSON."""
    action: dict[str, Any]
    """What the action says, with the command's values in it."""
    at_ms: int


@dataclass(slots=True)
class Actions:
    """The executors of all flows of a test, and what they were called with."""

    registry: Registry
    outside: Outside
    runs: list[Run] = field(default_factory=list)
    """All of them, in their order."""
    running: int = 0
    """How many have not ended."""
    _answers: dict[str, Any] = field(default_factory=dict)
    _failing: dict[str, list[Exception]] = field(default_factory=dict)

    def answer(self, flow: str, answer: Any) -> None:
        """What runs of a flow come to: an exception, an outcome, or a value.

        Of a function it is what that returns, or raises, for the :class:`Run`.
        """
        self._answers[flow] = answer

    def fail(self, flow: str, times: int, error: Exception | None) -> None:
        """Have the next runs of a flow fail."""
        self._failing.setdefault(flow, []).extend([error or TransientError("a test's")] * times)

    def of(self, flow: Flow) -> Executor:
        """The executor of a flow's action."""
        declared = flow.declaration.action
        inside: Executor | None = None
        if declared.kind == "python":
            inside = _handler(declared.handler)
        elif declared.kind in _INSIDE:
            inside = executor_of(declared, flow, self.registry, self.outside)

        async def execute(command: Command) -> Outcome:
            try:
                action = rendered(declared, command)
            except UnfilledError as error:
                return Failed(FailureClass.POISON, "template", str(error))
            run = self._run(command, action)
            self.runs.append(run)
            self.running += 1
            try:
                return await self._outcome(run, command, inside)
            except ActionError as error:
                return error.outcome()
            finally:
                self.running -= 1

        return execute

    def _run(self, command: Command, action: dict[str, Any]) -> Run:
        return Run(
            flow=command.flow,
            key=command.key.decode("utf-8", "replace"),
            attempt=command.attempt,
            idempotency_key=command.idempotency_key,
            data=parsed(command.data),
            action=action,
            at_ms=self.outside.now_ms(),
        )

    async def _outcome(self, run: Run, command: Command, inside: Executor | None) -> Outcome:
        failing = self._failing.get(run.flow)
        if failing:
            raise failing.pop(0)
        if run.flow in self._answers:
            answer = self._answers[run.flow]
            if callable(answer) and not isinstance(answer, type):
                answer = answer(run)
            if inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, Exception):
                raise answer
            return outcome_of(answer)
        return Done() if inside is None else await inside(command)


def _handler(name: str) -> Executor:
    function: Callable[..., Any] = load_handler(name)
    invocation = invocation_of(function, {})

    async def execute(command: Command) -> Outcome:
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            return await invocation.wait(command.data, call_of(command))
        return invocation(command.data, call_of(command))

    return execute


def parsed(data: bytes | None) -> Any:
    """JSON as what it says, anything else as it is."""
    try:
        return None if data is None else msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return data
