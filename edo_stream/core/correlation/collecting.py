"""Waits with one deadline: for named inputs, for a number of events, for a list, for an absence.

Theory of operation (EIP, "Aggregator"). The first event of a key opens its wait and sets the
deadline, by the flow's clock; what comes is held. With the last event that is needed the wait is
complete and fires, in the step, and so the transaction, of that event. An *absence* is the same
turned around: what is waited for must not come, and the deadline is what completes it.

The timer of a deadline fires only when the task has read all that was there when it was due. What
it reads until then from beyond the deadline is *postponed*: it belongs to what comes after this
wait, and is looked at when the wait has ended. Should an event be read later that opens the wait
earlier, so does its deadline, and what is beyond it now is postponed. So neither an outage, nor
which partition is read first, changes which events belong together.

Of several events that an absence waits behind, the first has the wait; the last is looked at when
that has ended, and those between are stale: each silence is told, once for the time that it lasts.

Where only some inputs open a wait, the others are held early, for the look-back, and at least for
a minute: which topic is read first says nothing about what happened first. Their times decide
whether they count.
"""

from collections.abc import Sequence
from typing import Any, Final

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.joined import Joined
from edo_stream.core.correlation.outlet import DEADLINE, OPERATOR, End, Part
from edo_stream.core.correlation.rows import Head, Phase, WaitRow
from edo_stream.core.correlation.spec import (
    OUT_OF_ORDER_MS,
    Absent,
    Counted,
    Fire,
    Members,
    Named,
    OnFailed,
    OnLate,
    OnTimeout,
)
from edo_stream.core.correlation.stock import NamedStock, Piece, Stock, TallyStock
from edo_stream.core.correlation.waits import Arrival, Waits, joined_of
from edo_stream.core.event import Violation

_ABSENT: Final = "absent"


