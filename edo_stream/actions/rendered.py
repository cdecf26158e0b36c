"""What an action would do for a command, without doing it: for people who write flows.

Secrets are not read: where one would stand, its reference does.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from edo_stream.actions.template import Place, Template, place_of, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve
from edo_stream.flows.actions import Action

_PARTS = {
    "http": ("url", "headers", "body"),
    "program": ("arguments",),
    "record": ("key", "value", "headers"),
    "airflow": ("conf",),
}
_PLACES = {"url": Place.URL, "conf": Place.JSON}
_CONTENT = frozenset({"body", "value"})


def templates_of(action: Action) -> Iterator[tuple[tuple[str | int, ...], str, Place]]:
    """Each template of an action: where it stands, its text, and where it goes to."""
    for part in _PARTS.get(action.kind, ()):
        value: Any = getattr(action, part)
        if isinstance(value, str):
            place = place_of(value) if part in _CONTENT else _PLACES.get(part, Place.TEXT)
            yield (part,), value, place
        elif isinstance(value, dict):
            yield from (((part, name), text, Place.TEXT) for name, text in value.items())
        elif isinstance(value, list):
            yield from (((part, index), text, Place.TEXT) for index, text in enumerate(value))


def rendered(action: Action, command: Command) -> dict[str, Any]:
    """The action with the command's values in it, as plain values.

    Raises:
        UnfilledError: a template cannot be filled.
    """
    values = values_of(command)
    filled = {
        place: Template(text, goes_to).fill(values) for place, text, goes_to in templates_of(action)
    }
    said: dict[str, Any] = action.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude={"idempotency_key", "replay", "rules"},
    )
    for (part, *inner), text in filled.items():
        if inner:
            said[str(part)][inner[0]] = text
        else:
            said[str(part)] = _content(text) if part in _CONTENT else text
    data = _content("" if command.data is None else command.data.decode("utf-8", "replace"))
    match action.kind:
        case "http":
            said.setdefault("body", data)
        case "record":
            said.setdefault("key", values["key"])
            said.setdefault("value", data)
        case "sql":
            document = parse_json(command.data)
            said["parameters"] = {
                name: _plain(resolve(document, parse_pointer(pointer)))
                for name, pointer in action.parameters.items()
            }
        case "python" | "program" | "dapr" | "noop":
            said["data"] = data
        case _:
            pass
    return said


def _content(text: str) -> Any:
    """JSON as what it says, anything else as a text."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def _plain(value: Any) -> Any:
    return None if value is MISSING else value
