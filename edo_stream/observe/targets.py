"""What the owners of targets know of them, read from their changelog while workers go on."""

from collections.abc import Mapping
from typing import Any

import msgspec

from edo_stream.core.act.breaker import BreakerState
from edo_stream.core.act.keeper import TargetRow, decode_target_row
from edo_stream.observe.rows import read_rows


class KnownTarget(msgspec.Struct, frozen=True):
    """A target as its owner has last written it."""

    state: str
    """``closed``, ``open`` or ``half-open``: the breaker of the whole fleet."""
    since_ms: int
    """When that began, epoch ms by the owner's clock."""
    why: str
    """What opened it; empty when it is closed."""
    by: str | None
    """Worker whose report led to the state; ``None`` where time did."""
    until_ms: int | None
    """When it lets a probe through; ``None`` unless it is open."""
    probing: str | None
    """Worker that probes now."""
    opened: int
    """How often it has opened."""
    owner: str
    """Worker that decides."""


class TargetRows:
    """The targets of one changelog partition; takes records in log order."""

    def __init__(self) -> None:
        self.rows: dict[str, TargetRow] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[:1] != b"t":
            return
        if value is None:
            self.rows.pop(key[1:].decode(), None)
        else:
            self.rows[key[1:].decode()] = decode_target_row(value)


async def read_targets(changelog: str, broker: Mapping[str, Any]) -> dict[str, KnownTarget]:
    """Read what is known of each target that was ever called, by its name.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    found = await read_rows({"targets": changelog}, broker, TargetRows)
    return {name: _known(row) for rows in found.values() for name, row in rows.rows.items()}


def _known(row: TargetRow) -> KnownTarget:
    return KnownTarget(
        state=row.state.value,
        since_ms=row.since_ms,
        why=row.why,
        by=_shown(row.by),
        until_ms=row.until_ms if row.state is BreakerState.OPEN else None,
        probing=None if row.probe is None else _shown(row.probe[0]),
        opened=row.opened,
        owner=_shown(row.owner) or "",
    )


def _shown(worker: str) -> str | None:
    """Machine and process; when it began tells nobody anything."""
    return worker.rpartition("/")[0] or worker or None
