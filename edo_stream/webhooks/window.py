"""Timestamps of signatures, and the replay window: neither too old nor too far in the future."""

from datetime import datetime
from typing import Final

from edo_stream.webhooks.verdict import (
    TIMESTAMP_MALFORMED,
    TIMESTAMP_TOO_NEW,
    TIMESTAMP_TOO_OLD,
    RefusedError,
)

_DIGITS_MAX: Final = 15
_SECOND_MS: Final = 1_000


def epoch_ms(text: bytes | None, unit_ms: int = _SECOND_MS) -> int:
    """Epoch ms of a timestamp in digits; ``unit_ms`` is 1,000 for seconds.

    ASCII digits only: ``int`` would also read signs, underscores and other scripts' digits.
    """
    if text and text.isdigit() and len(text) <= _DIGITS_MAX:
        return int(text) * unit_ms
    found = "not a number of digits" if text else "missing"
    raise RefusedError(TIMESTAMP_MALFORMED, f"the timestamp is {found}")


def iso_ms(text: object) -> int:
    """Epoch ms of an ISO 8601 time with its offset."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        if found is not None and found.tzinfo is not None:
            return int(found.timestamp() * _SECOND_MS)
    except (ValueError, OverflowError):
        pass
    raise RefusedError(TIMESTAMP_MALFORMED, "the timestamp is not an ISO 8601 time with offset")


def check_window(signed_at_ms: int, now_ms: int, past_ms: int, future_ms: int) -> None:
    """Refuse what was signed too long ago, or too far in the future; the limits are allowed."""
    age_ms = now_ms - signed_at_ms
    if age_ms > past_ms:
        raise RefusedError(
            TIMESTAMP_TOO_OLD,
            f"signed {_seconds(age_ms)} ago; the window is {_seconds(past_ms)}",
        )
    if -age_ms > future_ms:
        raise RefusedError(
            TIMESTAMP_TOO_NEW,
            f"signed {_seconds(-age_ms)} in the future; the window is {_seconds(future_ms)}",
        )


def _seconds(duration_ms: int) -> str:
    return f"{duration_ms / _SECOND_MS:,.0f} s"
