"""Keys of flows that are blocked, read from the state's changelogs while workers go on."""

from collections.abc import Mapping
from typing import Any

import msgspec

from edo_stream.core.act.keys import Blocked, KeyRow, decode_key_row
from edo_stream.observe.rows import read_rows


class BlockedKey(msgspec.Struct, frozen=True, order=True):
    """A key whose commands wait behind its head."""

    flow: str
    partition: int
    key: bytes
    group: str
    state: str
    """``waiting``, ``draining``, ``resting`` for its throttle, ``paused`` or ``stopped``."""
    head: str
    """Id of the command that the others wait for."""
    attempt: int
    """The head's next attempt, or when it is stopped its last."""
    due_ms: int | None
    """When the head is run again, or may begin; ``None`` unless it waits, or rests."""
    parked: int
    since_ms: int
    error: str
    """Class and reason of the head's last failure."""

    @property
    def is_retry(self) -> bool:
        """Whether its head waits to be run again, for its time or for its flow."""
        return self.state == "waiting" or (self.state == "paused" and bool(self.error))


class BlockedRows:
    """The rows of blocked keys in one changelog partition; takes records in log order."""

    def __init__(self) -> None:
        self._rows: dict[bytes, KeyRow] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[:1] != b"k":
            return
        if value is None:
            self._rows.pop(key[1:], None)
        else:
            self._rows[key[1:]] = decode_key_row(value)

    def keys(self, group: str, partition: int) -> list[BlockedKey]:
        """Blocked keys, as of the last record taken."""
        found = []
        for queue, row in self._rows.items():
            flow, _, key = queue.partition(b"\0")
            found.append(
                BlockedKey(
                    flow=flow.decode(),
                    partition=partition,
                    key=key,
                    group=group,
                    state=row.state,
                    head=row.head,
                    attempt=row.attempt,
                    due_ms=row.due_ms if row.blocked is Blocked.WAITING or row.is_resting else None,
                    parked=row.parked,
                    since_ms=row.since_ms,
                    error=row.error,
                )
            )
        return found


async def read_blocked(
    changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> list[BlockedKey]:
    """Read which keys are blocked now; ``changelogs`` are the state's topics, by group of flows.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    rows = await read_rows(changelogs, broker, BlockedRows)
    return sorted(
        key
        for (group, partition), blocked in rows.items()
        for key in blocked.keys(group, partition)
    )


class OpenedRows:
    """The flows that an operator has stopped, in one changelog partition."""

    def __init__(self) -> None:
        self.flows: set[str] = set()

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[:1] == b"b":
            change = self.flows.discard if value is None else self.flows.add
            change(key[1:].decode())


async def read_opened(
    changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> dict[str, list[int]]:
    """Read which flows an operator has stopped, and in which partitions.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    rows = await read_rows(changelogs, broker, OpenedRows)
    found: dict[str, list[int]] = {}
    for (_, partition), opened in rows.items():
        for flow in opened.flows:
            found.setdefault(flow, []).append(partition)
    return found
