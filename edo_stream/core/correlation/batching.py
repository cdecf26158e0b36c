"""Batches: the events of a key in lists, each of which ends at the first bound that it reaches.

Theory of operation. Events are taken in the order in which they are read. The one that makes a
list as long as it may be fires it, in its own step; one that would make it larger than it may be
fires what was there before it, and begins the next. An event that is too large for any list goes
alone. A list's time ends by a timer, when the task has read all that was there then; or before
that, at an event from beyond its end: what is read later goes into later lists, so that what an
outage has left is not held up until all of it is read.
"""

from typing import Any

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.joined import Joined, shown
from edo_stream.core.correlation.outlet import DEADLINE, OPERATOR, End, Part, text_of_time
from edo_stream.core.correlation.rows import NUMBER, Phase, WaitRow
from edo_stream.core.correlation.spec import Batched
from edo_stream.core.correlation.waits import Arrival, Waits, joined_of

_TIME = End("time", DEADLINE, is_complete=True)


class Batching:
    """Decides for one flow that batches."""

    def __init__(self, waits: Waits, kind: Batched) -> None:
        self._waits = waits
        self._kind = kind

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""
        key, waits, kind = arrival.key, self._waits, self._kind
        row = waits.get(key, arrival.offset)
        if row.phase == Phase.OPEN:
            self._make_room(row, arrival)
        if (refusal := waits.refusal_of_wait(row)) is not None:
            waits.refuse(arrival, refusal)
            return
        self._begin(row, arrival)
        waits.add_event(key, row, NUMBER.pack(arrival.offset), arrival)
        if row.held >= kind.count:
            self._fire(key, row, _filled("count", arrival.joined))
        elif row.size_bytes >= kind.size_bytes:
            self._fire(key, row, _filled("bytes", arrival.joined))
        else:
            waits.put(key, row)

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Fire what is due."""
        self._fire(key, row, _TIME)

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire with what there is, because an operator says so."""
        self._fire(key, row, End("forced", OPERATOR))

    def end(self, key: bytes, row: WaitRow) -> None:
        """Fire as if its time were over."""
        self._fire(key, row, _TIME)

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """How many events are there, and how many may be."""
        return {"count": row.held, "expected": self._kind.count}

    def _make_room(self, row: WaitRow, arrival: Arrival) -> None:
        """Fire what is open if an event is none of it any more."""
        assert row.until_ms is not None, "an open list has an end"
        if arrival.at_ms >= row.until_ms:
            self._fire(arrival.key, row, _TIME)
        elif row.size_bytes + arrival.size_bytes > self._kind.size_bytes:
            self._fire(arrival.key, row, End("bytes", arrival.joined.input, is_complete=True))

    def _begin(self, row: WaitRow, arrival: Arrival) -> None:
        """Open a list; one that is open began earlier, if an event from before comes into it."""
        if row.phase != Phase.OPEN or arrival.at_ms < row.opened_ms:
            self._waits.turn(row, Phase.OPEN)
            row.opened_ms = arrival.at_ms
            row.until_ms = arrival.at_ms + self._kind.after_ms
            self._waits.arm(arrival.key, row, row.until_ms)

    def _fire(self, key: bytes, row: WaitRow, end: End) -> None:
        waits = self._waits
        heads = waits.take_all(key, row)
        joined = [joined_of(head.payload) for head in heads]
        times_ms = [head.at_ms for head in heads]
        extra = {
            "count": len(joined),
            "first": text_of_time(min(times_ms)),
            "last": text_of_time(max(times_ms)),
            "events": [shown(one) for one in joined],
        }
        parts = [Part(one.input, one, head.offset) for head, one in zip(heads, joined, strict=True)]
        why = waits.fire_command(key, row, end, parts, extra)
        for head, one in zip(heads, joined, strict=True):
            waits.forget(row, head.size_bytes)
            if why is None:
                waits.settle(head, Fate.EMITTED)
            else:
                waits.bury(key, head.offset, one, why)
        waits.rest(key, row)
        waits.put(key, row)


def _filled(reason: str, joined: Joined) -> End:
    """An end that an event has brought about."""
    return End(reason, joined.input, joined, is_complete=True)
