"""Expressions and templates: what they speak of is in the events of their topics."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from edo_stream.core.event import Event
from edo_stream.core.facts import Facts, UndecidedError
from edo_stream.flows.expression import Expression, ExpressionError, WhereExpression
from edo_stream.flows.rules.case import FlowCase
from edo_stream.flows.rules.patterns import ATTRIBUTES
from edo_stream.registry.document import Place

_TEXT: Final = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
#: Names that follow ``data``, one after the other; the last of them is no call.
_FIELDS: Final = re.compile(r"(?<![\w.])data((?:\.[A-Za-z_]\w*(?!\w*\s*\())+)")
_FILLED: Final = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
_BOUND: Final = re.compile(r"\.(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_ATTRIBUTE: Final = re.compile(r"[a-z][a-z0-9]{0,19}")
_NEAR: Final = 0.75


def find_odd_expressions(case: FlowCase) -> None:
    """An expression depends on the event, and speaks of what events have."""
    for one in case.wanted():
        if one.where is None:
            continue
        place = (*one.place, "where")
        try:
            where = WhereExpression(one.where)
        except ExpressionError:
            continue
        if not where.expression.names:
            case.find(place, f"where: {_constant(where)}")
        for name in unknown_names(where.expression):
            case.find(place, f"where: {name}")


def unknown_names(expression: Expression) -> Iterator[str]:
    """What is wrong with the names that an expression speaks of."""
    bound = set(_BOUND.findall(_TEXT.sub("''", expression.text)))
    known = (*ATTRIBUTES, "data")
    for name in expression.names:
        if name in bound or name in known:
            continue
        near = get_close_matches(name, known, n=1, cutoff=_NEAR)
        if near:
            yield f"{name} is no attribute of events: did you mean {near[0]}?"
        elif not _ATTRIBUTE.fullmatch(name):
            yield f"{name} can be no attribute: known are {', '.join(known)}, and extensions"


def find_unknown_names(case: FlowCase) -> None:
    """Fields that expressions and templates speak of are in the schemas of their topics."""
    for one in case.wanted():
        if one.where is not None:
            _find_fields(case, (*one.place, "where"), _TEXT.sub("''", one.where), [one.topic])
    if case.declaration is None or case.join is not None:
        # What a flow that waits is given is the result, which no schema describes.
        return
    topics = case.topics
    made = case.declaration.input
    if made is not None and made.cel is not None:
        _find_fields(case, ("input", "cel"), _TEXT.sub("''", made.cel), topics)
    if made is not None and made.template is not None:
        _find_in_template(case, ("input", "template"), made.template, topics)
    if made is None:
        for place, text in _templates(case):
            _find_in_template(case, place, text, topics)


def _find_in_template(case: FlowCase, place: Place, text: str, topics: list[str]) -> None:
    code = " ".join(_TEXT.sub("''", one) for one in _FILLED.findall(text))
    _find_fields(case, place, code, topics)


def _find_fields(case: FlowCase, place: Place, code: str, topics: list[str]) -> None:
    """Find each field that the events of no topic can have."""
    for names in dict.fromkeys(_FIELDS.findall(code)):
        pointer = names.replace(".", "/")
        said = []
        for topic in topics:
            shape = case.shapes.of(topic)
            why = None if shape is None else shape.unknown(pointer)
            if why is None:
                break
            said.append(f"{why} ({topic})" if len(topics) > 1 else why)
        else:
            if said:
                case.find(place, f"{'.'.join(map(str, place))}: data{names}: {said[0]}")


def _templates(case: FlowCase) -> Iterator[tuple[Place, str]]:
    """Texts of the actions that an event's values are filled into."""
    for key in ("action", "fallback"):
        action = getattr(case.declaration, key, None)
        if action is None:
            continue
        for name, value in action.model_dump(by_alias=True).items():
            if name == "kind":
                continue
            texts = value if isinstance(value, list) else [value]
            if isinstance(value, dict):
                texts = list(value.values())
            for text in texts:
                if isinstance(text, str) and ("{{" in text or "{%" in text):
                    yield (key, name), text


def _constant(where: WhereExpression) -> str:
    """What an expression that asks nothing of an event comes to."""
    try:
        said = where(Facts(Event("", "", "", b"", None)))
    except UndecidedError as error:
        return f"always fails: {error}"
    return "is always true: leave it out" if said else "is never true: no event triggers the flow"
