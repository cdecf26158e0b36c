"""Follow commands through their retries: each has one end, wherever it is now.

Theory of operation. A command is a record on the topic of its flow, and once more on a tier for
each time that it is to be run again; ``edo-origin`` names the first. All of them are sources with
accounts of their own, and together they make a *chain*. Of a chain's records all but one are
``retried``; that one says how the command ended, or is parked, or has no account yet. What tells of
an end, an outcome or a dead letter, names the origin, and belongs to that one.

Commands that were never retried have no chain: their traces are two bytes, where other sources
have one. A command that was takes some 800 bytes here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from edo_stream.core.accounts import Fate
from edo_stream.observe.audit.evidence import (
    Evidence,
    SourceAudit,
    of_accounts,
    of_dead_letters,
)
from edo_stream.observe.audit.report import Commands, Finding, Findings, Place, Problem, Tally


class Trace(IntEnum):
    """What a command leaves besides a dead letter; the value is its step, see ``traced``."""

    DONE = 1
    FAILED = 4
    UNKNOWN = 16
    RETRY = 64
    SKIPPED = 256
    LIMITED = 1024
    CANCELLED = 4096


_ENDS: Final = {
    Fate.EMITTED: Trace.DONE,
    Fate.FAILED: Trace.FAILED,
    Fate.UNKNOWN: Trace.UNKNOWN,
    Fate.PASSED_OVER: Trace.SKIPPED,
    Fate.LIMITED: Trace.LIMITED,
    Fate.CANCELLED: Trace.CANCELLED,
}
_FATE_OF: Final = {trace: fate for fate, trace in _ENDS.items()}


def problems_of_command(evidence: Evidence) -> Iterator[Problem]:
    """What is wrong with a record of a command."""
    yield from of_accounts(evidence)
    fate = evidence.fate if evidence.record else None
    counts = {trace: evidence.results // trace % 4 for trace in Trace}
    retries = counts.pop(Trace.RETRY)
    wanted = None if fate is None else _ENDS.get(fate)
    outcomes = sum(counts.values())
    if outcomes > 1:
        yield Problem.REPEATED_OUTCOME
    elif outcomes and (wanted is None or not counts[wanted]):
        yield Problem.UNEXPECTED_OUTCOME
    elif not outcomes and wanted is not None and evidence.is_firm:
        yield Problem.MISSING_OUTCOME
    is_retried = fate is Fate.RETRIED
    if retries and not is_retried:
        yield Problem.UNEXPECTED_RETRY
    elif not retries and is_retried and evidence.is_firm:
        yield Problem.MISSING_RETRY
    yield from of_dead_letters(evidence)


@dataclass(slots=True)
class _Chain:
    """A command that was to be run again."""

    retries: list[tuple[int, Place]] = field(default_factory=list)
    """Its records on tiers, each with its time."""
    ends: list[Trace | None] = field(default_factory=list)
    """What tells of its end; ``None`` is a dead letter."""


_NO_FATE: Final = "no fate"
_GONE: Final = "gone"
Standing = Fate | str
"""A record's fate, or why it has none: not accounted for yet, or deleted."""


class Chains:
    """The commands that were to be run again, of all flows."""

    def __init__(self, sources: Mapping[tuple[str, int], SourceAudit], findings: Findings) -> None:
        self._sources = sources
        self._findings = findings
        self._chains: dict[Place, _Chain] = {}
        self._origins: dict[Place, Place] = {}
        """Of records on tiers."""

    def retry(self, origin: Place, at: Place, at_ms: int) -> None:
        """Take a record of a tier."""
        self._chains.setdefault(origin, _Chain()).retries.append((at_ms, at))
        self._origins[at] = origin

    def end(self, at: Place, trace: Trace | None) -> bool:
        """Take an outcome, or a dead letter, that names a record; false when it is in no chain."""
        chain = self._chains.get(self._origins.get(at, at))
        if chain is not None:
            chain.ends.append(trace)
        return chain is not None

    def conclude(self) -> None:
        """Give each record of a chain the traces that belong to it; once, before the sources'."""
        for origin, chain in self._chains.items():
            self._conclude(origin, chain)

    def _conclude(self, origin: Place, chain: _Chain) -> None:
        places = [origin, *(place for _, place in sorted(chain.retries))]
        standings = [self._standing(place) for place in places]
        # One that was deleted has led to the first that is there.
        again = [p for p, s in zip(places, standings, strict=True) if s in (Fate.RETRIED, _GONE)]
        last = [p for p, s in zip(places, standings, strict=True) if isinstance(s, Fate)]
        last = [place for place in last if place not in again]
        open_ = [p for p, s in zip(places, standings, strict=True) if s is _NO_FATE]
        # All but one were retried. Where more have another fate, some were so in spite of it.
        for place in again[: len(chain.retries)] + last[:-1]:
            self._trace(place, Trace.RETRY)
        if not last and open_:
            if len(chain.ends) > 1:
                self._findings.add(Finding(Problem.REPEATED_OUTCOME, *origin))
            return
        for trace in chain.ends:
            self._trace(self._owner(last or places[-1:], trace), trace)

    def _owner(self, places: list[Place], trace: Trace | None) -> Place:
        """Which of the records an end belongs to: one whose fate it tells, or else the last."""
        wanted = Fate.DEAD_LETTERED if trace is None else _FATE_OF[trace]
        return next((one for one in places if self._standing(one) is wanted), places[-1])

    def _standing(self, place: Place) -> Standing:
        source = self._sources.get(place[:2])
        if source is None or place.offset < source.bounds.first:
            return _GONE
        return source.fate(place.offset) or _NO_FATE

    def _trace(self, place: Place, trace: Trace | None) -> None:
        source = self._sources.get(place[:2])
        if source is None:
            return
        if trace is None:
            source.dead_letter(place.offset)
        else:
            source.traced(place.offset, trace)

    def ended(self) -> Mapping[str, Counter[Standing]]:
        """How the chains stand that begin on each topic: the fate of their last record."""
        found: defaultdict[str, Counter[Standing]] = defaultdict(Counter)
        for origin, chain in self._chains.items():
            if self._standing(origin) is Fate.RETRIED:
                standings = [self._standing(place) for _, place in chain.retries]
                left = [one for one in standings if one is not Fate.RETRIED]
                found[origin.topic][left[0] if left else Fate.RETRIED] += 1
        return found


def commands_of(tally: Tally, chains: Counter[Standing]) -> Commands:
    """Commands of one flow by their end; of those that were retried, by that of the chain.

    ``tally`` is that of the flow's topic of commands.
    """
    resolved = sum(chains.values()) - chains[Fate.RETRIED] - chains[_GONE]
    return Commands(
        done=tally.emitted + chains[Fate.EMITTED],
        failed=tally.failed + chains[Fate.FAILED],
        unknown=tally.unknown + chains[Fate.UNKNOWN],
        dead_lettered=tally.dead_lettered + chains[Fate.DEAD_LETTERED],
        dropped=tally.dropped + chains[Fate.DROPPED],
        skipped=tally.passed_over + chains[Fate.PASSED_OVER],
        limited=tally.limited + chains[Fate.LIMITED],
        cancelled=tally.cancelled + chains[Fate.CANCELLED],
        waiting=chains[_NO_FATE],
        parked=tally.held + chains[Fate.HELD],
        pending=tally.pending,
        unresolved=tally.unaccounted + max(0, tally.retried - resolved),
    )
