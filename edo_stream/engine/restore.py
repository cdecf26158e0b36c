"""Bring a table's disk up to the end of its changelog, from where it stands."""

import logging
from collections.abc import Callable
from contextlib import aclosing

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.state import Expand, Table, as_is
from edo_stream.engine.ports import Changelog, Disk

log = logging.getLogger(__name__)

#: ``delete.retention.ms`` of compacted changelogs. A disk that was away for longer may have
#: missed a tombstone, and a deleted row would live again; so it starts from nothing.
TOMBSTONES_KEPT_MS = 7 * 86_400_000


Refusal = Callable[[Table], str | None]
"""Says why a task must not go on with a restored table, or ``None``."""


def nothing_refused(_: Table) -> None:
    """Go on with whatever is there."""


class TaskTable:
    """One table of one task: its rows, its disk and its changelog partition."""

    def __init__(
        self,
        changelog: TopicPartition,
        disk: Disk,
        expand: Expand,
        refusal: Refusal = nothing_refused,
    ) -> None:
        self.changelog = changelog
        self.disk = disk
        self.expand = expand
        self.rows = Table(disk, expand)
        self._refusal = refusal

    def refusal(self) -> str | None:
        """Why the task must not go on with what was restored, if so."""
        return self._refusal(self.rows)

    def write_through(self, offset: int | None, now_ms: int) -> None:
        """Move the rows of a committed transaction to the disk, with their changelog offset."""
        if self.rows.local or offset is not None:
            self.disk.write(self.rows.local, offset, now_ms)
        self.rows.settle()


class Restored(msgspec.Struct, frozen=True):
    """How much a restore read: ``records`` from ``start`` to ``end`` (exclusive)."""

    records: int
    start: int
    end: int


async def restore(table: TaskTable, changelog: Changelog, now_ms: int) -> Restored:
    """Apply what the changelog has beyond the disk, committed records only.

    Call it when the former owner is fenced: nobody else can extend the changelog then.
    """
    table.rows.discard()
    first, end = await changelog.bounds(table.changelog)
    start = start_offset(table, first, end, now_ms)
    # Until the end is reached the disk is as old as it was: a restore that breaks off must not
    # make it look fresh.
    stamp_ms = table.disk.written_at_ms() or now_ms
    records = 0
    # Closed by hand: after an error here the reader would hold its connection until it is
    # collected, and with it one of the few places for readers.
    async with aclosing(changelog.read(table.changelog, start, end)) as parts:
        async for part in parts:
            rows: dict[bytes, bytes | None] = {}
            expand = table.expand
            if expand is as_is:
                rows.update([(key, value) for _, key, value in part])
            else:
                for _, key, value in part:
                    rows.update(expand(key, value))
            table.disk.write(rows, part[-1].offset, stamp_ms)
            records += len(part)
    if records:
        table.disk.write({}, None, now_ms)
    return Restored(records, start, end)


def start_offset(table: TaskTable, first: int, end: int, now_ms: int) -> int:
    """Offset to go on at, behind what is on the disk; one that cannot be built upon is wiped.

    ``first`` and ``end`` are the changelog's bounds.
    """
    offset = _usable_offset(table, end, now_ms)
    return max(first, 0 if offset is None else offset + 1)


def _usable_offset(table: TaskTable, end: int, now_ms: int) -> int | None:
    offset = table.disk.offset()
    written_at_ms = table.disk.written_at_ms()
    if offset is None:
        return None
    reason = None
    if offset >= end:
        reason = f"it is ahead of the changelog ({offset} >= {end}): the topic was created anew"
    elif written_at_ms is not None and now_ms - written_at_ms > TOMBSTONES_KEPT_MS:
        reason = "it is older than the changelog's tombstones"
    if reason is None:
        return offset
    log.warning("disk wiped, restoring in full: %s-%d: %s", *table.changelog, reason)
    table.disk.wipe()
    return None
