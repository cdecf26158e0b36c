"""What schemes read of a verified body: the provider's id, and JSON whose shape decides."""

from typing import Any, Final

import msgspec

from edo_stream.webhooks.verdict import BODY_MALFORMED, RefusedError

_ID_CHARACTERS_MAX: Final = 512
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _WithId(msgspec.Struct, gc=False):
    id: Any = None
    event_id: Any = None


_WITH_ID: Final = msgspec.json.Decoder(_WithId)


def id_in(body: bytes, name: str = "id") -> str | None:
    """Text of member ``id`` or ``event_id``; ``None`` without one, or if the body is not JSON."""
    try:
        return id_text(getattr(_WITH_ID.decode(body), name))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def id_text(value: object) -> str | None:
    """An id as text; ``None`` for what is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and 0 < len(value) <= _ID_CHARACTERS_MAX:
        return value
    return None


def members(body: bytes, what: str) -> dict[str, Any]:
    """Members of a JSON object, decoded; raises for anything else."""
    try:
        found = {name: msgspec.json.decode(raw) for name, raw in _MEMBERS.decode(body).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RefusedError(BODY_MALFORMED, f"the body is not {what}: no JSON object") from None
    return found


def required_text(found: dict[str, Any], name: str, what: str) -> str:
    """A member that must be a text and not be empty."""
    value = found.get(name)
    if isinstance(value, str) and value:
        return value
    raise RefusedError(BODY_MALFORMED, f"the body is not {what}: {name} is missing or no text")
