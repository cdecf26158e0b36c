"""The runs of one act task: what is running outside, and what has ended and is not recorded yet.

After an abort the core forgets what it had in hand and reads the same commands again. What runs
meanwhile goes on, and what ended is remembered: when the command comes again, at the same attempt,
its run is found here instead of being repeated. Only a crash, or another worker that takes over,
runs it again; the idempotency key is the same then.
"""

import asyncio
from collections.abc import Callable, Container

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Failed, FailureClass, Outcome
from edo_stream.core.act.work import Work
from edo_stream.engine.target import Slot

_ENDED_MAX = 10_000
"""Ends whose command never comes again: their commit was unknown, and had succeeded."""

_CANCELLED = Failed(FailureClass.CANCELLED, "cancelled")

_Name = tuple[str, str, str, int, int, int]


def _name_of(command: Command) -> _Name:
    # Throttled, it comes again as the same attempt, but due at another time.
    return (
        command.flow,
        command.id,
        command.replay,
        command.attempt,
        command.redrive,
        command.due_ms,
    )


class Runs:
    """Of one group and partition; they outlive their task, as long as the next one is here too."""

    def __init__(self) -> None:
        self._on_end: Callable[[Work, Outcome], None] = _nobody
        self._running: dict[_Name, asyncio.Task[None]] = {}
        self._ended: dict[_Name, Outcome] = {}
        self._in_hand: dict[_Name, Work] = {}
        self._is_stopping = False
        self._starting: dict[_Name, Slot] = {}
        """Slots of runs whose first instruction is still to come."""
        self._cancelled: set[_Name] = set()
        """Runs that are to be ended, also those that are still to begin."""

    @property
    def running(self) -> int:
        """Runs that have not ended."""
        return len(self._running)

    def knows(self, command: Command) -> bool:
        """Whether the command runs, or has run, at this attempt."""
        name = _name_of(command)
        return name in self._running or name in self._ended

    def attend(self, on_end: Callable[[Work, Outcome], None]) -> None:
        """Tell a task, from now on, of each end of a run whose command it has in hand."""
        self.let_go()
        self._on_end = on_end

    def adopt(self, work: Work) -> None:
        """Take the end of a run that is known for that of a command that came again."""
        name = _name_of(work.command)
        outcome = self._ended.get(name)
        self._in_hand[name] = work
        if outcome is not None:
            self._on_end(work, outcome)

    def start(self, work: Work, slot: Slot) -> None:
        """Run a command in its slot."""
        name = _name_of(work.command)
        assert not self.knows(work.command), f"{name} runs already"
        self._in_hand[name] = work
        self._starting[name] = slot
        self._running[name] = asyncio.create_task(
            self._run(name, work.command, slot), name=f"command {work.command.id}"
        )

    def cancel(self, command: Command) -> None:
        """End the run of a command that is cancelled, if it has begun, or as soon as it does."""
        name = _name_of(command)
        if name in self._cancelled or name in self._ended:
            return
        self._cancelled.add(name)
        if name in self._running and name not in self._starting:
            self._running[name].cancel()

    async def _run(self, name: _Name, command: Command, slot: Slot) -> None:
        del self._starting[name]
        try:
            outcome = await self._outcome(name, command, slot)
        finally:
            del self._running[name]
            self._cancelled.discard(name)
        if isinstance(outcome, Failed) and outcome.failure is FailureClass.FENCED:
            return
        # Cancelled as well: its command may have come again while it ran, to be adopted after a
        # commit that is still under way.
        self._ended[name] = outcome
        if len(self._ended) > _ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        work = self._in_hand.get(name)
        if work is not None:
            self._on_end(work, outcome)

    async def _outcome(self, name: _Name, command: Command, slot: Slot) -> Outcome:
        if name in self._cancelled:
            slot.leave()
            return _CANCELLED
        try:
            return await slot.run(command)
        except asyncio.CancelledError:
            if name not in self._cancelled or self._is_stopping:
                raise
            return _CANCELLED

    def recorded(self, work: Work) -> None:
        """What its end led to is committed."""
        name = _name_of(work.command)
        self._ended.pop(name, None)
        self._in_hand.pop(name, None)

    def let_go(self) -> None:
        """The core has forgotten what it had in hand."""
        self._in_hand.clear()
        self._cancelled.intersection_update(self._running)

    async def stop(self) -> None:
        """Cancel what runs, for good: its commands are another worker's now."""
        self._is_stopping = True
        self._on_end = _nobody
        running = list(self._running.values())
        for run in running:
            run.cancel()
        if running:
            await asyncio.wait(running)
        for slot in self._starting.values():
            slot.leave()
        self._starting.clear()
        self._ended.clear()
        self._in_hand.clear()


def _nobody(work: Work, outcome: Outcome) -> None:
    pass


class WorkerRuns:
    """The runs of a worker, by group and partition.

    A rebalance stops every task, and begins most of them anew on the same worker: what runs
    meanwhile goes on, and is found again, instead of being cut off and repeated.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[str, int], Runs] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def of(self, group: str, partition: int) -> Runs:
        """Those of a task."""
        return self._runs.setdefault((group, partition), Runs())

    def keep(self, places: Container[tuple[str, int]]) -> None:
        """Stop the runs of all others; a program may take its time to end, nobody waits for it."""
        for place in [place for place in self._runs if place not in places]:
            stopping = asyncio.create_task(self._runs.pop(place).stop())
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """Stop all, and wait for it."""
        self.keep(())
        if self._stopping:
            await asyncio.wait(self._stopping)
