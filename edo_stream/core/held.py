"""The gap buffer: events that wait for a number before theirs, one row each.

A row is ``h``, the topic, a zero, the key with its length, and the number (8 bytes, big endian),
so that the events of a key lie together in their order. Its value is the time at which the wait
began and the original record: a release decodes it again, and old rows never go stale.
"""

from struct import Struct
from typing import Final

import msgspec

from edo_stream.core.event import Event
from edo_stream.core.record import Record, StoredRecord, stored
from edo_stream.core.state import Table

#: Rows of held events.
HELD: Final = b"h"

_END: Final = b"i"
#: Read at most to find out since when events wait; they are read with their records.
_SURVEY_BYTES_MAX: Final = 64 << 20

_LENGTH: Final = Struct(">I")
_NUMBER: Final = Struct(">Q")
_HELD_AT: Final = Struct(">Q")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredRecord).decode


HeldNow = tuple[int, Record, Event]
"""An event that was held in this step: since when, its record, and what it was decoded to."""


class Held:
    """Events held in one task, named by the sequence row they wait for (topic, zero, key).

    An event that is held and released within one step leaves no trace in the state. For keys that
    wait, the numbers stay in memory; the contracts' bounds are the bound of that.
    """

    def __init__(self, state: Table) -> None:
        self._state = state
        self._numbers: dict[bytes, dict[int, int]] = {}
        self._fresh: dict[bytes, HeldNow] = {}
        self._unread: dict[bytes, int] | None = None

    def discard(self) -> None:
        """Forget what is uncommitted."""
        self._numbers.clear()
        self._fresh.clear()
        self._unread = None

    def pages(self) -> tuple[bytes, dict[bytes, dict[int, int]], dict[bytes, HeldNow]]:
        """What the compiled half reads and writes: what rows begin with, numbers, and events."""
        return HELD, self._numbers, self._fresh

    def oldest_ms(self) -> dict[str, int]:
        """Since when the event that waits longest does, by topic; call it between steps.

        The first call after a restore reads what is held; of a buffer of more than 64 MiB it
        looks at a part.
        """
        if self._unread is None:
            self._unread = self._survey()
        oldest_ms: dict[str, int] = {}
        known = ((name, min(held.values())) for name, held in self._numbers.items() if held)
        for name, since_ms in (*self._unread.items(), *known):
            topic = name.partition(b"\0")[0].decode()
            oldest_ms[topic] = min(oldest_ms.get(topic, since_ms), since_ms)
        return oldest_ms

    def _survey(self) -> dict[bytes, int]:
        """Since when keys wait whose numbers were not read yet."""
        since_ms: dict[bytes, int] = {}
        left_bytes = _SURVEY_BYTES_MAX
        for row, value in self._state.scan(HELD, _END):
            name, _, held_at_ms = parse_held(row, value)
            if name not in self._numbers and held_at_ms is not None:
                since_ms[name] = min(since_ms.get(name, held_at_ms), held_at_ms)
            left_bytes -= len(row) + len(value)
            if left_bytes < 0:
                break
        return since_ms

    def numbers(self, name: bytes, count: int) -> dict[int, int]:
        """Numbers that wait for a key, with the time each has waited since (epoch ms).

        ``count`` is how many the key's row speaks of: for none, nothing is read.
        """
        numbers = self._numbers.get(name)
        if numbers is None and count > 0:
            if self._unread is not None:
                # From here on the numbers in memory tell.
                self._unread.pop(name, None)
            prefix = _prefix(name)
            rows = self._state.scan(prefix, prefix + b"\xff" * 9)
            numbers = self._numbers[name] = {
                _NUMBER.unpack(key[-8:])[0]: _HELD_AT.unpack_from(value)[0] for key, value in rows
            }
        return numbers or {}

    def hold(self, name: bytes, record: Record, event: Event, now_ms: int) -> None:
        """Keep an event until its turn; the caller has read the key's numbers before."""
        number = event.position
        assert number is not None
        self._numbers.setdefault(name, {})[number] = now_ms
        self._fresh[_prefix(name) + _NUMBER.pack(number)] = (now_ms, record, event)

    def take(self, name: bytes, number: int) -> tuple[Record, Event | None]:
        """Remove an event; from an earlier step it comes as its record alone."""
        numbers = self._numbers[name]
        del numbers[number]
        if not numbers:
            del self._numbers[name]
        row = _prefix(name) + _NUMBER.pack(number)
        if (fresh := self._fresh.pop(row, None)) is not None:
            return fresh[1], fresh[2]
        value = self._state.get(row)
        assert value is not None, f"held row {row!r} is gone"
        self._state.write(row, None)
        return _decode(value[_HELD_AT.size :]), None

    def flush(self) -> None:
        """Write what was held in this step and still is."""
        for row, (held_at_ms, record, _) in self._fresh.items():
            self._state.write(row, _HELD_AT.pack(held_at_ms) + _encode(stored(record)))
        self._fresh.clear()


def _prefix(name: bytes) -> bytes:
    topic, _, key = name.partition(b"\0")
    return b"%b%b\0%b%b" % (HELD, topic, _LENGTH.pack(len(key)), key)


def parse_held(row: bytes, value: bytes | None) -> tuple[bytes, int, int | None]:
    """Read a row without its record: the sequence row it waits for, its number, since when.

    A row that was deleted has no time.
    """
    topic, _, rest = row[len(HELD) :].partition(b"\0")
    key = rest[_LENGTH.size : -_NUMBER.size]
    number: int = _NUMBER.unpack(rest[-_NUMBER.size :])[0]
    held_at_ms: int | None = None if value is None else _HELD_AT.unpack_from(value)[0]
    return topic + b"\0" + key, number, held_at_ms
