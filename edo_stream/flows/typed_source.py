"""The source of :mod:`.typed`, made of the models: ``make docs`` writes it."""

import keyword
import textwrap
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from edo_stream.flows.actions import Action, Codes, ExceptionName, Handler
from edo_stream.flows.correlation import ResultFlow
from edo_stream.flows.declaration import (
    CancelBy,
    CancelledKey,
    Concurrency,
    FlowDeclaration,
    NoField,
    NoKey,
    On,
    SplitRules,
)
from edo_stream.flows.saga_declaration import SagaDeclaration, StepDeclaration
from edo_stream.flows.when import AggregateText
from edo_stream.registry.declaration import Declared
from edo_stream.registry.quantity import Duration, PositiveDuration, Size

_ROOTS: Final = (FlowDeclaration, ResultFlow, SagaDeclaration)
_NAMES: Final = {FlowDeclaration: "Flow", SagaDeclaration: "Saga", StepDeclaration: "Step"}
_ACTIONS: Final = get_args(get_args(Action)[0])
_WIDTH: Final = 100
#: What is to be written is another type than what is read.
_WRITTEN: Final[tuple[tuple[Any, str], ...]] = (
    (Duration, "str | timedelta"),
    (PositiveDuration, "str | timedelta"),
    (Size, "str"),
    (Handler, "str | Callable[..., Any]"),
    (Codes, "int | str"),
    (ExceptionName, "str | type[BaseException]"),
    (AggregateText, 'Literal["count"] | Mapping[str, str]'),
    (Action, "Action"),
)
#: What one value stands for.
_SHORT: Final[dict[Any, str]] = {Concurrency: "int", SplitRules: "str", CancelBy: "str"}
#: Fields that are there to say what to write instead.
_REFUSED: Final = (NoKey, NoField, CancelledKey)
_HEAD: Final = '''\
"""Types of flows and sagas in Python, with the keys and values that their YAML files have.

Written from the models by ``make docs``; what a key means, and its default, is what YAML's is.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Required, TypeAlias, TypedDict
'''


def typed_source() -> str:
    """The module's source."""
    parts = [_HEAD]
    done: dict[type[Declared], None] = {}
    for root in _ROOTS:
        for model in _needed(root, done):
            parts.append(_source(model))
            if model is _ACTIONS[-1]:
                names = "\n    | ".join(map(_name, _ACTIONS))
                parts.append(f"Action: TypeAlias = (\n    {names}\n)\n")
    return "\n\n".join(parts)


def _name(model: type[Declared]) -> str:
    return _NAMES.get(model, model.__name__)


def _needed(model: type[Declared], done: dict[type[Declared], None]) -> Iterator[type[Declared]]:
    """A model, after those that its fields have."""
    if model in done:
        return
    for hint in _fields(model).values():
        for inner in _models(hint):
            yield from _needed(inner, done)
    done[model] = None
    yield model


def _models(hint: Any) -> Iterator[type[Declared]]:
    if isinstance(hint, type) and issubclass(hint, Declared):
        yield hint
    for part in get_args(hint):
        yield from _models(part)


def _fields(model: type[Declared]) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    found = {name: hints[name] for name in model.model_fields}
    return {name: hint for name, hint in found.items() if hint not in _REFUSED}


def _source(model: type[Declared]) -> str:
    fields = _fields(model)
    keys = {name: model.model_fields[name].alias or name for name in fields}
    if any(keyword.iskeyword(key) for key in keys.values()):
        lines = [f"{_name(model)} = TypedDict(", f'    "{_name(model)}",', "    {"]
        for name, hint in fields.items():
            lines += [f"        # {line}" for line in _wrapped(_said(model, name), 10)]
            lines.append(f'        "{keys[name]}": {_type(model, name, hint)},')
        return "\n".join([*lines, "    },", "    total=False,", ")", ""])
    lines = [f"class {_name(model)}(TypedDict, total=False):"]
    if "__doc__" in vars(model) and model.__doc__:
        lines += [f'    """{model.__doc__.strip()}"""', ""]
    for name, hint in fields.items():
        lines.append(f"    {name}: {_type(model, name, hint)}")
        said = _wrapped(_said(model, name), 10)
        said[0] = f'"""{said[0]}'
        said[-1] += '"""' if len(said) == 1 else ""
        lines += [f"    {line}" for line in said]
        if len(said) > 1:
            lines.append('    """')
    return "\n".join([*lines, ""])


def _said(model: type[Declared], name: str) -> str:
    return model.model_fields[name].description or ""


def _wrapped(text: str, margin: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH - margin, break_long_words=False) or [""]


def _type(model: type[Declared], name: str, hint: Any) -> str:
    text = _text(hint)
    return f"Required[{text}]" if model.model_fields[name].is_required() else text


def _text(hint: Any) -> str:
    written = next((text for known, text in _WRITTEN if hint == known), None)
    if written is None and isinstance(hint, type) and not get_args(hint):
        written = _name(hint) if issubclass(hint, Declared) else hint.__name__
        return "None" if hint is NoneType else written
    return written or _of_parts(hint)


def _of_parts(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(parts[0])
    if origin is Literal:
        return f"Literal[{', '.join(_quoted(part) for part in parts)}]"
    texts = [_text(part) for part in parts]
    if origin is dict:
        return f"Mapping[{', '.join(texts)}]"
    if origin is list:
        return f"Sequence[{', '.join(texts)}]"
    return " | ".join(dict.fromkeys(texts)) if texts else "Any"


def _annotated(base: Any) -> str:
    text = _text(base)
    if base in _SHORT:
        return f"{_SHORT[base]} | {text}"
    (one,) = get_args(base) if get_origin(base) is list else (None,)
    if isinstance(one, type) and issubclass(one, On):
        return f"str | {_name(one)} | Sequence[str | {_name(one)}]"
    return text


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
