"""Expressions of ``gateway.yaml``: where an event's id, type, subject, time and key come from.

A text that begins with ``/`` is a JSON pointer into the body. In any other, ``{…}`` stands for a
value: ``{/pointer}``, ``{header:NAME}``, ``{query:NAME}``, ``{id}`` (the provider's id),
``{digest}`` (of the body), ``{name}`` (of the source).
"""

import re
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from edo_stream.core.pointer import parse_json, parse_pointer, resolve
from edo_stream.webhooks.request import Request

#: Not looked at yet.
_UNREAD: Final = object()
_DIGITS_MAX: Final = 40
_PLACE: Final = re.compile(r"\{([^{}]*)\}")


class ExpressionError(ValueError):
    """A text is not an expression; says what to write."""


class Facts:
    """What an expression may speak of; the body is parsed when one does."""

    __slots__ = ("_body", "_document", "event_id", "name", "request")

    def __init__(self, request: Request, name: str, event_id: str | None, body: bytes) -> None:
        self.request = request
        self.name = name
        self.event_id = event_id
        self._body = body
        self._document: Any = _UNREAD

    def document(self) -> Any:
        """Parsed body; ``MISSING`` where it is no JSON."""
        if self._document is _UNREAD:
            self._document = parse_json(self._body)
        return self._document

    def digest(self) -> str:
        """Digest of the body as it came."""
        return sha256(self.request.body).hexdigest()


Evaluate = Callable[[Facts], str | None]
"""Text of an expression; ``None`` where a value is missing."""


def compile_expression(text: str) -> Evaluate:
    """Compile an expression.

    Raises:
        ExpressionError: it is none.
    """
    if not text:
        raise ExpressionError("an expression is empty: write /pointer, {header:NAME} or a text")
    if text.startswith("/"):
        return _pointer(text)
    parts = _PLACE.split(text)
    if any("{" in part or "}" in part for part in parts[::2]):
        raise ExpressionError(f"{text} has an unpaired brace")
    if len(parts) == 1:
        return lambda facts: text
    places = [
        _place(part) if number % 2 else _constant(part) for number, part in enumerate(parts) if part
    ]
    if len(places) == 1:
        return places[0]

    def evaluate(facts: Facts) -> str | None:
        found = []
        for place in places:
            value = place(facts)
            if value is None:
                return None
            found.append(value)
        return "".join(found)

    return evaluate


def _constant(text: str) -> Evaluate:
    return lambda facts: text


def _place(text: str) -> Evaluate:
    if text.startswith("/"):
        return _pointer(text)
    match text.partition(":"):
        case ("id", "", ""):
            return lambda facts: facts.event_id
        case ("digest", "", ""):
            return lambda facts: facts.digest()
        case ("name", "", ""):
            return lambda facts: facts.name
        case ("header", ":", name) if name:
            return _header(name.lower().encode())
        case ("query", ":", name) if name:
            return _query(name)
    raise ExpressionError(
        f"{{{text}}} is not known: write {{/pointer}}, {{header:NAME}}, {{query:NAME}}, {{id}}, "
        "{digest} or {name}"
    )


def _pointer(text: str) -> Evaluate:
    tokens = parse_pointer(text)

    def evaluate(facts: Facts) -> str | None:
        value = resolve(facts.document(), tokens)
        if isinstance(value, str):
            return value or None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, Decimal):
            # Without an exponent, as times are read; but not thousands of zeros.
            return format(value, "f") if abs(value.adjusted()) < _DIGITS_MAX else str(value)
        if isinstance(value, int):
            return str(value)
        return None

    return evaluate


def _header(name: bytes) -> Evaluate:
    def evaluate(facts: Facts) -> str | None:
        value = facts.request.headers.first(name)
        return value.decode("utf-8", "replace") if value else None

    return evaluate


def _query(name: str) -> Evaluate:
    def evaluate(facts: Facts) -> str | None:
        value = facts.request.parameter(name)
        return value.decode("utf-8", "replace") if value else None

    return evaluate
