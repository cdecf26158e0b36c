"""What an event triggers: the command of a flow, written in the event's own transaction.

An event that a flow wants, and of which no command can be made, is a dead letter of the flow: it
has no key, its data cannot be made, or it is too large for the topic of commands. A flow that
splits has a command for each element of an event's list (:mod:`edo_stream.core.pieces`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from edo_stream.core.act.command import ALONE, ANNOUNCED, CANCEL
from edo_stream.core.act.tags import CANCEL_TAG, TAGS, encode_tag, encode_tags
from edo_stream.core.asked import DEAD_LETTER, Asker, Replies
from edo_stream.core.contract import Contract
from edo_stream.core.correlation.ends import SPLIT, EndFeed
from edo_stream.core.correlation.joined import Joined
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, derive_id, id_start
from edo_stream.core.facts import Facts, Make, UnmadeError
from edo_stream.core.headers import (
    JSON_CONTENT,
    SPECVERSION,
    WRITTEN,
    Header,
    size_of,
    time_text,
    utf8,
)
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.partitioner import partition_of
from edo_stream.core.pieces import (
    BYTES_MAX,
    NAMES,
    OnEmpty,
    Piece,
    Split,
    UnsplitError,
    pieces_of,
    split_headers,
)
from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve
from edo_stream.core.record import Record
from edo_stream.core.sizes import (
    FRAME_BYTES,
    HEADROOM_BYTES,
    bytes_of,
    fits,
    fitting_end,
    fitting_letter,
)
from edo_stream.core.task import TaskIdentity

if IS_COMPILED:
    from edo_stream.core import _native
    from edo_stream.core._native import PlainCommand, PlainFeed, PlainKey, ResultHeaders

_OURS: Final = "edo-"
"""How headers begin that say how a command was tried; no event has a say in that."""
_DETAIL_CHARS_MAX: Final = 1_000
_EMPTY: Final = "empty"
#: Headers of what cancels commands.
_TOLD: Final = frozenset(
    {"ce_specversion", "ce_id", "ce_type", "ce_causationid", "edo-flow", "edo-position"}
)
_ANNOUNCED_BYTES_MAX: Final = 8_192


@dataclass(frozen=True, slots=True)
class FlowTrigger:
    """A flow on a topic: where its commands go, and what they are keyed by and made of."""

    flow: str
    commands: str
    """Topic of its commands."""
    dead_letters: str
    """For events of which no command can be made."""
    partitions: int
    """Of both."""
    key: str | None = None
    """``None``: the event's key. Else ``record``, ``subject`` or a JSON pointer into the data."""
    make: Make | None = None
    """What makes a command's data; ``None``: it is the event's, byte for byte."""
    owner: str = ""
    """Of the dead letters."""
    bytes_max: int = 1_048_576
    """What the topic of commands takes."""
    cancels: bool = False
    """Its events are no commands: they cancel those of their key that lie before them."""
    control: str = ""
    """Topic on which that is announced, with as many partitions."""
    cancels_tag: str | None = None
    """Those whose field of this name is what ``key`` reads, instead of those of the key."""
    tags: tuple[str, ...] = ()
    """Where fields are by which others cancel the commands; written as ``key`` is."""
    split: Split | None = None
    """What of an event is a command each; ``None``: the event is one."""
    replies: Replies | None = None
    """Where an event may ask to be told of its end; of a split one, by the flow that gathers."""


def plain_key(place: str | None, tokens: Iterable[str]) -> "PlainKey":
    """What reads keys of plain events; ``tokens`` are those of a pointer."""
    kinds = {
        None: _native.KEY_IS_EVENT,
        "record": _native.KEY_IS_RECORD,
        "subject": _native.KEY_IS_SUBJECT,
    }
    return PlainKey(kinds.get(place, _native.KEY_IS_POINTER), tokens)