class Collecting:
    """Decides for one flow of these kinds."""

    def __init__(self, waits: Waits, kind: Named | Absent | Counted | Members) -> None:
        self._waits = waits
        self._correlation = waits.correlation
        self._stock: Stock = (
            TallyStock(waits, kind)
            if isinstance(kind, Counted | Members)
            else NamedStock(waits, kind)
        )
        self._absent = kind if isinstance(kind, Absent) else None
        self._gathers = isinstance(kind, Counted) and kind.is_gathered
        opens = waits.correlation.opens
        self._opens = frozenset({kind.after}) if isinstance(kind, Absent) else opens
        self._early_ms = max(waits.correlation.look_back_ms, OUT_OF_ORDER_MS)

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""
        key, correlation = arrival.key, self._correlation
        row = self._waits.get(key, arrival.offset)
        if row.phase == Phase.OPEN and not self._belongs(row, arrival):
            self._postpone(row, arrival)
        elif arrival.joined.input == correlation.fallback:
            self._fall_back(row, arrival)
        elif row.phase == Phase.OVER and correlation.late is not OnLate.NEW_RUN:
            self._waits.turn_away(row, arrival, self._stock.inputs([arrival.joined]))
        else:
            self._take_in(row, arrival)

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Do what a timer is due for."""
        if row.phase == Phase.EARLY:
            self._stock.drop(key, row, due_ms - self._early_ms - self._correlation.grace_ms + 1)
            self._settle_early(key, row)
        else:
            self._time_out(key, row)

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire with what there is, because an operator says so."""
        self._fire(key, row, End("forced", OPERATOR))

    def end(self, key: bytes, row: WaitRow) -> None:
        """End the wait as if its deadline had passed; what only came early is forgotten."""
        if row.phase == Phase.OPEN and self._absent is None:
            self._time_out(key, row)
        else:
            self._let_go(key, row, Fate.DROPPED)
            self._rest(key, row)

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """What the key waits for."""
        return self._stock.missing(key, row)

    def _is_opener(self, arrival: Arrival) -> bool:
        return not self._opens or arrival.joined.input in self._opens

    def _belongs(self, row: WaitRow, arrival: Arrival) -> bool:
        """Whether an event is of the wait that is open, by its time."""
        assert row.until_ms is not None, "an open wait has a deadline"
        first_ms = row.opened_ms - self._correlation.look_back_ms
        is_in_time = self._is_opener(arrival) or arrival.at_ms >= first_ms
        return is_in_time and arrival.at_ms <= row.until_ms

    def _postpone(self, row: WaitRow, arrival: Arrival) -> None:
        """Look at an event when the wait has ended."""
        refusal = self._waits.refusal(row, arrival.size_bytes)
        if refusal is not None:
            self._waits.refuse(arrival, refusal)
            return
        self._waits.postpone(row, arrival)
        self._waits.put(arrival.key, row)

    def _take_in(self, row: WaitRow, arrival: Arrival) -> None:
        key, waits = arrival.key, self._waits
        if self._contradicts(row, arrival):
            waits.settle(arrival, Fate.STALE)
            self._drop_postponed(
                row, [head for head in self._others(row) if _is_before(head, arrival)]
            )
            # What came after it opens the next wait; one event may be of both inputs.
            behind = [head for head in row.heads if not _is_before(head, arrival)]
            row.heads = [head for head in row.heads if head not in behind]
            row.postponed += behind
            self._let_go(key, row, Fate.STALE)
            self._rest(key, row)
            return
        if row.phase == Phase.OPEN and self._absent is not None:
            if arrival.at_ms >= row.opened_ms:
                self._hold_last(row, arrival)
                return
            openers = [head for head in row.heads if head.input == arrival.joined.input]
            row.heads = [head for head in row.heads if head not in openers]
            row.postponed += openers
        refusal = self._stock.add(row, arrival)
        if refusal is not None:
            waits.refuse(arrival, refusal)
            return
        if row.phase != Phase.OPEN and not self._is_opener(arrival):
            waits.turn(row, Phase.EARLY)
            self._settle_early(key, row)
            return
        has_moved = row.phase == Phase.OPEN and arrival.at_ms < row.opened_ms
        if row.phase != Phase.OPEN or has_moved:
            self._open(row, arrival)
        if self._is_contradicted(row, arrival):
            self._let_go(key, row, Fate.STALE)
            self._rest(key, row)
        elif self._absent is None and self._stock.is_complete(row):
            self._complete(key, row, arrival.joined)
        else:
            waits.put(key, row)
            if has_moved:
                self._replay(key, row)

    def _others(self, row: WaitRow) -> list[Head]:
        """What an absence waits behind as well, once it has ended; within its deadline one."""
        absent, until_ms = self._absent, row.until_ms
        assert absent is not None, "asked of an absence"
        assert until_ms is not None, "an open wait has a deadline"
        return [h for h in row.postponed if h.input == absent.after and h.at_ms <= until_ms]

    def _hold_last(self, row: WaitRow, arrival: Arrival) -> None:
        """Hold another event that an absence waits behind, in place of one from before it."""
        others = self._others(row)
        if any(head.at_ms > arrival.at_ms for head in others):
            self._waits.settle(arrival, Fate.STALE)
            return
        freed_bytes = sum(head.size_bytes for head in others) if others else None
        refusal = self._waits.refusal(row, arrival.size_bytes, freed_bytes)
        if refusal is not None:
            self._waits.refuse(arrival, refusal)
            return
        self._drop_postponed(row, others)
        self._waits.postpone(row, arrival)
        self._waits.put(arrival.key, row)

    def _drop_postponed(self, row: WaitRow, heads: Sequence[Head]) -> None:
        for head in heads:
            row.postponed.remove(head)
            self._waits.forget(row, head.size_bytes)
            self._waits.settle(head, Fate.STALE)

    def _complete(self, key: bytes, row: WaitRow, last: Joined) -> None:
        """All that is needed is there; of gathered ends some may have failed."""
        pieces = self._stock.pieces(key, row) if self._gathers else ()
        if not any(joined_of(piece.payload).is_failed for piece in pieces):
            self._fire(key, row, End("complete", last.input, last, is_complete=True))
        elif self._correlation.failed is OnFailed.FAILURE:
            end = End("failed", last.input, last)
            self._fail(key, row, end)
            self._waits.note_end(row, end)
            self._close(key, row, Phase.OVER)
        else:
            self._fire(key, row, End("partial", last.input, last))

    def _open(self, row: WaitRow, arrival: Arrival) -> None:
        """Open the wait, or open it earlier; what is none of it then is stale, or postponed."""
        key, correlation, was = arrival.key, self._correlation, row.phase
        if was == Phase.EARLY:
            self._stock.drop(key, row, arrival.at_ms - correlation.look_back_ms)
        self._waits.turn(row, Phase.OPEN)
        row.opened_ms = arrival.at_ms
        row.until_ms = arrival.at_ms + correlation.within_ms
        if was in (Phase.EARLY, Phase.OPEN):
            self._stock.postpone(key, row, row.until_ms)
        self._waits.arm(key, row, row.until_ms + correlation.grace_ms)

    def _contradicts(self, row: WaitRow, arrival: Arrival) -> bool:
        """Whether what must not come has come."""
        is_unwanted = self._absent is not None and arrival.joined.input == self._absent.without
        return row.phase == Phase.OPEN and is_unwanted

    def _is_contradicted(self, row: WaitRow, opener: Arrival) -> bool:
        """Whether what must not come was there before what it must not follow was read."""
        return self._absent is not None and any(
            head.input == self._absent.without and _position(head.payload) != opener.joined.position
            for head in row.heads
        )

    def _settle_early(self, key: bytes, row: WaitRow) -> None:
        """Set the timer of what came early by the oldest of it; with nothing left, rest."""
        pieces = self._stock.pieces(key, row)
        if not pieces:
            self._rest(key, row)
            return
        oldest_ms = min(piece.at_ms for piece in pieces)
        row.opened_ms, row.until_ms = oldest_ms, oldest_ms + self._early_ms
        self._waits.arm(key, row, row.until_ms + self._correlation.grace_ms)
        self._waits.put(key, row)

    def _fall_back(self, row: WaitRow, arrival: Arrival) -> None:
        """Fire whatever there is, unless the key has fired already."""
        waits = self._waits
        if row.phase == Phase.OVER or (row.phase == Phase.RESTING and row.run):
            waits.note_late(arrival.key, row)
            waits.settle(arrival, Fate.LATE)
            return
        waits.settle(arrival, Fate.EMITTED)
        if row.phase != Phase.OPEN:
            row.opened_ms = arrival.at_ms
        self._fire(
            arrival.key,
            row,
            End("fallback", arrival.joined.input, arrival.joined, offset=arrival.offset),
        )

    def _time_out(self, key: bytes, row: WaitRow) -> None:
        """End a wait whose deadline has passed."""
        waits = self._waits
        waits.note_timed_out()
        if self._absent is not None:
            self._fire(key, row, End(_ABSENT, DEADLINE, is_complete=True))
            return
        policy = self._correlation.on_timeout
        if policy in (OnTimeout.PARTIAL, OnTimeout.FALLBACK):
            reason = "timeout" if policy is OnTimeout.PARTIAL else "fallback"
            self._fire(key, row, End(reason, DEADLINE))
            return
        end = End("timeout", DEADLINE)
        if policy is OnTimeout.FAILURE:
            self._fail(key, row, end)
        elif policy is OnTimeout.DEAD_LETTER:
            self._bury(key, row)
        else:
            self._let_go(key, row, Fate.STALE, end.reason)
        waits.note_end(row, end)
        self._close(key, row, Phase.OVER)

    def _fail(self, key: bytes, row: WaitRow, end: End) -> None:
        """Publish a failure event, and let go of what is in it."""
        row.run += 1
        parts, extra = self._contents(key, row, self._stock.pieces(key, row))
        self._waits.outlet.fail(key, row, end, parts, extra)
        self._let_go(key, row, Fate.FAILED)

    def _bury(self, key: bytes, row: WaitRow) -> None:
        within_ms = self._correlation.within_ms
        told = ", ".join(f"{name} {what}" for name, what in self._stock.missing(key, row).items())
        why = Violation("correlation-timeout", f"not complete within {within_ms} ms: {told}")
        for piece in self._stock.pieces(key, row):
            self._waits.bury(key, piece.offset, joined_of(piece.payload), why)
        self._stock.clear(key, row)

    def _fire(self, key: bytes, row: WaitRow, end: End) -> None:
        pieces = self._stock.pieces(key, row)
        parts, extra = self._contents(key, row, pieces)
        self._waits.fire(key, row, end, parts, extra)
        for piece in pieces:
            self._waits.settle(piece, Fate.EMITTED)
        self._stock.clear(key, row)
        is_last = self._correlation.fire is Fire.ONCE or end.completed_by == DEADLINE
        self._close(key, row, Phase.OVER if is_last else Phase.RESTING)

    def _contents(
        self, key: bytes, row: WaitRow, pieces: Sequence[Piece]
    ) -> tuple[list[Part], dict[str, Any]]:
        joined = [joined_of(piece.payload) for piece in pieces]
        parts = [
            Part(one.input, one, piece.offset) for one, piece in zip(joined, pieces, strict=True)
        ]
        extra = self._stock.missing(key, row)
        if self._gathers:
            extra["failed"] = [one.member for one in joined if one.is_failed]
        return parts, {**extra, "inputs": self._stock.inputs(joined)}

    def _let_go(self, key: bytes, row: WaitRow, fate: Fate, reason: str = "") -> None:
        pieces: Sequence[Piece] = self._stock.pieces(key, row)
        for piece in pieces:
            self._waits.settle(piece, fate, reason)
        self._stock.clear(key, row)

    def _rest(self, key: bytes, row: WaitRow) -> None:
        """Nothing waits any more, and nothing has come of it: the key is as if new."""
        self._close(key, row, Phase.RESTING)

    def _close(self, key: bytes, row: WaitRow, phase: Phase) -> None:
        self._waits.turn(row, phase)
        self._waits.arm(key, row, None)
        row.until_ms = None
        row.opened_ms = 0
        self._waits.put_or_forget(key, row)
        if row.postponed:
            self._replay(key, row)

    def _replay(self, key: bytes, row: WaitRow) -> None:
        """Look again at what was postponed; what is still none of an open wait stays so."""
        for arrival in self._waits.take_postponed(key, row):
            self.place(arrival)


def _position(payload: bytes) -> str:
    return joined_of(payload).position


def _is_before(head: Head, arrival: Arrival) -> bool:
    is_same = _position(head.payload) == arrival.joined.position
    return head.at_ms <= arrival.at_ms and not is_same
