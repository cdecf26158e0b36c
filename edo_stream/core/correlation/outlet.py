"""What a task that correlates writes: results, commands, failure events, dead letters.

Each record's id derives from the flow, the correlation key and the number of the firing. A key that
fires once has the same id for ever; one that may fire again has its birth in it as well, so that a
key that was forgotten and comes back is another one.
"""

from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from edo_stream.core.asked import (
    ASKERS,
    ASKERS_MAX,
    DEAD_LETTER,
    DONE,
    FAILED,
    REFUSED,
    Asker,
    Cause,
    encode_askers,
    reason_of,
    shared,
)
from edo_stream.core.correlation.joined import Joined, encode_joined, headers_of, shown
from edo_stream.core.correlation.rows import WaitRow
from edo_stream.core.correlation.spec import Correlation, Fire, OnLate
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Violation, derive_id
from edo_stream.core.facts import Facts, UnmadeError
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8
from edo_stream.core.notices import key_text
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Record
from edo_stream.core.sizes import (
    HEADROOM_BYTES,
    bytes_of,
    fits,
    fitting_end,
    fitting_letter,
)
from edo_stream.core.task import Step, TaskIdentity

#: Floats keep every digit of their decimal text.
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")

DEADLINE: Final = "deadline"
OPERATOR: Final = "operator"

#: Which records of the topic of joins went into a record: ``topic/partition/1,4-6``.
OF: Final = "edo-of"
#: An event as the topic of joins had it, but for its data, in Base64: what a dead letter is sent
#: again as.
JOINED: Final = "edo-joined"
#: Lists of a manifest that are longer do not fit a header; such a letter cannot be sent again.
_JOINED_BYTES_MAX: Final = 32 * 1024
#: Of a result, besides its events.
_ENVELOPE_BYTES: Final = 16 * 1024
_DETAIL_CHARS_MAX: Final = 1_000


class Part(NamedTuple):
    """An event of a firing."""

    input: str
    joined: Joined
    offset: int
    """Of its record on the topic of joins."""


Inputs = Sequence[Part]
"""Events with the input that each is of, in order."""


class End(msgspec.Struct, frozen=True):
    """How a wait ended, and so what its result says of itself."""

    reason: str
    """``complete``, ``timeout``, ``fallback``, ``absent``, ``forced``, ``late`` or ``window``.

    Of what is debounced ``quiet`` or ``max``, of a batch ``count``, ``bytes`` or ``time``.
    """
    completed_by: str
    """Name of an input, ``deadline`` or ``operator``."""
    event: Joined | None = None
    """The event that brought it about, if one did."""
    offset: int | None = None
    """Of its record, where it is none of the inputs."""
    is_complete: bool = False


