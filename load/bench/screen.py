"""Progress on the screen: a line for what is done, and one that changes for what is being done."""

import asyncio
import time
from typing import Final

from rich.console import Console
from rich.status import Status

from load.bench.machine import wait_until_quiet

_REDRAW_S: Final = 0.25


class Screen:
    """Says what is going on; the changing line is for terminals only."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None
        self._shown_s = 0.0

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self._status = self.console.status("")
            self._status.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line, highlight=False, markup=False)

    def show(self, line: str) -> None:
        """The line that changes; drawn now and then, since drawing is work beside the measured."""
        if self._status is not None and time.monotonic() - self._shown_s > _REDRAW_S:
            self._shown_s = time.monotonic()
            self._status.update(line)

    async def wait_until_quiet(self, broker_pid: int, patience_s: float) -> None:
        """See :func:`load.bench.machine.wait_until_quiet`."""
        await asyncio.to_thread(wait_until_quiet, broker_pid, patience_s, self.show)
