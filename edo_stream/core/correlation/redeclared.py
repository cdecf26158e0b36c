"""What waits in a way that its flow's declaration knows no longer.

Theory of operation. How events are held, how many it takes and until when is of the kind of a flow
and of its inputs: its *shape*. Rows say which shape they are of (:meth:`.waits.Waits.is_foreign`).
A wait of another shape than the flow's is taken apart when it is looked at next, because an event
comes, its timer is due or an operator wants it: its events are placed anew under the rules that
hold now, in the order in which they were read. So each has one fate, and what has no place under
the new rules is a dead letter. Windows, sequences and bursts follow from their events, and need
none of this when only their times change.

Deadlines of other rules are others: the timer that has led here is set anew, not obeyed. What the
rules of a kind have made of events stays made: a burst is its last event, the others are stale.
"""

from typing import Any
from zlib import crc32

from edo_stream.core.correlation.history import Correlator
from edo_stream.core.correlation.rows import Phase, WaitRow
from edo_stream.core.correlation.spec import (
    Absent,
    Batched,
    Correlation,
    Counted,
    Debounced,
    Members,
    Named,
    Windowed,
)
from edo_stream.core.correlation.waits import Arrival, Waits, arrivals_of


def shape_of(correlation: Correlation) -> int:
    """A number for how a flow holds its events; never 0."""
    kind = correlation.kind
    parts: list[Any] = [type(kind).__name__]
    if not isinstance(kind, Debounced | Batched):
        parts += [correlation.inputs, sorted(correlation.opens)]
    if isinstance(kind, Named | Absent | Counted | Members):
        parts += [correlation.within_ms, correlation.grace_ms]
    match kind:
        case Batched():
            parts += [kind.count, kind.size_bytes, kind.after_ms]
        case Absent():
            parts += [kind.after, kind.without]
        case Named() if kind.needed != len(correlation.inputs):
            parts += [kind.needed]
        case Counted():
            parts += [kind.manifest, kind.is_carried, kind.is_gathered]
            if kind.expect is not None:
                parts += [kind.expect]
        case Members():
            parts += [kind.manifest, kind.members]
        case Windowed():
            parts += [bool(kind.gap_ms)]
        case _:
            pass
    return crc32(repr(parts).encode()) or 1


class Redeclared:
    """A correlator that looks first whether a wait is of its flow's shape."""

    def __init__(self, inner: Correlator, waits: Waits) -> None:
        self._inner = inner
        self._waits = waits

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""
        self._renew(arrival.key)
        self._inner.place(arrival)

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Do what a timer is due for."""
        if not self._renew(key):
            self._inner.expire(key, row, due_ms)

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire with what there is."""
        wait = self._waiting(key) if self._renew(key) else row
        if wait is not None:
            self._inner.force(key, wait)

    def end(self, key: bytes, row: WaitRow) -> None:
        """End the wait."""
        wait = self._waiting(key) if self._renew(key) else row
        if wait is not None:
            self._inner.end(key, wait)

    def _waiting(self, key: bytes) -> WaitRow | None:
        """A wait that was taken apart, if its events wait again."""
        row = self._waits.find(key)
        return row if row is not None and row.phase in (Phase.EARLY, Phase.OPEN) else None

    def _renew(self, key: bytes) -> bool:
        """Take a wait of another shape apart, and place its events anew."""
        waits = self._waits
        row = waits.find(key)
        if row is None or not row.held or not waits.is_foreign(row):
            return False
        heads = waits.take_all(key, row)
        for head in heads:
            waits.forget(row, head.size_bytes)
        waits.rest(key, row)
        waits.put(key, row)
        for arrival in arrivals_of(key, heads):
            self._inner.place(arrival)
        return True
