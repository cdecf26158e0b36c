"""Judge what has come out of a chaos run: the topics, the accounts, the tables and the disks.

The judge believes nobody: what must come out is computed from the bursts' profiles, the accounts
are audited against the topics, and the tables are recounted from their changelogs.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiokafka import TopicPartition

from edo_stream.core.dedupe import as_restored
from edo_stream.core.idle import SEQUENCE
from edo_stream.core.sequence import decode_sequence
from edo_stream.engine.assignment import GroupTable
from edo_stream.engine.plans import group_tables
from edo_stream.engine.store import RocksDisk
from edo_stream.observe.audit.reader import AuditSpec, audit_topics
from edo_stream.observe.audit.report import Report
from edo_stream.observe.outcome import Verdict
from edo_stream.registry import Registry
from edo_stream.registry.plan import ACCOUNTS
from load.expect import Comparison, Expectation, compare
from load.outcome import judge_topics
from load.read import count_records, read_ids, records

SOURCE: Final = "shop.order.placed"
EMIT: Final = "shop.order.accepted"
DEAD_LETTERS: Final = f"edo.dead-letters.{SOURCE}"
GROUP: Final = "orders"
PARTITIONS: Final = 4

_SETTLE_S: Final = 150.0
_POLL_S: Final = 2.0


@dataclass(slots=True)
class Outcome:
    """What a storm has left behind."""

    comparison: Comparison
    """What came out, against what the burst's profile says must come out."""
    verdict: Verdict
    """What came out, against what is in the source topic."""
    audit: Report
    """The accounts, against source, results and dead letters."""
    harms: list[str] = field(default_factory=list)
    recount: list[str] = field(default_factory=list)
    """Where the tables differ from the burst."""


async def judge(
    expectations: Sequence[Expectation],
    broker: str,
    app: str,
    registry: Registry,
    report: Callable[[str], None],
) -> Outcome:
    """Wait until all has come out, and judge it."""
    access = {"bootstrap_servers": broker}
    expectation = _together(expectations)
    comparison = await _settled(expectation, access, report)
    contract = registry.contracts[SOURCE]
    spec = AuditSpec(app, [contract], [], ACCOUNTS)
    return Outcome(
        comparison,
        await judge_topics(contract, access),
        await audit_topics(spec, access, lambda _: None),
        recount=await recount_tables(expectation, access, app),
    )


def _together(expectations: Sequence[Expectation]) -> Expectation:
    """Bursts of different seeds share no keys."""
    whole = Expectation(0, 0, 0, {}, {})
    for one in expectations:
        whole = Expectation(
            whole.records + one.records,
            whole.duplicates + one.duplicates,
            whole.undecodable + one.undecodable,
            whole.emitted | one.emitted,
            whole.never_filled | one.never_filled,
        )
    return whole


async def _settled(
    expectation: Expectation, access: Mapping[str, str], report: Callable[[str], None]
) -> Comparison:
    """Compare until all has come out, or for as long as it may take."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        ids = await read_ids(EMIT, access, expectation.emitted.keys())
        dead = await count_records(DEAD_LETTERS, access, expectation.emitted.keys())
        comparison = compare(expectation, ids, dead)
        waits = comparison.missing or comparison.dead_letters_missing > 0
        if not waits or time.monotonic() > deadline:
            return comparison
        report(f"{comparison.emitted:,} of {expectation.events:,} are out")
        await asyncio.sleep(_POLL_S)


async def recount_tables(
    expectation: Expectation, access: Mapping[str, str], app: str
) -> list[str]:
    """Compare the tables, as their changelogs have them, with the burst."""
    state = await read_table(f"{app}-{GROUP}-state-changelog", access)
    differences = []
    for key, numbers in expectation.emitted.items():
        raw = state.get(SEQUENCE + SOURCE.encode() + b"\0" + key)
        if raw is None:
            differences.append(f"{key!r}: no row")
            continue
        row = decode_sequence(raw)
        if row.next <= numbers[-1] or row.held:
            differences.append(
                f"{key!r}: next {row.next} with {row.held} held, after {numbers[-1]}"
            )
    return differences


async def read_table(changelog: str, access: Mapping[str, str]) -> dict[bytes, bytes]:
    """Rows of a table over all partitions, from committed records of its changelog."""
    rows: dict[bytes, bytes] = {}
    async for record in records(changelog, access, lambda _: True):
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    return rows


async def recount_disks(
    directories: Iterable[Path], app: str, access: Mapping[str, str]
) -> list[str]:
    """Compare the rows on the disks of stopped workers with their changelogs, row by row.

    Of each partition some worker has the newest disk; older ones are left from former owners.
    """
    differences, roots = [], list(directories)
    for table in group_tables(app, GROUP):
        rows: list[dict[bytes, bytes | None]] = [{} for _ in range(PARTITIONS)]
        last = [-1] * PARTITIONS
        async for record in records(table.changelog, access, lambda _: True):
            rows[record.partition].update(table.expand(record.key, record.value))
            last[record.partition] = record.offset
        for number in range(PARTITIONS):
            changelog = TopicPartition(table.changelog, number)
            kept = {key: value for key, value in rows[number].items() if value is not None}
            found = [
                on_disk
                for directory in roots
                for path in directory.glob(f"**/{table.name}-{number}")
                if (on_disk := _rows_on(path, table, last[number])) is not None
            ]
            if not found:
                differences.append(f"{changelog}: no disk stands at its end, {last[number]}")
            differences += [
                f"{changelog}: {len(one.items() ^ kept.items())} rows differ on the disk"
                for one in found
                if one != kept
            ]
    return differences


def _rows_on(path: Path, table: GroupTable, offset: int) -> dict[bytes, bytes] | None:
    disk = RocksDisk(path, format_=table.disk_format, oldest=table.oldest_disk_format)
    try:
        stands_at = disk.offset()
        if stands_at is None or stands_at < offset:
            return None
        rows = dict(disk.scan(b"\x01", b"\xff"))
        return dict(as_restored(table.expand, rows))
    finally:
        disk.close()


async def count_compacted(app: str, access: Mapping[str, str]) -> tuple[int, int]:
    """Records that are left in the changelog of the state, and of how many offsets."""
    changelog = f"{app}-{GROUP}-state-changelog"
    left, ends = 0, dict[int, int]()
    async for record in records(changelog, access, lambda _: True):
        left += 1
        ends[record.partition] = record.offset + 1
    return left, sum(ends.values())
