"""What can still be judged of a contract that cannot be used.

The lint says everything that is wrong at once: a mistake in one key must not hide those in others.
So what the models refuse is taken out, what is missing is made up, and the rest is reviewed as if
nothing had been there. Nobody but the lint ever sees the outcome.
"""

from copy import deepcopy
from typing import Any, Final

from pydantic import ValidationError

from edo_stream.registry.declaration import Declaration
from edo_stream.registry.document import Document

#: A repair may uncover the next mistake: a list that is empty now.
_ROUNDS_MAX: Final = 5
_MADE_UP: Final[dict[str, Any]] = {
    "owner": "unknown",
    "description": "unknown",
    "codec": "cloudevents",
    "partitions": 1,
}


def salvaged(document: Document) -> Declaration | None:
    """What is right in a contract; ``None`` where too little is."""
    if not isinstance(document.value, dict):
        return None
    folder = document.file.parent.name
    value = deepcopy(document.value)
    for _ in range(_ROUNDS_MAX):
        try:
            return Declaration.model_validate(value, context={"folder": folder})
        except ValidationError as error:
            # From the end of each list on, so that places stay what they are.
            errors = sorted(error.errors(include_url=False), key=_place, reverse=True)
            for item in errors:
                _repair(value, list(item["loc"]), folder)
    return None


def has_lost(document: Document, declaration: Declaration, key: str) -> bool:
    """Whether a key of the file is not, or not wholly, in what was salvaged."""
    if key not in document.value:
        return False
    found = declaration.model_dump(by_alias=True, exclude_unset=True).get(key)
    return _size(found) < _size(document.value[key])


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_size(one) for one in value.values())
    if isinstance(value, list):
        return 1 + sum(_size(one) for one in value)
    return 0 if value is None else 1


def _place(item: Any) -> list[tuple[int, str, int]]:
    return [(1, "", part) if isinstance(part, int) else (0, str(part), 0) for part in item["loc"]]


def _repair(value: dict[str, Any], path: list[Any], folder: str) -> None:
    if path == ["name"]:
        value["name"] = folder
    elif len(path) == 1 and path[0] in _MADE_UP:
        value[path[0]] = _MADE_UP[path[0]]
    else:
        _remove(value, path)


def _remove(value: Any, path: list[Any]) -> None:
    """Take out what a path leads to, or the innermost of it that there is."""
    holder: Any = None
    place: str | int = ""
    for part in path:
        if isinstance(value, dict) and str(part) in value:
            holder, place = value, str(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            holder, place = value, part
        else:
            break
        value = holder[place]
    if holder is not None:
        del holder[place]
