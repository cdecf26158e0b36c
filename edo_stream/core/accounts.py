"""Accounting: every record that comes in ends as exactly one fate, and the rows prove it."""

from enum import Enum

import msgspec


class Fate(Enum):
    """What became of a record; the value is its code in an account's runs."""

    EMITTED = "e"
    DUPLICATE = "d"
    HELD = "h"
    """In the gap buffer, or parked behind its key's head; settled later by another fate."""
    DEAD_LETTERED = "x"
    LATE = "l"
    """Dropped by the contract's policy for late events."""
    STALE = "s"
    """Dropped: its position is not later than the last of its key."""
    IGNORED = "i"
    """Carries no fact (CDC tombstone, heartbeat)."""
    APPLIED = "a"
    """An operator's request, done or refused; or an event that cancels commands."""
    RETRIED = "r"
    """A command that failed and is on a tier of the ladder now."""
    FAILED = "f"
    """A command whose answer was no: a failure event tells it."""
    UNKNOWN = "u"
    """A command that runs at most once, and was running when its worker ended."""
    DROPPED = "o"
    """A command that an operator told to forget."""
    PASSED_OVER = "p"
    """A command that was not run, as its flow's singleton wants: a skipped event tells it."""
    LIMITED = "q"
    """A command beyond the rate limit of its key: a limited event tells it."""
    CANCELLED = "c"
    """A command that an event has cancelled: a cancelled event tells it."""


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
    is_anew: bool = False
    """With ``start``: reading began before, and begins anew because the task wants it to."""
    version: int = 1


def runs_of(offsets: list[int], fates: list[Fate]) -> tuple[Run, ...]:
    """Run-length encode fates; ``offsets`` are theirs, in ascending order."""
    if not offsets:
        return ()
    first, last = offsets[0], fates[-1]
    if offsets[-1] - first == len(offsets) - 1 and fates.count(last) == len(fates):
        return (Run(first, len(offsets), last.value),)
    runs = []
    start, fate, expected = first, fates[0], first
    for offset, next_fate in zip(offsets, fates, strict=True):
        if offset != expected or next_fate is not fate:
            runs.append(Run(start, expected - start, fate.value))
            start, fate = offset, next_fate
        expected = offset + 1
    runs.append(Run(start, expected - start, fate.value))
    return tuple(runs)
