"""Data of one version made into data of the next, or of the one before.

Steps are declared, in the contract (``schema.versions.2.upcast``) or in a file beside it
(``v1-to-v2.yaml``, a list of steps, or ``up:`` and ``down:`` lists):

| Step | What it does | Undone |
|---|---|---|
| ``rename: {/customer/mail: email}`` | gives a property another name where it is | yes |
| ``move: {/total: /order/total}`` | takes a value to another place | yes |
| ``default: {/currency: EUR}`` | puts a value where there is none | by removing it |
| ``remove: [/legacy]`` | takes a value away | no |
| ``python: shop.casts:order_2`` | calls a function of the data, which returns it anew | no |

Places are JSON pointers; ``*`` is every item of an array (``/items/*/sku``). What is not there is
not renamed, moved or removed: optional properties stay optional. Casting down undoes the steps from
the last to the first; where one cannot be undone, ``down`` (``downcast``) says what to do.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from importlib import import_module
from typing import Any, Final

from edo_stream.schemas.errors import SchemaError

Cast = Callable[[Any], Any]
"""Gets data that it may change, and returns the data of the other version."""
Step = dict[str, Any]
_ALL: Final = "*"
_KINDS: Final = ("rename", "move", "default", "remove", "python")
_SHAPES: Final[dict[str, tuple[type, str]]] = {
    "python": (str, "module:function"),
    "remove": (list, "[/place]"),
}


def cast_of(steps: Sequence[Step], where: str) -> Cast:
    """Compile steps; ``where`` names them in errors.

    Raises:
        SchemaError: a step is not one of those above, or its function cannot be loaded.
    """
    compiled = [_compiled(step, f"{where}, step {number}") for number, step in enumerate(steps, 1)]

    def cast(data: Any) -> Any:
        for step in compiled:
            data = step(data)
        return data

    return cast


def undone(steps: Sequence[Step], where: str) -> list[Step]:
    """The steps that undo others, in their order.

    Raises:
        SchemaError: one cannot be undone.
    """
    found: list[Step] = []
    for number, step in reversed(list(enumerate(steps, 1))):
        kind, value = _single(step, f"{where}, step {number}")
        match kind:
            case "rename":
                pairs = [(_renamed(place, name), _last(place)) for place, name in value.items()]
                found.append({"rename": dict(reversed(pairs))})
            case "move":
                found.append({"move": {to: place for place, to in reversed(value.items())}})
            case "default":
                found.append({"remove": list(value)})
            case _:
                raise SchemaError(
                    f"{where}, step {number}: {kind} cannot be undone: say how to cast down"
                )
    return found


def _single(step: Step, where: str) -> tuple[str, Any]:
    if len(step) != 1:
        raise SchemaError(f"{where}: write one of {', '.join(_KINDS)} with what it is about")
    [(kind, value)] = step.items()
    if kind not in _KINDS:
        raise SchemaError(f"{where}: {kind} is not a step: write one of {', '.join(_KINDS)}")
    shape, example = _SHAPES.get(kind, (dict, "{/place: …}"))
    if not isinstance(value, shape):
        raise SchemaError(f"{where}: {kind} is followed by {example}")
    return kind, value


def _compiled(step: Step, where: str) -> Cast:
    kind, value = _single(step, where)
    if kind == "python":
        return _function(value, where)
    places = {place: _tokens(place, where) for place in value}
    match kind:
        case "rename":
            pairs = [
                (places[place], (*places[place][:-1], str(name))) for place, name in value.items()
            ]
            return _all([_move(place, to) for place, to in pairs])
        case "move":
            targets = {place: _tokens(to, where) for place, to in value.items()}
            for place, to in targets.items():
                if _ALL in to or _ALL in places[place]:
                    raise SchemaError(f"{where}: move takes no *: write rename, or python")
            return _all([_move(places[place], to) for place, to in targets.items()])
        case "default":
            return _all([_default(places[place], default) for place, default in value.items()])
        case _:
            return _all([_remove(place) for place in places.values()])


def _all(changes: Sequence[Callable[[Any], None]]) -> Cast:
    def cast(data: Any) -> Any:
        for change in changes:
            change(data)
        return data

    return cast


def _move(place: tuple[str, ...], to: tuple[str, ...]) -> Callable[[Any], None]:
    def move(data: Any) -> None:
        if _ALL in place:
            # A rename: both are in the same object.
            for parent in _parents(data, place):
                if place[-1] in parent:
                    parent[to[-1]] = parent.pop(place[-1])
            return
        for parent in _parents(data, place):
            if place[-1] in parent:
                value = parent.pop(place[-1])
                for target in _parents(data, to, is_made=True):
                    target[to[-1]] = value

    return move


def _default(place: tuple[str, ...], default: Any) -> Callable[[Any], None]:
    def put(data: Any) -> None:
        for parent in _parents(data, place, is_made=True):
            if place[-1] not in parent:
                parent[place[-1]] = deepcopy(default)

    return put


def _remove(place: tuple[str, ...]) -> Callable[[Any], None]:
    def remove(data: Any) -> None:
        for parent in _parents(data, place):
            parent.pop(place[-1], None)

    return remove


def _parents(data: Any, place: tuple[str, ...], is_made: bool = False) -> Iterator[dict[str, Any]]:
    """Objects that have, or could have, what a place names; missing ones are made on request."""
    found = [data]
    for token in place[:-1]:
        found = [inner for outer in found for inner in _inner(outer, token, is_made)]
    yield from (value for value in found if isinstance(value, dict))


def _inner(value: Any, token: str, is_made: bool) -> Sequence[Any]:
    if isinstance(value, list):
        if token == _ALL:
            return value
        is_there = token.isdecimal() and int(token) < len(value)
        return [value[int(token)]] if is_there else []
    if not isinstance(value, dict):
        return []
    if token not in value and is_made and token != _ALL:
        value[token] = {}
    return [value[token]] if token in value else []


def _function(name: str, where: str) -> Cast:
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SchemaError(f"{where}: python {name} cannot be loaded: {error}") from None
    if not callable(found):
        raise SchemaError(f"{where}: python {name} is not a function")
    return found  # type: ignore[no-any-return]


def _tokens(place: Any, where: str) -> tuple[str, ...]:
    if not isinstance(place, str) or not place.startswith("/"):
        raise SchemaError(f"{where}: {place} is not a JSON pointer such as /order/id")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in place[1:].split("/"))


def _last(place: str) -> str:
    return place.rpartition("/")[2].replace("~1", "/").replace("~0", "~")


def _renamed(place: str, name: str) -> str:
    escaped = str(name).replace("~", "~0").replace("/", "~1")
    return f"{place.rpartition('/')[0]}/{escaped}"
