"""What a flow may ask of an event: its attributes at the top, its JSON below ``data``.

A look at an event is shared by all flows of its topic: what one of them needs is read once, and
what none needs not at all.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from edo_stream.core.event import Event
from edo_stream.core.headers import time_text
from edo_stream.core.pointer import MISSING

_PREFIX: Final = "ce_"
#: Attributes that are the event's own; a header of that name has no say.
_OWN: Final = frozenset({"id", "source", "type", "specversion", "subject", "time", "data"})
#: A number with a fraction is a double here; whole numbers keep every digit.
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_UNREAD: Final = object()
_NOTHING: Final[Mapping[str, bytes]] = {}


class UndecidedError(Exception):
    """Whether a flow wants an event cannot be told; says why, and nothing of the event's data."""


class UnmadeError(Exception):
    """A command's data cannot be made from an event; says why."""


class Facts:
    """One event, looked at; ``kept`` is for an evaluator, for what it has converted of it.

    ``more`` is what was found to it, as JSON by its names: beside the event's attributes, and
    before them where one has such a name.
    """

    __slots__ = ("_attributes", "_data", "event", "kept", "more")

    def __init__(self, event: Event, more: Mapping[str, bytes] = _NOTHING) -> None:
        self.event = event
        self.more = more
        self.kept: Any = None
        self._attributes: dict[str, Any] | None = None
        self._data: Any = _UNREAD

    @property
    def attributes(self) -> dict[str, Any]:
        """CloudEvents attributes; one that the event does not have is not there."""
        if self._attributes is None:
            self._attributes = _attributes(self.event)
        return self._attributes

    @property
    def data(self) -> Any:
        """The event's JSON, parsed at most once; :data:`MISSING` where it has none."""
        if self._data is _UNREAD:
            data = self.event.data
            try:
                self._data = MISSING if data is None else _decode(data)
            except (ValueError, RecursionError):
                self._data = MISSING
        return self._data

    @property
    def whole(self) -> dict[str, Any]:
        """Attributes, ``data`` if it is JSON, and what was found to the event."""
        if not self.more and self.data is MISSING:
            return self.attributes
        data = {} if self.data is MISSING else {"data": self.data}
        return {**self.attributes, **data, **{name: self.found(name) for name in self.more}}

    def found(self, name: str) -> Any:
        """What was found to the event by a name, parsed."""
        return _decode(self.more[name])

    def with_more(self, more: Mapping[str, bytes]) -> "Facts":
        """The same event, with what was found to it besides."""
        facts = Facts(self.event, {**self.more, **more})
        facts._attributes, facts._data = self._attributes, self._data
        return facts

    def text(self) -> bytes:
        """The whole as JSON, with the bytes of the data as they came; they may not be JSON."""
        data = self.event.data
        raw = msgspec.Raw(b"null" if data is None else data)
        more = {name: msgspec.Raw(value) for name, value in self.more.items()}
        return _encode({**self.attributes, "data": raw, **more})


def _attributes(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
    }
    time = event.time_text
    if time is None and event.time_ms is not None:
        time = time_text(event.time_ms)
    optional = {
        "subject": event.subject,
        "time": None if time is None else time.decode(),
        "datacontenttype": event.content_type,
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
    }
    found |= {name: value for name, value in optional.items() if value is not None}
    for name, value in event.extensions:
        if name.startswith(_PREFIX) and (bare := name[len(_PREFIX) :]) not in _OWN:
            found[bare] = value.decode("utf-8", "replace")
    return found


Where = Callable[[Facts], bool]
"""Whether an event is wanted.

Raises:
    UndecidedError: it cannot be told.
"""
Make = Callable[[Facts], bytes]
"""The data of a command.

Raises:
    UnmadeError: there is none.
"""
