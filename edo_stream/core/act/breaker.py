"""A circuit breaker for one target: what is broken is left alone instead of being hammered.

Theory of operation. *Closed*, it watches the last runs; when enough of them failed, or many in a
row, it *opens*: nothing of the target runs, what waits stays where it is and the partitions pause,
so that an outage empties nothing into the dead letters. After a pause it is *half open*: one run at
a time probes the target; enough successes in a row close it, one failure opens it again, for twice
as long up to a bound. Only failures that say something of the target count: transient ones.

There is one breaker for a target in the whole fleet, kept by its owner (:mod:`.keeper`). Each
change of its state begins a new *epoch*: runs that had begun in an earlier one say nothing more.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum


class BreakerState(Enum):
    """What a breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and closes."""

    failure_ratio: float = 0.5
    """Share of failures among the last ``window`` runs at which it opens."""
    window: int = 20
    """Runs that are looked at; fewer say nothing by their ratio."""
    consecutive: int = 10
    """Failures in a row at which it opens."""
    open_ms: int = 5_000
    """How long it stays open at first; doubled each time a probe fails."""
    open_max_ms: int = 60_000
    probes: int = 3
    """Successes in a row of single probes that close it."""


class RecentRuns:
    """The last runs of a target, and what they say of it."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._runs: deque[bool] = deque(maxlen=policy.window)
        self._failures = 0
        self._in_a_row = 0

    def note(self, is_failure: bool) -> None:
        """A run has ended; ``is_failure`` when the target is to blame."""
        if len(self._runs) == self._runs.maxlen:
            self._failures -= self._runs[0]
        self._runs.append(is_failure)
        self._failures += is_failure
        self._in_a_row = self._in_a_row + 1 if is_failure else 0

    def verdict(self) -> str | None:
        """Why the target is to be left alone, if it is."""
        policy = self._policy
        if self._in_a_row >= policy.consecutive:
            return f"{self._in_a_row} failures in a row"
        is_known = len(self._runs) == policy.window
        if is_known and self._failures >= policy.failure_ratio * policy.window:
            return f"{self._failures} of the last {policy.window} runs failed"
        return None

    def forget(self) -> None:
        """Begin anew."""
        self._runs.clear()
        self._failures = self._in_a_row = 0


class Breaker:
    """See the module's docstring; times are epoch ms."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = BreakerState.CLOSED
        self.epoch = 1
        self.since_ms = 0
        """When its state began."""
        self.why = ""
        """What opened it last; empty once it has closed."""
        self.opened = 0
        """How often it has opened."""
        self.until_ms: int | None = None
        """When it lets a probe through; ``None`` unless it is open."""
        self.open_ms = policy.open_ms
        self.successes = 0
        """Of probes, in a row."""
        self._recent = RecentRuns(policy)

    def note(self, is_failure: bool, error: str, now_ms: int) -> None:
        """A run of this epoch has ended, no probe; ``error`` is the reason of a failure."""
        if self.state is BreakerState.CLOSED:
            self._recent.note(is_failure)
            if (why := self._recent.verdict()) is not None:
                self.trip(f"{why}: {error}" if error else why, now_ms)

    def trip(self, why: str, now_ms: int) -> None:
        """Open it: somebody has seen that the target is broken."""
        self.why = why
        self.until_ms = now_ms + self.open_ms
        self.opened += 1
        self._become(BreakerState.OPEN, now_ms)

    def tick(self, now_ms: int) -> None:
        """Let a probe through when it is time."""
        if self.until_ms is not None and self.until_ms <= now_ms:
            self.until_ms, self.successes = None, 0
            self._become(BreakerState.HALF_OPEN, now_ms)

    def probed(self, is_failure: bool, error: str, now_ms: int) -> None:
        """The one probe has ended."""
        assert self.state is BreakerState.HALF_OPEN, f"a probe while {self.state.value}"
        if is_failure:
            self.open_ms = min(self.open_ms * 2, self.policy.open_max_ms)
            self.trip(f"a probe failed: {error}", now_ms)
            return
        self.successes += 1
        if self.successes >= self.policy.probes:
            self.close(now_ms)

    def close(self, now_ms: int) -> None:
        """Let everything through: probes have shown that it works, or an operator knows."""
        self.why, self.until_ms, self.open_ms = "", None, self.policy.open_ms
        self._become(BreakerState.CLOSED, now_ms)

    def _become(self, state: BreakerState, now_ms: int) -> None:
        self.state, self.since_ms = state, now_ms
        self.epoch += 1
        self._recent.forget()
