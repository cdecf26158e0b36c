"""Access log: a JSON line for each request, without payload, query or anything secret.

Lines are gathered and written twice a second: a write for each would cost more than the rest of
the request.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Final, Literal

from edo_stream.core.headers import time_text

_EVERY_S: Final = 0.5
_LINES_MAX: Final = 10_000

Kept = Literal["all", "refused", "off"]


class AccessLog:
    """Writes lines by ``write``; what comes faster than it is written is dropped and counted."""

    def __init__(self, kept: Kept, write: Callable[[str], object]) -> None:
        self._kept = kept
        self._write = write
        self._lines: list[str] = []
        self._dropped = 0
        self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._flush)

    def add(  # noqa: PLR0913 - the fields of a line
        self, now_ms: int, source: str, peer: str, status: int, cause: str, size: int, took_s: float
    ) -> None:
        """Add a line; ``source`` and ``cause`` are of closed sets, ``peer`` is an address."""
        if self._kept == "off" or (self._kept == "refused" and not cause):
            return
        if len(self._lines) >= _LINES_MAX:
            self._dropped += 1
            return
        time = (time_text(now_ms) or b"").decode()
        self._lines.append(
            f'{{"time":"{time}","event":"request","source":"{source}","peer":{json.dumps(peer)},'
            f'"status":{status},"cause":"{cause}","bytes":{size},"ms":{took_s * 1_000:.1f}}}\n'
        )

    def close(self) -> None:
        """Write what is left."""
        self._timer.cancel()
        self._write_lines()

    def _flush(self) -> None:
        self._write_lines()
        self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._flush)

    def _write_lines(self) -> None:
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(f'{{"event":"dropped","count":{self._dropped}}}\n')
            self._dropped = 0
        if lines:
            self._write("".join(lines))
