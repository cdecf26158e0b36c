"""Order of numbered events: each key's go on one by one, and wait for a number that is missing.

Theory of operation (EIP, "Resequencer"). A key's row knows the next number. An event with that
number goes on, and with it all that waited for it; one with a later number is held. The wait for
a missing number ends by the event, by a dead letter that used the number up, by the gap timer, by
a full buffer or by an operator; what is given up is told in a notice and remembered, so that an
event that comes after all is late instead of lost.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from edo_stream.core.accounts import Fate
from edo_stream.core.contract import Contract, OnFull, OnLate, OnTimeout, SequenceOrder
from edo_stream.core.dead_letter import bytes_of
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.held import Held
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.notices import Notices
from edo_stream.core.outlet import Outlet
from edo_stream.core.record import Record
from edo_stream.core.redrive import redrive_of
from edo_stream.core.sequence import NUMBER_MAX, SequenceRow, find
from edo_stream.core.state import RowCache
from edo_stream.core.task import Step
from edo_stream.core.timers import Timers

if TYPE_CHECKING:
    from edo_stream.core._native import PlainWay
if IS_COMPILED:
    from edo_stream.core._native import PlainOrder

_SLACK_BYTES: Final = 60 * 1024
"""Of the 64 KiB that the changelog of the state allows beyond a source's limit."""

Release = Callable[[Record, Event | None], None]


