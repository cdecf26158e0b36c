"""Dead letters, of topics and of flows, and which of them somebody has seen.

A letter keeps its record's key, value and headers; what edo_stream adds are headers that begin with
``edo-``. Acknowledgements are rows of a compacted topic of their own, by the letter's id: a letter
itself never changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka.structs import ConsumerRecord

from edo_stream.observe.rows import read_topics

ACKS: Final = "edo.dead-letter-acks"
ACKS_PARTITIONS: Final = 8

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
    ack: "Ack | None" = None


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who has seen a letter, and what they did."""

    by: str
    at_ms: int
    action: str
    """``acknowledged`` or ``redriven``."""
    note: str = ""


def letter_of(record: ConsumerRecord) -> Letter:
    """Read a letter; what is missing in one that others wrote is empty."""
    ours = {
        name: (value or b"").decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith("edo-")
    }
    place = f"{record.topic}/{record.partition}/{record.offset}"
    source = "/".join(ours.get(f"edo-{part}", "") for part in ("topic", "partition", "offset"))
    return Letter(
        id=ours.get("edo-id") or place,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=_number(ours.get("edo-at"), record.timestamp),
        origin=ours.get("edo-origin") or (source if "edo-topic" in ours else place),
        reason=ours.get("edo-reason", ""),
        failure=ours.get("edo-class", "poison"),
        detail=ours.get("edo-detail", ""),
        attempts=_number(ours.get("edo-attempts"), 0),
        owner=ours.get("edo-owner", ""),
        flow=ours.get("edo-flow"),
        key=record.key,
        value=record.value,
        headers=tuple((name, value) for name, value in record.headers if name[:4] != "edo-"),
        redrive=_number(ours.get("edo-redrive"), 0),
    )


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else default


async def read_letters(topics: Sequence[str], broker: Mapping[str, Any]) -> list[Letter]:
    """Read all letters of the topics, the oldest first, each with its acknowledgement if any.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    letters: list[Letter] = []
    acks: dict[bytes, Ack | None] = {}

    def take(record: ConsumerRecord) -> None:
        if record.topic == ACKS:
            acks[record.key] = None if record.value is None else _ack(record.value)
        else:
            letters.append(letter_of(record))

    await read_topics([ACKS, *topics], broker, take)
    letters.sort(key=lambda letter: (letter.at_ms, letter.topic, letter.partition, letter.offset))
    return [msgspec.structs.replace(one, ack=acks.get(one.id.encode())) for one in letters]


def _ack(value: bytes) -> Ack | None:
    try:
        return msgspec.json.decode(value, type=Ack)
    except ValueError:
        return None


def oldest_by_owner(letters: Iterable[Letter]) -> dict[str, tuple[int, int]]:
    """Letters that nobody has acknowledged, by owner: how many, and since when the oldest waits."""
    found: dict[str, tuple[int, int]] = {}
    for letter in letters:
        if letter.ack is None:
            count, since_ms = found.get(letter.owner, (0, letter.at_ms))
            found[letter.owner] = (count + 1, min(since_ms, letter.at_ms))
    return found
