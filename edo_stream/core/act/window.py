"""Progress in one topic while its records end out of order.

Theory of operation. Commands of different keys run side by side, so a record may be done before one
that came earlier. The group's committed offset can only say "all below", so what is done above it
is kept in rows, one an offset, whose value is the record's fate. When the lowest is done, the
offset moves up over all that follow, their rows go, and the account of the transaction tells their
fates in the order of the offsets: each record of the topic is accounted for once, as it is passed.
"""

from struct import Struct
from typing import Final

from edo_stream.core.accounts import Fate
from edo_stream.core.ledger import Ledger
from edo_stream.core.state import Table

PREFIX: Final = b"d"
_OFFSET: Final = Struct(">Q")


class Window:
    """What is in hand of one topic: from the committed offset up to the last record admitted."""

    def __init__(self, topic: str, state: Table) -> None:
        self.ledger = Ledger(topic)
        self._state = state
        self._rows = PREFIX + topic.encode() + b"\0"
        self._open: dict[int, None] = {}
        """Offsets admitted and not done, ascending."""
        self._done: dict[int, Fate] = {}
        self._stored: dict[int, Fate] = {}
        """What the rows say, ahead of the records that are admitted anew after a restore."""
        self.next_offset = 0
        """The first offset that was never admitted."""

    def restore(self, next_offset: int) -> None:
        """Begin anew from the committed offset and the rows beyond it."""
        self.next_offset = next_offset
        self.ledger.discard()
        self._open.clear()
        self._done.clear()
        end = self._rows[:-1] + b"\x01"
        self._stored = {
            _OFFSET.unpack_from(row, len(self._rows))[0]: Fate(value.decode())
            for row, value in self._state.scan(self._rows, end)
        }

    @property
    def size(self) -> int:
        """Records admitted and not passed by the committed offset."""
        return len(self._open) + len(self._done)

    def admit(self, offset: int) -> bool:
        """Take a record in; whether it is still to be done."""
        if offset < self.next_offset:
            return False
        self.next_offset = offset + 1
        fate = self._stored.get(offset)
        if fate is not None:
            self._done[offset] = fate
            return False
        self._open[offset] = None
        return True

    def end(self, offset: int, fate: Fate) -> None:
        """A record is done with."""
        del self._open[offset]
        self._done[offset] = fate

    def settle(self, offset: int, fate: Fate) -> None:
        """A record that was parked has its final fate."""
        is_passed = offset not in self._done and offset not in self._stored
        if is_passed:
            self.ledger.mark(offset, fate)
        if offset in self._done:
            self._done[offset] = fate
        if offset in self._stored:
            self._store(offset, fate)

    def advance(self, committed: int) -> int:
        """Move the committed offset up over what is done, and write rows for what is beyond.

        Returns the offset to commit. The last act of a step.
        """
        first_open = next(iter(self._open), self.next_offset)
        passed = sorted(offset for offset in self._done if offset < first_open)
        if passed or first_open > committed:
            self.ledger.open(committed)
        for offset in passed:
            self.ledger.mark(offset, self._done.pop(offset))
            if self._stored.pop(offset, None) is not None:
                self._state.write(self._row(offset), None)
        for offset, fate in self._done.items():
            if offset not in self._stored:
                self._store(offset, fate)
        return max(committed, first_open)

    def _store(self, offset: int, fate: Fate) -> None:
        self._stored[offset] = fate
        self._state.write(self._row(offset), fate.value.encode())

    def _row(self, offset: int) -> bytes:
        return self._rows + _OFFSET.pack(offset)
