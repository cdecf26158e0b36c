"""Debounce: one command for many events of a key, once the key has been quiet.

Theory of operation. Events of a key that follow each other without a pause are a *burst*. Of a
burst the last event is held, with how many there were and the time of the first: however many
come, a key is one small row. A burst is due when it has been quiet for long enough, or when its
first event is as old as the cap says, and fires when the task has read all that was there then.

What is read until then may be of later bursts, so a key may have several, in the order of their
times. An event that closes the pause between two makes them one: neither an outage, nor which
partition is read first, makes a key look quiet that was not. Of a key with more bursts than the
flow's bounds let wait, the earliest fires at once: so many later ones have been read.
"""

from typing import Any, Final

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.joined import shown
from edo_stream.core.correlation.outlet import DEADLINE, OPERATOR, End, Part, text_of_time
from edo_stream.core.correlation.rows import Burst, Phase, WaitRow
from edo_stream.core.correlation.spec import Debounced
from edo_stream.core.correlation.waits import Arrival, Waits, joined_of, place_of

_IDS_MAX: Final = 100
_IDS_CHARS_MAX: Final = 8_192


class Debouncing:
    """Decides for one flow that debounces."""

    def __init__(self, waits: Waits, kind: Debounced) -> None:
        self._waits = waits
        self._kind = kind
        self._bounds = waits.correlation.bounds

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""
        key, waits = arrival.key, self._waits
        row = waits.get(key, arrival.offset)
        if (refusal := waits.refusal_of_wait(row)) is not None:
            waits.refuse(arrival, refusal)
            return
        waits.turn(row, Phase.OPEN)
        burst = Burst(arrival.at_ms, 1, (arrival.joined.id,), waits.held(row, arrival))
        row.bursts = self._merged(row, [*row.bursts, burst])
        while len(row.bursts) > 1 and self._is_full(row):
            self._fire(key, row)
        self._settle(key, row)

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Fire what is due."""
        while row.bursts and self._due_ms(row.bursts[0]) <= due_ms:
            self._fire(key, row)
        self._settle(key, row)

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire with what there is, because an operator says so."""
        while row.bursts:
            self._fire(key, row, End("forced", OPERATOR))
        self._settle(key, row)

    def end(self, key: bytes, row: WaitRow) -> None:
        """Fire as if the key were quiet."""
        while row.bursts:
            self._fire(key, row)
        self._settle(key, row)

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """Nothing is missing; how many events have come."""
        return {"count": sum(burst.count for burst in row.bursts)}

    def _due_ms(self, burst: Burst) -> int:
        quiet_ms, max_ms = self._kind.quiet_ms, self._kind.max_ms
        return min(burst.last.at_ms + quiet_ms, burst.first_ms + max_ms)

    def _is_full(self, row: WaitRow) -> bool:
        bounds = self._bounds
        return row.held > bounds.events_max or row.size_bytes > bounds.bytes_max

    def _merged(self, row: WaitRow, bursts: list[Burst]) -> list[Burst]:
        """Bursts of a key, of which those that follow each other without a pause are one."""
        merged: list[Burst] = []
        for one in sorted(bursts, key=_order):
            if merged and one.first_ms < self._due_ms(merged[-1]):
                merged[-1] = self._joined(row, merged[-1], one)
            else:
                merged.append(one)
        return merged

    def _joined(self, row: WaitRow, one: Burst, other: Burst) -> Burst:
        gone, last = sorted((one.last, other.last), key=place_of)
        self._waits.forget(row, gone.size_bytes)
        self._waits.settle(gone, Fate.STALE)
        count = one.count + other.count
        return Burst(one.first_ms, count, _latest((*one.ids, *other.ids)), last)

    def _fire(self, key: bytes, row: WaitRow, end: End | None = None) -> None:
        """Publish the command of the earliest burst."""
        waits, burst = self._waits, row.bursts.pop(0)
        joined, due_ms = joined_of(burst.last.payload), self._due_ms(burst)
        row.opened_ms, row.until_ms = burst.first_ms, due_ms
        is_quiet = due_ms == burst.last.at_ms + self._kind.quiet_ms
        extra = {
            "count": burst.count,
            "first": text_of_time(burst.first_ms),
            "last": text_of_time(burst.last.at_ms),
            "ids": list(burst.ids),
            "event": shown(joined),
        }
        end = end or End("quiet" if is_quiet else "max", DEADLINE, is_complete=True)
        why = waits.fire_command(
            key, row, end, [Part(joined.input, joined, burst.last.offset)], extra
        )
        waits.forget(row, burst.last.size_bytes)
        if why is None:
            waits.settle(burst.last, Fate.EMITTED)
        else:
            waits.bury(key, burst.last.offset, joined, why)

    def _settle(self, key: bytes, row: WaitRow) -> None:
        """Set the timer by the earliest burst; with none left, rest."""
        if row.bursts:
            row.opened_ms = row.bursts[0].first_ms
            row.until_ms = self._due_ms(row.bursts[0])
            self._waits.arm(key, row, row.until_ms)
        else:
            self._waits.rest(key, row)
        self._waits.put(key, row)


def _order(burst: Burst) -> tuple[int, int]:
    return burst.first_ms, burst.last.offset


def _latest(ids: tuple[str, ...]) -> tuple[str, ...]:
    """The last of the ids, so many as a small row may have."""
    kept = ids[-_IDS_MAX:]
    while len(kept) > 1 and sum(map(len, kept)) > _IDS_CHARS_MAX:
        kept = kept[1:]
    return kept
