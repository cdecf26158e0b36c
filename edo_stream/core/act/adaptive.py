"""How many runs at once are good for a receiver, found out while it is called.

Theory of operation. The limit follows the gradient of latency: the time that a run takes when
nothing queues at the receiver, over the time that runs take now. While they are about equal the
limit grows by its square root; as runs begin to queue at the receiver it shrinks towards what
causes no queue. A receiver that asks for patience, or does not answer in time, gets a third less at
once. The limit only moves while it is used: a quiet flow learns nothing of what its receiver bears.

Where runs always queue a little, nobody sees how long one takes without. So every so many runs the
limit *rests* at a quarter until what had begun before has ended: then there is no queue, and the
least time is taken anew. Receivers also change.
"""

from math import sqrt
from typing import Final

_TOLERANCE: Final = 1.5
"""Runs may take so many times the least before the limit shrinks."""
_SMOOTHING: Final = 0.5
_RECENT: Final = 0.1
"""Weight of one run in the latency of now."""
_BACK_OFF: Final = 0.7
_FIRST: Final = 4
_REST_AFTER_RUNS: Final = 500
_REST_AFTER_ROUNDS: Final = 20
_REST_RUNS: Final = 10


class AdaptiveLimit:
    """The limit of one flow on one worker; times are ms on a clock that never jumps."""

    def __init__(self, limit_max: int) -> None:
        self._max = limit_max
        self._limit = float(min(_FIRST, limit_max))
        self._recent_ms: float | None = None
        self._least_ms: float | None = None
        self._runs = 0
        self._rest = 0
        """Runs that are still to end while it rests."""
        self._rest_least_ms: float | None = None
        self._backed_off_ms: int | None = None

    @property
    def limit(self) -> int:
        """Runs at once, at least one."""
        return max(1, int(self._limit / 4 if self._rest else self._limit))

    def ended(self, took_ms: float, running: int) -> None:
        """A run has ended that the receiver answered; ``running`` counts it."""
        took_ms = max(1.0, took_ms)
        self._least_ms = took_ms if self._least_ms is None else min(self._least_ms, took_ms)
        if self._rest:
            self._end_in_rest(took_ms)
            return
        recent_ms = self._recent_ms
        recent_ms = took_ms if recent_ms is None else recent_ms + _RECENT * (took_ms - recent_ms)
        self._recent_ms = recent_ms
        if running * 2 < self._limit:
            return
        gradient = max(0.5, min(1.0, _TOLERANCE * self._least_ms / recent_ms))
        aim = self._limit * gradient + sqrt(self._limit)
        # Each of the runs at once tells the same: together they move it once.
        step = _SMOOTHING / max(1.0, self._limit)
        self._limit = min(float(self._max), max(1.0, self._limit + step * (aim - self._limit)))
        self._runs += 1
        if self._runs >= max(_REST_AFTER_RUNS, _REST_AFTER_ROUNDS * self._limit):
            self._runs, self._rest_least_ms = 0, None
            self._rest = int(self._limit) + _REST_RUNS

    def _end_in_rest(self, took_ms: float) -> None:
        self._rest -= 1
        if self._rest < _REST_RUNS:
            # The others had begun before.
            least_ms = self._rest_least_ms
            self._rest_least_ms = took_ms if least_ms is None else min(least_ms, took_ms)
        if not self._rest and self._rest_least_ms is not None:
            self._least_ms = self._rest_least_ms

    def pushed_back(self, now_ms: int) -> None:
        """The receiver asked for patience, or did not answer in time."""
        pause_ms = 0.0 if self._recent_ms is None else self._recent_ms
        if self._backed_off_ms is not None and now_ms < self._backed_off_ms + pause_ms:
            return  # It was told by runs that had begun before.
        self._backed_off_ms = now_ms
        self._limit = max(1.0, self._limit * _BACK_OFF)
