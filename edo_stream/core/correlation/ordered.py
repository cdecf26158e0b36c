"""Sequences: an event of each input, in the order of the inputs and within a time.

Theory of operation. The order is that of the events' times, by the flow's clock: they may be read
in any order. Each event is held until its time plus ``within`` is past and the log is read so far;
until then it may still be part of a sequence. An event that completes sequences completes the
shortest of them. The first event of a sequence that never becomes complete is one that timed out;
an event in the middle without what belongs before it is merely stale.
"""

from collections.abc import Sequence
from typing import Any

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.outlet import DEADLINE, OPERATOR, End, Part, single
from edo_stream.core.correlation.rows import Head, Phase, WaitRow
from edo_stream.core.correlation.spec import Fire, OnLate, OnTimeout
from edo_stream.core.correlation.waits import Arrival, Waits, joined_of, place_of
from edo_stream.core.event import Violation


def shortest(
    heads: Sequence[Head], inputs: Sequence[str], through: Head, within_ms: int
) -> list[Head] | None:
    """The shortest sequence that an event is part of, ``None`` if there is none.

    Of events at the same time, the latest read counts before it, the first read after it.
    """
    chain = [through]
    at = inputs.index(through.input)
    for name in reversed(inputs[:at]):
        before = [h for h in heads if h.input == name and _may_follow(h, chain[0])]
        if not before:
            return None
        chain.insert(0, max(before, key=place_of))
    for name in inputs[at + 1 :]:
        behind = [h for h in heads if h.input == name and _may_follow(chain[-1], h)]
        if not behind:
            return None
        chain.append(min(behind, key=place_of))
    return chain if chain[-1].at_ms - chain[0].at_ms <= within_ms else None


def _may_follow(one: Head, other: Head) -> bool:
    """Whether one event comes before the other; one that is of two inputs follows not itself."""
    if one.at_ms == other.at_ms:
        return joined_of(one.payload).position != joined_of(other.payload).position
    return one.at_ms < other.at_ms


class InOrder:
    """Decides for one flow that waits for a sequence."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._correlation = waits.correlation
        self._inputs = waits.correlation.inputs
        self._within_ms = waits.correlation.within_ms
        self._kept_ms = self._within_ms + waits.correlation.grace_ms

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""
        key, waits, name = arrival.key, self._waits, arrival.joined.input
        row = waits.get(key, arrival.offset)
        if name not in self._inputs:
            waits.refuse(arrival, Violation("unknown-input", f"the flow has no input {name}"))
        elif row.phase == Phase.OVER and self._correlation.late is not OnLate.NEW_RUN:
            waits.turn_away(row, arrival, single([(name, arrival.joined)]))
        elif (refusal := waits.refusal(row, arrival.size_bytes)) is not None:
            waits.refuse(arrival, refusal)
        else:
            waits.turn(row, Phase.OPEN)
            waits.add_head(row, arrival)
            chain = shortest(row.heads, self._inputs, row.heads[-1], self._within_ms)
            if chain is None:
                self._rearm(key, row)
            else:
                end = End("complete", name, arrival.joined, is_complete=True)
                self._fire(key, row, end, chain)

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Let go of events that can be part of no sequence any more."""
        old = [head for head in row.heads if head.at_ms + self._kept_ms <= due_ms]
        for head in sorted(old, key=place_of):
            if head not in row.heads:
                continue  # It went with the sequence before it.
            if head.input == self._inputs[0]:
                self._time_out(key, row, head)
            else:
                self._waits.drop_head(row, head, Fate.STALE)
        if row.phase == Phase.OPEN:
            self._rearm(key, row)

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire with the latest event of each input, because an operator says so."""
        latest = {head.input: head for head in sorted(row.heads, key=place_of)}
        chain = [latest[name] for name in self._inputs if name in latest]
        self._fire(key, row, End("forced", OPERATOR), chain)

    def end(self, key: bytes, row: WaitRow) -> None:
        """End the wait as if the deadline of all its events had passed."""
        last_ms = max(head.at_ms for head in row.heads)
        self.expire(key, row, last_ms + self._kept_ms)

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """Names of the inputs that are not there."""
        there = {head.input for head in row.heads}
        return {"missing": [name for name in self._inputs if name not in there]}

    def _fire(self, key: bytes, row: WaitRow, end: End, chain: Sequence[Head]) -> None:
        row.opened_ms = min(head.at_ms for head in chain)
        inputs, extra = self._contents(chain)
        self._waits.fire(key, row, end, inputs, extra)
        for head in chain:
            self._waits.drop_head(row, head, Fate.EMITTED)
        if self._correlation.fire is Fire.ONCE:
            self._end(key, row)
        else:
            self._rearm(key, row)

    def _time_out(self, key: bytes, row: WaitRow, head: Head) -> None:
        """The first event of a sequence that did not become complete."""
        waits, policy, end = self._waits, self._correlation.on_timeout, End("timeout", DEADLINE)
        waits.note_timed_out()
        row.opened_ms, row.until_ms = head.at_ms, head.at_ms + self._within_ms
        inputs, extra = self._contents([head])
        if policy in (OnTimeout.PARTIAL, OnTimeout.FALLBACK):
            reason = "timeout" if policy is OnTimeout.PARTIAL else "fallback"
            waits.fire(key, row, End(reason, DEADLINE), inputs, extra)
            waits.drop_head(row, head, Fate.EMITTED)
        elif policy is OnTimeout.FAILURE:
            row.run += 1
            waits.outlet.fail(key, row, end, inputs, extra)
            waits.note_end(row, end)
            waits.drop_head(row, head, Fate.FAILED)
        elif policy is OnTimeout.DEAD_LETTER:
            detail = f"no sequence within {self._within_ms} ms"
            why = Violation("correlation-timeout", detail)
            waits.outlet.dead_letter(key, head.offset, inputs[0].joined, why)
            waits.note_end(row, end)
            waits.drop_head(row, head, Fate.DEAD_LETTERED)
        else:
            waits.drop_head(row, head, Fate.STALE, end.reason)
            return
        if self._correlation.fire is Fire.ONCE:
            self._end(key, row)

    def _contents(self, chain: Sequence[Head]) -> tuple[list[Part], dict[str, Any]]:
        inputs = [Part(head.input, joined_of(head.payload), head.offset) for head in chain]
        there = {head.input for head in chain}
        missing = [name for name in self._inputs if name not in there]
        return inputs, {"missing": missing, "inputs": single(part[:2] for part in inputs)}

    def _end(self, key: bytes, row: WaitRow) -> None:
        """The key has fired; what else is held of it is stale."""
        for head in list(row.heads):
            self._waits.drop_head(row, head, Fate.STALE)
        row.until_ms = None
        self._waits.turn(row, Phase.OVER)
        self._waits.arm(key, row, None)
        self._waits.put(key, row)

    def _rearm(self, key: bytes, row: WaitRow) -> None:
        """Set the timer by the oldest event; with none left, rest."""
        if row.heads:
            row.opened_ms = min(head.at_ms for head in row.heads)
            row.until_ms = row.opened_ms + self._within_ms
            self._waits.arm(key, row, row.opened_ms + self._kept_ms)
        else:
            row.until_ms = None
            self._waits.turn(row, Phase.RESTING)
            self._waits.arm(key, row, None)
        self._waits.put_or_forget(key, row)
