"""An event loop with a clock of its own: time passes only when nothing is left to do.

What is ready runs in an order that the seed shuffles, so that a seed is one interleaving and each
seed another. Every callback belongs to the simulated process whose context it was scheduled in;
a process that is paused keeps its callbacks for later, one that is dead has none.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final

START_MS: Final = 1_700_000_000_000
"""Epoch ms at which virtual time begins."""


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: the simulation would wait for ever."""


class LivelockError(Exception):
    """The simulation does far more than its history can need."""


class Killed(BaseException):
    """Unwinds a process at the instruction at which it was killed."""


class Process:
    """A simulated operating-system process: what runs in its context lives and dies with it."""

    def __init__(self, name: str, loop: "VirtualLoop") -> None:
        self.name = name
        self.is_alive = True
        self.context = copy_context()
        self.context.run(_PROCESS.set, self)
        self.steps = 0
        """Callbacks run so far: the places between which it can be killed."""
        self.acts_at_step: int | None = None
        """Step before which :attr:`act` is called, to kill or to pause the process there."""
        self.act: Callable[[], None] = self.kill
        self.on_death: Callable[[], None] = lambda: None
        self._loop = loop
        self._frozen: list[asyncio.Handle] | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def is_paused(self) -> bool:
        return self._frozen is not None

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run a coroutine in the process."""
        return self._loop.create_task(coroutine, context=self.context)

    def kill(self) -> None:
        """End it: no callback of it ever runs again (kill -9)."""
        if self.is_alive:
            self.is_alive = False
            self._frozen = None
            self.on_death()

    def pause(self) -> None:
        """Freeze it while time goes on for others (SIGSTOP)."""
        if self.is_alive and self._frozen is None:
            self._frozen = []

    def resume(self) -> None:
        """Let it go on, with all that has become ready meanwhile (SIGCONT)."""
        frozen, self._frozen = self._frozen, None
        self._loop.ready_again(frozen or [])

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether a callback of the process may run now."""
        if self.is_alive and self._frozen is None:
            self.steps += 1
            if self.steps == self.acts_at_step:
                self.act()
        if self._frozen is not None:
            self._frozen.append(handle)
            return False
        return self.is_alive


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
OUTSIDE: Context = copy_context()
"""Context of what belongs to no process: broker, network, the hand that injects faults."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module's docstring."""

    # Of the base class, which does not tell.
    _ready: deque[Any]
    _scheduled: list[Any]

    def __init__(self, random: Random, steps_max: int) -> None:
        super().__init__()
        self.steps = 0
        self._steps_max = steps_max
        self._random = random
        self._now = 0.0
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        return self._now

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        self._tasks.append(task)
        return task

    def later(self, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """Call outside of all processes."""
        self.call_later(delay_s, call, *args, context=OUTSIDE)

    def ready_again(self, handles: list[asyncio.Handle]) -> None:
        """Take back the callbacks that a paused process has kept."""
        self._ready.extend(handles)

    def dispose(self) -> None:
        """Close every coroutine that has not ended, and the loop."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()
            elif not task.cancelled():
                task.exception()
        self._tasks.clear()
        self._ready.clear()
        self._scheduled.clear()
        self.close()

    # What BaseEventLoop leaves to its subclasses.

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        if not ready:
            while scheduled and scheduled[0]._cancelled:
                heapq.heappop(scheduled)._scheduled = False
            if not scheduled:
                raise DeadlockError(f"nothing is ready and no timer is set, at {self._now:.3f} s")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        if self.steps > self._steps_max:
            raise LivelockError(f"{self.steps} callbacks have run, at {self._now:.3f} s")
        batch = list(ready)
        ready.clear()
        if len(batch) > 1:
            self._random.shuffle(batch)
        for handle in batch:
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is None or process.admits(handle):
                self.steps += 1
                handle._run()

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: there are no sockets."""

    def _write_to_self(self) -> None:
        """Do nothing: nothing ever sleeps."""
