"""How an event of a topic comes to the task that owns its correlation key: by an internal topic.

It stands beside the triggers of commands (:mod:`edo_stream.core.trigger`) and is asked like one:
the router has decided that an input of a flow wants the event. What the correlation needs of it is
read here, once; the task that correlates looks at no contract any more. The record is written in
the event's own transaction, so it is there once, or the event has not been read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from msgspec.structs import replace

from edo_stream.core.asked import DEAD_LETTER, Asker, Replies
from edo_stream.core.contract import Contract
from edo_stream.core.correlation.joined import Joined, encode_joined, joined_frame
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts
from edo_stream.core.headers import publishable_ms, utf8
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.partitioner import partition_of
from edo_stream.core.pointer import MISSING, parse_pointer, resolve
from edo_stream.core.record import Record
from edo_stream.core.sizes import FRAME_BYTES
from edo_stream.core.task import TaskIdentity
from edo_stream.core.trigger import FlowTrigger, Trigger, plain_key

if IS_COMPILED:
    from edo_stream.core._native import PlainCommand, PlainFeed, PlainKey

_FLOW: Final = "edo-flow"
_KEY_BYTES_MAX: Final = 1_024
_MATCHED_CHARS_MAX: Final = 1_024
"""Of a text that an expression is tried on; the rest of a longer one is not looked at."""
_DATE_CHARS: Final = 10
_MEMBERS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class ValueOf:
    """Where a text is found in an event, and what is made of it."""

    place: str | None = None
    """``None``: the ordering key. Else ``record``, an attribute, or a JSON pointer."""
    match: re.Pattern[str] | None = None
    """What of the text counts: its first group, or all that it matches."""
    days: int | None = None
    """The text begins with a date, to which so many days are added; nothing else of it counts."""


@dataclass(frozen=True, slots=True)
class JoinTrigger:
    """An input of a flow on a topic: where its events go, and what is read of them."""

    flow: str
    input: str
    topic: str
    """Internal topic of the group."""
    partitions: int
    """Of it."""
    dead_letters: str
    """For events that cannot be correlated."""
    dead_letter_partitions: int
    owner: str
    key: ValueOf = ValueOf()
    member: ValueOf | None = None
    expect: ValueOf | None = None
    """Of a manifest: where it says how many there are, or lists which."""
    is_list: bool = False
    bytes_max: int = 1_048_576
    """What the internal topic takes."""
    replies: Replies | None = None
    """Where an event may ask to be told of its end."""
    letters_bytes_max: int = 1_048_576
    """What the topic of dead letters takes, but for 64 KiB more."""


class Feed:
    """A trigger of this kind within one task of its topic."""

    looks = True
    """Whether it asks for more of an event than its attributes."""

    def __init__(self, identity: TaskIdentity, contract: Contract, trigger: JoinTrigger) -> None:
        self._trigger = trigger
        self._place = f"{contract.topic}/{identity.partition}/"
        self._key = Reader(trigger.key)
        self._member = None if trigger.member is None else Reader(trigger.member)
        self._expect = None if trigger.expect is None else Reader(trigger.expect)
        letters = FlowTrigger(
            # Two inputs may give one event two letters, of two ids.
            flow=f"{trigger.flow}/{trigger.input}",
            commands="",
            dead_letters=trigger.dead_letters,
            partitions=trigger.dead_letter_partitions,
            owner=trigger.owner,
            bytes_max=trigger.letters_bytes_max,
        )
        self._letters = Trigger(identity, contract, letters)

    def compiled(self) -> "PlainCommand | PlainFeed | None":
        """What writes the records of plain events, if there is such a thing."""
        trigger = self._trigger
        if not IS_COMPILED or self._expect is not None or trigger.replies is not None:
            return None
        key = self._key.compiled()
        member = None if self._member is None else self._member.compiled()
        if key is None or (self._member is not None and member is None):
            return None
        return PlainFeed(
            key,
            member,
            trigger.topic,
            trigger.partitions,
            trigger.bytes_max - FRAME_BYTES,
            self._place.encode(),
            *joined_frame(trigger.flow, trigger.input),
        )

    def commands(
        self, record: Record, event: Event, now_ms: int, facts: Facts | None = None
    ) -> Sequence[Publish]:
        """The record for an event, as a trigger gives commands: one."""
        fed = self.command(record, event, now_ms, facts)
        return self.answered(fed) if fed.topic == self._trigger.dead_letters else (fed,)

    def command(
        self, record: Record, event: Event, now_ms: int, facts: Facts | None = None
    ) -> Publish:
        """The record for an event; where none can be made, a dead letter of the flow."""
        trigger, facts = self._trigger, facts or Facts(event)
        key = self._key.read(record, facts)
        if not key or len(key) > _KEY_BYTES_MAX:
            found = "none" if not key else f"{len(key)} bytes"
            detail = f"key: expected 1 to {_KEY_BYTES_MAX} bytes in the event, found {found}"
            return self.letter(record, event, now_ms, "no-key", detail)
        member = None
        if self._member is not None:
            value = self._member.read(record, facts)
            if not value or len(value) > _KEY_BYTES_MAX:
                detail = "member: expected a value in the event, found none that can be used"
                return self.letter(record, event, now_ms, "no-member", detail)
            member = value.decode("utf-8", "replace")
        expect, members = None, None
        if self._expect is not None:
            expect, members = self._told(record, facts)
            if expect is None and members is None:
                what = "a list of texts" if trigger.is_list else "a number"
                detail = f"from: expected {what} in the manifest, found none"
                return self.letter(record, event, now_ms, "no-manifest", detail)
        joined = Joined(
            flow=trigger.flow,
            input=trigger.input,
            id=event.id,
            source=event.source,
            type=event.type,
            position=f"{self._place}{record.offset}",
            data=event.data,
            is_json=facts.data is not MISSING,
            time_ms=event.time_ms,
            subject=event.subject,
            correlation_id=event.correlation_id,
            content_type=event.content_type,
            member=member,
            expect=expect,
            members=members,
            asker=self._asker(event),
        )
        value = encode_joined(joined)
        if len(key) + len(value) > trigger.bytes_max - FRAME_BYTES:
            detail = f"event: expected at most {trigger.bytes_max} bytes, found {len(value)}"
            return self.letter(record, event, now_ms, "too-large", detail)
        timestamp_ms = publishable_ms(record.timestamp, now_ms)
        partition = partition_of(key, trigger.partitions)
        return Publish(trigger.topic, partition, key, value, (), timestamp_ms)

    def _asker(self, event: Event) -> Asker | None:
        replies = self._trigger.replies
        if replies is None:
            return None
        return replies.asker(event.extensions, event.id, event.correlation_id)

    def answered(self, letter: Publish) -> Sequence[Publish]:
        """The dead letter of an event, with its reply if it has asked for one."""
        replies = self._trigger.replies
        return (letter,) if replies is None else replies.answered(letter, DEAD_LETTER)

    def letter(
        self, record: Record, event: Event, now_ms: int, reason: str, detail: str
    ) -> Publish:
        """The dead letter of the flow for an event, with the event's data."""
        letter = self._letters.letter(record, event, now_ms, reason, detail)
        headers = [header for header in letter.headers if header[0] != _FLOW]
        headers.append((_FLOW, utf8(self._trigger.flow)))
        headers.append(("edo-input", utf8(self._trigger.input)))
        return replace(letter, headers=headers)

    def _told(self, record: Record, facts: Facts) -> tuple[int | None, tuple[str, ...] | None]:
        """What a manifest says: a number, or a list of texts."""
        assert self._expect is not None, "it is a manifest"
        value = self._expect.find(record, facts)
        if self._trigger.is_list:
            if not isinstance(value, list) or not 0 < len(value) <= _MEMBERS_MAX:
                return None, None
            texts = [_text(one) for one in value]
            return None, tuple(t for t in dict.fromkeys(texts) if t) if all(texts) else None
        text = _text(value)
        is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 10
        return int(text) if text is not None and is_number else None, None


