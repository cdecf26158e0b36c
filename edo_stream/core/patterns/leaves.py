"""An event as patterns see it: leaves by path, and which array elements each leaf is in.

Elements of an array stand side by side under the array's path, so ``{"items": [{"n": 1}]}`` has a
leaf ``items.n``. Two fields of a pattern that lead through the same array must be met by the same
element of it; that is what a leaf's *seats* are for: which element of which array it is in.
"""

from collections.abc import Container, Hashable, Mapping
from typing import Any, NamedTuple

from edo_stream.core.patterns.conditions import value_of

Seats = Mapping[int, int]
"""Element by array; arrays are numbered as they are met."""
_NOWHERE: Seats = {}


class Leaf(NamedTuple):
    """One value of an event."""

    value: Any
    compared: Hashable
    """The value as it is looked up."""
    seats: Seats


Leaves = Mapping[str, list[Leaf]]


def leaves_of(event: Any, within: Container[str] | None = None) -> Leaves:
    """All leaves of an event, by path; an empty object or array has none.

    ``within`` are the paths to walk, each with those that lead there; default: all.
    """
    leaves: dict[str, list[Leaf]] = {}
    arrays = 0
    # A stack of its own: an event may be nested deeper than Python likes.
    stack: list[tuple[str, Any, Seats]] = [("", event, _NOWHERE)]
    while stack:
        path, value, seats = stack.pop()
        if isinstance(value, Mapping):
            for name, inner in value.items():
                way = f"{path}.{name}" if path else name
                if within is None or way in within:
                    stack.append((way, inner, seats))
        elif isinstance(value, list):
            arrays += 1
            for index, inner in enumerate(value):
                stack.append((path, inner, {**seats, arrays: index}))
        else:
            leaves.setdefault(path, []).append(Leaf(value, value_of(value), seats))
    return leaves
