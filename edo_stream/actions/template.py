"""Templates of actions: Jinja2 in a sandbox, over a command's event.

``{{ data.order.id }}`` is a value of the event's JSON; ``id``, ``key``, ``type``, ``flow``,
``attempt``, ``idempotency_key``, ``correlation_id`` and ``headers`` are the command's own. A value
that is not there is an error, not an empty text: what is sent half is worse than what is not sent.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edo_stream.core.act.command import Command

_ENVIRONMENT: Final = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)
_ENVIRONMENT.filters["json"] = lambda value: msgspec.json.encode(value).decode()


class UnfilledError(Exception):
    """A template cannot be filled from an event; says what is missing."""


class Template:
    """A text with places that a command's values fill."""

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ValueError: it is no template.
        """
        try:
            self._template = _ENVIRONMENT.from_string(text)
        except TemplateError as error:
            raise ValueError(f"{text!r} is not a template: {error}") from error

    def fill(self, values: Mapping[str, Any]) -> str:
        """Fill it.

        Raises:
            UnfilledError: a value is not there, or of the wrong type.
        """
        try:
            return self._template.render(values)
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise UnfilledError(str(error)) from error


def values_of(command: Command) -> dict[str, Any]:
    """What the templates of an action may use."""
    try:
        data = msgspec.json.decode(command.data) if command.data else None
    except (ValueError, RecursionError):
        data = None
    return {
        "data": data,
        "id": command.id,
        "key": command.key.decode("utf-8", "replace"),
        "type": command.type,
        "flow": command.flow,
        "attempt": command.attempt,
        "idempotency_key": command.idempotency_key,
        "correlation_id": command.correlation_id or command.id,
        "headers": {
            name: (value or b"").decode("utf-8", "replace") for name, value in command.headers
        },
    }
