"""What cancels commands, and the commands that are cancelled and not through yet.

A row ``x`` + queue names a command that runs, or lies on a tier that is not read, and says why it
is cancelled, until it has its end: a worker that takes over meanwhile ends it, instead of running
it again. One command of a key runs at a time, so one row a key is enough.

What is cancelled is named by its *scope*: a key's queue, or a tag that commands of many keys have.

An event that cancels is a *mark* among the commands of its flow: what lies before it is cancelled.
The task may be far behind it, because it is slow or paused; so the event is *announced* as well, on
the control topic, in the same transaction. While it is announced and its mark was not read, all
that was read of its key lies before the mark, and so does all that is being read: nothing of it
begins any more. A row ``y`` + id remembers the one of the two that has come, until the other does.
"""

from typing import Final

import msgspec

from edo_stream.core.act.command import ANNOUNCED, Command
from edo_stream.core.act.outcome import Unrun
from edo_stream.core.act.outlet import CANCELLED
from edo_stream.core.state import Table

_ROW: Final = b"x"
_ROW_END: Final = b"y"
_MARK: Final = b"y"
_MARK_END: Final = b"z"
#: A command that was made so much later lies behind a mark that is gone; clocks differ by less.
_LOST_MS: Final = 3_600_000


class _Cancelled(msgspec.Struct, array_like=True):
    """Fields are only ever appended."""

    command: str
    told: dict[str, str]


class _Half(msgspec.Struct, array_like=True):
    """What cancels, of which the mark or the announcement was read; fields are only appended."""

    is_mark: bool
    scope: bytes
    at_ms: int
    told: dict[str, str]


_decode = msgspec.msgpack.Decoder(_Cancelled).decode
_decode_half = msgspec.msgpack.Decoder(_Half).decode


class Cancels:
    """Of one task."""

    def __init__(self, state: Table) -> None:
        self._state = state
        self._rows: dict[bytes, _Cancelled] = {}
        self._announced: dict[bytes, dict[str, _Half]] = {}
        """What was announced and not marked yet, by scope and id."""

    def restore(self) -> None:
        """Read all rows."""
        self._rows = {row[1:]: _decode(value) for row, value in self._state.scan(_ROW, _ROW_END)}
        self._announced.clear()
        for row, value in self._state.scan(_MARK, _MARK_END):
            half = _decode_half(value)
            if not half.is_mark:
                self._announced.setdefault(half.scope, {})[row[1:].decode()] = half

    def announce(self, cause: Command, why: Unrun) -> bool:
        """Take an announcement; false when its mark was read before."""
        row = _MARK + cause.id.encode()
        if self._state.get(row) is not None:
            self._state.write(row, None)
            return False
        half = _Half(False, cause.scope, cause.timestamp_ms, dict(why.told))
        self._announced.setdefault(cause.scope, {})[cause.id] = half
        self._state.write(row, msgspec.msgpack.encode(half))
        return True

    def mark(self, cause: Command) -> None:
        """Take a mark among the commands."""
        if cause.id in self._announced.get(cause.scope, ()):
            self._end(cause.scope, cause.id)
        elif cause.cancels == ANNOUNCED:
            half = _Half(True, cause.scope, cause.timestamp_ms, {})
            self._state.write(_MARK + cause.id.encode(), msgspec.msgpack.encode(half))

    def announced(self, command: Command) -> Unrun | None:
        """Why a command that is read just now is cancelled, if it lies before a mark."""
        for scope in (command.queue, *command.tags) if self._announced else ():
            for cause, half in list(self._announced.get(scope, {}).items()):
                if command.timestamp_ms <= half.at_ms + _LOST_MS:
                    return Unrun(CANCELLED, half.told)
                self._end(scope, cause)
        return None

    def _end(self, scope: bytes, cause: str) -> None:
        self._state.write(_MARK + cause.encode(), None)
        del self._announced[scope][cause]
        if not self._announced[scope]:
            del self._announced[scope]

    def note(self, queue: bytes, command: str, why: Unrun) -> None:
        """The command of a key that runs, or waits for its retry, is cancelled; once."""
        if queue not in self._rows:
            row = self._rows[queue] = _Cancelled(command, dict(why.told))
            self._state.write(_ROW + queue, msgspec.msgpack.encode(row))

    def why(self, command: Command) -> Unrun | None:
        """Why a command is cancelled, if it is."""
        row = self._rows.get(command.queue) if self._rows else None
        return None if row is None or row.command != command.id else Unrun(CANCELLED, row.told)

    def forget(self, command: Command) -> None:
        """The command has its end."""
        if self._rows and self.why(command) is not None:
            del self._rows[command.queue]
            self._state.write(_ROW + command.queue, None)


def by_event(cause: Command) -> Unrun:
    """Cancelled by an event, which its record names."""
    named = {name: (value or b"").decode("utf-8", "replace") for name, value in cause.headers}
    told = {
        "reason": "event",
        "event": named.get("ce_causationid", ""),
        "type": cause.type,
        "position": cause.position.decode("utf-8", "replace"),
    }
    return Unrun(CANCELLED, told)


def by_command(newer: Command) -> Unrun:
    """Cancelled by a later command of its key."""
    return Unrun(CANCELLED, {"reason": "replaced", "command": newer.id})
