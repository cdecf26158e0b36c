"""Starts of commands that run at most once: committed before the run, in rows.

A row ``s`` + id and attempt is there from the commit of a start until the command has its fate. Who
finds one and knows nothing of the run must not run the command again.
"""

from typing import Final

from edo_stream.core.act.command import Command
from edo_stream.core.state import Table

_STARTED: Final = b"s"


class Starts:
    """Of one task."""

    def __init__(self, state: Table) -> None:
        self._state = state

    def is_noted(self, command: Command) -> bool:
        """Whether this attempt of a command has begun."""
        return self._state.get(_row(command)) is not None

    def note(self, command: Command) -> None:
        """It begins after the commit."""
        self._state.write(_row(command), b"")

    def forget(self, command: Command) -> None:
        """It has its fate."""
        if self.is_noted(command):
            self._state.write(_row(command), None)


def _row(command: Command) -> bytes:
    return _STARTED + command.id.encode() + b"\0%d" % command.attempt
