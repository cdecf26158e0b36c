"""A histogram that takes many values at once."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


class Histogram:
    """Counts values by upper bounds, as Prometheus wants them; sums them as well."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Take one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def add_ages(self, times_ms: list[int], now_ms: int) -> None:
        """Take the ages, in seconds, of all these moments; one that is still to come has none.

        The list is sorted in place: a batch's is nearly so, which makes it one pass in C.
        """
        times_ms.sort()
        past = bisect_right(times_ms, now_ms)
        self.sum += (now_ms * past - sum(times_ms[:past])) / 1000
        older = len(times_ms)
        for index, bound in enumerate(self._bounds):
            # What happened before this moment is older than the bound.
            first_within = bisect_left(times_ms, now_ms - bound * 1000, 0, older)
            self._counts[index] += older - first_within
            older = first_within
            if not older:
                return
        self._counts[-1] += older

    def buckets(self) -> list[tuple[str, int]]:
        """Counts up to each bound, as ``MetricFamily`` takes them."""
        total, buckets = 0, []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
        return buckets
