"""The retry ladder: one topic a tier, a fixed delay each, shared by all flows of a group.

A tier's partitions are read in order and each waits for the record at its head; that is only right
while all records of a tier wait about equally long. So a delay that is asked for (``Retry-After``)
is rounded up to a tier, never down, and one beyond the longest tier goes through it repeatedly.
"""

from bisect import bisect_left
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import Final

_JITTER_STEPS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Ladder:
    """Delays of a group's tiers in ms, ascending, without repetition."""

    delays_ms: tuple[int, ...]

    def __post_init__(self) -> None:
        assert self.delays_ms, "a ladder has at least one tier"
        assert all(a < b for a, b in zip(self.delays_ms, self.delays_ms[1:], strict=False)), (
            f"tiers ascend: {self.delays_ms}"
        )
        assert self.delays_ms[0] > 0, "a tier has a delay"

    def tier_of(self, delay_ms: int) -> int:
        """Delay of the smallest tier that is not shorter; the longest when none is."""
        index = bisect_left(self.delays_ms, delay_ms)
        return self.delays_ms[min(index, len(self.delays_ms) - 1)]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how late a command that failed for a passing reason is run again.

    Attempt 1 is the first; retry ``n`` waits ``initial_ms * factor ** (n - 1)``, at most
    ``max_ms``. With the defaults: 1, 2, 4, 8, 16 s after attempts 1 to 5, and then no more.
    """

    initial_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 30_000
    retries: int = 5
    jitter: float = 0.0
    """Share of the delay that may be added; what is added stays within ``max_ms``."""
    total_ms: int | None = None
    """From the first attempt on, time after which nothing is retried."""

    def delay_ms(self, attempt: int) -> int:
        """Delay after a failed attempt, counted from 1, without jitter."""
        assert attempt >= 1, f"attempts count from 1: {attempt}"
        # The exponent is bounded: a float overflows long before anybody retries that often.
        grown = self.initial_ms * self.factor ** min(attempt - 1, 64)
        return int(min(grown, self.max_ms))

    def delays_ms(self) -> tuple[int, ...]:
        """The delays of all retries, ascending, each once: the tiers that the policy needs."""
        return tuple(sorted({self.delay_ms(attempt) for attempt in range(1, self.retries + 1)}))

    def ends_by(self, first_ms: int) -> float:
        """Time after which nothing is run again, epoch ms; ``first_ms`` is the first failure's."""
        return inf if self.total_ms is None else first_ms + self.total_ms

    def jitter_ms(self, delay_ms: int, cause: str) -> int:
        """What is added to a delay, the same for the same cause: a repetition decides alike."""
        room = min(int(delay_ms * self.jitter), max(0, self.max_ms - delay_ms))
        if room <= 0:
            return 0
        draw = int.from_bytes(sha256(cause.encode()).digest()[:2], "big")
        return room * draw // _JITTER_STEPS
