"""Timers: rows of state, ordered by when they are due.

A row is ``t``, the due time in epoch ms (8 bytes, big endian), and the name of what waits. What is
set and cleared within one step leaves no trace, neither on the changelog nor on disk.
"""

from itertools import islice
from struct import Struct
from typing import Final

from edo_stream.core.state import Table

_PREFIX: Final = b"t"
_END: Final = b"u"
_DUE: Final = Struct(">Q")
_VALUE: Final = b"\x01"
"""Version of the row; all else is in its key."""


class Timers:
    """The timers of one task.

    ``next_due_ms`` is exact between steps, so that nothing is scanned while nothing is due.
    """

    def __init__(self, state: Table) -> None:
        self._state = state
        self._set: set[bytes] = set()
        self._cleared: set[bytes] = set()
        self.next_due_ms: int | None = None

    def restore(self) -> None:
        """Forget what is uncommitted and find the earliest timer in the state."""
        self._set.clear()
        self._cleared.clear()
        self._find_next(0)

    def set(self, due_ms: int, name: bytes) -> None:
        """Wake ``name`` at ``due_ms``."""
        row = _PREFIX + _DUE.pack(due_ms) + name
        if row in self._cleared:
            self._cleared.remove(row)
        else:
            self._set.add(row)

    def clear(self, due_ms: int, name: bytes) -> None:
        """Forget a timer that was set."""
        row = _PREFIX + _DUE.pack(due_ms) + name
        if row in self._set:
            self._set.remove(row)
        else:
            self._cleared.add(row)

    def due(self, limit_ms: int, count_max: int) -> list[tuple[int, bytes]]:
        """The earliest timers due at ``limit_ms`` or before, as ``(due_ms, name)``; flushes."""
        self.flush()
        if self.next_due_ms is None or self.next_due_ms > limit_ms:
            return []
        start, end = _PREFIX + _DUE.pack(self.next_due_ms), _PREFIX + _DUE.pack(limit_ms + 1)
        return [_parse(row) for row, _ in islice(self._state.scan(start, end), count_max)]

    def flush(self) -> None:
        """Write what has changed to the state."""
        if self._set:
            earliest = _parse(min(self._set))[0]
            if self.next_due_ms is None or earliest < self.next_due_ms:
                self.next_due_ms = earliest
        for row in sorted(self._set):
            self._state.write(row, _VALUE)
        for row in sorted(self._cleared):
            self._state.write(row, None)
        is_next_gone = any(_parse(row)[0] == self.next_due_ms for row in self._cleared)
        self._set.clear()
        self._cleared.clear()
        if is_next_gone:
            assert self.next_due_ms is not None
            self._find_next(self.next_due_ms)

    def _find_next(self, from_ms: int) -> None:
        first = next(self._state.scan(_PREFIX + _DUE.pack(from_ms), _END), None)
        self.next_due_ms = None if first is None else _parse(first[0])[0]


def _parse(row: bytes) -> tuple[int, bytes]:
    return _DUE.unpack_from(row, 1)[0], row[9:]