class Trigger:
    """A trigger within one task of its topic."""

    def __init__(self, identity: TaskIdentity, contract: Contract, trigger: FlowTrigger) -> None:
        self._identity = identity
        self._trigger = trigger
        self._place = (contract.topic, str(identity.partition))
        self._source = ("ce_source", utf8(f"/edo/{identity.app}"))
        self._flow = ("edo-flow", utf8(trigger.flow))
        self._pointer = _pointer_of(trigger.key)
        self._tags = [(place, _pointer_of(place)) for place in trigger.tags]
        self._kind = "cancel" if trigger.cancels else "command"
        of_tags = any(pointer for _, pointer in self._tags)
        self.looks = any((self._pointer, trigger.make, trigger.split, of_tags))
        """Whether it asks for more of an event than its attributes."""

    def compiled(self) -> "PlainCommand | PlainFeed | None":
        """What writes commands of plain events, if there is such a thing."""
        trigger = self._trigger
        is_plain = trigger.make is None and trigger.split is None
        is_plain = is_plain and not trigger.cancels and not trigger.tags
        if not (IS_COMPILED and is_plain):
            return None
        cause = ("command", self._identity.app, trigger.flow, *self._place)
        place = f"{'/'.join(self._place)}/".encode()
        return PlainCommand(
            ResultHeaders(id_start(*cause), self._source[1], place, ()),
            plain_key(trigger.key, self._pointer or ()),
            trigger.commands,
            trigger.partitions,
            trigger.bytes_max - FRAME_BYTES,
            self._flow[1],
            WRITTEN,
            time_text,
        )

    def commands(
        self, record: Record, event: Event, now_ms: int, facts: Facts | None = None
    ) -> Sequence[Publish]:
        """The commands for an event, of a split one as many as it has elements.

        Where one of them cannot be made, there is a dead letter of the flow, and no command.
        """
        split = self._trigger.split
        if split is None:
            return self._unsplit(record, event, now_ms, facts)
        facts = facts or Facts(event)
        try:
            pieces = pieces_of(split, event, facts)
            told = self._told(record, event, now_ms, split, len(pieces))
        except UnsplitError as error:
            return self.answered(self.letter(record, event, now_ms, error.reason, str(error)))
        commands: list[Publish] = []
        if not pieces and split.empty is OnEmpty.NOTHING:
            _, *replies = self.answered(self._nothing(record, event, now_ms, split), _EMPTY)
            return replies
        size_bytes = 0
        for piece in pieces:
            command = self.command(record, event, now_ms, piece.facts(facts), piece)
            if command.topic == self._trigger.dead_letters:
                return self.answered(command)
            size_bytes += len(command.value or b"") + size_of(command.headers)
            if size_bytes > BYTES_MAX:
                detail = f"split: expected at most {BYTES_MAX} bytes of all commands, found more"
                return self.answered(self.letter(record, event, now_ms, "too-large", detail))
            commands.append(command)
        if not pieces:
            commands.append(self._nothing(record, event, now_ms, split))
        return commands + told

    def answered(self, end: Publish, kind: str = DEAD_LETTER) -> Sequence[Publish]:
        """The end of an event without a command, with its reply if it has asked for one."""
        replies = self._trigger.replies
        return (end,) if replies is None else replies.answered(end, kind)

    def command(
        self,
        record: Record,
        event: Event,
        now_ms: int,
        facts: Facts | None = None,
        piece: Piece | None = None,
    ) -> Publish:
        """The command for an event, or a piece of it; or a dead letter where none can be made.

        ``facts`` is the look at the event that others share.
        """
        trigger = self._trigger
        key = None if piece is None else piece.key
        if key is None:
            key = self._key_of(record, event, facts)
        if key is None:
            detail = f"key: expected {trigger.key} in the event, found none"
            return self.letter(record, event, now_ms, "no-key", detail)
        data, headers = event.data, self._headers(record, event)
        if self._tags:
            headers += self._tagged(record, event, facts)
        if piece is not None:
            data, headers = piece.data, _of_piece(headers, self._id_of(record, piece), piece)
        if trigger.make is not None:
            try:
                data = trigger.make(facts or Facts(event))
            except UnmadeError as error:
                where = "" if piece is None else f" (element {piece.index})"
                return self.letter(record, event, now_ms, "input", f"{error}{where}")
        if trigger.make is not None or piece is not None:
            headers = [header for header in headers if header[0] != JSON_CONTENT[0]]
            headers.append(JSON_CONTENT)
        size_bytes = len(key) + len(data or b"") + size_of(headers)
        if size_bytes > trigger.bytes_max - FRAME_BYTES:
            detail = f"command: expected at most {trigger.bytes_max} bytes, found {size_bytes}"
            return self.letter(record, event, now_ms, "too-large", detail)
        partition = partition_of(key, trigger.partitions)
        return Publish(trigger.commands, partition, key, data, headers, now_ms)

    def _unsplit(
        self, record: Record, event: Event, now_ms: int, facts: Facts | None
    ) -> Sequence[Publish]:
        if self._trigger.cancels:
            return self._cancelling(record, event, now_ms, facts)
        command = self.command(record, event, now_ms, facts)
        is_letter = command.topic == self._trigger.dead_letters
        return self.answered(command) if is_letter else (command,)

    def _cancelling(
        self, record: Record, event: Event, now_ms: int, facts: Facts | None
    ) -> Sequence[Publish]:
        """What cancels: a mark among the commands, and before it the announcement of it."""
        trigger, key = self._trigger, self._key_of(record, event, facts)
        if key is None:
            detail = f"key: expected {trigger.key} in the event, found none"
            return (self.letter(record, event, now_ms, "no-key", detail),)
        told = [header for header in self._headers(record, event) if header[0] in _TOLD]
        size_bytes = len(key) + size_of(told)
        if size_bytes > trigger.bytes_max - FRAME_BYTES:
            detail = f"key: expected at most {trigger.bytes_max} bytes, found {size_bytes}"
            return (self.letter(record, event, now_ms, "too-large", detail),)
        is_announced = bool(trigger.control) and size_bytes <= _ANNOUNCED_BYTES_MAX
        told.append((CANCEL, (ANNOUNCED if is_announced else ALONE).encode()))
        marks = []
        if trigger.cancels_tag is None:
            partition = partition_of(key, trigger.partitions)
            marks.append(Publish(trigger.commands, partition, key, None, told, now_ms))
        else:
            # Wherever the commands are that have it, by whatever keys.
            tag = (CANCEL_TAG, encode_tag(trigger.cancels_tag, key.decode("utf-8", "replace")))
            rest = [header for header in told if header[0] != "ce_id"]
            for partition in range(trigger.partitions):
                mark_id = self._id_of(record, more=(trigger.cancels_tag, str(partition)))
                headers: list[Header] = [("ce_id", mark_id.encode()), *rest, tag]
                marks.append(Publish(trigger.commands, partition, key, None, headers, now_ms))
        announced = [replace(mark, topic=trigger.control) for mark in marks if is_announced]
        return [*announced, *marks]

    def _tagged(self, record: Record, event: Event, facts: Facts | None) -> list[Header]:
        """The fields of an event by which others cancel its commands."""
        found = {
            place: value.decode("utf-8", "replace")
            for place, pointer in self._tags
            if (value := _value_of((place, pointer), record, event, facts))
        }
        return [(TAGS, encode_tags(found))] if found else []

    def _headers(self, record: Record, event: Event) -> list[Header]:
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", self._id_of(record).encode()),
            self._source,
            ("ce_type", utf8(event.type)),
            ("ce_correlationid", utf8(event.correlation_id or event.id)),
            ("ce_causationid", utf8(event.id)),
            self._flow,
            ("edo-position", "/".join((*self._place, str(record.offset))).encode()),
        ]
        if event.subject is not None:
            headers.append(("ce_subject", utf8(event.subject)))
        if event.time_ms is not None and (time := time_text(event.time_ms)) is not None:
            headers.append(("ce_time", time))
        if event.content_type is not None:
            headers.append(("content-type", utf8(event.content_type)))
        headers += [
            header
            for header in event.extensions
            if header[0] not in WRITTEN and not header[0].startswith(_OURS)
        ]
        return headers

    def _id_of(self, record: Record, piece: Piece | None = None, more: tuple[str, ...] = ()) -> str:
        place = (*self._place, str(record.offset))
        more = more if piece is None else (str(piece.index),)
        return derive_id(self._kind, self._identity.app, self._trigger.flow, *place, *more)

    def _told(
        self, record: Record, event: Event, now_ms: int, split: Split, count: int
    ) -> list[Publish]:
        """What tells who gathers that an event was split, and into how many.

        Raises:
            UnsplitError: it is too large for that, so there may be no commands either.
        """
        if not count and split.empty is OnEmpty.NOTHING:
            return []
        joined = Joined(
            flow="",
            input=SPLIT,
            id=event.id,
            source=event.source,
            type=event.type,
            position="/".join((*self._place, str(record.offset))),
            data=event.data,
            is_json=parse_json(event.data) is not MISSING,
            time_ms=event.time_ms,
            subject=event.subject,
            correlation_id=event.correlation_id,
            content_type=event.content_type,
            expect=count,
        )
        found: list[Publish] = []
        for feed in split.ends:
            asking = replace(joined, asker=_asker(feed, event))
            told = feed.record(event.id, asking, now_ms)
            if not fits(told, feed.bytes_max):
                detail = f"split: expected an event of at most {feed.bytes_max} bytes, as flow "
                detail += f"{feed.flow} gathers what comes of it, found {bytes_of(told)}"
                raise UnsplitError("too-large", detail)
            found.append(told)
        return found

    def _nothing(self, record: Record, event: Event, now_ms: int, split: Split) -> Publish:
        """An outcome of no command: it tells that an event's list was empty."""
        empty = self.outcome(record, event, now_ms, _EMPTY, split.outcomes, b'{"count":0}')
        return replace(empty, headers=[*empty.headers, *split_headers(event.id, None, 0)])

    def outcome(  # noqa: PLR0913 - what an event is made of
        self, record: Record, event: Event, now_ms: int, kind: str, topic: str, data: bytes
    ) -> Publish:
        """An outcome of no command: it tells what else came of an event."""
        told = dict(header for header in self._headers(record, event) if header[0] not in NAMES)
        told["ce_id"] = derive_id(kind, self._id_of(record)).encode()
        told["ce_type"] = utf8(f"edo.{self._trigger.flow}.{kind}")
        told["content-type"] = JSON_CONTENT[1]
        key = self._key_of(record, event, None) or event.key
        # A key that no command could have, the outcome has not either.
        key = key if len(key) <= self._trigger.bytes_max - HEADROOM_BYTES else b""
        partition = partition_of(key, self._trigger.partitions)
        outcome = Publish(topic, partition, key, data, [*told.items()], now_ms)
        return fitting_end(outcome, self._trigger.bytes_max)

    def letter(
        self, record: Record, event: Event, now_ms: int, reason: str, detail: str
    ) -> Publish:
        """The dead letter of the flow for an event, with the event's data; too large, without."""
        trigger = self._trigger
        why: list[Header] = [
            ("edo-id", derive_id("dead-letter", self._id_of(record)).encode()),
            ("edo-reason", utf8(reason)),
            ("edo-class", b"poison"),
            ("edo-detail", utf8(detail[:_DETAIL_CHARS_MAX])),
            ("edo-attempts", b"0"),
            ("edo-owner", utf8(trigger.owner)),
            ("edo-app", utf8(self._identity.app)),
            ("edo-at", b"%d" % now_ms),
        ]
        partition = self._identity.partition % trigger.partitions
        headers = self._headers(record, event)
        letter = Publish(trigger.dead_letters, partition, event.key, event.data, headers, now_ms)
        return fitting_letter(letter, why, trigger.bytes_max + HEADROOM_BYTES)

    def _key_of(self, record: Record, event: Event, facts: Facts | None) -> bytes | None:
        return _value_of((self._trigger.key, self._pointer), record, event, facts)


