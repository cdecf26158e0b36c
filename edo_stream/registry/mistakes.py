"""What the models refuse, said so that a person knows what to write instead."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from edo_stream.registry.declaration import Declaration, Declared
from edo_stream.registry.document import Document, Place

_KEY: Final = "[key]"
_LISTED_MAX: Final = 12
_CHARACTERS_MAX: Final = 60
_WRONG_TYPES: Final = {
    "list_type": "a list, [ … ], or a line with - for each",
    "dict_type": "keys and values, {…}",
    "float_type": "a number",
    "int_type": "a number",
    "bool_type": "true or false",
}


def find_mistake(document: Document, error: Any, root: type[Declared] = Declaration) -> None:
    """Add a finding for one error of the models; ``root`` is that of the whole file."""
    path, parent, model = _walk([part for part in error["loc"] if part != _KEY], root)
    name = ".".join(str(part) for part in path)
    match error["type"]:
        case "extra_forbidden":
            message = f"{path[-1]} is not a key: {nearest(str(path[-1]), _fields(parent))}"
        case "missing":
            message = _missing(path, parent)
        case "union_tag_invalid" | "union_tag_not_found":
            message = _untagged(name, error["ctx"])
        case "literal_error":
            expected = error["ctx"]["expected"]
            message = f"{name} is {error['input']}: write {expected}{_near(error)}"
        case "value_error":
            message = f"{name}: {error['ctx']['error']}"
        case "model_type":
            message = f"{name} has no keys: write {{…}} with {_listed(_fields(model))}"
        case wrong if wrong in _WRONG_TYPES:
            message = f"{name} is {_shown(error['input'])}: write {_WRONG_TYPES[wrong]}"
        case _:
            message = f"{name} is {_shown(error['input'])}: {_lower(error['msg'])}"
    document.find(path, message)


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was meant, or which ones there are."""
    names = list(known)
    if not names:
        return "there are none"
    near = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known are {_listed(names)}"


def _walk(
    path: Iterable[str | int], root: type[Declared]
) -> tuple[Place, type[Declared] | None, type[Declared] | None]:
    """A place in the file, the model that it is of, and the model that its value has.

    The path is that of the models: of several kinds, it names the one that was chosen.
    """
    outer: Any = None
    current: Any = root
    place: list[str | int] = []
    for part in path:
        chosen = _chosen(current, part)
        if chosen is None:
            place.append(part)
            outer, current = current, _inner(current, str(part))
        else:
            current = chosen
    return tuple(place), _model(outer), _model(current)


def _model(found: Any) -> type[Declared] | None:
    return found if isinstance(found, type) and issubclass(found, Declared) else None


def _chosen(union: Any, kind: str | int) -> type[Declared] | None:
    """Which of several models has this kind."""
    if get_origin(union) not in (Union, UnionType):
        return None
    models = [model for model in map(_model, get_args(union)) if model is not None]
    return next(
        (
            model
            for model in models
            if "kind" in model.model_fields
            and kind in get_args(model.model_fields["kind"].annotation)
        ),
        None,
    )


def _inner(outer: Any, part: str) -> Any:
    if isinstance(outer, type) and issubclass(outer, Declared):
        field = _fields(outer).get(part)
        return None if field is None else _bare(field.annotation)
    arguments = get_args(outer)
    match get_origin(outer):
        case origin if origin is list:
            return _bare(arguments[0])
        case origin if origin is dict:
            return _bare(arguments[1])
    return None


def _bare(annotation: Any) -> Any:
    """A type without its annotations, and without ``None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _bare(get_args(annotation)[0])
    if origin in (Union, UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        if len(options) == 1:
            return _bare(options[0])
        return reduce(or_, options) if all(map(_model, options)) else None
    return annotation


def _fields(model: type[Declared] | None) -> Mapping[str, FieldInfo]:
    """Fields by the name that they have in the file."""
    if model is None:
        return {}
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _untagged(name: str, context: Any) -> str:
    kinds = ", ".join(str(context.get("expected_tags", "")).replace("'", "").split(", "))
    if "tag" not in context:
        return f"{name}.kind is missing: write what it is"
    return f"{name}.kind is {context['tag']}: write one of {kinds}"


def _missing(path: Place, parent: type[Declared] | None) -> str:
    name = str(path[-1])
    field = _fields(parent)[name]
    example = field.examples[0] if field.examples else "…"
    place = f" in {'.'.join(str(part) for part in path[:-1])}" if len(path) > 1 else ""
    return f"{name} is missing{place}: write for instance {name}: {example}"


def _near(error: Any) -> str:
    choices = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(str(error["input"]).lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = ", …" if len(names) > _LISTED_MAX else ""
    return ", ".join(names[:_LISTED_MAX]) + more


def _shown(value: object) -> str:
    return f"{value!r:.{_CHARACTERS_MAX}}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].replace("Input", "it")
