"""Look at a program from outside, through the broker alone, until it has done its job."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from load.bench.machine import now_ms
from load.bench.programs import Contestant, Place
from load.bench.records import Input
from load.bench.topics import Topics

_LOOK_S: Final = 0.1
_SETTLE_MS: Final = 1_000
"""Without a change before the group's offsets are asked for."""


class End(Enum):
    """How it ended."""

    DONE = "done"
    """The group has committed all of the input, and nothing is left unseen."""
    STALLED = "stalled"
    GONE = "gone"
    """The process ended by itself."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen at one moment."""

    at_ms: int
    visible: int
    """Sum of the end offsets of a ``read_committed`` reader; transaction markers count as well."""
    has_moved: bool
    end: End | None


async def watch(
    contestant: Contestant, place: Place, source: Input, topics: Topics, stall_s: float
) -> AsyncIterator[Look]:
    """Look ten times a second; the last look says how it ended.

    A program that is gone ends nothing here: whoever has killed it may start it again.
    """
    visible, moved_ms, asked_ms = 0, now_ms(), 0
    while True:
        await asyncio.sleep(_LOOK_S)
        ends = await topics.ends(place.output)
        at_ms = now_ms()
        has_moved = sum(ends) != visible
        end = None
        if has_moved:
            visible, moved_ms = sum(ends), at_ms
        elif not contestant.is_running:
            end = End.GONE
        elif at_ms - moved_ms > stall_s * 1_000:
            end = End.STALLED
        elif visible and min(at_ms - moved_ms, at_ms - asked_ms) >= _SETTLE_MS:
            asked_ms = at_ms
            is_read = await topics.group_offsets(contestant.group, source.topic) == source.ends
            is_seen = await topics.ends(place.output, "read_uncommitted") == ends
            end = End.DONE if is_read and is_seen else None
        yield Look(at_ms, visible, has_moved, end)
        if end in (End.DONE, End.STALLED):
            return
