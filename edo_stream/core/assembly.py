"""Transactions of a source: their events go on together, in order, when all of them are there.

Theory of operation (EIP, "Aggregator"). The events of one transaction come on several topics, one
a table, and so in any order; each says which transaction it belongs to (the key) and which number
it has in it (the position, from 1). The end of the transaction comes as an event too, with
position 0, and says how many there are (attribute ``transactionevents``). Whatever comes is held;
with the last of them all are released in one step, and so in one transaction of Kafka: the events
by their numbers, then the end. A reader that has read the end has read all.

A transaction that cannot become whole is dead-lettered as a whole, and so is what comes of it
later: when one of its records cannot be read, when a number comes twice or there are more events
than its end counts, when the buffer is full, and when the rest does not come in time.

An event without a position is of no transaction (a row of a snapshot) and goes on at once.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.contract import Contract, OnTimeout, TransactionOrder
from edo_stream.core.dead_letter import bytes_of
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.held import Held
from edo_stream.core.outlet import Outlet
from edo_stream.core.record import Record
from edo_stream.core.sequence import NUMBER_MAX
from edo_stream.core.state import RowCache
from edo_stream.core.task import Step
from edo_stream.core.timers import Timers

#: Rows of transactions.
ASSEMBLY: Final = b"q"
END: Final = 0
"""Position of a transaction's end."""
EVENTS: Final = "ce_transactionevents"
"""Header by which the end says how many events there are."""

_INCOMPLETE: Final = "transaction-incomplete"
_COUNT_DIGITS_MAX: Final = 9
_SLACK_BYTES: Final = 60 * 1024
"""Of the 64 KiB that the changelog of the state allows beyond a source's limit."""


class AssemblyRow(msgspec.Struct, array_like=True):
    """One transaction; fields are only ever appended."""

    touched_ms: int
    """Stream time of the last change."""
    held: int = 0
    """Events that wait, the end among them."""
    expected: int | None = None
    """Events of the transaction, without its end; ``None`` until the end has come."""
    due_ms: int | None = None
    """When the wait for the rest ends; ``None`` while nothing waits, or for ever."""
    is_over: bool = False
    failure: str = ""
    """Why it is over, if it was not released."""


encode_assembly = msgspec.msgpack.Encoder().encode
decode_assembly = msgspec.msgpack.Decoder(AssemblyRow).decode


class AssemblyState:
    """State that the assemblers of a task share."""

    def __init__(self, step: Step, rows: RowCache[AssemblyRow], held: Held, timers: Timers) -> None:
        self.step = step
        self.rows = rows
        self.held = held
        self.timers = timers


