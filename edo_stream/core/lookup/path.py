"""The way of an event through its lookups: from task to task, and at last to its command.

Each hop is a record on the internal topic of the tasks that have the next row, keyed as the row is,
and written in the transaction of the one before: an event is on one of them, or has its command,
its dead letter or its failure event. Events with the same keys stay in their order on all the way.
"""

import dataclasses
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from edo_stream.core.correlation.feed import Reader
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Violation, derive_id
from edo_stream.core.facts import Facts
from edo_stream.core.headers import size_of
from edo_stream.core.lookup.spec import Enrichment, OnMissing
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import PlainRecord, Record
from edo_stream.core.redrive import REDRIVE
from edo_stream.core.task import TaskIdentity
from edo_stream.core.trigger import Trigger

NULL: Final = b"null"
SOUGHT: Final = "edo-sought"
"""Header of a dead letter: the event without its data, to send it again."""
_SOUGHT_BYTES_MAX: Final = 32 * 1024
_KEY_BYTES_MAX: Final = 1_024
_FRAME_BYTES: Final = 1_024


class Seeker(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event on its way; fields are only ever appended."""

    flow: str
    lookup: str
    """The one that is next."""
    topic: str
    partition: int
    offset: int
    timestamp: int
    record_key: bytes | None
    id: str
    source: str
    type: str
    key: bytes
    data: bytes | None = None
    content_type: str | None = None
    subject: str | None = None
    time_ms: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    extensions: tuple[tuple[str, bytes], ...] = ()
    time_text: bytes | None = None
    found: dict[str, bytes] = {}
    """Rows so far, as JSON, by the lookup's name."""
    redrive: int = 0
    """How often an operator has sent its dead letter again."""

    def record(self) -> Record:
        """The event's own record, without its value."""
        return PlainRecord(
            self.topic, self.partition, self.offset, self.timestamp, self.record_key, None, ()
        )

    def event(self) -> Event:
        """The event, as the task of its topic had it."""
        return Event(
            id=self.id,
            source=self.source,
            type=self.type,
            key=self.key,
            data=self.data,
            content_type=self.content_type,
            subject=self.subject,
            time_ms=self.time_ms,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            extensions=self.extensions,
            time_text=self.time_text,
        )


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(Seeker)


def decode_seeker(value: bytes | None) -> Seeker | Violation:
    """Read a record's value, which only tasks should have written."""
    try:
        return _decoder.decode(value or b"")
    except (ValueError, RecursionError) as error:
        return Violation("undecodable", f"not an event of a lookup: {error}")


def with_way_back(letter: Publish, seeker: Seeker, bytes_max: int) -> Publish:
    """A dead letter of an event, so that it can be sent again; one that has grown too large, not.

    One that was sent again has an id of its own: what was done about the one before does not count.
    """
    headers = list(letter.headers)
    if seeker.redrive:
        number = str(seeker.redrive)
        headers = [
            (name, _id_again(value, number) if name == "edo-id" else value)
            for name, value in headers
        ]
        headers.append((REDRIVE, number.encode()))
    rest = b64encode(_encode(replace(seeker, data=None, found={})))
    size_bytes = len(letter.key or b"") + len(letter.value or b"") + size_of(headers) + len(rest)
    if len(rest) <= _SOUGHT_BYTES_MAX and size_bytes <= bytes_max - _FRAME_BYTES:
        headers.append((SOUGHT, rest))
    return replace(letter, headers=headers)


def _id_again(value: bytes | None, number: str) -> bytes:
    return derive_id("dead-letter", (value or b"").decode(), number).encode()


def seeker_of(
    flow: str, lookup: str, seen: tuple[Record, Event], found: Mapping[str, bytes], redrive: int = 0
) -> Seeker:
    """An event before one of its lookups."""
    record, event = seen
    return Seeker(
        flow=flow,
        lookup=lookup,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        record_key=record.key,
        id=event.id,
        source=event.source,
        type=event.type,
        key=event.key,
        data=event.data,
        content_type=event.content_type,
        subject=event.subject,
        time_ms=event.time_ms,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        extensions=event.extensions,
        time_text=event.time_text,
        found=dict(found),
        redrive=redrive,
    )


def with_rows(facts: Facts, found: Mapping[str, bytes]) -> Facts:
    """The event with its rows, for what makes the command's data."""
    rows = {name: msgspec.Raw(row) for name, row in found.items()}
    return facts.with_more({"lookup": msgspec.json.encode(rows)})


class Path:
    """A flow's lookups, for events of one partition of one topic."""

    looks = True
    """Whether it asks for more of an event than its attributes."""

    def __init__(
        self, identity: TaskIdentity, topic: str, partition: int, enrichment: Enrichment
    ) -> None:
        self._enrichment = enrichment
        self._readers = [Reader(lookup.key) for lookup in enrichment.lookups]
        of_topic = TaskIdentity(identity.app, identity.group, partition)
        contract = dataclasses.replace(enrichment.contract, topic=topic)
        self.trigger = Trigger(of_topic, contract, enrichment.trigger)

    def compiled(self) -> None:
        """There is no compiled way to look up."""

    def commands(
        self, record: Record, event: Event, now_ms: int, facts: Facts | None = None
    ) -> Sequence[Publish]:
        """The first hop of an event, as a trigger gives commands."""
        return self.onward(0, (record, event), {}, now_ms, facts)

    def letter(
        self, record: Record, event: Event, now_ms: int, reason: str, detail: str
    ) -> Publish:
        """The dead letter of the flow for an event, with the event's data."""
        return self.trigger.letter(record, event, now_ms, reason, detail)

    def answered(self, letter: Publish) -> Sequence[Publish]:
        """A dead letter, with its reply if the event has asked for one."""
        return self.trigger.answered(letter)

    def onward(  # noqa: PLR0913 - where it stands, and what is known by then
        self,
        stage: int,
        seen: tuple[Record, Event],
        found: Mapping[str, bytes],
        now_ms: int,
        facts: Facts | None = None,
        redrive: int = 0,
    ) -> Sequence[Publish]:
        """The next hop of an event; behind the last lookup, its commands."""
        record, event = seen
        facts, found = facts or Facts(event), dict(found)
        enrichment = self._enrichment
        for number in range(stage, len(enrichment.lookups)):
            lookup = enrichment.lookups[number]
            key = self._readers[number].read(record, facts)
            if key and len(key) <= _KEY_BYTES_MAX:
                flow = enrichment.trigger.flow
                value = _encode(seeker_of(flow, lookup.name, seen, found, redrive))
                if len(key) + len(value) > enrichment.bytes_max - _FRAME_BYTES:
                    detail = f"lookup: expected at most {enrichment.bytes_max} bytes of event "
                    detail += f"and rows, found {len(value)}"
                    return self.answered(self.letter(record, event, now_ms, "too-large", detail))
                own_key = event.key if lookup.is_global else None
                partition = partition_of(own_key or key, lookup.partitions)
                return (Publish(lookup.topic, partition, key, value, (), now_ms),)
            if lookup.missing is not OnMissing.NULL:
                said = "none" if not key else f"{len(key)} bytes"
                detail = f"lookup.{lookup.name}: expected a key of 1 to {_KEY_BYTES_MAX} bytes "
                detail += f"in the event, found {said}"
                return self.answered(self.letter(record, event, now_ms, "no-key", detail))
            found[lookup.name] = NULL
        return self.trigger.commands(record, event, now_ms, with_rows(facts, found))