class JoinOutlet:
    """Writes for one flow within one task."""

    def __init__(
        self,
        identity: TaskIdentity,
        correlation: Correlation,
        topic: str,
        step: Step,
    ) -> None:
        """Write for a flow; ``topic`` is that of the joins."""
        self._identity = identity
        self._correlation = correlation
        self._place = f"{topic}/{identity.partition}"
        self._step = step
        # Not that of results and outcomes, each of which has one record as its cause.
        self._source = ("ce_source", utf8(f"/edo/{identity.app}/waits"))
        self._flow = ("edo-flow", utf8(correlation.flow))
        self.late_bytes_max = correlation.target.bytes_max - _ENVELOPE_BYTES
        """Of an event that comes late and is told alone, as results have it."""
        self._has_birth = correlation.fire is Fire.EACH or correlation.late is OnLate.NEW_RUN

    def fire(
        self, key: bytes, row: WaitRow, end: End, inputs: Inputs, extra: Mapping[str, Any]
    ) -> None:
        """Publish a result, or a command of the flow; ``extra`` is what its kind knows besides."""
        target = self._correlation.target
        kind = f"{target.type}.fallback" if end.reason == "fallback" else target.type
        headers = self._headers("firing", key, row, kind, end, inputs)
        value = self._data(key, row, end, extra)
        if target.is_command:
            asked, too_many = self._asked(end, inputs)
            fired = self._record(target.topic, target.partitions, key, value, headers + asked)
            self._publish(fitting_end(fired, target.bytes_max))
            self._turn_away(too_many)
            return
        fired = self._record(target.topic, target.partitions, key, value, headers)
        self._publish(fitting_end(fired, target.bytes_max))
        for asker, joined in self._askers(end, inputs).items():
            self._reply(asker, joined, DONE, value)

    def command(
        self, key: bytes, row: WaitRow, end: End, inputs: Inputs, extra: Mapping[str, Any]
    ) -> Violation | None:
        """Publish a command of what a key has gathered, or say why none can be made of it."""
        target = self._correlation.target
        headers = self._headers("firing", key, row, target.type, end, inputs)
        asked, too_many = self._asked(end, inputs)
        value = self._data(key, row, end, extra)
        if target.make is not None:
            try:
                value = target.make(Facts(_event_of(key, value, headers, self._step.now_ms)))
            except UnmadeError as error:
                return Violation("input", str(error))
        headers += asked
        command = self._record(target.topic, target.partitions, key, value, headers)
        if not fits(command, target.bytes_max):
            detail = f"command: expected at most {target.bytes_max} bytes, found "
            return Violation("too-large", f"{detail}{bytes_of(command)}")
        self._publish(command)
        self._turn_away(too_many)
        return None

    def fail(
        self, key: bytes, row: WaitRow, end: End, inputs: Inputs, extra: Mapping[str, Any]
    ) -> None:
        """Publish an event that tells of a wait that did not become complete."""
        correlation = self._correlation
        word = "incomplete" if end.reason == "failed" else "timed-out"
        kind = f"edo.{correlation.flow}.{word}"
        headers = self._headers("failure", key, row, kind, end, inputs)
        value = self._data(key, row, end, extra)
        failure = self._record(correlation.outcomes, correlation.partitions, key, value, headers)
        self._publish(fitting_end(failure, correlation.ends_bytes_max + HEADROOM_BYTES))
        for part in inputs:
            self.answer(part.joined, FAILED, "business", end.reason, f"its wait is {word}")

    def dead_letter(self, key: bytes, offset: int, joined: Joined, why: Violation) -> None:
        """Publish an event's data as it came, and why it went no further."""
        identity, correlation = self._identity, self._correlation
        place = (identity.group, str(identity.partition), str(offset))
        letter_id = derive_id("dead-letter", identity.app, *place)
        reason: list[Header] = [
            self._flow,
            ("edo-id", letter_id.encode()),
            ("edo-input", utf8(joined.input)),
            ("edo-reason", utf8(why.reason)),
            ("edo-class", b"poison"),
            ("edo-detail", utf8(why.detail[:_DETAIL_CHARS_MAX])),
            ("edo-attempts", b"0"),
            ("edo-position", utf8(joined.position)),
            ("edo-origin", utf8(f"{self._place}/{offset}")),
            ("edo-owner", utf8(correlation.owner)),
            ("edo-app", utf8(identity.app)),
            ("edo-at", b"%d" % self._step.now_ms),
        ]
        rest = b64encode(encode_joined(replace(joined, data=None)))
        if len(rest) <= _JOINED_BYTES_MAX:
            reason.append((JOINED, rest))
        topic, headers = correlation.dead_letters, headers_of(joined)
        letter = self._record(topic, correlation.partitions, key, joined.data, headers)
        bytes_max = correlation.ends_bytes_max + HEADROOM_BYTES
        self._publish(fitting_letter(letter, reason, bytes_max))
        self.answer(joined, DEAD_LETTER, "poison", why.reason, why.detail)

    def answer(self, joined: Joined, kind: str, failure: str, reason: str, detail: str) -> None:
        """Tell who has asked by an event what came of it, where no command tells it."""
        if joined.asker is not None:
            self._reply(joined.asker, joined, kind, reason_of(failure, reason, detail))

    def _reply(self, asker: Asker, joined: Joined, kind: str, data: bytes) -> None:
        correlation = self._correlation
        if correlation.replies is None:
            return
        cause = Cause(
            flow=correlation.flow,
            kind=kind,
            source=self._source[1],
            id=joined.id,
            now_ms=self._step.now_ms,
            repeat=joined.position,
        )
        reply = correlation.replies.reply(asker, cause, utf8(joined.id), data)
        if reply is not None:
            bytes_max = max(correlation.target.bytes_max, correlation.ends_bytes_max)
            self._step.publish.append(fitting_end(reply, bytes_max))

    def _asked(self, end: End, inputs: Inputs) -> tuple[list[Header], Sequence[Joined]]:
        """What a command says of those who are told of its end, and who is one too many."""
        askers = self._askers(end, inputs)
        refused = [one.place for one in askers if isinstance(one.place, str)]
        told, rest = shared([one for one in askers if isinstance(one.place, int)])
        headers: list[Header] = [(ASKERS, encode_askers(told))] if told else []
        headers += [(REFUSED, utf8(place)) for place in refused[:1]]
        return headers, [askers[one] for one in rest]

    def _askers(self, end: End, inputs: Inputs) -> dict[Asker, Joined]:
        """Who asks by the events of a firing; an event may have come twice."""
        events = [part.joined for part in inputs]
        if end.event is not None and end.offset is not None:
            events.append(end.event)
        is_told = self._correlation.replies is not None
        return {one.asker: one for one in events if is_told and one.asker is not None}

    def _turn_away(self, asking: Iterable[Joined]) -> None:
        for joined in asking:
            detail = f"its command, which runs, tells at most {ASKERS_MAX} requests of its end"
            self.answer(joined, FAILED, "business", "too-many-requests", detail)

    def of(self, offsets: Collection[int]) -> bytes:
        """Name records of the topic of joins."""
        return utf8(f"{self._place}/{ranges(offsets)}")

    def _headers(  # noqa: PLR0913 - what an event says of itself
        self, word: str, key: bytes, row: WaitRow, kind: str, end: End, inputs: Inputs
    ) -> list[Header]:
        cause = end.event or (inputs[0].joined if inputs else None)
        first = inputs[0].joined if inputs else cause
        offsets = {part.offset for part in inputs}
        if end.offset is not None:
            offsets.add(end.offset)
        event_id = self._id(word, key, row, end)
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", event_id.encode()),
            self._source,
            ("ce_type", utf8(kind)),
            ("ce_time", time_text(self._step.now_ms)),
            ("ce_subject", utf8(key_text(key))),
            self._flow,
            (OF, self.of(offsets)),
            JSON_CONTENT,
        ]
        if first is not None and cause is not None:
            headers.append(("ce_correlationid", utf8(first.correlation_id or first.id)))
            headers.append(("ce_causationid", utf8(cause.id)))
        else:
            headers.append(("ce_correlationid", event_id.encode()))
        return headers

    def _id(self, word: str, key: bytes, row: WaitRow, end: End) -> str:
        parts = [word, self._identity.app, self._correlation.flow, key.hex(), str(row.run)]
        if self._has_birth:
            parts.append(f"{self._identity.partition}/{row.born}")
        if end.reason == "late":
            parts.append(f"late {row.late}")
        return derive_id(*parts)

    def _data(self, key: bytes, row: WaitRow, end: End, extra: Mapping[str, Any]) -> bytes:
        data: dict[str, Any] = {
            "flow": self._correlation.flow,
            "key": key_text(key),
            "firing": row.run,
            "reason": end.reason,
            "complete": end.is_complete,
            "completed_by": end.completed_by,
            "completed_by_id": None if end.event is None else end.event.id,
        }
        if row.opened_ms:
            data["opened"] = text_of_time(row.opened_ms)
        if row.until_ms is not None:
            data["deadline"] = text_of_time(row.until_ms)
        data |= extra
        return _ENCODER.encode(data)

    def _record(
        self, topic: str, partitions: int, key: bytes, value: bytes | None, headers: list[Header]
    ) -> Publish:
        partition = partition_of(key, partitions)
        return Publish(topic, partition, key, value, headers, self._step.now_ms)

    def _publish(self, record: Publish) -> None:
        self._step.publish.append(record)


