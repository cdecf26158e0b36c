"""What an operator has said of whole flows: stopped by their breaker, or paused; in rows.

A row ``b`` + flow is there while a breaker is to be open, a row ``h`` + flow while a flow is
paused. Both are kept by each task, so they hold on every worker and over restarts.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from edo_stream.core.state import Table

OPEN: Final = b"b"
_OPEN_END: Final = b"c"
PAUSED: Final = b"h"
_PAUSED_END: Final = b"i"


class Paused(msgspec.Struct, frozen=True, array_like=True):
    """Since when a flow is paused, and why; fields are only ever appended."""

    since_ms: int
    by: str = ""
    reason: str = ""


decode_paused: Final = msgspec.msgpack.Decoder(Paused).decode


class Switches:
    """Of the flows of one task."""

    def __init__(self, state: Table) -> None:
        self._state = state
        self._switched: dict[str, bool] = {}
        self._opened: set[str] = set()
        self._paused: dict[str, Paused] = {}

    def restore(self) -> None:
        """Read all rows; the engine is told of breakers anew."""
        self._opened = {row[1:].decode() for row, _ in self._state.scan(OPEN, _OPEN_END)}
        self._switched = dict.fromkeys(self._opened, True)
        paused = self._state.scan(PAUSED, _PAUSED_END)
        self._paused = {row[1:].decode(): decode_paused(value) for row, value in paused}

    @property
    def paused(self) -> Mapping[str, Paused]:
        """Flows of which nothing may begin."""
        return self._paused

    def is_stopped(self, flow: str) -> bool:
        """Whether nothing of a flow may begin: it is paused, or its breaker is to be open."""
        return flow in self._paused or flow in self._opened

    def switched(self) -> dict[str, bool]:
        """Flows whose breaker an operator wants open, or closed; each change once."""
        switched, self._switched = self._switched, {}
        return switched

    def switch(self, flow: str, is_open: bool) -> None:
        """Keep an operator's word about a flow's breaker."""
        self._state.write(OPEN + flow.encode(), b"" if is_open else None)
        self._switched[flow] = is_open
        change = self._opened.add if is_open else self._opened.discard
        change(flow)

    def pause(self, flow: str, paused: Paused) -> None:
        """Let nothing of a flow begin; one that is paused stays so since it was."""
        before = self._paused.get(flow, paused)
        self._paused[flow] = Paused(before.since_ms, paused.by, paused.reason)
        self._state.write(PAUSED + flow.encode(), msgspec.msgpack.encode(self._paused[flow]))

    def resume(self, flow: str) -> None:
        """Let it go on; one that is not paused does."""
        if self._paused.pop(flow, None) is not None:
            self._state.write(PAUSED + flow.encode(), None)
