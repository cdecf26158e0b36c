"""Why a pattern does not match an event: the first field that is not as it is wanted.

Of a pattern with alternatives, it is told of the one that gets farthest.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edo_stream.core.patterns.index import is_match, passes
from edo_stream.core.patterns.leaves import Leaves, leaves_of
from edo_stream.core.patterns.parse import Pattern, Rule

_FOUND_MAX = 5


class Reason(NamedTuple):
    """A field that is not as it is wanted."""

    path: str
    """Names joined with dots."""
    found: Sequence[Any] | None
    """Values of the field, the first of them; ``None``: it is not there."""
    is_split: bool = False
    """Each field alone is as wanted, but not those of one element of an array."""


def reason_of(pattern: Pattern, event: Mapping[str, Any]) -> Reason | None:
    """The first field that is not as it is wanted; ``None``: the pattern matches."""
    leaves = leaves_of(event)
    best: tuple[int, Reason] | None = None
    for rule in pattern.rules:
        if is_match(rule, leaves):
            return None
        met, reason = _first(rule, leaves)
        if best is None or met > best[0]:
            best = (met, reason)
    assert best is not None, "a pattern has a rule"
    return best[1]


def _first(rule: Rule, leaves: Leaves) -> tuple[int, Reason]:
    """How many fields are as wanted before the first that is not, and that one."""
    for met, field in enumerate(rule):
        found = leaves.get(field.path)
        if found is None:
            if not field.may_be_missing:
                return met, Reason(field.path, None)
        elif not any(passes(field, leaf) for leaf in found):
            # Leaves are met from the last to the first.
            return met, Reason(field.path, [leaf.value for leaf in found[::-1]][:_FOUND_MAX])
    return len(rule), Reason(rule[-1].path, None, is_split=True)
