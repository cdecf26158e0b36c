"""What Kafka delivers, undecoded: the one shape in which records enter the core."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

Headers = Sequence[tuple[str, bytes | None]]
"""A header may be null, by Kafka's protocol, and stays so in what repeats it."""


class Record(Protocol):
    """A record at its position; the names are those of the client library's record."""

    @property
    def topic(self) -> str:
        """Topic that it was read from."""

    @property
    def partition(self) -> int:
        """Partition, from 0."""

    @property
    def offset(self) -> int:
        """Position in the partition, from 0; not contiguous (transaction markers, compaction)."""

    @property
    def timestamp(self) -> int:
        """Producer's or broker's time, epoch ms; -1 when the record has none."""

    @property
    def key(self) -> bytes | None:
        """Key as sent."""

    @property
    def value(self) -> bytes | None:
        """Value as sent; ``None`` is a tombstone."""

    @property
    def headers(self) -> Headers:
        """Headers in the order sent; a name may occur more than once."""


class PlainRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it was fetched: what the core reads of it, and no more."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class StoredRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record that rests in state (held, parked): the original, byte for byte."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def stored(record: Record) -> StoredRecord:
    """Copy a record out of the client's fetch buffer."""
    return StoredRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
    )


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Consecutive records of one partition of one source topic, never empty."""

    topic: str
    partition: int
    records: Sequence[Record]