def _pointer_of(place: str | None) -> tuple[str, ...] | None:
    return parse_pointer(place) if place is not None and place.startswith("/") else None


def _value_of(
    named: tuple[str | None, tuple[str, ...] | None],
    record: Record,
    event: Event,
    facts: Facts | None,
) -> bytes | None:
    """What an event has at a place, and the tokens of it where it is a pointer."""
    place, pointer = named
    if place is None:
        return event.key
    if place == "record":
        return record.key
    if place == "subject":
        return None if event.subject is None else utf8(event.subject)
    facts = facts or Facts(event)
    value = facts.attributes.get(place) if pointer is None else resolve(facts.data, pointer)
    if isinstance(value, str) and value:
        return utf8(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    return None


def _asker(end: EndFeed, event: Event) -> Asker | None:
    """Who asks by an event that is split to be told what becomes of the whole."""
    if end.replies is None:
        return None
    return end.replies.asker(event.extensions, event.id, event.correlation_id)


def _of_piece(headers: list[Header], command_id: str, piece: Piece) -> list[Header]:
    """The headers of an element's command: an id and a place of its own."""
    kept = [header for header in headers if header[0] not in NAMES and header[0] != "ce_id"]
    return [("ce_id", command_id.encode()), *kept, *piece.headers()]
