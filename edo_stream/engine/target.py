"""What stands between commands and the outside: slots, rate, breaker and time limit of a flow.

One for each flow and worker, shared by the worker's tasks. Whoever wants to run a command asks
:meth:`Target.wait_ms` first, says :meth:`Target.begin`, and then runs it; nothing here queues. A
task that may not begin is called back when it is worth asking again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from edo_stream.core.act.breaker import Breaker, BreakerPolicy, BreakerState
from edo_stream.core.act.command import Command
from edo_stream.core.act.limits import FloodGuard, RateLimit, TokenBucket
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

log = logging.getLogger(__name__)

Executor = Callable[[Command], Awaitable[Outcome]]
"""Runs a command; a failure is an outcome. What it raises all the same counts as transient."""

_BREAKER = BreakerPolicy()
#: The target is to blame; a business failure or a malformed command says nothing of it.
_BLAMED = frozenset({FailureClass.TRANSIENT})
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Protection:
    """Bounds on the use of a target by one worker."""

    concurrency: int = 16
    """Runs at once."""
    timeout_s: float = 30.0
    """Of one run; beyond it, it is cancelled and failed for a passing reason."""
    rate: RateLimit | None = None
    breaker: BreakerPolicy = _BREAKER
    letters_max: int = 100
    """Dead letters without successes at which the flow stops."""


class Target:
    """One flow's executor on this worker, protected."""

    def __init__(
        self,
        flow: str,
        executor: Executor,
        protection: Protection,
        now_ms: Callable[[], int],
        fallback: Executor | None = None,
    ) -> None:
        self.flow = flow
        self.protection = protection
        self.breaker = Breaker(protection.breaker)
        self.guard = FloodGuard(protection.letters_max)
        self.running = 0
        self._executor = executor
        self._fallback = fallback
        self._now_ms = now_ms
        self._bucket = None if protection.rate is None else TokenBucket(protection.rate)
        self._waiting: set[Callable[[], None]] = set()
        self._probes = 0
        """Probes that were begun and have not run yet."""

    def wait_ms(self, call_back: Callable[[], None]) -> int:
        """0 when a run may begin now, else in how many ms to ask again.

        ``call_back`` is called earlier when a run ends, and when an operator changes something.
        """
        wait_ms = self._wait_ms(self._now_ms())
        if wait_ms:
            self._waiting.add(call_back)
        return wait_ms

    def _wait_ms(self, now_ms: int) -> int:
        if self.guard.is_tripped or self.running >= self.protection.concurrency:
            return _NEVER
        if not self.breaker.admits(now_ms) and self._fallback is None:
            until_ms = self.breaker.until_ms
            return _NEVER if until_ms is None else max(1, until_ms - now_ms)
        return 0 if self._bucket is None else self._bucket.wait_ms(now_ms)

    def begin(self) -> None:
        """A run is about to begin; :meth:`run` or :meth:`leave` must follow."""
        self.running += 1
        now_ms = self._now_ms()
        if self._bucket is not None:
            self._bucket.take(now_ms)
        if self.breaker.admits(now_ms):
            self._probes += self.breaker.state is BreakerState.HALF_OPEN
            self.breaker.begin()

    def leave(self) -> None:
        """The run that was to begin does not."""
        self.breaker.abandon()
        self._free()

    async def run(self, command: Command) -> Outcome:
        """Run a command within the time limit; whatever the executor does, an outcome comes."""
        executor = self._executor
        if self._fallback is not None and not self._may_try():
            executor = self._fallback
        try:
            outcome = await self._run(executor, command)
        except asyncio.CancelledError:
            self.breaker.abandon()
            raise
        else:
            if executor is self._executor:
                is_failure = isinstance(outcome, Failed) and outcome.failure in _BLAMED
                self._note(is_failure)
            return outcome
        finally:
            self._free()

    def _may_try(self) -> bool:
        """Whether the receiver itself is called; while it is probed, by one run at a time."""
        match self.breaker.state:
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN:
                return False
            case BreakerState.HALF_OPEN:
                is_probe = self._probes > 0
                self._probes -= is_probe
                return is_probe

    async def _run(self, executor: Executor, command: Command) -> Outcome:
        limit_s = self.protection.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await executor(command)
        except TimeoutError:
            return Failed(FailureClass.TRANSIENT, "timeout", f"no end within {limit_s:g} s")
        except Exception as error:
            # An executor's bug is about this command; its text may hold data, the log tells it.
            log.exception(
                "executor failed: flow %s, command %s", command.flow, command.id, exc_info=error
            )
            return Failed(FailureClass.TRANSIENT, "executor-failed", type(error).__name__)

    def _note(self, is_failure: bool) -> None:
        before = self.breaker.state
        self.breaker.end(is_failure, self._now_ms())
        after = self.breaker.state
        if after is not before:
            log.warning("breaker of flow %s: %s, was %s", self.flow, after.value, before.value)

    def decided(self, outcome: Outcome, gave_up: bool) -> None:
        """Tell what a command's end has led to, once it is committed."""
        if gave_up:
            self.guard.gave_up()
            if self.guard.is_tripped:
                log.error("flow %s stopped: too many dead letters for its successes", self.flow)
        elif isinstance(outcome, Done):
            self.guard.succeeded()

    def operate(self, is_open: bool) -> None:
        """Open the breaker by hand; or close it, and let a flow go on that was stopped."""
        if not is_open:
            self.guard.reset()
        self.breaker.force(is_open)
        log.warning("breaker of flow %s: %s by an operator", self.flow, self.breaker.state.value)
        self._call_back()

    def _free(self) -> None:
        self.running -= 1
        self._call_back()

    def _call_back(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for call_back in waiting:
            call_back()


Targets = Mapping[str, Target]
"""By flow."""
