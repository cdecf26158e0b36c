"""Requests that were refused, sampled to a topic: who, when, why; never what they carried."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from edo_stream.core.event import derive_id
from edo_stream.core.headers import time_text
from edo_stream.gateway.admission import Bucket
from edo_stream.gateway.content import Headers, Outgoing
from edo_stream.gateway.http import Exchange

_TYPE: Final = b"edo.gateway.rejected"
_NAMES_MAX: Final = 40
_TEXT_MAX: Final = 200


class Refusals:
    """Decides which refusals are written, and makes their records."""

    def __init__(self, rate: float) -> None:
        self._bucket = Bucket(rate, max(1.0, rate))
        self.skipped = 0

    def is_sampled(self, now_s: float) -> bool:
        """Whether this one is written; the others are counted."""
        if self._bucket.take(now_s) == 0:
            return True
        self.skipped += 1
        return False

    def record(  # noqa: PLR0913 - what is told of a refusal
        self, exchange: Exchange, source: str, status: int, cause: str, detail: str, now_ms: int
    ) -> Outgoing:
        """What is told: names of headers without their values, and a digest of the body."""
        body = b"".join(exchange.body)
        told = {
            "source": source,
            "status": status,
            "cause": cause,
            "detail": detail[:_TEXT_MAX],
            "peer": exchange.peer,
            "method": exchange.method.decode("latin-1"),
            "content_type": _value(exchange.fields, b"content-type"),
            "user_agent": _value(exchange.fields, b"user-agent"),
            "headers": sorted({_shown(name) for name, _ in exchange.fields})[:_NAMES_MAX],
            "body_bytes": exchange.body_bytes,
            "body_sha256": sha256(body).hexdigest() if body else None,
        }
        value = msgspec.json.encode(told)
        time = time_text(now_ms) or b""
        event_id = derive_id("refused", time.decode(), sha256(value).hexdigest()).encode()
        headers: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", event_id),
            ("ce_source", b"/edo/gateway"),
            ("ce_type", _TYPE),
            ("ce_time", time),
            ("content-type", b"application/json"),
        ]
        return Outgoing(event_id, source.encode() or None, value, headers)


def _value(fields: Sequence[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    for name, value in fields:
        if name.lower() == wanted:
            return _shown(value)
    return None


def _shown(text: bytes) -> str:
    return text[:_TEXT_MAX].decode("latin-1")
