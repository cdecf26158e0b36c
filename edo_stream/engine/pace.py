"""Bound the rate of transactions of a worker, so that many busy tasks batch more instead."""

import asyncio

#: What one worker can commit without spending itself on commits (measured; see the design).
TRANSACTIONS_PER_S = 300


class Pace:
    """Spaces the transactions of each task by its share of the worker's budget.

    A task's first transaction after a pause starts at once: only a task that commits again and
    again waits, and what arrives meanwhile joins its batch.
    """

    def __init__(self, transactions_per_s: float = TRANSACTIONS_PER_S) -> None:
        self._interval_s = 1 / transactions_per_s
        self._last: dict[object, float] = {}

    async def turn(self, task: object) -> None:
        """Wait until the task may start its next transaction."""
        now = asyncio.get_running_loop().time()
        recent = now - 1.0
        self._last = {other: at for other, at in self._last.items() if at > recent}
        last = self._last.get(task)
        if last is not None:
            wait_s = last + len(self._last) * self._interval_s - now
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                now += wait_s
        self._last[task] = now
