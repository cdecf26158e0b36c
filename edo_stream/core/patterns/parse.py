"""From a pattern's JSON to rules: for each alternative of its ``$or``s, what each field must be.

All fields of a rule must hold. A field is named by its path, joined with dots, as the event's own
leaves are. ``$or`` with a list of two patterns or more means one of them, beside what stands next
to it; everything else of that name is a field.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edo_stream.core.patterns.conditions import (
    OPERATOR_NAMES,
    Condition,
    Exact,
    Exists,
    Holds,
    PatternError,
    condition_of,
)

__all__ = ["Field", "Pattern", "PatternError", "Rule", "parse_pattern"]

_OR: Final = "$or"
_RULES_MAX: Final = 1_000
_DEPTH_MAX: Final = 100


class Field(NamedTuple):
    """What the leaves of one path must be: any of these."""

    path: str
    values: frozenset[Any]
    tests: tuple[Holds, ...]
    may_be_there: bool
    """Whatever its value."""
    may_be_missing: bool


Rule = tuple[Field, ...]


class Pattern(NamedTuple):
    """A compiled pattern: it matches when one of its rules does."""

    rules: tuple[Rule, ...]


def parse_pattern(pattern: Any) -> Pattern:
    """Compile a pattern.

    Raises:
        PatternError: it says nothing; says where, and what to write instead.
    """
    if not isinstance(pattern, Mapping):
        raise PatternError("a pattern is a JSON object")
    rules = _rules(pattern, "", 0)
    return Pattern(tuple(tuple(rule) for rule in rules))


def _rules(pattern: Mapping[str, Any], prefix: str, depth: int) -> list[list[Field]]:
    if not pattern:
        raise PatternError(f"{prefix or 'the pattern'}: an empty object; name a field")
    if depth > _DEPTH_MAX:
        raise PatternError(f"{prefix[:60]}…: nested more than {_DEPTH_MAX} deep")
    rules: list[list[Field]] = [[]]
    for name, wanted in pattern.items():
        path = f"{prefix}.{name}" if prefix else name
        if name == _OR and _is_or(wanted):
            found = [rule for one in wanted for rule in _rules(one, prefix, depth + 1)]
        elif isinstance(wanted, Mapping):
            found = _rules(wanted, path, depth + 1)
        elif isinstance(wanted, list):
            found = [[_field(path, wanted)]]
        else:
            raise PatternError(f"{path}: expected a list of values, such as [{wanted!r}]")
        rules = [[*before, *rule] for before in rules for rule in found]
        if len(rules) > _RULES_MAX:
            raise PatternError(f"{path}: more than {_RULES_MAX} combinations of $or")
    return rules


def _is_or(wanted: Any) -> bool:
    return (
        isinstance(wanted, list)
        and len(wanted) >= 2
        and all(isinstance(one, Mapping) and not OPERATOR_NAMES & set(one) for one in wanted)
    )


def _field(path: str, wanted: list[Any]) -> Field:
    if not wanted:
        raise PatternError(f"{path}: an empty list; name a value")
    conditions: list[Condition] = [condition_of(value, path) for value in wanted]
    exists = {one.is_wanted for one in conditions if isinstance(one, Exists)}
    return Field(
        path,
        frozenset(one.value for one in conditions if isinstance(one, Exact)),
        tuple(one for one in conditions if isinstance(one, Holds)),
        may_be_there=True in exists,
        may_be_missing=False in exists,
    )