class UndecodableOutlet:
    """Writes what is no event of any flow."""

    def __init__(self, identity: TaskIdentity, topic: str, step: Step, bytes_max: int) -> None:
        """Write to a topic that takes so many bytes."""
        self._identity = identity
        self._topic = topic
        self._step = step
        self._bytes_max = bytes_max

    def dead_letter(
        self, record: Record, why: Violation, place: tuple[str, str] | None = None
    ) -> None:
        """Publish the record as it came; its id is of its place, by default of the group's."""
        identity = self._identity
        of = place or (identity.group, str(identity.partition))
        reason: list[Header] = [
            (
                "edo-id",
                derive_id("dead-letter", identity.app, *of, str(record.offset)).encode(),
            ),
            ("edo-reason", utf8(why.reason)),
            ("edo-class", b"poison"),
            ("edo-detail", utf8(why.detail[:_DETAIL_CHARS_MAX])),
            ("edo-attempts", b"0"),
            ("edo-origin", f"{record.topic}/{record.partition}/{record.offset}".encode()),
            ("edo-app", utf8(identity.app)),
            ("edo-at", b"%d" % self._step.now_ms),
        ]
        now_ms = self._step.now_ms
        letter = Publish(
            self._topic, identity.partition, record.key, record.value, record.headers, now_ms
        )
        self._step.publish.append(fitting_letter(letter, reason, self._bytes_max))


def ranges(offsets: Collection[int]) -> str:
    """Offsets in a text such as ``1,4-6``."""
    found: list[tuple[int, int]] = []
    for offset in sorted(offsets):
        if found and offset == found[-1][1] + 1:
            found[-1] = (found[-1][0], offset)
        else:
            found.append((offset, offset))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def ranges_of(text: bytes) -> tuple[str, int, list[tuple[int, int]]]:
    """Topic, partition, and first and last offsets that a header :data:`OF` names.

    Raises:
        ValueError: it is none.
    """
    topic, partition, offsets = text.decode().split("/")
    found = []
    for part in offsets.split(",") if offsets else ():
        first, _, last = part.partition("-")
        found.append((int(first), int(last or first)))
    return topic, int(partition), found


def single(inputs: Iterable[tuple[str, Joined]]) -> dict[str, Any]:
    """Events of inputs of which each has one."""
    return {name: shown(joined) for name, joined in inputs}


def _event_of(key: bytes, data: bytes, headers: Sequence[Header], now_ms: int) -> Event:
    """A result as an event: what makes a command of it looks at it as at any other."""
    said = {name: (value or b"").decode() for name, value in headers}
    return Event(
        id=said["ce_id"],
        source=said["ce_source"],
        type=said["ce_type"],
        key=key,
        data=data,
        content_type=JSON_CONTENT[1].decode(),
        subject=said["ce_subject"],
        time_ms=now_ms,
        correlation_id=said["ce_correlationid"],
        causation_id=said.get("ce_causationid"),
    )


def text_of_time(at_ms: int) -> str | None:
    """A time as results have it; ``None`` where it is beyond what can be written."""
    text = time_text(at_ms)
    return None if text is None else text.decode()
