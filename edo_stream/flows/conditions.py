"""From what a flow declares that it wants to conditions of the core; each mistake at its line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from edo_stream.core.facts import Make
from edo_stream.core.patterns import PatternError, parse_pattern
from edo_stream.core.routing import Condition
from edo_stream.flows.declaration import CancelBy, CancelOn, FlowDeclaration, On
from edo_stream.flows.expression import ExpressionError, WhereExpression
from edo_stream.flows.inputs import maker_of
from edo_stream.registry.document import Document, Place

ON: Final = "on"
CANCEL_ON: Final = "cancel_on"

Cancels = Mapping[str, Sequence[tuple[CancelBy | None, Sequence[Condition]]]]
"""By topic: the field that says which commands are cancelled, and by which events."""


def listed(document: Document) -> None:
    """Write ``on`` and ``cancel_on`` as the lists that they stand for, each line where it was."""
    for name in (ON, CANCEL_ON):
        _list(document, name)


def _list(document: Document, name: str) -> None:
    value: dict[str, Any] = document.value
    given = value.get(name)
    if isinstance(given, list):
        value[name] = [{"topic": one} if isinstance(one, str) else one for one in given]
        return
    if isinstance(given, dict):
        moved = {
            (name, 0, *place[1:]): line
            for place, line in document.lines.items()
            if place[:1] == (name,)
        }
        document.lines.update(moved)
    if isinstance(given, str | dict):
        value[name] = [{"topic": given} if isinstance(given, str) else given]


def conditions_of(document: Document, flow: FlowDeclaration) -> Mapping[str, list[Condition]]:
    """Compile what a flow wants, by topic; no condition: every event of the topic.

    Mistakes are found in the document.
    """
    return _conditions(document, ON, enumerate(flow.on))


def cancels_of(document: Document, flow: FlowDeclaration) -> Cancels:
    """Compile which events cancel a flow's commands, by topic, and by which field each."""
    found: dict[str, list[tuple[CancelBy | None, list[Condition]]]] = {}
    fields: dict[tuple[str | None, str] | None, list[tuple[int, CancelOn]]] = {}
    for number, on in enumerate(flow.cancel_on):
        field = None if on.by is None else (on.by.cancelling, on.by.cancelled)
        fields.setdefault(field, []).append((number, on))
    for entries in fields.values():
        by = entries[0][1].by
        for topic, conditions in _conditions(document, CANCEL_ON, entries).items():
            found.setdefault(topic, []).append((by, conditions))
    return found


def _conditions(
    document: Document, name: str, entries: Iterable[tuple[int, On]]
) -> dict[str, list[Condition]]:
    """What entries say, by topic."""
    found: dict[str, list[Condition]] = {}
    everything: set[str] = set()
    for number, on in entries:
        conditions = found.setdefault(on.topic, [])
        condition = condition_of(document, (name, number), on)
        if condition is None:
            everything.add(on.topic)
        else:
            conditions.append(condition)
    return {topic: [] if topic in everything else some for topic, some in found.items()}


class Wanted(Protocol):
    """What says which events of a topic are wanted."""

    @property
    def match(self) -> dict[str, Any] | None:
        """A pattern."""

    @property
    def where(self) -> str | None:
        """An expression."""


def condition_of(document: Document, place: Place, on: Wanted) -> Condition | None:
    """What one entry says; ``None``: nothing but a topic."""
    if on.match is None and on.where is None:
        return None
    pattern = where = None
    try:
        pattern = None if on.match is None else parse_pattern(on.match)
    except PatternError as error:
        path = str(error).partition(":")[0]
        document.find(place_in_pattern(document, (*place, "match"), path), f"match: {error}")
    try:
        where = None if on.where is None else WhereExpression(on.where)
    except ExpressionError as error:
        document.find((*place, "where"), f"where: {error}")
    return Condition(pattern, where)


def place_in_pattern(document: Document, place: Place, path: str) -> Place:
    """Where a pattern's field stands; ``$or`` is looked into, as it has no name in a path."""
    value: Any = document.value
    for part in place:
        value = value[part]
    found = _place_of(value, path.split("."))
    return (*place, *found)


def _place_of(pattern: Any, names: list[str]) -> Place:
    """The longest part of a path that a pattern has."""
    best: Place = ()
    if not isinstance(pattern, dict):
        return best
    for taken in range(1, len(names) + 1):
        name = ".".join(names[:taken])
        if name in pattern:
            best = max(best, (name, *_place_of(pattern[name], names[taken:])), key=len)
    for index, one in enumerate(pattern.get("$or") or () if "$or" in pattern else ()):
        inner = _place_of(one, names)
        if inner:
            best = max(best, ("$or", index, *inner), key=len)
    return best


def found_maker(document: Document, flow: FlowDeclaration) -> Make | None:
    """Compile what makes a flow's commands; mistakes are found in the document."""
    if flow.input is None:
        return None
    given = [name for name in ("jq", "cel", "template") if getattr(flow.input, name) is not None]
    try:
        return maker_of(flow.input)
    except ValueError as error:
        place = ("input", given[0]) if len(given) == 1 else ("input",)
        document.find(place, f"{'.'.join(place)}: {error}")
        return None