class Resequencer:
    """Keeps the events of one topic in the order of their numbers."""

    def __init__(
        self,
        contract: Contract,
        policy: SequenceOrder,
        outlet: Outlet,
        state: "SequenceState",
        judge: Callable[[Record], Decoded],
    ) -> None:
        self._topic = contract.topic
        self._prefix = contract.topic.encode() + b"\0"
        self._policy = policy
        self._outlet = outlet
        self._emit = outlet.emit
        self._judge = judge
        self._step = state.step
        self._rows = state.rows
        self._held = state.held
        self._timers = state.timers
        self._notices = state.notices
        self._held_bytes_max = contract.record_bytes_max + _SLACK_BYTES
        # A row's time is rewritten when it is a sixteenth old: forgotten by that much later.
        self._touch_ms = policy.idle_ttl_ms // 16
        self._idle_ms = policy.idle_ttl_ms + self._touch_ms

    def plain_way(self) -> "PlainWay | None":
        """The compiled way of events that are next in line, or wait for their turn."""
        if not IS_COMPILED:
            return None
        policy = self._policy
        has_timeout = policy.on_timeout is not OnTimeout.HOLD
        order = PlainOrder(
            self._prefix, self._rows.pages(), self._held.pages(), self._timers.pages(),
            (self._idle_ms, policy.held_per_key_max, policy.held_per_partition_max,
             self._held_bytes_max),
            policy.gap_timeout_ms if has_timeout else None,
        )  # fmt: skip
        return self._outlet.plain_way(order)

    def place(self, record: Record, event: Event) -> None:
        """Let an event go on, hold it, or turn it away."""
        number = event.position
        if number is None or not 0 <= number <= NUMBER_MAX:
            detail = "position: expected a number from 0 to 2^63-1"
            self._outlet.dead_letter(record, Violation("invalid", detail))
            return
        name = self._prefix + event.key
        row = self._rows.get(name)
        if row is None or self.is_idle(row):
            row = self._begin(name, number)
        if number == row.next:
            self._emit(record, event)
            self._advance(name, row)
        elif number > row.next:
            self._place_later(name, row, record, event)
        else:
            self._place_earlier(name, row, record, event)

    def fill(self, key: bytes, number: int | None) -> None:
        """Use up the number of a record that was dead-lettered, so that its key does not wait."""
        if number is None or not 0 <= number <= NUMBER_MAX:
            return
        name = self._prefix + key
        row = self._rows.get(name)
        if row is None or self.is_idle(row):
            row = self._begin(name, number)
        if number == row.next:
            self._advance(name, row)
        elif number > row.next and number not in self._held.numbers(name, row.held):
            row.fill(number)
            self._put(name, row)

    def expire(self, name: bytes, due_ms: int) -> None:
        """End the wait of a key whose gap timer is due."""
        row = self._rows.get(name)
        assert row is not None, f"timer of {name!r} without its row"
        assert row.due_ms == due_ms, f"timer of {name!r}: due {due_ms}, row says {row.due_ms}"
        numbers = self._held.numbers(name, row.held)
        match self._policy.on_timeout:
            case OnTimeout.SKIP:
                self._skip(name, row, min(numbers), "gap-timeout", self._release)
            case OnTimeout.DEAD_LETTER:
                self._skip(name, row, max(numbers) + 1, "dead-letter", self._bury)
            case OnTimeout.HOLD:
                # The contract has changed since the timer was set.
                self._rearm(name, row)
                self._rows.put(name, row)

    def wake(self, name: bytes) -> None:
        """Set the timer of a key that was held for ever, should its contract say otherwise now."""
        row = self._rows.get(name)
        if row is not None and self._policy.on_timeout is not OnTimeout.HOLD:
            self._rearm(name, row)
            self._rows.put(name, row)

    def operate(self, key: bytes, to: int | None) -> str | None:
        """Skip what is missing up to and including ``to``, or all gaps; why not, if refused."""
        name = self._prefix + key
        row = self._rows.get(name)
        if row is None:
            return "unknown key"
        if to is None:
            numbers = self._held.numbers(name, row.held)
            if not numbers:
                return "nothing is held"
            to = max(numbers)
        if not row.next <= to <= NUMBER_MAX:
            return f"to: expected a number from {row.next} to 2^63-1"
        self._skip(name, row, to + 1, "operator", self._release)
        return None

    def is_idle(self, row: SequenceRow) -> bool:
        """Whether a key has not been seen for so long that it starts anew."""
        return not row.held and self._step.row.stream_ms - row.touched_ms > self._idle_ms

    def _begin(self, name: bytes, number: int) -> SequenceRow:
        """Begin a key at its start number, or at ``number`` where none is declared."""
        start = number if self._policy.start is None else self._policy.start
        row = SequenceRow(next=0, touched_ms=self._step.row.stream_ms)
        if start:
            row.skip_to(start)
        self._rows.put(name, row)
        return row

    def _put(self, name: bytes, row: SequenceRow) -> None:
        row.touched_ms = self._step.row.stream_ms
        self._rows.put(name, row)

    def _advance(self, name: bytes, row: SequenceRow) -> None:
        row.next += 1
        if row.held or row.filled:
            self._drain(name, row, self._release)
            self._rearm(name, row)
        row.touched_ms = self._step.row.stream_ms
        self._rows.put(name, row)

    def _place_later(self, name: bytes, row: SequenceRow, record: Record, event: Event) -> None:
        number = event.position
        assert number is not None
        numbers = self._held.numbers(name, row.held)
        if (reason := self._refusal(row, record, event, numbers)) is not None:
            self._outlet.dead_letter(record, Violation(reason, f"number {number} of its key"))
            self.fill(event.key, number)
            return
        while row.next < number and self._is_full(row):
            first = min(self._held.numbers(name, row.held), default=number)
            self._skip(name, row, min(first, number), "buffer-full", self._release)
        if number == row.next:
            self._outlet.emit(record, event)
            self._advance(name, row)
            return
        self._held.hold(name, record, event, self._step.now_ms)
        row.held += 1
        self._step.row.sources[self._topic].held += 1
        if row.due_ms is None:
            self._rearm(name, row)
        self._put(name, row)
        self._outlet.mark(record, Fate.HELD)

    def _refusal(
        self, row: SequenceRow, record: Record, event: Event, numbers: dict[int, int]
    ) -> str | None:
        """Why an event cannot be held, if so."""
        assert event.position is not None
        if event.position in numbers:
            return "sequence-conflict"
        if find(row.filled, event.position) is not None:
            return "sequence-reused"
        # The key is in the row's key and in the record.
        if bytes_of(record) + len(event.key) > self._held_bytes_max:
            return "too-large"
        if self._policy.on_full is OnFull.DEAD_LETTER and self._is_full(row):
            return "buffer-full"
        return None

    def _is_full(self, row: SequenceRow) -> bool:
        policy = self._policy
        return (
            row.held >= policy.held_per_key_max
            or self._step.row.sources[self._topic].held >= policy.held_per_partition_max
        )

    def _place_earlier(self, name: bytes, row: SequenceRow, record: Record, event: Event) -> None:
        number = event.position
        assert number is not None
        is_late = find(row.skipped, number) is not None
        is_sent_again = redrive_of(record) is not None
        if self._policy.on_late is OnLate.DROP:
            self._outlet.mark(record, Fate.LATE)
        elif not is_late and not is_sent_again:
            detail = f"number {number} of its key was used before; next is {row.next}"
            self._outlet.dead_letter(record, Violation("sequence-reused", detail))
        elif self._policy.on_late is OnLate.EMIT or is_sent_again:
            if is_late:
                row.take_skipped(number)
            self._outlet.emit(record, event, is_late=True)
            self._put(name, row)
        else:
            detail = f"number {number} of its key was given up; next is {row.next}"
            self._outlet.dead_letter(record, Violation("late", detail))
        if self._step.row.stream_ms - row.touched_ms > self._touch_ms:
            self._put(name, row)

    def _skip(
        self, name: bytes, row: SequenceRow, until: int, reason: str, release: Release
    ) -> None:
        """Give up what is missing before ``until``, and release what waited for it."""
        key = name[len(self._prefix) :]
        while row.next < until:
            first = min(self._held.numbers(name, row.held), default=until)
            if row.filled:
                first = min(first, row.filled[0][0])
            first = min(first, until)
            missing = (row.next, first - 1)
            self._step.publish.append(
                self._notices.gap(self._topic, key, missing, reason, self._step.now_ms)
            )
            row.skip_to(first)
            self._drain(name, row, release)
        self._rearm(name, row)
        self._put(name, row)

    def _drain(self, name: bytes, row: SequenceRow, release: Release) -> None:
        """Release what has its turn now, up to the next number that is missing."""
        numbers = self._held.numbers(name, row.held)
        while True:
            if row.next in numbers:
                record, event = self._held.take(name, row.next)
                row.next += 1
                row.held -= 1
                self._step.row.sources[self._topic].held -= 1
                release(record, event)
            elif not row.pass_filled():
                return

    def _release(self, record: Record, event: Event | None) -> None:
        decoded = self._judge(record) if event is None else event
        match decoded:
            case Event():
                self._outlet.emit(record, decoded)
            case Violation():
                # The codec or the contract has changed since it was held.
                self._outlet.dead_letter(record, decoded)
            case _:
                self._outlet.mark(record, Fate.IGNORED)

    def _bury(self, record: Record, _event: Event | None) -> None:
        detail = f"a number before it did not come within {self._policy.gap_timeout_ms} ms"
        self._outlet.dead_letter(record, Violation("gap-timeout", detail))

    def _rearm(self, name: bytes, row: SequenceRow) -> None:
        """Set the gap timer by the event that waits longest, if any may time out."""
        due_ms = None
        if row.held and self._policy.on_timeout is not OnTimeout.HOLD:
            held_at_ms = min(self._held.numbers(name, row.held).values())
            due_ms = held_at_ms + self._policy.gap_timeout_ms
        if due_ms != row.due_ms:
            if row.due_ms is not None:
                self._timers.clear(row.due_ms, name)
            if due_ms is not None:
                self._timers.set(due_ms, name)
            row.due_ms = due_ms


class SequenceState:
    """State that the resequencers of a task share."""

    def __init__(
        self, step: Step, rows: RowCache[SequenceRow], held: Held, timers: Timers, notices: Notices
    ) -> None:
        self.step = step
        self.rows = rows
        self.held = held
        self.timers = timers
        self.notices = notices
