"""Rows of global tables that have come: which of them a task has not looked at yet.

Theory of operation. Whoever reads a global table tells each task of the worker which rows have
come, when they are there to be found. The task's next step lets go what waits for them: that step
is where the arrival is seen, and it is committed with all that comes of it. What is told is kept in
memory only, up to a bound. When it is lost, with a crash or an aborted transaction, or is too much
or unknown, after a table was loaded, then the task looks through all that waits, some at a time.
"""

from collections.abc import Sequence
from typing import Final

_TOLD_MAX: Final = 10_000

Told = tuple[str, bytes]
"""A table, and the key of a row that has come."""


class Arrivals:
    """See the module's docstring."""

    def __init__(self, told_max: int = _TOLD_MAX) -> None:
        self._told_max = told_max
        self._told: dict[Told, None] = {}
        self._next: bytes | None = b""
        """Name of the queue behind which to look on; ``None``: all were looked at."""

    def __bool__(self) -> bool:
        return bool(self._told) or self._next is not None

    def tell(self, table: str, keys: Sequence[bytes] | None) -> None:
        """Note rows that have come; ``None``: any may have."""
        if keys is None or len(self._told) + len(keys) > self._told_max:
            self.look_at_all()
        elif self._next != b"":
            # Behind the place where the task looks on, and before it, alike.
            self._told.update(dict.fromkeys((table, key) for key in keys))

    def look_at_all(self) -> None:
        """Look through all that waits."""
        self._told.clear()
        self._next = b""

    def pop(self) -> Told | None:
        """The first of the rows that were told, which is looked at now."""
        first = next(iter(self._told), None)
        if first is not None:
            del self._told[first]
        return first

    @property
    def next(self) -> bytes | None:
        """Where to look on among all queues, if they are to be looked through."""
        return self._next

    def looked(self, until: bytes | None) -> None:
        """Say where to look on; ``None``: all were looked at."""
        self._next = until
