"""Attribute values as the codecs read them: text, time, numbers."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from edo_stream.core.headers import time_text
from edo_stream.core.remembering import remembered
from edo_stream.sources.refused import INVALID, UNDECODABLE, RefusedError

# CloudEvents §3, type String: no control characters and no noncharacters. Ids are joined by
# U+001F when new ones are derived from them, so this check also keeps derived ids unambiguous.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)
#: Digits of 2**128, the largest position (two log sequence numbers); bounds the cost of int().
_POSITION_DIGITS_MAX: Final = 39

_EPOCH: Final[datetime] = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final[timedelta] = timedelta(milliseconds=1)
_TIME: Final[msgspec.json.Decoder[datetime]] = msgspec.json.Decoder(
    Annotated[datetime, msgspec.Meta(tz=True)]
)
_WRITTEN_BYTES: Final = len(b"2026-01-31T12:00:00.000Z")
_DOT, _ZULU = b".Z"
_LEAP_SECOND: Final = re.compile(rb"(.{17})60(.+)", re.DOTALL)


def text(name: str, value: bytes | None) -> str:
    """Text of an attribute that must be there, not empty and a CloudEvents string."""
    if not value:
        raise RefusedError(INVALID, f"{name} is {'missing' if value is None else 'empty'}")
    try:
        found = value.decode()
    except UnicodeDecodeError:
        raise RefusedError(UNDECODABLE, f"{name} is not UTF-8") from None
    if not has_forbidden_characters(found):
        return found
    raise RefusedError(INVALID, f"{name} contains control characters or noncharacters")


#: The same for attributes of few values, such as the type: one string in memory for all events.
known_text = remembered(4_096)(text)


def has_forbidden_characters(value: str) -> bool:
    """Whether a text contains what a CloudEvents string must not."""
    # isprintable() is the fast half: it also refuses some allowed characters, never the reverse.
    return not value.isprintable() and _FORBIDDEN.search(value) is not None


def time_ms(name: str, value: bytes) -> int:
    """Epoch ms of an RFC 3339 timestamp; the fraction is cut to milliseconds."""
    try:
        found = _TIME.decode(b'"%b"' % value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        leap = _LEAP_SECOND.fullmatch(value)
        if leap is not None:
            # RFC 3339 §5.6 allows second 60; epoch time has none: it is the next minute's first.
            return time_ms(name, leap[1] + b"59" + leap[2]) + 1_000
        raise RefusedError(
            INVALID, f"{name} is not an RFC 3339 time such as 2026-01-31T12:00:00Z"
        ) from None
    if b"\\" in value:
        # An escape is JSON's, not RFC 3339's.
        raise RefusedError(INVALID, f"{name} is not an RFC 3339 time")
    try:
        return (found - _EPOCH) // _MILLISECOND
    except OverflowError:
        raise RefusedError(INVALID, f"{name} is outside the years 1 to 9999") from None


def time_and_text(name: str, value: bytes) -> tuple[int, bytes | None]:
    """Epoch ms of a timestamp, and its bytes where they are what is written of it.

    That is ``2026-01-31T12:00:00.000Z``: with three digits of a second, and in UTC.
    """
    if len(value) == _WRITTEN_BYTES and value[19] == _DOT and value[23] == _ZULU:
        digits = value[20:23]
        if digits.isdigit() and (second_ms := _written_second_ms(value[:19])) is not None:
            return second_ms + int(digits), value
    return time_ms(name, value), None


@lru_cache(maxsize=4_096)
def _written_second_ms(value: bytes) -> int | None:
    """Epoch ms of ``2026-01-31T12:00:00``, ``None`` for what would not be written so."""
    try:
        second_ms = time_ms("", value + b"Z")
    except RefusedError:
        return None
    return second_ms if time_text(second_ms) == value + b".000Z" else None


def whole_number(value: object) -> int | None:
    """The position that a header's bytes, a JSON string or a JSON number holds, from 0."""
    if isinstance(value, (bytes, str)):
        is_number = value.isdigit() and value.isascii() and len(value) <= _POSITION_DIGITS_MAX
        return int(value) if is_number else None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None