class Assembler:
    """Puts the transactions of one topic together."""

    def __init__(
        self,
        contract: Contract,
        policy: TransactionOrder,
        outlet: Outlet,
        state: AssemblyState,
        judge: Callable[[Record], Decoded],
    ) -> None:
        self._topic = contract.topic
        self._prefix = contract.topic.encode() + b"\0"
        self._policy = policy
        self._outlet = outlet
        self._judge = judge
        self._step = state.step
        self._rows = state.rows
        self._held = state.held
        self._timers = state.timers
        self._held_bytes_max = contract.record_bytes_max + _SLACK_BYTES
        self._touch_ms = policy.idle_ttl_ms // 16
        self._idle_ms = policy.idle_ttl_ms + self._touch_ms

    def place(self, record: Record, event: Event) -> None:
        """Hold an event; release its transaction if that makes it whole."""
        number = event.position
        if number is None:
            self._outlet.emit(record, event)
            return
        if not 0 <= number <= NUMBER_MAX:
            detail = "position: expected a number from 0 to 2^63-1"
            self._outlet.dead_letter(record, Violation("invalid", detail))
            return
        name = self._prefix + event.key
        row = self._row(name)
        if row.is_over:
            self._turn_away(name, row, record, number)
            return
        numbers = self._held.numbers(name, row.held)
        if number in numbers:
            # Not a repetition, which dedupe drops: a connector that counted anew after a crash.
            detail = f"number {number} of its transaction is there already"
            self._outlet.dead_letter(record, Violation("sequence-conflict", detail))
            self._fail(name, row, f"number {number} came twice, with different events")
            return
        failure = self._refusal(row, record, event)
        if failure is not None:
            self._outlet.dead_letter(record, Violation(_INCOMPLETE, failure))
            self._fail(name, row, failure)
            return
        self._held.hold(name, record, event, self._step.now_ms)
        self._outlet.mark(record, Fate.HELD)
        row.held += 1
        self._step.row.sources[self._topic].held += 1
        if number == END:
            row.expected = events_of(event)
        self._look(name, row)

    def fill(self, key: bytes, number: int | None) -> None:
        """Give a transaction up of which a record was dead-lettered."""
        name = self._prefix + key
        row = self._row(name)
        if not row.is_over:
            which = "one of its records" if number is None else f"its record {number}"
            self._fail(name, row, f"{which} was dead-lettered")

    def expire(self, name: bytes) -> None:
        """End the wait of a transaction whose timer is due."""
        row = self._row(name)
        if self._policy.on_timeout is OnTimeout.HOLD:
            # The contract has changed since the timer was set.
            self._rearm(name, row)
            self._rows.put(name, row)
            return
        there = row.held - (row.expected is not None)
        of = "its end" if row.expected is None else f"all of {row.expected}"
        self._fail(
            name, row, f"{of} did not come within {self._policy.timeout_ms} ms, {there} events did"
        )

    def wake(self, name: bytes) -> None:
        """Set the timer of what was held for ever, should the contract say otherwise now."""
        row = self._rows.get(name)
        if row is not None and self._policy.on_timeout is not OnTimeout.HOLD:
            self._rearm(name, row)
            self._rows.put(name, row)

    def operate(self, key: bytes, to: int | None) -> str | None:
        """Release what there is of a transaction; why not, if refused."""
        name = self._prefix + key
        row = self._rows.get(name)
        if row is None:
            return "unknown key"
        if to is not None:
            return "a transaction has no gaps to skip: release it"
        if not row.held:
            return "nothing is held"
        self._release(name, row)
        return None

    def is_idle(self, row: AssemblyRow) -> bool:
        """Whether a transaction has not been heard of for so long that it is forgotten."""
        return not row.held and self._step.row.stream_ms - row.touched_ms > self._idle_ms

    def _row(self, name: bytes) -> AssemblyRow:
        row = self._rows.get(name)
        if row is None or self.is_idle(row):
            row = AssemblyRow(touched_ms=self._step.row.stream_ms)
            self._rows.put(name, row)
        return row

    def _turn_away(self, name: bytes, row: AssemblyRow, record: Record, number: int) -> None:
        if row.failure:
            violation = Violation(_INCOMPLETE, row.failure)
        else:
            detail = f"number {number} came after its transaction had gone on"
            violation = Violation("late", detail)
        self._outlet.dead_letter(record, violation)
        if self._step.row.stream_ms - row.touched_ms > self._touch_ms:
            self._put(name, row)

    def _refusal(self, row: AssemblyRow, record: Record, event: Event) -> str | None:
        """Why a transaction fails with this event, if so."""
        policy = self._policy
        if event.position == END and events_of(event) is None:
            return "its end does not say how many events there are"
        if bytes_of(record) + len(event.key) > self._held_bytes_max:
            return f"its record {event.position} is too large to be held"
        if row.held >= policy.held_per_key_max:
            return f"it has more than {policy.held_per_key_max} events"
        if self._step.row.sources[self._topic].held >= policy.held_per_partition_max:
            return f"{policy.held_per_partition_max} events of the partition wait already"
        return None

    def _look(self, name: bytes, row: AssemblyRow) -> None:
        """Release a transaction that is whole; numbers are there once each, so the count tells."""
        if row.expected is None or row.held <= row.expected:
            self._rearm(name, row)
            self._put(name, row)
        elif row.held == row.expected + 1:
            self._release(name, row)
        else:
            self._fail(name, row, f"there are more events than the {row.expected} of its end")

    def _release(self, name: bytes, row: AssemblyRow) -> None:
        for record, event in self._taken(name, row):
            decoded = self._judge(record) if event is None else event
            match decoded:
                case Event():
                    self._outlet.emit(record, decoded)
                case Violation():
                    # The codec or the contract has changed since it was held.
                    self._outlet.dead_letter(record, decoded)
                case _:
                    self._outlet.mark(record, Fate.IGNORED)
        self._end(name, row)

    def _fail(self, name: bytes, row: AssemblyRow, failure: str) -> None:
        for record, _ in self._taken(name, row):
            self._outlet.dead_letter(record, Violation(_INCOMPLETE, failure))
        row.failure = failure
        self._end(name, row)

    def _taken(self, name: bytes, row: AssemblyRow) -> list[tuple[Record, Event | None]]:
        """All that is held of a transaction, by number, its end last; nothing is held then."""
        numbers = sorted(
            self._held.numbers(name, row.held), key=lambda number: number or NUMBER_MAX
        )
        taken = [self._held.take(name, number) for number in numbers]
        self._step.row.sources[self._topic].held -= len(taken)
        row.held = 0
        return taken

    def _end(self, name: bytes, row: AssemblyRow) -> None:
        row.is_over = True
        self._rearm(name, row)
        self._put(name, row)

    def _put(self, name: bytes, row: AssemblyRow) -> None:
        row.touched_ms = self._step.row.stream_ms
        self._rows.put(name, row)

    def _rearm(self, name: bytes, row: AssemblyRow) -> None:
        """Set the timer by the event that waits longest, if any may time out."""
        due_ms = None
        if row.held and self._policy.on_timeout is not OnTimeout.HOLD:
            due_ms = min(self._held.numbers(name, row.held).values()) + self._policy.timeout_ms
        if due_ms != row.due_ms:
            if row.due_ms is not None:
                self._timers.clear(row.due_ms, name)
            if due_ms is not None:
                self._timers.set(due_ms, name)
            row.due_ms = due_ms


def events_of(end: Event) -> int | None:
    """How many events a transaction has, as its end says."""
    for name, value in end.extensions:
        if name == EVENTS and value is not None:
            is_count = value.isdigit() and len(value) <= _COUNT_DIGITS_MAX
            return int(value) if is_count else None
    return None
