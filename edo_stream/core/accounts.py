"""Accounting: every record that comes in ends as exactly one fate, and the rows prove it."""

from enum import Enum
from itertools import pairwise

import msgspec


class Fate(Enum):
    """What became of a record; the value is its code in an account's runs."""

    EMITTED = "e"
    DUPLICATE = "d"
    HELD = "h"
    """In the gap buffer; settled later by another fate."""
    DEAD_LETTERED = "x"
    LATE = "l"
    """Dropped by the contract's policy for late events."""
    STALE = "s"
    """Dropped: its position is not later than the last of its key."""
    IGNORED = "i"
    """Carries no fact (CDC tombstone, heartbeat)."""
    APPLIED = "a"
    """An operator's request, done or refused."""


SKIPPED = frozenset({Fate.LATE, Fate.STALE, Fate.IGNORED})


class Run(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``length`` records from ``offset`` on, at consecutive offsets, with one fate."""

    offset: int
    length: int
    fate: str


class Account(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What one transaction did with one source partition: a JSON record on ``edo.accounts``.

    ``runs`` covers every record read between ``first`` and ``last``; ``settled`` holds records
    of earlier transactions that were held and now have their final fate, one run each or more.
    """

    app: str
    group: str
    topic: str
    partition: int
    at_ms: int
    runs: tuple[Run, ...] = ()
    settled: tuple[Run, ...] = ()
    start: int | None = None
    """Set once, by the first transaction of a source: the offset that reading began at."""
    lost: tuple[int, int] | None = None
    """A range of offsets that was gone from the log before it was read: first, next."""
    version: int = 1


def runs_of(fates: list[tuple[int, Fate]]) -> tuple[Run, ...]:
    """Run-length encode fates given as ``(offset, fate)`` in ascending order of offset."""
    if not fates:
        return ()
    runs = []
    start, length = fates[0][0], 1
    for (offset, fate), (following, following_fate) in pairwise(fates):
        if following == offset + 1 and following_fate is fate:
            length += 1
        else:
            runs.append(Run(start, length, fate.value))
            start, length = following, 1
    runs.append(Run(start, length, fates[-1][1].value))
    return tuple(runs)
