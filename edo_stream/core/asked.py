"""Who asks to be told of the end of what an event leads to, and the record that tells it.

An event that says ``ce_edoreplyto`` asks for a reply on a topic, and after a ``/`` its partition.
Whoever takes the event on remembers an :class:`Asker`, by which the one who ends it writes the
reply, in the transaction of the end.

A flow replies on one topic of its own choice, and nowhere else: a request cannot make a worker
write what it likes. What asks for another topic, or a partition that there is none of, is told in
``edo-reply-refused`` of its end why nobody is told.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from edo_stream.core.effects import Publish
from edo_stream.core.event import derive_id
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Headers

REPLY_TO: Final = "ce_edoreplyto"
EXPIRY: Final = "ce_expirytime"
REQUEST: Final = "ce_edorequestid"
REFUSED: Final = "edo-reply-refused"
ASKERS: Final = "edo-askers"
"""Of a command of many events: those who are told of its end."""

#: How replies end that no outcome has.
DEAD_LETTER: Final = "dead-letter"
DROPPED: Final = "dropped"
FAILED: Final = "failed"
DONE: Final = "done"

ASKERS_MAX: Final = 100
"""Of one command."""
ASKERS_BYTES_MAX: Final = 16 * 1024

_SHOWN_MAX: Final = 200
_ID_CHARS_MAX: Final = 1_024
_DIGITS_MAX: Final = 6


class Asker(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who asked; fields are only ever appended."""

    place: int | str
    """Partition of the reply on the topic of the flow; a text says why there is none."""
    request: str
    """Id of the event."""
    correlation_id: str


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[Asker]).decode


def encode_askers(askers: Sequence[Asker]) -> bytes:
    """The value of the header :data:`ASKERS`."""
    return _encode(askers)


def decode_askers(value: bytes) -> list[Asker]:
    """Read it; what is none of ours tells nobody."""
    try:
        return _decode(value)
    except (ValueError, RecursionError):
        return []


class Cause(NamedTuple):
    """What is the same in all replies of one end."""

    flow: str
    kind: str
    """``done``, or which other end it is."""
    source: bytes
    id: str
    """Of what has ended: a command, an outcome, or the event itself."""
    now_ms: int
    repeat: str = ""
    """What tells apart its ends, where there may be several."""
    more: tuple[Header, ...] = ()
    """What the reply says besides."""


class Replies(NamedTuple):
    """Where a flow replies."""

    flow: str
    topic: str
    partitions: int

    def place(self, asked: str, correlation_id: str, request: str) -> int | str:
        """Partition that is asked for; or why it is refused."""
        topic, _, number = asked.partition("/")
        if topic != self.topic:
            return f"{asked[:_SHOWN_MAX]}: flow {self.flow} replies on {self.topic} alone"
        if max(len(correlation_id), len(request)) > _ID_CHARS_MAX:
            return f"{topic}: a request's ids have at most {_ID_CHARS_MAX} characters"
        if not number:
            return partition_of(utf8(correlation_id), self.partitions)
        # Of more digits than any number of partitions has, it is none; int() would take its time.
        is_number = number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX
        if not is_number or int(number) >= self.partitions:
            return f"{asked[:_SHOWN_MAX]}: {topic} has {self.partitions} partitions, from 0 on"
        return int(number)

    def asker(self, headers: Headers, request: str, correlation_id: str | None) -> Asker | None:
        """Who asks by an event with these headers, if anybody does."""
        asked = next((value for name, value in headers if name == REPLY_TO and value), None)
        if asked is None:
            return None
        told = correlation_id or request
        place = self.place(asked.decode("utf-8", "replace"), told, request)
        if isinstance(place, str):
            # Whoever is not told need not be known.
            return Asker(place, "", "")
        return Asker(place, request, told)

    def reply(
        self,
        asker: Asker,
        cause: Cause,
        key: bytes | None,
        data: bytes | None,
        content: Header | None = JSON_CONTENT,
    ) -> Publish | None:
        """The reply to one of those who have asked; ``None`` where it is refused."""
        if not isinstance(asker.place, int) or not asker.place < self.partitions:
            return None
        told = (cause.flow, cause.id, cause.kind, asker.request, cause.repeat)
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", derive_id("reply", cause.source.decode(), *told).encode()),
            ("ce_source", cause.source),
            ("ce_type", utf8(f"edo.{cause.flow}.{cause.kind}")),
            ("ce_time", time_text(cause.now_ms)),
            ("ce_correlationid", utf8(asker.correlation_id)),
            ("ce_causationid", utf8(cause.id)),
            (REQUEST, utf8(asker.request)),
            ("edo-flow", utf8(cause.flow)),
            *cause.more,
        ]
        if content is not None:
            headers.append(content)
        return Publish(self.topic, asker.place, key, data, headers, cause.now_ms)

    def answered(self, end: Publish, kind: str) -> tuple[Publish, ...]:
        """The end of an event of which there is no command, with its reply if one is asked for."""
        told = {name: (value or b"").decode("utf-8", "replace") for name, value in end.headers}
        # Where they are too long to be repeated, the end is without them, and so refused.
        too_long = "-" * (_ID_CHARS_MAX + 1)
        ids = (told.get(name, too_long) for name in ("ce_causationid", "ce_correlationid"))
        asker = self.asker(end.headers, *ids)
        if asker is None:
            return (end,)
        if isinstance(asker.place, str):
            return (replace(end, headers=[*end.headers, (REFUSED, utf8(asker.place))]),)
        data = end.value
        if kind == DEAD_LETTER:
            data = reason_of(*(told[f"edo-{name}"] for name in ("class", "reason", "detail")))
        cause = Cause(self.flow, kind, utf8(told["ce_source"]), told["ce_id"], end.timestamp_ms)
        reply = self.reply(asker, cause, end.key, data)
        assert reply is not None, "its place was found just now"
        return end, reply


def expired_since(headers: Headers, now_ms: int) -> str | None:
    """When the time of a request was over, if it is; a text that is no time sets none."""
    for name, value in headers:
        if name == EXPIRY and value:
            text = value.decode("utf-8", "replace")
            until_ms = _time_ms(text)
            return None if until_ms is None or now_ms < until_ms else text
    return None


def _time_ms(text: str) -> int | None:
    """Epoch ms of an RFC 3339 time; ``None`` for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(found.timestamp() * 1000) if found.tzinfo is not None else None


def reason_of(kind: str, reason: str, detail: str) -> bytes:
    """What a reply says of an end that is no success."""
    return _encode({"class": kind, "reason": reason, "detail": detail})


def shared(askers: Sequence[Asker]) -> tuple[Sequence[Asker], Sequence[Asker]]:
    """Those whom one command can tell of its end, and those who are too many for it."""
    size_bytes = 0
    for kept, asker in enumerate(askers):
        size_bytes += len(_encode(asker)) + 1
        if kept == ASKERS_MAX or size_bytes > ASKERS_BYTES_MAX:
            return askers[:kept], askers[kept:]
    return askers, ()
