"""Follow what flows wait for: each event that came to a wait has one fate, and leaves what it says.

A record of a topic of joins is held, or ends at once; at its end it went into a result or a failure
event, became a dead letter, or was late, replaced or dropped. Results and failure events name the
records that they are made of (``edo-of``). Traces are digits of a byte, as those of commands are.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.outlet import ranges_of
from edo_stream.core.correlation.spec import Correlation, Windowed
from edo_stream.observe.audit.evidence import Evidence, of_accounts, of_dead_letters
from edo_stream.observe.audit.report import Place, Problem

_OFFSETS_MAX: Final = 1_000_000


class Part(IntEnum):
    """What a record went into; the value is its step, see ``SourceAudit.traced``."""

    RESULT = 1
    OVERLAPPING = 4
    """A result of a window that others overlap: an event may be in several."""
    FAILURE = 16


_NEVER = frozenset({Fate.LATE, Fate.IGNORED, Fate.DEAD_LETTERED, Fate.FAILED})


def problems_of_joined(evidence: Evidence) -> Iterator[Problem]:
    """What is wrong with a record of a topic of joins."""
    yield from of_accounts(evidence)
    yield from of_dead_letters(evidence)
    fate = evidence.fate if evidence.record else None
    once, often, failed = (evidence.results // part % 4 for part in Part)
    is_emitted, is_failed = fate is Fate.EMITTED, fate is Fate.FAILED
    if once > 1:
        yield Problem.REPEATED_RESULT
    elif (once and not is_emitted) or (often and (fate is None or fate in _NEVER)):
        yield Problem.UNEXPECTED_RESULT
    elif not once and not often and is_emitted and evidence.is_firm:
        yield Problem.MISSING_RESULT
    if failed > 1:
        yield Problem.REPEATED_OUTCOME
    elif failed and not is_failed:
        yield Problem.UNEXPECTED_OUTCOME
    elif not failed and is_failed and evidence.is_firm:
        yield Problem.MISSING_OUTCOME


def part_of(correlation: Correlation) -> Part:
    """What an event of a flow goes into."""
    kind = correlation.kind
    is_overlapping = isinstance(kind, Windowed) and kind.size_ms > kind.every_ms
    return Part.OVERLAPPING if is_overlapping else Part.RESULT


def places_of(text: bytes | None) -> list[Place] | None:
    """Records that a header names; ``None``: it is none."""
    try:
        topic, partition, ranges = ranges_of(text or b"")
    except ValueError:
        return None
    if sum(last - first + 1 for first, last in ranges) > _OFFSETS_MAX:
        return None
    return [
        Place(topic, partition, offset)
        for first, last in ranges
        for offset in range(first, last + 1)
    ]