class Reader:
    """Reads one value of events."""

    def __init__(self, value: ValueOf) -> None:
        self._value = value
        place = value.place
        self._pointer = parse_pointer(place) if place is not None and place[0] == "/" else None

    def compiled(self) -> "PlainKey | None":
        """What reads it as it is of plain events; of attributes the subject only."""
        place, value = self._value.place, self._value
        is_known = place in (None, "record", "subject") or place[0] == "/"
        if not is_known or value.match is not None or value.days is not None:
            return None
        return plain_key(place, self._pointer or ())

    def find(self, record: Record, facts: Facts) -> Any:
        """The value as it is, bytes or JSON; ``None`` where there is none."""
        place = self._value.place
        if place is None:
            return facts.event.key
        if place == "record":
            return record.key
        if self._pointer is not None:
            found = resolve(facts.data, self._pointer)
            return None if found is MISSING else found
        return facts.attributes.get(place)

    def read(self, record: Record, facts: Facts) -> bytes | None:
        """The value as text; ``None`` where there is none, or not as it should be."""
        found = self.find(record, facts)
        value = self._value
        if isinstance(found, bytes):
            if value.match is None and value.days is None:
                return found
            found = found.decode("utf-8", "replace")
        text = _text(found)
        if text is not None and value.match is not None:
            match = value.match.search(text[:_MATCHED_CHARS_MAX])
            text = None if match is None else match[1 if value.match.groups else 0]
        if text is not None and value.days is not None:
            text = _day(text, value.days)
        return None if text is None else utf8(text)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _day(text: str, days: int) -> str | None:
    """The date that a text begins with, so many days later."""
    try:
        return (date.fromisoformat(text[:_DATE_CHARS]) + timedelta(days=days)).isoformat()
    except (ValueError, OverflowError):
        return None
