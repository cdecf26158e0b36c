"""Durations, sizes and times as people write them in contracts: ``30s``, ``1MiB``."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

_DURATION: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: A hundred years: times that it is added to stay within 64 bits.
_LONGEST_MS: Final = 36_500 * _UNIT_MS["d"]
_UNIT_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def duration_ms(value: object) -> int:
    """Milliseconds of a duration such as ``250ms``, ``30s``, ``5m``, ``12h``, ``7d``."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{_shown(value)} is not a duration: write a whole number and its unit, "
            "ms, s, m, h or d, such as 30s"
        )
    found = int(match[1]) * _UNIT_MS[match[2]]
    if found > _LONGEST_MS:
        raise ValueError(
            f"{value} is longer than {duration_text(_LONGEST_MS)}: write a shorter one"
        )
    return found


def size_bytes(value: object) -> int:
    """Bytes of a size such as ``64KiB`` or ``1MiB``."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{_shown(value)} is not a size: write a whole number and its unit, "
            "B, KiB, MiB or GiB, such as 1MiB"
        )
    return int(match[1]) * _UNIT_BYTES[match[2]]


def duration_text(value_ms: int) -> str:
    """A duration in its largest whole unit, as :func:`duration_ms` reads it."""
    return _in_units(value_ms, _UNIT_MS)


def size_text(value: int) -> str:
    """A size in its largest whole unit, as :func:`size_bytes` reads it."""
    return _in_units(value, _UNIT_BYTES)


def _in_units(value: int, units: dict[str, int]) -> str:
    unit = next(name for name, size in reversed(units.items()) if value % size == 0)
    return f"{value // units[unit]}{unit}" if value else f"0{next(iter(units))}"


def time_ms(value: str) -> int:
    """Epoch ms of a time with its offset, such as ``2026-01-31T12:00:00Z``."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or "T" not in value:
        raise ValueError(f"{_shown(value)} is not a time: write one such as 2026-01-31T12:00:00Z")
    return int(found.timestamp()) * 1_000 + found.microsecond // 1_000


def time_text(value_ms: int) -> str:
    """A time as :func:`time_ms` reads it, in UTC."""
    text = datetime.fromtimestamp(value_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


def _some(value_ms: int) -> int:
    if value_ms < 1:
        raise ValueError("0ms is no time: write 1ms or longer")
    return value_ms


def _shown(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


Duration = Annotated[
    int,
    BeforeValidator(duration_ms),
    PlainSerializer(duration_text, str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
"""Milliseconds; in the file, a whole number and its unit."""
PositiveDuration = Annotated[Duration, AfterValidator(_some)]
"""A duration that is not 0."""
Size = Annotated[
    int,
    BeforeValidator(size_bytes),
    PlainSerializer(size_text, str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"}),
]
"""Bytes; in the file, a whole number and its unit."""
