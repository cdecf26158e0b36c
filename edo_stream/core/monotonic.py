"""Order of events that carry a growing position: what is not later than the last is stale."""

from typing import Final

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.contract import Contract, MonotonicOrder
from edo_stream.core.event import Event, Violation
from edo_stream.core.outlet import Outlet
from edo_stream.core.record import Record
from edo_stream.core.state import RowCache
from edo_stream.core.task import Step

_TIME_BYTES: Final = 8


class ReachedRow(msgspec.Struct):
    """The last position of one key of one topic."""

    position: int
    touched_ms: int
    """Stream time at which the key was last seen, or a little before."""


def encode_reached(row: ReachedRow) -> bytes:
    """Write the time (8 bytes, big endian), then the position: an integer of any size."""
    position = row.position
    size_bytes = (position.bit_length() + 8) // 8
    time = row.touched_ms.to_bytes(_TIME_BYTES, "big")
    return time + position.to_bytes(size_bytes, "big", signed=True)


def decode_reached(raw: bytes) -> ReachedRow:
    """Read what :func:`encode_reached` has written."""
    return ReachedRow(
        position=int.from_bytes(raw[_TIME_BYTES:], "big", signed=True),
        touched_ms=int.from_bytes(raw[:_TIME_BYTES], "big"),
    )


class Monotonic:
    """Lets the events of one topic go on while their positions grow."""

    def __init__(
        self,
        contract: Contract,
        policy: MonotonicOrder,
        outlet: Outlet,
        step: Step,
        rows: RowCache[ReachedRow],
    ) -> None:
        self._prefix = contract.topic.encode() + b"\0"
        self._outlet = outlet
        self._step = step
        self._rows = rows
        # A row's time is rewritten when it is a sixteenth old: forgotten by that much later.
        self._touch_ms = policy.idle_ttl_ms // 16
        self._idle_ms = policy.idle_ttl_ms + self._touch_ms

    def place(self, record: Record, event: Event) -> None:
        """Let an event go on, or drop it as stale."""
        position = event.position
        if position is None:
            self._outlet.dead_letter(record, Violation("invalid", "position: expected one"))
            return
        name = self._prefix + event.key
        row = self._rows.get(name)
        stream_ms = self._step.row.stream_ms
        if row is None or position > row.position or self.is_idle(row):
            self._rows.put(name, ReachedRow(position, stream_ms))
            self._outlet.emit(record, event)
            return
        if stream_ms - row.touched_ms > self._touch_ms:
            row.touched_ms = stream_ms
            self._rows.put(name, row)
        self._outlet.mark(record, Fate.STALE)

    def is_idle(self, row: ReachedRow) -> bool:
        """Whether a key has not been seen for so long that it starts anew."""
        return self._step.row.stream_ms - row.touched_ms > self._idle_ms
