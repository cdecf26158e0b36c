"""Templates of actions: Jinja2 in a sandbox, over a command's event.

``{{ data.order.id }}`` is a value of the event's JSON; ``id``, ``key``, ``type``, ``flow``,
``attempt``, ``idempotency_key``, ``correlation_id`` and ``headers`` are the command's own.

A value that is not there, or is null, is an error, not an empty text: what is sent half is worse
than what is not sent. Values are written as JSON writes them (``true``, not Python's ``True``), and
stay values whatever they hold. In a URL each is one part of it: what would begin another part, such
as ``/``, is escaped. In a JSON document (a template that begins with ``{`` or ``[``) texts are
escaped for a place within quotes; ``|json`` gives them with their quotes.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

import msgspec
from jinja2 import StrictUndefined, TemplateError, Undefined, UndefinedError
from jinja2.filters import do_urlencode
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edo_stream.core.act.command import Command

_KNOWN: Final = frozenset(
    {
        "attempt",
        "correlation_id",
        "data",
        "flow",
        "headers",
        "id",
        "idempotency_key",
        "key",
        "type",
    }
)
#: In a URL, where an empty value was: no value can contain it, since values are escaped.
_EMPTY: Final = "\ue000"
_DOT_SEGMENTS: Final = frozenset({".", "..", "%2e", "%2e.", ".%2e", "%2e%2e"})


class UnfilledError(Exception):
    """A template cannot be filled from an event; says what is missing."""


class Place(Enum):
    """Where a template's text goes to, which decides how values are written into it."""

    TEXT = "text"
    URL = "url"
    JSON = "json"


class _Escaped(str):
    """What is escaped already for its place."""

    __slots__ = ()


def place_of(text: str) -> Place:
    """Whether a template that may be JSON is."""
    start = text.lstrip()[:2]
    is_tag = start in ("{{", "{%", "{#")
    return Place.JSON if start[:1] in ("{", "[") and not is_tag else Place.TEXT


def _written(value: Any) -> Any:
    match value:
        case str() | Undefined():
            return value
        case None:
            raise UnfilledError("a value is null: write |json, or |default(…, true)")
        case _:
            return _json(value)


def _escaped(value: Any) -> Any:
    value = _written(value)
    # What |safe gives has a way to be HTML.
    if isinstance(value, _Escaped | Undefined) or hasattr(value, "__html__"):
        return value
    return quote(value, safe="") or _EMPTY


def _quotable(value: Any) -> Any:
    written = _written(value)
    if written is value and isinstance(value, str) and not isinstance(value, _Escaped):
        return _json(value)[1:-1]
    return written


def _json(value: Any) -> str:
    # As a text, what is not there says its name.
    return str(value) if isinstance(value, Undefined) else msgspec.json.encode(value).decode()


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """An event's own names come before those of Python: ``data.items``."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


_FINALIZE: Final = {Place.TEXT: _written, Place.URL: _escaped, Place.JSON: _quotable}


def _environment(place: Place) -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        finalize=_FINALIZE[place],
    )
    environment.filters["json"] = _json
    if place is Place.JSON:
        environment.filters["json"] = lambda value: _Escaped(_json(value))
    if place is Place.URL:
        environment.filters["path"] = lambda value: _Escaped(quote(str(_written(value)), safe="/"))
        environment.filters["urlencode"] = lambda value: _Escaped(do_urlencode(value))
    return environment


_ENVIRONMENTS: Final = {place: _environment(place) for place in Place}


class Template:
    """A text with places that a command's values fill."""

    def __init__(self, text: str, place: Place = Place.TEXT) -> None:
        """Compile it.

        Raises:
            ValueError: it is no template.
        """
        self._place = place
        try:
            unknown = find_undeclared_variables(_ENVIRONMENTS[place].parse(text)) - _KNOWN
            self._template = _ENVIRONMENTS[place].from_string(text)
        except (TemplateError, UnfilledError) as error:
            raise ValueError(f"{text!r} is not a template: {error}") from error
        if unknown:
            known = ", ".join(sorted(_KNOWN))
            raise ValueError(f"{min(unknown)} is not known: write one of {known}")

    def fill(self, values: Mapping[str, Any]) -> str:
        """Fill it.

        Raises:
            UnfilledError: a value is not there, or of the wrong type.
        """
        try:
            text = self._template.render(values)
            text.encode()
        except UnfilledError:
            raise
        except (UndefinedError, TemplateError) as error:
            raise UnfilledError(str(error)) from error
        except Exception as error:
            # Not its text, which may repeat the value.
            raise UnfilledError(f"an expression failed: {type(error).__name__}") from error
        match self._place:
            case Place.TEXT:
                return text
            case Place.URL:
                return _checked_url(text)
            case Place.JSON:
                return _checked_json(text)


def _checked_json(text: str) -> str:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise UnfilledError("filled, it is no JSON: write texts within quotes, or |json") from None
    return text


def _checked_url(url: str) -> str:
    """See that no value has made a URL another one than the template's author meant."""
    path, mark, query = url.partition("?")
    if _EMPTY in path:
        raise UnfilledError("a value in the URL's path is empty")
    if not _DOT_SEGMENTS.isdisjoint(path.lower().split("/")):
        raise UnfilledError("a value in the URL's path is . or ..")
    return path + mark + query.replace(_EMPTY, "")


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
