"""One call of a handler: from an event's bytes and a command to an outcome.

The same wherever the handler runs: in the event loop, in a thread, or in a process
(:mod:`.child`).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Final

import msgspec

from edo_stream.actions.errors import ActionError
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

_JSON: Final = "application/json"
_DETAIL_CHARS_MAX: Final = 500

Meanings = Mapping[str, FailureClass]
"""What exceptions mean, by the name of their class, with or without its module."""


class Call(msgspec.Struct, frozen=True):
    """What a handler is told besides its event."""

    id: str
    """The command's id: the same for every attempt."""
    idempotency_key: str
    """What a receiver may know it by."""
    flow: str
    key: bytes
    attempt: int
    """Counted from 1."""
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a handler is called."""

    function: Callable[..., Any]
    read: Callable[[bytes], Any]
    """An event's JSON as what the handler wants."""
    wants_call: bool
    meanings: Meanings

    def __call__(self, data: bytes | None, call: Call) -> Outcome:
        """Call a handler that is no ``async`` function.

        Raises:
            Exception: the handler's own, if it says nothing of what it means.
        """
        arguments = self._arguments(data, call)
        if isinstance(arguments, Failed):
            return arguments
        try:
            return outcome_of(self.function(*arguments))
        except Exception as error:  # noqa: BLE001 - raised again, if it means nothing
            return self._failure(error)

    async def wait(self, data: bytes | None, call: Call) -> Outcome:
        """Call one that is, and wait for its end.

        Raises:
            Exception: the handler's own, if it says nothing of what it means.
        """
        arguments = self._arguments(data, call)
        if isinstance(arguments, Failed):
            return arguments
        try:
            running: Awaitable[Any] = self.function(*arguments)
            return outcome_of(await running)
        except Exception as error:  # noqa: BLE001 - raised again, if it means nothing
            return self._failure(error)

    def _arguments(self, data: bytes | None, call: Call) -> tuple[Any, ...] | Failed:
        try:
            event = self.read(data or b"null")
        except Exception as error:  # noqa: BLE001 - validators are the user's
            return Failed(FailureClass.POISON, "invalid-event", _why_invalid(error))
        return (event, call) if self.wants_call else (event,)

    def _failure(self, error: Exception) -> Outcome:
        if isinstance(error, ActionError):
            return error.outcome()
        for kind in type(error).__mro__:
            meaning = self.meanings.get(kind.__qualname__) or self.meanings.get(
                f"{kind.__module__}.{kind.__qualname__}"
            )
            if meaning is not None:
                return Failed(meaning, type(error).__name__)
        raise error


def call_of(command: Command) -> Call:
    """What a handler is told of its command."""
    return Call(
        command.id,
        command.idempotency_key,
        command.flow,
        command.key,
        command.attempt,
        command.correlation_id,
    )


def reader_of(event_type: Any) -> Callable[[bytes], Any]:
    """Reads an event's JSON as a type: what :mod:`msgspec` knows, or a pydantic model."""
    validate: Callable[[bytes], Any] | None = getattr(event_type, "model_validate_json", None)
    return msgspec.json.Decoder(event_type).decode if validate is None else validate


def _why_invalid(error: Exception) -> str:
    """Say where an event breaks its type; without its values, which pydantic's text repeats."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        found = errors(include_input=False, include_url=False, include_context=False)
        parts = (f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in found)
        return "; ".join(parts)[:_DETAIL_CHARS_MAX]
    if isinstance(error, ValueError):
        return str(error)[:_DETAIL_CHARS_MAX]
    return type(error).__name__


def outcome_of(result: Any) -> Outcome:
    """The outcome of what a handler has returned."""
    match result:
        case None:
            return Done()
        case bytes():
            return Done(result)
        case Failed() | Done(records=()):
            return result
        case _ if isawaitable(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            return _not_json(result)
        case _:
            return _json_outcome(result)


def _json_outcome(result: Any) -> Outcome:
    try:
        return Done(_json(result), _JSON)
    except Exception:  # noqa: BLE001 - serialisers are the user's
        return _not_json(result)


def _not_json(result: Any) -> Failed:
    # It has run: to run it again would repeat what it did.
    detail = f"it ran, and returned {type(result).__name__}, which is no JSON"
    return Failed(FailureClass.POISON, "result", detail)


def _json(result: Any) -> bytes:
    dump = getattr(result, "model_dump_json", None)
    if dump is not None:
        text: str = dump()
        return text.encode()
    return msgspec.json.encode(result)
