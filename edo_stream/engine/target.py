"""What stands between commands and the outside: slots, limits and the flow's part in a breaker.

One for each flow and worker, shared by the worker's tasks. Whoever wants to run a command asks
:meth:`Target.key_wait_ms` and :meth:`Target.wait_ms` first, and :meth:`Target.begin` gives the slot
that runs it; nothing here queues. A task that may not begin is called back when it is worth asking
again. Rate and breaker are the whole fleet's, behind the :class:`~edo_stream.engine.fleet.Gate`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from edo_stream.core.act.adaptive import AdaptiveLimit
from edo_stream.core.act.breaker import BreakerState
from edo_stream.core.act.command import Command
from edo_stream.core.act.limits import FloodGuard, KeyRates, RateLimit
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.core.act.share import NEVER, Ticket
from edo_stream.engine.fleet import Gate

log = logging.getLogger(__name__)

Executor = Callable[[Command], Awaitable[Outcome]]
"""Runs a command; a failure is an outcome. What it raises all the same counts as transient."""

#: The target is to blame; a business failure or a malformed command says nothing of it.
_BLAMED = frozenset({FailureClass.TRANSIENT})
_PUSHES_BACK = frozenset({FailureClass.TRANSIENT, FailureClass.THROTTLED})
#: For a run that was cancelled to end; one that does not is left alone.
_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Protection:
    """Bounds on the use of a target by one flow on one worker."""

    concurrency: int = 16
    """Runs at once, at most."""
    is_adaptive: bool = False
    """Whether their number follows what the receiver can bear."""
    timeout_s: float = 30.0
    """Of one run; beyond it, it is cancelled and failed for a passing reason."""
    fallback_timeout_s: float = 30.0
    start_s: float = 0.0
    """How long it may take from a slot to its run: to commit that it begins."""
    rate_per_key: RateLimit | None = None
    letters_max: int = 100
    """Dead letters without successes at which the flow stops."""


@dataclass(slots=True, eq=False)
class Slot:
    """A place to run one command in: :meth:`run` or :meth:`leave` it."""

    target: "Target"
    ticket: Ticket | None
    """``None``: the fallback runs it."""

    async def run(self, command: Command) -> Outcome:
        """Run a command within the time limit; whatever the executor does, an outcome comes."""
        return await self.target.run_in(self, command)

    def leave(self) -> None:
        """The run that was to begin does not."""
        self.target.leave(self)


class Target:
    """One flow's executor on this worker, protected."""

    def __init__(
        self,
        flow: str,
        executor: Executor,
        protection: Protection,
        gate: Gate,
        fallback: Executor | None = None,
    ) -> None:
        self.flow = flow
        self.protection = protection
        self.guard = FloodGuard(protection.letters_max)
        self.running = 0
        self.is_closed_off = False
        """An operator lets nothing run until further notice."""
        self._executor = executor
        self._fallback = fallback
        self._gate = gate
        self._adaptive = AdaptiveLimit(protection.concurrency) if protection.is_adaptive else None
        self._keys = None if protection.rate_per_key is None else KeyRates(protection.rate_per_key)
        self._waiting: dict[Callable[[], None], bool] = {}
        """Who waits, the longest first, and whether it was called back since it asked."""
        longest_s = protection.timeout_s + _GRACE_S + protection.start_s
        gate.attend(self._call_back, int(longest_s * 1000))

    @property
    def name(self) -> str:
        """Of the target, which other flows may share."""
        return self._gate.target

    @property
    def breaker(self) -> BreakerState:
        """What an operator has said, or else the fleet's breaker."""
        return BreakerState.OPEN if self.is_closed_off else self._gate.state

    @property
    def opened(self) -> int:
        """How often the fleet's breaker was heard to open."""
        return self._gate.opened

    @property
    def limit(self) -> int:
        """Runs at once, now."""
        return self.protection.concurrency if self._adaptive is None else self._adaptive.limit

    def key_wait_ms(self, key: bytes) -> int:
        """0 when a command of this key may run as far as its key goes, else in how many ms."""
        return 0 if self._keys is None else self._keys.wait_ms(key, self._gate.now_ms())

    def wait_ms(self, call_back: Callable[[], None]) -> int:
        """0 when a run may begin now, else in how many ms to ask again.

        ``call_back`` is called earlier when a run ends, when the fleet's owner of the target has
        said something, and when an operator changes something: those that have waited longest
        first, so that no partition with a backlog keeps all slots.
        """
        wait_ms = self._wait_ms()
        if wait_ms:
            self._waiting[call_back] = False
        else:
            self._waiting.pop(call_back, None)
        return wait_ms

    def _wait_ms(self) -> int:
        if self.is_closed_off or self.guard.is_tripped or self.running >= self.limit:
            return NEVER
        wait_ms = self._gate.wait_ms()
        return 0 if wait_ms and self._may_fall_back() else wait_ms

    def _may_fall_back(self) -> bool:
        return self._fallback is not None and self._gate.is_broken

    def begin(self, key: bytes) -> Slot | None:
        """Take a slot for a command of a key; ``None`` when that is not allowed any more."""
        ticket = self._gate.begin()
        if ticket is None and not self._may_fall_back():
            return None
        if self._keys is not None:
            self._keys.take(key, self._gate.now_ms())
        self.running += 1
        return Slot(self, ticket)

    def leave(self, slot: Slot) -> None:
        """The run that was to begin in the slot does not."""
        if slot.ticket is not None:
            self._gate.end(slot.ticket, None, "")
        self._free()

    async def run_in(self, slot: Slot, command: Command) -> Outcome:
        """Run a command in its slot."""
        ticket, protection = slot.ticket, self.protection
        is_failure: bool | None = None
        error = ""
        try:
            if ticket is None:
                assert self._fallback is not None, f"{self.flow}: no fallback"
                return await _run(self._fallback, command, protection.fallback_timeout_s)
            began_s = asyncio.get_running_loop().time()
            outcome = await _run(self._executor, command, protection.timeout_s)
            is_failure = isinstance(outcome, Failed) and outcome.failure in _BLAMED
            error = outcome.reason if isinstance(outcome, Failed) else ""
            self._learn(outcome, began_s)
            return outcome
        finally:
            if ticket is not None:
                self._gate.end(ticket, is_failure, error)
            self._free()

    def _learn(self, outcome: Outcome, began_s: float) -> None:
        if self._adaptive is None:
            return
        if isinstance(outcome, Failed) and outcome.failure in _PUSHES_BACK:
            self._adaptive.pushed_back(self._gate.now_ms())
        else:
            took_ms = (asyncio.get_running_loop().time() - began_s) * 1000
            self._adaptive.ended(took_ms, self.running)

    def decided(self, outcome: Outcome, gave_up: bool) -> None:
        """Tell what a command's end has led to, once it is committed."""
        if gave_up:
            self.guard.gave_up()
            if self.guard.is_tripped:
                log.error("flow %s stopped: too many dead letters for its successes", self.flow)
        elif isinstance(outcome, Done):
            self.guard.succeeded()

    def operate(self, is_open: bool) -> None:
        """Let nothing run; or let everything run, whatever has stopped it."""
        self.is_closed_off = is_open
        if not is_open:
            self.guard.reset()
            self._gate.reset()
        log.warning("flow %s: %s by an operator", self.flow, "stopped" if is_open else "let go")
        self._call_back()

    def _free(self) -> None:
        self.running -= 1
        self._call_back()

    def _call_back(self) -> None:
        # As one asks again, others are called back and ask: looked up anew for each.
        for call_back in list(self._waiting):
            match self._waiting.get(call_back):
                case True:
                    # It has not asked again: it has nothing more to run, or has ended.
                    del self._waiting[call_back]
                case False:
                    self._waiting[call_back] = True
                    try:
                        call_back()
                    except Exception:
                        # Its task meets it again by itself; it is none of the run that has ended.
                        log.exception("flow %s: a task cannot begin a run", self.flow)
                case None:
                    pass


async def _run(executor: Executor, command: Command, limit_s: float) -> Outcome:
    """Run it, for so long at most; one that cannot even be cancelled is left to itself."""
    running = asyncio.ensure_future(executor(command))
    try:
        await asyncio.wait([running], timeout=limit_s)
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait([running], timeout=_GRACE_S)
    late = Failed(FailureClass.TRANSIENT, "timeout", f"no end within {limit_s:g} s")
    if not running.done():
        log.error("executor does not end: flow %s, command %s", command.flow, command.id)
        return late
    if running.cancelled():
        return late
    if (error := running.exception()) is not None:
        # An executor's bug is about this command; its text may hold data, the log tells it.
        log.error("executor failed: flow %s, command %s", command.flow, command.id, exc_info=error)
        return Failed(FailureClass.TRANSIENT, "executor-failed", type(error).__name__)
    return running.result()


Targets = Mapping[str, Target]
"""By flow."""
