"""How late retries ran, exactly, for the last thousand of each flow."""

from collections import deque
from typing import Final

from edo_stream.views import RetriesView

_KEPT_MAX: Final = 1_000


class Lateness:
    """Of one worker's flows, since it started."""

    def __init__(self) -> None:
        self._last: dict[str, deque[int]] = {}
        self._counts: dict[str, int] = {}

    def retried(self, flow: str, late_ms: int) -> None:
        """A retry begins to run, so long after it was due."""
        self._last.setdefault(flow, deque(maxlen=_KEPT_MAX)).append(late_ms)
        self._counts[flow] = self._counts.get(flow, 0) + 1

    def views(self) -> tuple[RetriesView, ...]:
        """One for each flow that had a retry."""
        return tuple(self._view(flow) for flow in sorted(self._last))

    def _view(self, flow: str) -> RetriesView:
        late_ms = sorted(self._last[flow])
        last = len(late_ms) - 1
        return RetriesView(
            flow=flow,
            retries=self._counts[flow],
            late_median_ms=late_ms[last // 2],
            late_p99_ms=late_ms[last * 99 // 100],
            late_max_ms=late_ms[last],
        )
