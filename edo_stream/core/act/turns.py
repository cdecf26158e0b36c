"""When a key's next command may begin, and whether at all: throttles and rate limits, in rows.

Both are by the key of a flow, and hold over restarts: what counts is committed before the run.

- A *throttle* spaces commands: each start moves the time at which the next may follow (GCRA), row
  ``t`` + queue. Who is too early waits; nothing is lost.
- A *rate limit* counts commands by when they were made: over any span of its length at most so
  many run, the others end as limited. Row ``l`` + queue has the times that count, and names the
  command that was counted last: when it comes again after a crash, it is not counted twice.

Rows go when they say nothing any more: when a later step finds that their time has passed. For a
limit that is the time of the commands that are read, or a day more by the clock.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from struct import Struct
from typing import Final

import msgspec

from edo_stream.core.act.command import Command, flow_of
from edo_stream.core.contract import DAY_MS
from edo_stream.core.state import Table

THROTTLE: Final = b"t"
_THROTTLE_END: Final = b"u"
LIMIT: Final = b"l"
_LIMIT_END: Final = b"m"
_TIME: Final = Struct(">q")


@dataclass(frozen=True, slots=True)
class Throttle:
    """At most ``limit`` commands of a key begin in ``per_ms`` on average, ``burst`` at once."""

    limit: int
    per_ms: int
    burst: int = 1

    def __post_init__(self) -> None:
        assert self.limit >= 1, f"a limit is at least one: {self.limit}"
        assert self.burst >= 1, f"a burst is at least one: {self.burst}"

    @property
    def interval_us(self) -> int:
        """Time from one start to the next; rounded up, never too fast."""
        return -(-self.per_ms * 1_000 // self.limit)


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """Of the commands of a key that were made within ``per_ms``, at most ``limit`` run."""

    limit: int
    per_ms: int

    def __str__(self) -> str:
        """As an outcome tells it."""
        return f"{self.limit} in {self.per_ms} ms"


class Throttles:
    """When each key may begin its next command; a key that has rested costs nothing."""

    def __init__(self, state: Table) -> None:
        self._state = state
        self._free_us: dict[bytes, int] = {}
        """By queue: when the next start would be in turn, had there been no burst."""
        self._ends: list[tuple[int, bytes]] = []

    def restore(self) -> None:
        """Read all rows."""
        rows = self._state.scan(THROTTLE, _THROTTLE_END)
        self._free_us = {row[1:]: _TIME.unpack(value)[0] for row, value in rows}
        self._ends = sorted((free_us, queue) for queue, free_us in self._free_us.items())

    def wait_ms(self, queue: bytes, throttle: Throttle, now_ms: int) -> int:
        """How long until a command of the key may begin; 0 when it may now."""
        free_us, now_us = self._free_us.get(queue, 0), now_ms * 1_000
        # A burst that has just begun leaves this; more is from a throttle that was stricter.
        most_us = now_us + throttle.burst * throttle.interval_us
        if free_us > most_us:
            free_us = most_us
            self._set(queue, free_us)
        allowed_us = free_us - (throttle.burst - 1) * throttle.interval_us
        return max(0, -(-(allowed_us - now_us) // 1_000))

    def take(self, queue: bytes, throttle: Throttle, now_ms: int) -> None:
        """A command of the key begins, in its turn or because an operator wants it to."""
        now_us, interval_us = now_ms * 1_000, throttle.interval_us
        free_us = max(self._free_us.get(queue, 0), now_us)
        latest_us = now_us + (throttle.burst - 1) * interval_us
        self._set(queue, min(free_us, latest_us) + interval_us)

    def _set(self, queue: bytes, free_us: int) -> None:
        self._free_us[queue] = free_us
        self._state.write(THROTTLE + queue, _TIME.pack(free_us))
        heappush(self._ends, (free_us, queue))

    def sweep(self, now_ms: int) -> None:
        """Forget keys that have rested."""
        while self._ends and self._ends[0][0] <= now_ms * 1_000:
            free_us, queue = heappop(self._ends)
            if self._free_us.get(queue) == free_us:
                del self._free_us[queue]
                self._state.write(THROTTLE + queue, None)


class _LimitRow(msgspec.Struct, array_like=True):
    """What has counted of a key; fields are only ever appended."""

    times_ms: list[int]
    """When the last commands that ran were made, ascending; as many as the limit at most."""
    last: str
    """Name of the one that was counted last."""


_decode_row = msgspec.msgpack.Decoder(_LimitRow).decode


class Limits:
    """Which commands of a key are within its rate limit."""

    def __init__(self, state: Table, limits: Mapping[str, KeyLimit]) -> None:
        self._state = state
        self._limits = limits
        """By flow."""
        self._read_ms: dict[str, int] = {}
        self._ends: dict[str, list[tuple[int, bytes]]] = {}
        """By flow: when the last that counted of a key counts no more."""

    def restore(self) -> None:
        """Read when all rows end; nothing is read of the topics yet."""
        self._read_ms.clear()
        self._ends.clear()
        for row, value in self._state.scan(LIMIT, _LIMIT_END):
            self._note_end(row[1:], _decode_row(value).times_ms[-1])

    def read(self, flow: str, at_ms: int) -> None:
        """Commands of a flow were read that were made by then."""
        self._read_ms[flow] = max(at_ms, self._read_ms.get(flow, 0))

    def admit(self, command: Command, now_ms: int) -> bool:
        """Count a command, if it is within its flow's limit; once, however often it is asked."""
        limit = self._limits[command.flow]
        queue, name = command.queue, _name_of(command)
        value = self._state.get(LIMIT + queue)
        row = _LimitRow([], "") if value is None else _decode_row(value)
        if row.last == name:
            return True
        times_ms = deque(row.times_ms, maxlen=limit.limit)
        # Clocks of those that make commands differ: the times of a key never run back.
        at_ms = max(min(command.timestamp_ms, now_ms), times_ms[-1] if times_ms else 0)
        if len(times_ms) == limit.limit and at_ms - times_ms[0] < limit.per_ms:
            return False
        times_ms.append(at_ms)
        self._state.write(LIMIT + queue, msgspec.msgpack.encode(_LimitRow(list(times_ms), name)))
        self._note_end(queue, at_ms)
        return True

    def sweep(self, now_ms: int, is_busy: Callable[[bytes], bool]) -> None:
        """Forget keys of which nothing counts any more, and no command is in hand."""
        for flow, ends in self._ends.items():
            passed_ms = max(self._read_ms.get(flow, 0), now_ms - DAY_MS)
            again = []
            while ends and ends[0][0] <= passed_ms:
                end_ms, queue = heappop(ends)
                value = self._state.get(LIMIT + queue)
                if value is None or self._end_ms(flow, _decode_row(value).times_ms[-1]) > end_ms:
                    continue
                if is_busy(queue):
                    # What waits there may have been made within the span.
                    again.append((end_ms + DAY_MS, queue))
                else:
                    self._state.write(LIMIT + queue, None)
            for one in again:
                heappush(ends, one)

    def _note_end(self, queue: bytes, at_ms: int) -> None:
        flow = flow_of(queue)
        heappush(self._ends.setdefault(flow, []), (self._end_ms(flow, at_ms), queue))

    def _end_ms(self, flow: str, at_ms: int) -> int:
        limit = self._limits.get(flow)
        return at_ms if limit is None else at_ms + limit.per_ms


def _name_of(command: Command) -> str:
    return f"{command.id}/{command.replay}"
