"""Headers of what the pipeline publishes: CloudEvents in binary mode, and their sizes."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import Final

from edo_stream.core.native import IS_COMPILED
from edo_stream.core.record import Headers

if IS_COMPILED:
    from edo_stream.core._native import WireHeaders

Header = tuple[str, bytes | None]

SPECVERSION: Final = ("ce_specversion", b"1.0")
JSON_CONTENT: Final = ("content-type", b"application/json")
WRITTEN: Final = frozenset(
    {
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_subject",
        "ce_time",
        "ce_correlationid",
        "ce_causationid",
        "content-type",
    }
)
"""What every event of ours says of itself; an event's extensions never override it."""
LATE: Final = ("ce_edolate", b"true")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999


def utf8(text: str) -> bytes:
    """Encode; a lone surrogate, which no producer should send, becomes ``?`` and stops nobody."""
    return text.encode("utf-8", "replace")


def time_text(time_ms: int) -> bytes | None:
    """RFC 3339 text of epoch ms, ``None`` outside the years 1 to 9999."""
    if not _FIRST_MS <= time_ms <= _LAST_MS:
        return None
    seconds, rest_ms = divmod(time_ms, 1000)
    return b"%b.%03dZ" % (_second_text(seconds), rest_ms)


@lru_cache(maxsize=1024)
def _second_text(seconds: int) -> bytes:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19].encode()


def size_of(headers: Headers) -> int:
    """Bytes of headers on the wire, rounded up."""
    if IS_COMPILED and type(headers) is WireHeaders:
        return headers.size_bytes
    try:
        return sum(map(len, chain.from_iterable(headers))) + 8 * len(headers)  # type: ignore[arg-type]
    except TypeError:  # A null among the values.
        return sum([len(name) + len(value or b"") + 8 for name, value in headers])


#: How far ahead of the clock a record's time may be passed on; Kafka refuses an hour.
_AHEAD_MAX_MS: Final = 5 * 60 * 1000


def publishable_ms(timestamp_ms: int, now_ms: int) -> int:
    """Time for a record that goes out: the input's, unless a broker would refuse it for ever."""
    if timestamp_ms < 0:
        return now_ms
    return min(timestamp_ms, now_ms + _AHEAD_MAX_MS)
