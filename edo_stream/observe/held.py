"""What waits in gap buffers, read from the state's changelogs while workers go on.

A changelog partition holds whole transactions, so a row that speaks of held events and the held
events themselves are of one moment. The records that are held are not kept: a buffer may have
gigabytes of them.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from edo_stream.core.assembly import ASSEMBLY, AssemblyRow, decode_assembly
from edo_stream.core.held import HELD, parse_held
from edo_stream.core.idle import SEQUENCE
from edo_stream.core.sequence import SequenceRow, decode_sequence
from edo_stream.observe.rows import read_rows


class HeldKey(msgspec.Struct, frozen=True, order=True):
    """A key whose events wait for a number before theirs."""

    topic: str
    partition: int
    key: bytes
    group: str
    next: int
    """The number that is waited for."""
    held: int
    lowest: int
    highest: int
    since_ms: int
    """When the event that waits longest was held, epoch ms."""
    due_ms: int | None
    """When the wait ends by itself; ``None``: never."""


class HeldRows:
    """The rows of one changelog partition that tell what is held; takes records in log order."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, SequenceRow | AssemblyRow] = {}
        self._numbers: dict[bytes, dict[int, int]] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row, which may never have been seen."""
        match key[:1]:
            case kind if kind == SEQUENCE:
                self._wait(key[1:], None if value is None else decode_sequence(value))
            case kind if kind == ASSEMBLY:
                self._wait(key[1:], None if value is None else decode_assembly(value))
            case kind if kind == HELD:
                name, number, held_at_ms = parse_held(key, value)
                if held_at_ms is None:
                    self._forget(name, number)
                else:
                    self._numbers.setdefault(name, {})[number] = held_at_ms

    def _wait(self, name: bytes, row: SequenceRow | AssemblyRow | None) -> None:
        if row is None or not row.held:
            self._waiting.pop(name, None)
        else:
            self._waiting[name] = row

    def _forget(self, name: bytes, number: int) -> None:
        numbers = self._numbers.get(name, {})
        numbers.pop(number, None)
        if not numbers:
            self._numbers.pop(name, None)

    def keys(self, group: str, partition: int) -> list[HeldKey]:
        """Keys that wait, as of the last record taken."""
        found = []
        for name, row in self._waiting.items():
            numbers = self._numbers.get(name)
            if numbers is None:
                # Compaction took the rows while they were read: the key has moved on since.
                continue
            topic, _, key = name.partition(b"\0")
            found.append(
                HeldKey(
                    topic=topic.decode(),
                    partition=partition,
                    key=key,
                    group=group,
                    next=_next(row, numbers),
                    held=len(numbers),
                    lowest=min(numbers),
                    highest=max(numbers),
                    since_ms=min(numbers.values()),
                    due_ms=row.due_ms,
                )
            )
        return found


def _next(row: SequenceRow | AssemblyRow, numbers: Mapping[int, int]) -> int:
    """The number that is waited for; of a transaction its end, and then the first missing."""
    if isinstance(row, SequenceRow):
        return row.next
    return next(number for number in range(len(numbers) + 1) if number not in numbers)


async def read_held(changelogs: Mapping[str, str], broker: Mapping[str, Any]) -> list[HeldKey]:
    """Read what is held now in all groups; ``changelogs`` are their state's topics, by group.

    ``broker`` is what a client needs to connect.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    rows = await read_rows(changelogs, broker, HeldRows)
    return sorted(
        key for (group, partition), held in rows.items() for key in held.keys(group, partition)
    )
