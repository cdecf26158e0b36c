"""Windows: all events of a key within a time, tumbling, sliding or as long as they keep coming.

Theory of operation (Dataflow Model, section 2.2). Events are held in the order of their times; the
windows follow from them, none is kept. A window fires when its end, and the grace after it, is
past and the log is read so far; never because of an event's time, which says nothing about what
other partitions still have. An event goes with the last window that it is in. One whose windows
have all fired is late. Sessions merge by themselves: each is a run of events without a gap.
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.joined import Joined
from edo_stream.core.correlation.outlet import DEADLINE, OPERATOR, End, Part
from edo_stream.core.correlation.rows import NUMBER, HeldEvent, Phase, WaitRow
from edo_stream.core.correlation.spec import Aggregate, Function, OnLate, Windowed
from edo_stream.core.correlation.stock import by_input
from edo_stream.core.correlation.waits import Arrival, Waits, joined_of
from edo_stream.core.event import Violation
from edo_stream.core.headers import time_text
from edo_stream.core.pointer import parse_json, resolve

_INT_MAX: Final = 2**63

Placed = tuple[bytes, HeldEvent]


def first_end_ms(kind: Windowed, at_ms: int) -> int:
    """End of the first window that an event is in."""
    return at_ms // kind.every_ms * kind.every_ms + kind.every_ms


def last_end_ms(kind: Windowed, at_ms: int) -> int:
    """End of the last window that an event is in."""
    return (at_ms + kind.size_ms) // kind.every_ms * kind.every_ms


def session_of(kind: Windowed, times_ms: Sequence[int]) -> int:
    """How many of the times, which ascend, are of the first session."""
    count = 1
    for before_ms, at_ms in pairwise(times_ms):
        is_cut = kind.session_max_ms and at_ms - times_ms[0] >= kind.session_max_ms
        if at_ms - before_ms >= kind.gap_ms or is_cut:
            break
        count += 1
    return count


def session_end_ms(kind: Windowed, times_ms: Sequence[int]) -> int:
    """End of the session that has the times: after a pause, or where it is cut."""
    end_ms = times_ms[-1] + kind.gap_ms
    return min(end_ms, times_ms[0] + kind.session_max_ms) if kind.session_max_ms else end_ms


class InWindows:
    """Decides for one flow that collects in windows."""

    def __init__(self, waits: Waits, kind: Windowed) -> None:
        self._waits = waits
        self._kind = kind
        self._correlation = waits.correlation
        self._grace_ms = waits.correlation.grace_ms

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""
        key, waits, name = arrival.key, self._waits, arrival.joined.input
        row = waits.get(key, arrival.offset)
        if name not in self._correlation.inputs:
            waits.refuse(arrival, Violation("unknown-input", f"the flow has no input {name}"))
        elif self._is_late(row, arrival.at_ms) and self._correlation.late is not OnLate.NEW_RUN:
            waits.turn_away(row, arrival, by_input([arrival.joined]))
        elif (refusal := waits.refusal(row, arrival.size_bytes)) is not None:
            waits.refuse(arrival, refusal)
        else:
            is_open = row.phase == Phase.OPEN
            first_ms = min(row.first_ms, arrival.at_ms) if is_open else arrival.at_ms
            is_new = not is_open or first_ms < row.first_ms or self._is_shorter_now(row)
            waits.turn(row, Phase.OPEN)
            # In the order of times: each is followed by what makes it one of its own.
            place = NUMBER.pack(arrival.at_ms) + NUMBER.pack(arrival.offset)
            waits.add_event(key, row, place, arrival)
            if is_new:
                self._begin_at(key, row, first_ms)
            waits.put(key, row)

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Fire the window that is due, if it is; a session may have gone on."""
        name = self._waits.name(key)
        events = self._waits.events.all(name)
        if self._kind.gap_ms:
            times_ms = [event.at_ms for _, event in events]
            count = session_of(self._kind, times_ms)
            end_ms = session_end_ms(self._kind, times_ms[:count])
            inside, gone = events[:count], count
            start_ms = times_ms[0]
        else:
            end_ms = self._next_end_ms(row)
            start_ms = end_ms - self._kind.size_ms
            inside = [each for each in events if start_ms <= each[1].at_ms < end_ms]
            # Late events of a new run may be of several windows that are over: one at a time.
            gone = sum(last_end_ms(self._kind, event.at_ms) <= end_ms for _, event in events)
        if end_ms + self._grace_ms > due_ms:
            row.until_ms = end_ms
            self._waits.arm(key, row, end_ms + self._grace_ms)
            self._waits.put(key, row)
            return
        row.opened_ms, row.until_ms = start_ms, end_ms
        if inside:
            self._fire(key, row, End("window", DEADLINE, is_complete=True), inside)
        row.settled_ms = max(row.settled_ms, end_ms)
        self._release(key, row, events[:gone], Fate.EMITTED)
        self._go_on(key, row, events[gone:])

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire all that is held as one window, because an operator says so."""
        events = self._waits.events.all(self._waits.name(key))
        row.opened_ms, row.until_ms = events[0][1].at_ms, events[-1][1].at_ms + 1
        self._fire(key, row, End("forced", OPERATOR), events)
        self._release(key, row, events, Fate.EMITTED)
        self._go_on(key, row, [])

    def end(self, key: bytes, row: WaitRow) -> None:
        """Forget what is held."""
        events = self._waits.events.all(self._waits.name(key))
        self._release(key, row, events, Fate.DROPPED)
        self._go_on(key, row, [])

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """A window misses nothing; how many events it has so far."""
        return {"count": row.held}

    def _is_shorter_now(self, row: WaitRow) -> bool:
        """Whether the window began when the declaration said a larger size."""
        if self._kind.gap_ms or row.until_ms is None:
            return False
        return row.until_ms > self._next_end_ms(row)

    def _is_late(self, row: WaitRow, at_ms: int) -> bool:
        if self._kind.gap_ms:
            return at_ms < row.settled_ms
        return last_end_ms(self._kind, at_ms) <= row.settled_ms

    def _begin_at(self, key: bytes, row: WaitRow, first_ms: int) -> None:
        """Note the earliest event, and set the timer of the window that it is in."""
        row.first_ms = row.opened_ms = first_ms
        if self._kind.gap_ms:
            row.until_ms = session_end_ms(self._kind, (first_ms,))
        else:
            row.until_ms = self._next_end_ms(row)
        self._waits.arm(key, row, row.until_ms + self._grace_ms)

    def _next_end_ms(self, row: WaitRow) -> int:
        """End of the first window that has not fired and has the earliest event in it."""
        kind, first_ms = self._kind, row.first_ms
        if last_end_ms(kind, first_ms) <= row.settled_ms:
            return last_end_ms(kind, first_ms)  # Late, and of a new run.
        return max(first_end_ms(kind, first_ms), row.settled_ms + kind.every_ms)

    def _fire(self, key: bytes, row: WaitRow, end: End, events: Sequence[Placed]) -> None:
        joined = [joined_of(event.payload) for _, event in events]
        extra: dict[str, Any] = {
            "window": {"start": _text(row.opened_ms), "end": _text(row.until_ms)},
            "count": len(joined),
            "aggregates": aggregated(self._kind, joined),
        }
        if self._kind.collect:
            extra["inputs"] = by_input(joined)
        else:
            extra["inputs"] = {}
        inputs = [
            Part(one.input, one, event.offset)
            for one, (_, event) in zip(joined, events, strict=True)
        ]
        self._waits.fire(key, row, end, inputs, extra)

    def _release(self, key: bytes, row: WaitRow, events: Sequence[Placed], fate: Fate) -> None:
        waits, name = self._waits, self._waits.name(key)
        for place, event in events:
            waits.events.release(name, place)
            waits.forget(row, event.size_bytes)
            waits.settle(event, fate)

    def _go_on(self, key: bytes, row: WaitRow, events: Sequence[Placed]) -> None:
        if events:
            self._begin_at(key, row, events[0][1].at_ms)
        else:
            row.until_ms = None
            self._waits.turn(row, Phase.RESTING)
            self._waits.arm(key, row, None)
        self._waits.put(key, row)


def aggregated(kind: Windowed, joined: Sequence[Joined]) -> dict[str, Any]:
    """Aggregates of a window's events; one over no value is null, but for counts and sums."""
    documents = [parse_json(one.data) if one.is_json else None for one in joined]
    return {name: _aggregate(aggregate, documents) for name, aggregate in kind.aggregates.items()}


