"""Events that a state holds, by whatever they wait in; from its changelog, in log order."""

from collections.abc import Callable
from typing import Generic, TypeVar

from edo_stream.core.correlation.rows import EVENT, HeldEvent, decode_event, parse_event_key

Row = TypeVar("Row")
Held = TypeVar("Held")


class HeldRows(Generic[Row, Held]):
    """The rows under one prefix of one changelog partition, and the events held under them."""

    def __init__(
        self, prefix: bytes, decode: Callable[[bytes], Row], held: Callable[[HeldEvent], Held]
    ) -> None:
        self.rows: dict[bytes, Row] = {}
        self._prefix = prefix
        self._decode = decode
        self._held = held
        self._events: dict[bytes, dict[bytes, Held]] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row. Others' rows are passed over."""
        if key[:1] == self._prefix:
            if value is None:
                self.rows.pop(key[1:], None)
            else:
                self.rows[key[1:]] = self._decode(value)
        elif key[:1] == EVENT:
            name, place = parse_event_key(key)
            events = self._events.setdefault(name, {})
            if value is None:
                events.pop(place, None)
            else:
                events[place] = self._held(decode_event(value))
            if not events:
                del self._events[name]

    def events(self, name: bytes) -> dict[bytes, Held]:
        """Events held under a row, by place."""
        return self._events.get(name, {})
