"""Timers: rows of state, ordered by when they are due.

A row is a prefix (``t``), the due time in epoch ms (8 bytes, big endian), and the name of what
waits. What is set and cleared within one step leaves no trace, neither on the changelog nor on
disk.
"""

from itertools import islice
from struct import Struct
from typing import Final

from edo_stream.core.state import Table

_PREFIX: Final = b"t"
_DUE: Final = Struct(">Q")
_VALUE: Final = b"\x01"
"""Version of the row; all else is in its key."""


class Timers:
    """The timers of one task, or those of them whose rows have a prefix of their own.

    ``next_due_ms`` is exact between steps, so that nothing is scanned while nothing is due.
    """

    def __init__(self, state: Table, prefix: bytes = _PREFIX) -> None:
        self._state = state
        self._prefix = prefix
        self._end = prefix[:-1] + bytes([prefix[-1] + 1])
        self._set: set[bytes] = set()
        self._cleared: set[bytes] = set()
        self.next_due_ms: int | None = None

    def restore(self) -> None:
        """Forget what is uncommitted and find the earliest timer in the state."""
        self._set.clear()
        self._cleared.clear()
        self._find_next(0)

    def pages(self) -> tuple[bytes, set[bytes], set[bytes]]:
        """What the compiled half writes to: what rows begin with, those set, those cleared."""
        return self._prefix, self._set, self._cleared

    def set(self, due_ms: int, name: bytes) -> None:
        """Wake ``name`` at ``due_ms``."""
        row = self._prefix + _DUE.pack(due_ms) + name
        if row in self._cleared:
            self._cleared.remove(row)
        else:
            self._set.add(row)

    def clear(self, due_ms: int, name: bytes) -> None:
        """Forget a timer that was set."""
        row = self._prefix + _DUE.pack(due_ms) + name
        if row in self._set:
            self._set.remove(row)
        else:
            self._cleared.add(row)

    def due(self, limit_ms: int, count_max: int) -> list[tuple[int, bytes]]:
        """The earliest timers due at ``limit_ms`` or before, as ``(due_ms, name)``; flushes."""
        self.flush()
        if self.next_due_ms is None or self.next_due_ms > limit_ms:
            return []
        start = self._prefix + _DUE.pack(self.next_due_ms)
        end = self._prefix + _DUE.pack(limit_ms + 1)
        return [self._parse(row) for row, _ in islice(self._state.scan(start, end), count_max)]

    def flush(self) -> None:
        """Write what has changed to the state."""
        if self._set:
            earliest = self._parse(min(self._set))[0]
            if self.next_due_ms is None or earliest < self.next_due_ms:
                self.next_due_ms = earliest
        self._state.write_all(dict.fromkeys(sorted(self._set), _VALUE))
        self._state.write_all(dict.fromkeys(sorted(self._cleared)))
        # Nothing that was there is due earlier than the next.
        is_next_gone = self._cleared and self._parse(min(self._cleared))[0] == self.next_due_ms
        self._set.clear()
        self._cleared.clear()
        if is_next_gone:
            assert self.next_due_ms is not None
            self._find_next(self.next_due_ms)

    def _find_next(self, from_ms: int) -> None:
        first = next(self._state.scan(self._prefix + _DUE.pack(from_ms), self._end), None)
        self.next_due_ms = None if first is None else self._parse(first[0])[0]

    def _parse(self, row: bytes) -> tuple[int, bytes]:
        at = len(self._prefix)
        return _DUE.unpack_from(row, at)[0], row[at + _DUE.size :]
