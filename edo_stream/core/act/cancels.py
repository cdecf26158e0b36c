"""Commands that are cancelled and not through yet: they run, or lie on a tier that is not read.

A row ``x`` + queue names the command and says why, until the command has its end: a worker that
takes over meanwhile ends it, instead of running it again. One command of a key runs at a time, so
one row a key is enough.
"""

from typing import Final

import msgspec

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Unrun
from edo_stream.core.act.outlet import CANCELLED
from edo_stream.core.state import Table

_ROW: Final = b"x"
_ROW_END: Final = b"y"


class _Cancelled(msgspec.Struct, array_like=True):
    """Fields are only ever appended."""

    command: str
    told: dict[str, str]


_decode = msgspec.msgpack.Decoder(_Cancelled).decode


class Cancels:
    """Of one task."""

    def __init__(self, state: Table) -> None:
        self._state = state
        self._rows: dict[bytes, _Cancelled] = {}

    def restore(self) -> None:
        """Read all rows."""
        self._rows = {row[1:]: _decode(value) for row, value in self._state.scan(_ROW, _ROW_END)}

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