def _aggregate(aggregate: Aggregate, documents: Sequence[Any]) -> Any:
    found = [resolve(document, aggregate.pointer) for document in documents]
    values = [value for value in found if isinstance(value, str | int | Decimal | bool)]
    match aggregate.function:
        case Function.COUNT:
            return len(values) if aggregate.pointer else len(documents)
        case Function.DISTINCT:
            # By type as well: 1 and true are two values.
            return len({(type(value) is bool, value) for value in values})
        case Function.FIRST:
            return values[0] if values else None
        case Function.LAST:
            return values[-1] if values else None
        case _:
            numbers = [value for value in values if _is_number(value)]
            try:
                return _writable(_of_numbers(aggregate.function, numbers))
            except ArithmeticError:
                return None  # Beyond what decimals hold.


def _of_numbers(function: Function, numbers: Sequence[Any]) -> Any:
    match function:
        case Function.SUM:
            return sum(numbers)
        case Function.MIN:
            return min(numbers, default=None)
        case Function.MAX:
            return max(numbers, default=None)
        case _:
            return Decimal(sum(numbers)) / len(numbers) if numbers else None


def _writable(number: Any) -> Any:
    """A number that JSON's encoder takes."""
    return Decimal(number) if isinstance(number, int) and abs(number) >= _INT_MAX else number


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _text(at_ms: int | None) -> str | None:
    text = None if at_ms is None else time_text(at_ms)
    return None if text is None else text.decode()
