"""A circuit breaker for one target: what is broken is left alone instead of being hammered.

Theory of operation. *Closed*, it watches the last runs; when enough of them failed, or many in a
row, it *opens*: nothing of the target runs, what waits stays where it is and the partitions pause,
so that an outage empties nothing into the dead letters. After a pause it is *half open*: one run at
a time probes the target; enough successes in a row close it, one failure opens it again, for twice
as long up to a bound. Only failures that say something of the target count: transient ones.
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


class Breaker:
    """See the module's docstring; times are epoch ms."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._runs: deque[bool] = deque(maxlen=policy.window)
        self._failures = 0
        self._in_a_row = 0
        self._successes = 0
        self._is_probing = False
        self._open_ms = policy.open_ms
        self._until_ms: int | None = None
        self.state = BreakerState.CLOSED
        self.opened = 0
        """How often it has opened."""

    @property
    def until_ms(self) -> int | None:
        """When it lets a probe through; ``None`` unless it is open, or forced open."""
        return self._until_ms

    def admits(self, now_ms: int) -> bool:
        """Whether a run may begin now; while half open, one at a time."""
        if self.state is BreakerState.OPEN and self._until_ms is not None:
            if now_ms < self._until_ms:
                return False
            self.state, self._until_ms = BreakerState.HALF_OPEN, None
            self._successes, self._is_probing = 0, False
        match self.state:
            case BreakerState.CLOSED:
                return True
            case BreakerState.HALF_OPEN:
                return not self._is_probing
            case BreakerState.OPEN:
                return False

    def begin(self) -> None:
        """A run begins that was admitted."""
        if self.state is BreakerState.HALF_OPEN:
            self._is_probing = True

    def end(self, is_failure: bool, now_ms: int) -> None:
        """A run has ended; ``is_failure`` when the target is to blame."""
        if self.state is BreakerState.HALF_OPEN:
            self._end_probe(is_failure, now_ms)
        elif self.state is BreakerState.CLOSED:
            self._note(is_failure)
            if self._is_bad():
                self._open(now_ms)
        # Open: runs that had begun before it opened say nothing new.

    def abandon(self) -> None:
        """A run was cancelled: it says nothing, and another may probe."""
        self._is_probing = False

    def force(self, is_open: bool) -> None:
        """An operator opens it until further notice, or closes it."""
        self._reset()
        self._until_ms = None
        self.state = BreakerState.OPEN if is_open else BreakerState.CLOSED

    def _end_probe(self, is_failure: bool, now_ms: int) -> None:
        self._is_probing = False
        if is_failure:
            self._open_ms = min(self._open_ms * 2, self._policy.open_max_ms)
            self._open(now_ms)
            return
        self._successes += 1
        if self._successes >= self._policy.probes:
            self._reset()
            self.state = BreakerState.CLOSED

    def _note(self, is_failure: bool) -> None:
        if len(self._runs) == self._runs.maxlen:
            self._failures -= self._runs[0]
        self._runs.append(is_failure)
        self._failures += is_failure
        self._in_a_row = self._in_a_row + 1 if is_failure else 0

    def _is_bad(self) -> bool:
        policy = self._policy
        is_known = len(self._runs) == policy.window
        return self._in_a_row >= policy.consecutive or (
            is_known and self._failures >= policy.failure_ratio * policy.window
        )

    def _open(self, now_ms: int) -> None:
        self.state, self._until_ms = BreakerState.OPEN, now_ms + self._open_ms
        self.opened += 1
        self._forget_runs()

    def _reset(self) -> None:
        self._open_ms = self._policy.open_ms
        self._successes, self._is_probing = 0, False
        self._forget_runs()

    def _forget_runs(self) -> None:
        self._runs.clear()
        self._failures = self._in_a_row = 0
