"""The runs of one act task: what is running outside, and what has ended and is not recorded yet.

After an abort the core forgets what it had in hand and reads the same commands again. What runs
meanwhile goes on, and what ended is remembered: when the command comes again, at the same attempt,
its run is found here instead of being repeated. Only a crash, or another worker that takes over,
runs it again; the idempotency key is the same then.
"""

import asyncio
from collections.abc import Callable

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Failed, FailureClass, Outcome
from edo_stream.core.act.work import Work
from edo_stream.engine.target import Target

_ENDED_MAX = 10_000
"""Ends whose command never comes again: their commit was unknown, and had succeeded."""

_Name = tuple[str, str, int, int, int]


def _name_of(command: Command) -> _Name:
    # Throttled, it comes again as the same attempt, but due at another time.
    return command.flow, command.id, command.attempt, command.redrive, command.due_ms


class Runs:
    """``on_end`` is told of each end of a run whose command is in hand."""

    def __init__(self, on_end: Callable[[Work, Outcome], None]) -> None:
        self._on_end = on_end
        self._running: dict[_Name, asyncio.Task[None]] = {}
        self._ended: dict[_Name, Outcome] = {}
        self._in_hand: dict[_Name, Work] = {}

    @property
    def running(self) -> int:
        """Runs that have not ended."""
        return len(self._running)

    def knows(self, command: Command) -> bool:
        """Whether the command runs, or has run, at this attempt."""
        name = _name_of(command)
        return name in self._running or name in self._ended

    def adopt(self, work: Work) -> None:
        """Take the end of a run that is known for that of a command that came again."""
        name = _name_of(work.command)
        outcome = self._ended.get(name)
        self._in_hand[name] = work
        if outcome is not None:
            self._on_end(work, outcome)

    def start(self, work: Work, target: Target) -> None:
        """Run a command; the target has been told that it begins."""
        name = _name_of(work.command)
        assert not self.knows(work.command), f"{name} runs already"
        self._in_hand[name] = work
        self._running[name] = asyncio.create_task(
            self._run(name, work.command, target), name=f"command {work.command.id}"
        )

    async def _run(self, name: _Name, command: Command, target: Target) -> None:
        try:
            outcome = await target.run(command)
        finally:
            del self._running[name]
        if isinstance(outcome, Failed) and outcome.failure is FailureClass.FENCED:
            return
        self._ended[name] = outcome
        if len(self._ended) > _ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        work = self._in_hand.get(name)
        if work is not None:
            self._on_end(work, outcome)

    def recorded(self, work: Work) -> None:
        """What its end led to is committed."""
        name = _name_of(work.command)
        self._ended.pop(name, None)
        self._in_hand.pop(name, None)

    def let_go(self) -> None:
        """The core has forgotten what it had in hand."""
        self._in_hand.clear()

    async def stop(self, patience_s: float) -> None:
        """Wait for what runs, then cancel it; for good."""
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=patience_s)
        for run in running:
            run.cancel()
        if running:
            await asyncio.wait(running)
        self._ended.clear()
        self._in_hand.clear()
