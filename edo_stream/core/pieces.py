"""An event's list, taken apart: one piece an element, each with its place and their number.

An event is split as a whole or not at all: all its commands are written in its own transaction,
so whoever waits for what becomes of them is told their number by any one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from edo_stream.core.correlation.ends import EndFeed
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts, Make, UnmadeError
from edo_stream.core.headers import Header, utf8
from edo_stream.core.pointer import MISSING, parse_json, resolve

OF: Final = "ce_splitof"
"""Id of the event that was split."""
INDEX: Final = "ce_splitindex"
"""Which of its elements, from 0."""
COUNT: Final = "ce_splitcount"
"""How many elements it has."""
NAMES: Final = (OF, INDEX, COUNT)

_OF_BYTES_MAX: Final = 1_024
BYTES_MAX: Final = 16 << 20
"""Of all commands of one event together."""
#: A number with a fraction keeps its digits.
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class OnEmpty(Enum):
    """What comes of an event whose list is empty."""

    EVENT = "event"
    """An event among the outcomes that says so, with a count of 0."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Split:
    """How the events of a flow are taken apart."""

    outcomes: str
    """Topic of the flow's outcomes: it is told there that a list was empty."""
    at: tuple[str, ...] = ()
    """Tokens of a JSON pointer to the list; of no meaning with ``make``."""
    make: Make | None = None
    """What makes the list."""
    key: tuple[str, ...] | None = None
    """Tokens of a pointer into the element; ``None``: the key is the event's."""
    elements_max: int = 1_000
    empty: OnEmpty = OnEmpty.EVENT
    ends: tuple[EndFeed, ...] = ()
    """Who waits for the ends of the commands, and so wants to know that there are none."""


class UnsplitError(Exception):
    """An event cannot be split: a reason's code, and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One element of an event's list."""

    of: str
    index: int
    count: int
    data: bytes
    """The element, as JSON."""
    key: bytes | None
    """``None``: the event's."""

    def headers(self) -> list[Header]:
        """What the command says of its place."""
        return split_headers(self.of, self.index, self.count)

    def facts(self, facts: Facts) -> Facts:
        """The event with this element, for what makes the command's data."""
        split = {"index": self.index, "count": self.count, "of": self.of}
        return facts.with_more({"element": self.data, "split": _encode(split)})


def split_headers(of: str, index: int | None, count: int) -> list[Header]:
    """The headers that carry an element's place; without an index, of an empty list."""
    headers: list[Header] = [(OF, utf8(of)), (COUNT, b"%d" % count)]
    if index is not None:
        headers.append((INDEX, b"%d" % index))
    return headers


def pieces_of(split: Split, event: Event, facts: Facts) -> Sequence[Piece]:
    """The elements of an event's list, in order.

    Raises:
        UnsplitError: it has no list, too long a one, or an element without its key.
    """
    if len(utf8(event.id)) > _OF_BYTES_MAX:
        raise UnsplitError("split", f"split: expected an id of at most {_OF_BYTES_MAX} bytes")
    elements = _list_of(split, event, facts)
    count = len(elements)
    if count > split.elements_max:
        detail = f"split.max: expected at most {split.elements_max} elements, found {count}"
        raise UnsplitError("split-too-long", detail)
    return [
        Piece(event.id, index, count, _encode(element), _key_of(split, index, element))
        for index, element in enumerate(elements)
    ]


def _list_of(split: Split, event: Event, facts: Facts) -> list[Any]:
    found: Any = MISSING
    if split.make is not None:
        try:
            found = parse_json(split.make(facts))
        except UnmadeError as error:
            raise UnsplitError("split", f"split: {error}") from error
    else:
        found = resolve(parse_json(event.data), split.at)
    if isinstance(found, list):
        return found
    told = "nothing" if found is MISSING else _kind_of(found)
    where = "" if split.make is not None else f" at /{'/'.join(split.at)}"
    raise UnsplitError("split", f"split: expected a list{where}, found {told}")


def _key_of(split: Split, index: int, element: Any) -> bytes | None:
    if split.key is None:
        return None
    value = resolve(element, split.key)
    if isinstance(value, str) and value:
        return utf8(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    where = f"/{'/'.join(split.key)}"
    raise UnsplitError("no-key", f"split.key: expected {where} in element {index}, found none")


def _kind_of(value: Any) -> str:
    kinds = {dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
