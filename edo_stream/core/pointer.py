"""JSON pointers (RFC 6901) into an event's data."""

from typing import Any, Final

import msgspec

from edo_stream.core.exact import exact

#: Numbers keep every digit: two ids that a double cannot tell apart are two ids.
_DECODER: Final = msgspec.json.Decoder(float_hook=exact)


class Missing:
    """What a pointer resolves to when it points at nothing."""


MISSING: Final = Missing()


def parse_pointer(text: str) -> tuple[str, ...]:
    """Split a pointer such as ``/order/number`` into its unescaped tokens."""
    assert text.startswith("/"), f"not a JSON pointer: {text!r}"
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))


def parse_json(data: bytes | None) -> Any:
    """Decode JSON; :data:`MISSING` where there is none."""
    if data is None:
        return MISSING
    try:
        return _DECODER.decode(data)
    except (ValueError, RecursionError):
        return MISSING


def resolve(document: Any, tokens: tuple[str, ...]) -> Any:
    """Value that the tokens lead to, or :data:`MISSING`; ``null`` counts as a value."""
    for token in tokens:
        if isinstance(document, dict):
            document = document.get(token, MISSING)
        elif isinstance(document, list) and token.isascii() and token.isdigit():
            document = document[int(token)] if int(token) < len(document) else MISSING
        else:
            return MISSING
    return document
