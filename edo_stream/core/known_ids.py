"""Ids in memory: the digests of what was seen, each with the time at which it expires.

What goes in and out is a record of the ids' changelog: an expiry (4 bytes, big endian, epoch
seconds), and digests of 16 bytes. Where there is a C compiler, an id takes 27 to 53 bytes
(more for a while where many have gone).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from edo_stream.core.native import IS_COMPILED

DIGEST_BYTES: Final = 16
EXPIRY_BYTES: Final = 4

IN_MEMORY_MAX: Final = 2_000_000 if IS_COMPILED else 400_000
"""Ids of a worker: about 100 MB."""


@dataclass(slots=True)
class IdsBudget:
    """How many ids the tasks of a worker keep in memory, all together."""

    ids_max: int = IN_MEMORY_MAX
    ids: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether there is room for no more."""
        return self.ids >= self.ids_max


def digests_in(record: bytes) -> Iterator[bytes]:
    """Digests of a record."""
    for at in range(EXPIRY_BYTES, len(record), DIGEST_BYTES):
        yield record[at : at + DIGEST_BYTES]


class IdsInPython:
    """Ids and when they expire; the later record of an id counts."""

    def __init__(self) -> None:
        self._expiries: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._expiries)

    def add(self, record: bytes) -> None:
        """Remember the ids of a record."""
        expiry = record[:EXPIRY_BYTES]
        for digest in digests_in(record):
            self._expiries[digest] = expiry

    def remove(self, record: bytes) -> None:
        """Forget the ids of a record, but for those that a later one has remembered again."""
        expiry = record[:EXPIRY_BYTES]
        for digest in digests_in(record):
            if self._expiries.get(digest) == expiry:
                del self._expiries[digest]

    def recall(self, digests: Sequence[bytes]) -> list[bytes | None]:
        """Expiries of digests; ``None`` for what is not known."""
        return [self._expiries.get(digest) for digest in digests]


if IS_COMPILED or TYPE_CHECKING:
    from edo_stream.core._native import IdSet

KnownIds: TypeAlias = "IdSet | IdsInPython"


def new_ids() -> KnownIds:
    """An empty set of ids."""
    return IdSet() if IS_COMPILED else IdsInPython()
