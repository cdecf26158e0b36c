"""Patterns that can never match: fields that no event has, and values that no field holds."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from edo_stream.core.patterns.conditions import Begins, Between, Ends, Folded, PatternError, Within
from edo_stream.core.patterns.parse import Field, parse_pattern
from edo_stream.flows.rules.case import FlowCase
from edo_stream.flows.shapes import NUMBER, TEXT, Shape, kind_of
from edo_stream.registry.document import Place

#: Attributes that events have by CloudEvents, or by this project.
ATTRIBUTES: Final = (
    "id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema",
    "correlationid", "causationid",
)  # fmt: skip
_LENGTH_MAX: Final = 20
_NEAR: Final = 0.75


class Leaf(NamedTuple):
    """A field of a pattern: where it stands, its names, and what it wants."""

    place: Place
    names: tuple[str, ...]
    field: Field


def find_patterns_that_never_match(case: FlowCase) -> None:
    """Each field of a pattern can be what the pattern wants."""
    for one in case.wanted():
        if one.match is None:
            continue
        shape = case.shapes.of(one.topic)
        for leaf in leaves(one.match, (*one.place, "match"), ()):
            why = _never(leaf, shape)
            if why is not None:
                case.find(leaf.place, f"match: {why}")


def leaves(pattern: Mapping[str, Any], place: Place, names: tuple[str, ...]) -> Iterator[Leaf]:
    """The fields of a pattern, those of its alternatives included."""
    for name, wanted in pattern.items():
        here = (*place, name)
        if isinstance(wanted, Mapping):
            yield from leaves(wanted, here, (*names, name))
        elif name == "$or" and all(isinstance(one, Mapping) for one in wanted) and len(wanted) > 1:
            for index, one in enumerate(wanted):
                yield from leaves(one, (*here, index), names)
        else:
            try:
                ((field,),) = parse_pattern({name: wanted}).rules
            except (PatternError, ValueError):
                continue
            yield Leaf(here, (*names, name), field)


def _never(leaf: Leaf, shape: Shape | None) -> str | None:
    """Why no event is as a field wants it, if so."""
    top = leaf.names[0]
    if top != "data":
        return _attribute(leaf)
    if shape is None or len(leaf.names) == 1:
        return None
    pointer = "/" + "/".join(name.replace("~", "~0").replace("/", "~1") for name in leaf.names[1:])
    unknown = shape.unknown(pointer)
    if unknown is not None:
        only_absent = leaf.field.may_be_missing and not _wants_something(leaf.field)
        return f"{unknown}: {'it says nothing' if only_absent else 'it never matches'}"
    if leaf.field.may_be_missing:
        if not _wants_something(leaf.field) and shape.is_always_there(pointer):
            return f"{pointer} is always there, by every version of the schema: it never matches"
        return None
    kinds = shape.kinds(pointer)
    return None if kinds is None else _unlike(leaf.field, pointer, kinds)


def _wants_something(field: Field) -> bool:
    return bool(field.values or field.tests or field.may_be_there)


def _attribute(leaf: Leaf) -> str | None:
    name = leaf.names[0]
    known = (*ATTRIBUTES, "data")
    near = get_close_matches(name, known, n=1, cutoff=_NEAR)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}, and extensions"
    if name not in known:
        if name in ("detail", "detail-type"):
            hint = f"did you mean {'data' if name == 'detail' else 'type'}?"
        is_name = name.isascii() and name.isalnum() and name.islower() and len(name) <= _LENGTH_MAX
        if near or not is_name or name == "detail":
            return f"no event has an attribute {name}: {hint}"
    if len(leaf.names) > 1:
        return f"{name} is an attribute, and has nothing below it: it never matches"
    if leaf.field.may_be_missing:
        return None
    return _unlike(leaf.field, name, frozenset({TEXT}))


def _unlike(field: Field, name: str, kinds: frozenset[str]) -> str | None:
    """Why a field's values are none that it wants: they are of other kinds."""
    if field.may_be_there or not (field.values or field.tests):
        return None
    wanted: set[str] = set()
    for value in field.values:
        bare = value[1] if isinstance(value, tuple) else value
        wanted.add(kind_of(bare))
    for test in field.tests:
        match test.anchor:
            case Begins() | Ends() | Folded() | Within():
                wanted.add(TEXT)
            case Between():
                wanted.add(NUMBER)
            case None:
                return None
    if wanted & kinds:
        return None
    expected, found = " or ".join(sorted(kinds)), " or ".join(sorted(wanted))
    return f"{name} is {expected}, and {found} is wanted: it never matches"
