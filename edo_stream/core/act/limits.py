"""How fast a target may be called, and how many dead letters a flow may write."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``per_s`` calls a second on average, and ``burst`` at once."""

    per_s: float
    burst: int = 1

    def __post_init__(self) -> None:
        assert self.per_s > 0, f"a rate is above zero: {self.per_s}"
        assert self.burst >= 1, f"a burst is at least one: {self.burst}"


class TokenBucket:
    """A rate limit's memory, full at first; times are epoch ms."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._at_ms: int | None = None

    def wait_ms(self, now_ms: int) -> int:
        """How long until a call may be made; 0 when it may now."""
        self._refill(now_ms)
        missing = 1.0 - self._tokens
        return 0 if missing <= 1e-9 else int(missing / self._limit.per_s * 1000) + 1

    def take(self, now_ms: int) -> None:
        """A call is made."""
        self._refill(now_ms)
        self._tokens -= 1.0

    def _refill(self, now_ms: int) -> None:
        if self._at_ms is not None and now_ms > self._at_ms:
            gained = (now_ms - self._at_ms) / 1000 * self._limit.per_s
            self._tokens = min(float(self._limit.burst), self._tokens + gained)
        if self._at_ms is None or now_ms > self._at_ms:
            self._at_ms = now_ms


class FloodGuard:
    """Stops a flow before it empties itself into the dead letters.

    Each success earns a part of a dead letter, up to a bound; a flow that has spent all its credit
    is stopped until an operator says go on.
    """

    def __init__(self, letters_max: int = 100, successes_per_letter: int = 10) -> None:
        self._most = float(letters_max)
        self._earned = 1.0 / successes_per_letter
        self._credit = float(letters_max)

    @property
    def is_tripped(self) -> bool:
        """Whether the flow may not go on."""
        return self._credit < 1.0

    def succeeded(self) -> None:
        """A command of the flow succeeded."""
        self._credit = min(self._most, self._credit + self._earned)

    def gave_up(self) -> None:
        """A command of the flow became a dead letter."""
        self._credit -= 1.0

    def reset(self) -> None:
        """An operator has looked."""
        self._credit = self._most
