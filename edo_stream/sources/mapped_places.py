"""Places that a mapping names: where in a record a value is, in one short text.

=====================  ==============================================================
``/order/id``          JSON pointer into the value
``key``                the record's key, as text
``key:/customer``      JSON pointer into the record's key
``header:trace-id``    a header, as text
``topic``              the topic
``partition``          number of the partition
``offset``             the offset: whole, growing within the partition
``position``           topic, partition and offset in one text: no two records share it
``timestamp``          the record's time, epoch ms
``const:/legacy``      what follows the colon, as it is
``o-{/id}-{header:v}`` a template: text, and places in braces
=====================  ==============================================================
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve
from edo_stream.core.record import Record
from edo_stream.sources.refused import INVALID, UNDECODABLE, MappingError, RefusedError

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_CHARACTERS_MAX: Final = 1_000
#: Digits of a number that is written out as text; more is no identifier.
_EXPONENT_MAX: Final = 40


class Mapped(msgspec.Struct, gc=False):
    """A record that is being mapped, its parts parsed at most once."""

    record: Record
    document: Any
    """The value, parsed; :data:`MISSING` where nothing in it is named."""
    key: Any = None


Place = Callable[[Mapped], Any]
"""The value at a place; :data:`MISSING` where there is none.

Raises:
    RefusedError: the record's part cannot be read.
"""


def place(name: str, text: object) -> Place:
    """Compile a place; ``name`` is the mapping's key.

    Raises:
        MappingError: it is none.
    """
    if not isinstance(text, str) or not text or len(text) > _CHARACTERS_MAX:
        raise MappingError(
            f"mapping.{name} is no place: write one such as /order/id, header:id or key"
        )
    if text.startswith("const:"):
        constant = text.removeprefix("const:")
        if not constant:
            raise MappingError(f"mapping.{name} is an empty constant: write const:<text>")
        return lambda mapped: constant
    return _template(name, text) if "{" in text or "}" in text else _simple(name, text)


def is_in_value(text: object) -> bool:
    """Whether a place needs the value parsed."""
    return isinstance(text, str) and (text.startswith("/") or "{/" in text)


def _simple(name: str, text: str) -> Place:
    if text.startswith("/"):
        tokens = _tokens(name, text)
        return lambda mapped: resolve(mapped.document, tokens)
    if text.startswith("key:/"):
        key_tokens = _tokens(name, text.removeprefix("key:"))
        return lambda mapped: resolve(_key_document(mapped), key_tokens)
    if text.startswith("header:") and text != "header:":
        header = text.removeprefix("header:")
        return lambda mapped: _header(mapped.record, header)
    found = _WORDS.get(text)
    if found is None:
        raise MappingError(
            f"mapping.{name} {text[:60]!r} is no place: write a JSON pointer such as /order/id, "
            f"header:<name>, key:/<pointer>, const:<text>, or one of {', '.join(_WORDS)}"
        )
    return found


def _tokens(name: str, pointer: str) -> tuple[str, ...]:
    if re.search(r"~(?![01])", pointer):
        raise MappingError(f"mapping.{name} {pointer[:60]!r} is no JSON pointer: ~ is written ~0")
    return parse_pointer(pointer)


def _template(name: str, text: str) -> Place:
    parts: list[str | Place] = []
    for index, part in enumerate(_BRACES.split(text)):
        is_place = index % 2 == 1
        if is_place:
            parts.append(_simple(name, part))
        elif "{" in part or "}" in part:
            raise MappingError(f"mapping.{name} has a brace without its other: write {{/pointer}}")
        elif part:
            parts.append(part)

    def read(mapped: Mapped) -> Any:
        texts = []
        for part in parts:
            value = part if isinstance(part, str) else text_of(part(mapped))
            if value is None:
                return MISSING
            texts.append(value)
        return "".join(texts)

    return read


def _header(record: Record, name: str) -> Any:
    found = [value for header, value in record.headers if header == name]
    if not found or found[0] is None:
        return MISSING
    if len(found) > 1:
        raise RefusedError(INVALID, f"header {name[:60]!r} is given {len(found)} times")
    return _decoded(found[0], f"header {name[:60]!r}")


def _key_text(mapped: Mapped) -> Any:
    key = mapped.record.key
    return MISSING if key is None else _decoded(key, "key")


def _key_document(mapped: Mapped) -> Any:
    if mapped.key is None:
        mapped.key = parse_json(mapped.record.key)
        if mapped.key is MISSING and mapped.record.key is not None:
            raise RefusedError(UNDECODABLE, "key is not JSON")
    return mapped.key


def _decoded(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RefusedError(UNDECODABLE, f"{what} is not UTF-8") from None


def _position(mapped: Mapped) -> str:
    record = mapped.record
    return f"{record.topic}/{record.partition}/{record.offset}"


def _timestamp(mapped: Mapped) -> Any:
    timestamp = mapped.record.timestamp
    return MISSING if timestamp < 0 else timestamp


_WORDS: Final[dict[str, Place]] = {
    "key": _key_text,
    "topic": lambda mapped: mapped.record.topic,
    "partition": lambda mapped: mapped.record.partition,
    "offset": lambda mapped: mapped.record.offset,
    "position": _position,
    "timestamp": _timestamp,
}


def text_of(value: Any) -> str | None:
    """Text of a value that is one: a text, a number with every digit, true or false."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            is_short = value.is_finite() and abs(value.adjusted()) <= _EXPONENT_MAX
            return f"{value:f}" if is_short else None
        case _:
            return None
