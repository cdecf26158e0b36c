"""Dead letters, of topics and of flows, and which of them somebody has seen.

A letter keeps its record's key, value and headers; what edo_stream adds are headers that begin with
``edo-``. Acknowledgements are rows of a compacted topic of their own, by the letter's id: a letter
itself never changes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from aiokafka.structs import ConsumerRecord

from edo_stream.core.correlation.outlet import JOINED
from edo_stream.core.lookup.path import SOUGHT
from edo_stream.observe.owners import Owners
from edo_stream.observe.rows import read_topics, topics_of
from edo_stream.registry.names import INTERNAL_PREFIX

PREFIX: Final = f"{INTERNAL_PREFIX}dead-letters."
ACKS: Final = "edo.dead-letter-acks"
ACKS_PARTITIONS: Final = 8

#: What a command is from its beginning: which event it is of, and whether a replay wrote it.
_THE_COMMANDS_OWN: Final = frozenset({"edo-position", "edo-replay"})

Header = tuple[str, bytes | None]


class Letter(msgspec.Struct, frozen=True):
    """One dead letter."""

    id: str
    topic: str
    """Of dead letters."""
    partition: int
    offset: int
    at_ms: int
    origin: str
    """``topic/partition/offset`` of the record that was given up."""
    reason: str
    failure: str
    """Class: ``poison``, ``transient`` …; of topics always ``poison``."""
    detail: str
    attempts: int
    owner: str
    flow: str | None
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    """The record's own, without what edo_stream has added."""
    redrive: int
    """How often it was sent again before."""
    due_ms: int | None
    """When it has to be acknowledged; ``None``: nothing is promised."""
    is_reference: bool
    """It was too large to be copied: its value is at its origin only."""
    joined: str = ""
    """Of an event that a flow waited with: all but its data, as the topic of joins had it."""
    sought: str = ""
    """Of an event that a flow looked something up for: all but its data, as it came to its task."""
    ack: "Ack | None" = None


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who has seen a letter, and what they did."""

    by: str
    at_ms: int
    action: str
    """``acknowledged`` or ``redriven``."""
    note: str = ""


def letter_id_of(record: ConsumerRecord, headers: Mapping[str, bytes]) -> bytes:
    """Name of a letter, by which it is acknowledged; of one that others wrote, its place."""
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return headers.get("edo-id") or place.encode()


def source_of(headers: Mapping[str, bytes]) -> tuple[str | None, str]:
    """Flow of a letter, and the topic that its record came from; empty where it is not said."""
    flow = headers.get("edo-flow")
    topic = headers.get("edo-topic", b"").decode("utf-8", "replace")
    return None if flow is None else flow.decode("utf-8", "replace"), topic


def letter_at_ms(record: ConsumerRecord, headers: Mapping[str, bytes]) -> int:
    """When a letter was written; its record may bear the time of the event."""
    return _number(headers.get("edo-at", b"").decode("utf-8", "replace"), int(record.timestamp))


def letter_of(record: ConsumerRecord, owners: Owners) -> Letter:
    """Read a letter; what is missing in one that others wrote is empty."""
    raw = {name: value or b"" for name, value in record.headers if name.startswith("edo-")}
    ours = {name: value.decode("utf-8", "replace") for name, value in raw.items()}
    place = f"{record.topic}/{record.partition}/{record.offset}"
    source = "/".join(ours.get(f"edo-{part}", "") for part in ("topic", "partition", "offset"))
    flow, source_topic = source_of(raw)
    terms = owners.of(record.topic, flow, source_topic, ours.get("edo-owner", ""))
    at_ms = letter_at_ms(record, raw)
    return Letter(
        id=letter_id_of(record, raw).decode("utf-8", "replace"),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=at_ms,
        origin=ours.get("edo-origin") or (source if "edo-topic" in ours else place),
        reason=ours.get("edo-reason", ""),
        failure=ours.get("edo-class", "poison"),
        detail=ours.get("edo-detail", ""),
        attempts=_number(ours.get("edo-attempts"), 0),
        owner=terms.owner,
        due_ms=None if terms.within_ms is None else at_ms + terms.within_ms,
        flow=flow,
        key=record.key,
        value=record.value,
        headers=tuple(
            (name, value)
            for name, value in record.headers
            if name[:4] != "edo-" or name in _THE_COMMANDS_OWN
        ),
        redrive=_number(ours.get("edo-redrive"), 0),
        is_reference="edo-reference" in ours,
        joined=ours.get(JOINED, ""),
        sought=ours.get(SOUGHT, ""),
    )


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else default


async def read_letters(app: str, owners: Owners, broker: Mapping[str, Any]) -> list[Letter]:
    """Read all letters, the oldest first, each with its acknowledgement if there is one.

    Those as well that the application has written for what is declared no more.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    letters: list[Letter] = []
    acks: dict[bytes, Ack | None] = {}

    def take(record: ConsumerRecord) -> None:
        if record.topic == ACKS:
            acks[record.key] = None if record.value is None else _ack(record.value)
        elif record.topic in owners.letters or ("edo-app", app.encode()) in record.headers:
            letters.append(letter_of(record, owners))

    topics = await topics_of(PREFIX, broker) | set(owners.letters)
    await read_topics([ACKS, *sorted(topics)], broker, take)
    letters.sort(key=lambda letter: (letter.at_ms, letter.topic, letter.partition, letter.offset))
    return [msgspec.structs.replace(one, ack=acks.get(one.id.encode())) for one in letters]


def _ack(value: bytes) -> Ack | None:
    try:
        return msgspec.json.decode(value, type=Ack)
    except ValueError:
        return None


async def read_acks(broker: Mapping[str, Any]) -> set[str]:
    """Ids of all letters that are acknowledged.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    acks: dict[bytes, bool] = {}

    def take(record: ConsumerRecord) -> None:
        acks[record.key] = record.value is not None

    await read_topics([ACKS], broker, take)
    return {name.decode("utf-8", "replace") for name, is_set in acks.items() if is_set}


class Backlog(msgspec.Struct):
    """Letters of an owner that nobody has acknowledged."""

    letters: int = 0
    oldest_ms: int = 0
    """Since when the oldest waits."""
    overdue: int = 0


def backlogs(letters: Iterable[Letter], now_ms: int) -> dict[str, Backlog]:
    """Put the letters that wait together by owner."""
    found: dict[str, Backlog] = {}
    for letter in letters:
        if letter.ack is None:
            backlog = found.setdefault(letter.owner, Backlog(oldest_ms=letter.at_ms))
            backlog.letters += 1
            backlog.oldest_ms = min(backlog.oldest_ms, letter.at_ms)
            backlog.overdue += letter.due_ms is not None and letter.due_ms < now_ms
    return found
