"""How fast a target and a key may be called, and how many dead letters a flow may write."""

from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import Final

LEASE_MS: Final = 400
"""How much of a rate a worker may hold at most, and how late it may use a token."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``per_s`` calls a second on average, and ``burst`` at once."""

    per_s: float
    burst: int = 1

    def __post_init__(self) -> None:
        assert self.per_s > 0, f"a rate is above zero: {self.per_s}"
        assert self.burst >= 1, f"a burst is at least one: {self.burst}"

    @property
    def interval_ms(self) -> float:
        """Time from one call to the next."""
        return 1000 / self.per_s

    @property
    def lease_max(self) -> int:
        """Tokens that one worker may hold."""
        return max(1, int(self.per_s * LEASE_MS / 1000))


class Slots:
    """The calls that a rate allows, one after the other, each with its time (GCRA).

    Time that nobody asked for is lost, but for ``burst``.
    """

    def __init__(self, limit: RateLimit, free_ms: float) -> None:
        self._limit = limit
        self._free_ms = free_ms
        """When the next call may be made, if nobody asks in between."""

    def reserve(self, tokens: int, now_ms: int) -> float:
        """Take so many calls in a row; in how many ms is the first, which may be past."""
        interval_ms = self._limit.interval_ms
        first_ms = max(self._free_ms, now_ms - (self._limit.burst - 1) * interval_ms)
        self._free_ms = first_ms + tokens * interval_ms
        return first_ms - now_ms

    def lead_ms(self, now_ms: int) -> int:
        """How far ahead calls are reserved."""
        return max(0, ceil(self._free_ms - now_ms))


class Leases:
    """The tokens that one worker holds: each has a time before which it is not to be used.

    One that is not used in time is lost: no worker saves tokens up.
    """

    def __init__(self, interval_ms: float) -> None:
        self._interval_ms = interval_ms
        self._leases: deque[tuple[float, int]] = deque()
        """Time of the first token, and how many there are."""

    def add(self, tokens: int, first_ms: float) -> None:
        """Tokens were granted, ``interval_ms`` apart."""
        self._leases.append((first_ms, tokens))

    def held(self, now_ms: int) -> int:
        """Tokens that may be used now or later."""
        self._expire(now_ms)
        return sum(tokens for _, tokens in self._leases)

    def wait_ms(self, now_ms: int) -> int | None:
        """How long until one may be used; ``None`` when there is none."""
        self._expire(now_ms)
        return max(0, ceil(self._leases[0][0] - now_ms)) if self._leases else None

    def take(self) -> None:
        """Use one."""
        first_ms, tokens = self._leases.popleft()
        if tokens > 1:
            self._leases.appendleft((first_ms + self._interval_ms, tokens - 1))

    def _expire(self, now_ms: int) -> None:
        while self._leases:
            first_ms, tokens = self._leases[0]
            if first_ms + (tokens - 1) * self._interval_ms + LEASE_MS >= now_ms:
                return
            self._leases.popleft()


class KeyRates:
    """When each key may be called next; a key that has rested costs nothing."""

    _SWEEP_MIN = 1_000

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._free_ms: dict[bytes, float] = {}
        """When the next call would be in turn, had there been no burst."""
        self._sweep_at = self._SWEEP_MIN

    def wait_ms(self, key: bytes, now_ms: int) -> int:
        """How long until a call of the key may begin; 0 when it may now."""
        free_ms = self._free_ms.get(key)
        if free_ms is None:
            return 0
        allowed_ms = free_ms - (self._limit.burst - 1) * self._limit.interval_ms
        return max(0, ceil(allowed_ms - now_ms))

    def take(self, key: bytes, now_ms: int) -> None:
        """A call of the key begins."""
        free_ms = max(self._free_ms.get(key, 0.0), now_ms)
        self._free_ms[key] = free_ms + self._limit.interval_ms
        if len(self._free_ms) >= self._sweep_at:
            self._free_ms = {key: at_ms for key, at_ms in self._free_ms.items() if at_ms > now_ms}
            self._sweep_at = max(self._SWEEP_MIN, 2 * len(self._free_ms))


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
