"""Standbys: the state of tasks that run on other workers, kept warm on the disks of this one.

Theory of operation. Which worker stands by for which task is part of the consumer group's
assignment (:mod:`edo_stream.engine.assignor`), so nothing else has to be agreed upon. A standby
follows the changelogs of its task with a reader of committed records, and writes rows and
changelog offset to the same kind of disk, under the same rules, as the task itself: what is on it
is always what the changelog says up to that offset, and nothing that is not committed. So a
takeover has no protocol of its own. The standby is dropped, the task gets its disks, still open,
and the task's restore reads what little is missing, as it would after any restart.

All of this happens in the worker's event loop, and no write is awaited: once dropped, a standby
writes no more, and whoever has the disk next is its only writer.

One reader serves all standbys of a worker, and comes last: it stands still while a task of the
worker restores, and rests a multiple of the time it has worked while tasks have work.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from edo_stream.core.state import Expand, Table
from edo_stream.engine.ports import Changelog, ChangelogRecord, DiskError, Follower, Grown
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS, TaskTable, start_offset
from edo_stream.engine.runner import end_runner
from edo_stream.views import StandbyPhase

log = logging.getLogger(__name__)

#: One write: short enough for a timer of a task that waits behind it.
_ROWS_MAX = 2_000
_RECORDS_MAX = 2_000
#: Rest after work, in multiples of it, while tasks have work: a quarter of the time, at most.
_REST = 3.0
_REST_S_MAX = 1.0
_STANDSTILL_POLL_S = 0.2
_RETRY_S = 2.0
_CANCELS_MAX = 5
#: How often a disk notes that it is as new as its changelog, and expired rows are dropped.
_TIDY_S = 60.0

Place = tuple[str, int]
"""Group and partition of a task."""


@dataclass(frozen=True, slots=True)
class StandbyPlan:
    """What a standby of one task is made of."""

    open_tables: Callable[[], Sequence[TaskTable]]
    """Opens its disks; they belong to the caller and are closed by it."""
    expire: Callable[[Sequence[Table]], Iterable[None]]
    """Forgets rows that the task forgets without a changelog record, some at each turn."""


@dataclass(eq=False, slots=True)
class Followed:
    """One changelog partition on its way to a disk."""

    table: TaskTable
    position: int
    stamp_ms: int
    """When the disk had all that the changelog had then; see the rule of tombstones."""
    end: int | None = None

    @property
    def lag(self) -> int | None:
        """Offsets that are not applied; ``None`` until the broker has told the end."""
        return None if self.end is None else max(0, self.end - self.position)


@dataclass(eq=False, slots=True)
class Standby:
    """One task's state, as it is here."""

    group: str
    partition: int
    plan: StandbyPlan
    phase: StandbyPhase = StandbyPhase.WAITING
    applied_records: int = 0
    tables: Sequence[TaskTable] = ()
    followed: dict[TopicPartition, Followed] = field(default_factory=dict)
    tidied_at: float = 0.0

    @property
    def name(self) -> str:
        """Group and partition, as in logs."""
        return f"{self.group}-{self.partition}"

    @property
    def lag(self) -> int | None:
        """Offsets of all its changelogs that are not applied; ``None`` while not known."""
        lags = [followed.lag for followed in self.followed.values()]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if known and len(known) == len(lags) else None


@dataclass(frozen=True, slots=True)
class Courtesy:
    """How a worker's own tasks come first."""

    must_stand_still: Callable[[], bool]
    """A task is being taken over: its restore gets all there is."""
    must_yield: Callable[[], bool]
    """A task has work: standbys get a share."""


class Standbys:
    """All standbys of a worker; see the module's docstring."""

    def __init__(
        self,
        changelog: Changelog,
        follower: Follower[ChangelogRecord],
        now_ms: Callable[[], int],
        courtesy: Courtesy,
        on_applied: Callable[[str, int], None],
    ) -> None:
        self.all: dict[Place, Standby] = {}
        self._changelog = changelog
        self._follower = follower
        self._now_ms = now_ms
        self._courtesy = courtesy
        self._on_applied = on_applied
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    def keep(self, plans: Mapping[Place, StandbyPlan]) -> None:
        """Stand by for these tasks and no others.

        Returns at once, and nothing is written any more to disks of those that are dropped.
        """
        kept = {
            place: standby
            for place, standby in self.all.items()
            if place in plans and standby.phase is not StandbyPhase.FAILED
        }
        if plans.keys() == kept.keys() == self.all.keys():
            return
        self.all = {
            place: kept.get(place) or Standby(*place, plan) for place, plan in plans.items()
        }
        self._changed.set()
        if self._runner is None and self.all:
            self._runner = asyncio.create_task(self._run(), name="standbys")

    async def close(self) -> None:
        """Drop all of them, and the connection, for good."""
        self.all = {}
        runner, self._runner = self._runner, None
        if runner is not None:
            await end_runner(runner, _CANCELS_MAX)

    def _has(self, standby: Standby) -> bool:
        return self.all.get((standby.group, standby.partition)) is standby

    async def _run(self) -> None:
        try:
            while True:
                self._changed.clear()
                try:
                    await self._follow()
                except Exception as error:
                    is_expected = isinstance(error, KafkaError | TimeoutError)
                    log.log(
                        logging.WARNING if is_expected else logging.ERROR,
                        "standbys: reading again: %s: %s",
                        type(error).__name__,
                        error,
                        exc_info=None if is_expected else error,
                    )
                    self._forget_positions()
                    await asyncio.sleep(_RETRY_S)
        finally:
            await self._follower.close()

    def _forget_positions(self) -> None:
        for standby in self.all.values():
            standby.followed = {}

    async def _follow(self) -> None:
        """Read for the standbys of now, until there are others."""
        for standby in list(self.all.values()):
            await self._stand_still()
            await self._begin(standby)
        followed = self._followed()
        if not followed:
            await self._follower.close()
            await self._changed.wait()
            return
        await self._follower.follow({at: one.position for at, (_, one) in followed.items()})
        while not self._changed.is_set():
            await self._stand_still()
            began = asyncio.get_running_loop().time()
            grown = await self._follower.next(_RECORDS_MAX)
            for partition, part in grown.items():
                await self._apply(*followed[partition], part)
            for standby in list(self.all.values()):
                if standby.tidied_at + _TIDY_S <= began:
                    standby.tidied_at = began
                    await self._tidy(standby)

    def _followed(self) -> dict[TopicPartition, tuple[Standby, Followed]]:
        return {
            partition: (standby, followed)
            for standby in self.all.values()
            for partition, followed in standby.followed.items()
        }

    async def _stand_still(self) -> None:
        while self._courtesy.must_stand_still():  # noqa: ASYNC110 - phases tell nobody
            await asyncio.sleep(_STANDSTILL_POLL_S)

    async def _rest(self, worked_s: float) -> None:
        is_busy = self._courtesy.must_yield()
        await asyncio.sleep(min(_REST_S_MAX, worked_s * _REST) if is_busy else 0)

    async def _begin(self, standby: Standby) -> None:
        """Open its disks, and find out where they stand."""
        if standby.followed or standby.phase is StandbyPhase.FAILED or not self._has(standby):
            return
        if not standby.tables:
            standby.tables = standby.plan.open_tables()
        followed = {}
        for table in standby.tables:
            first, end = await self._changelog.bounds(table.changelog)
            # It may be a task's by now.
            if not self._has(standby):
                return
            now_ms = self._now_ms()
            try:
                position = start_offset(table, first, end, now_ms)
            except DiskError as error:
                self._fail(standby, error)
                return
            stamp_ms = table.disk.written_at_ms() or now_ms
            followed[table.changelog] = Followed(table, position, stamp_ms, end)
        standby.followed = followed
        standby.phase = StandbyPhase.FOLLOWING
        log.info("standing by: %s: %s records to read", standby.name, standby.lag)

    def _fail(self, standby: Standby, why: object) -> None:
        log.error("no standby any more until the next rebalance: %s: %s", standby.name, why)
        standby.phase = StandbyPhase.FAILED
        standby.followed = {}
        self._changed.set()

    async def _apply(
        self, standby: Standby, followed: Followed, part: Grown[ChangelogRecord]
    ) -> None:
        """Write what has come to the disk, some rows at a time, while the disk is ours."""
        clock = asyncio.get_running_loop()
        worked_from = clock.time()
        table = followed.table
        for rows, records in _chunks(table.expand, part.records):
            if not self._is_followed(standby, followed):
                return
            offset = records[-1].offset
            try:
                table.disk.write(rows, offset, followed.stamp_ms)
            except DiskError as error:
                self._fail(standby, error)
                return
            followed.position = offset + 1
            standby.applied_records += len(records)
            self._on_applied(standby.group, len(records))
            await self._rest(clock.time() - worked_from)
            worked_from = clock.time()
        if not self._is_followed(standby, followed):
            return
        if (refusal := table.refusal()) is not None:
            self._fail(standby, refusal)
            return
        followed.position = part.position
        if part.end is not None:
            followed.end = part.end
            if part.told_ms is not None and part.position >= part.end:
                followed.stamp_ms = part.told_ms
        if self._now_ms() - followed.stamp_ms > TOMBSTONES_KEPT_MS:
            # A deleted row may be left whose tombstone is gone: begun anew, it is wiped.
            self._forget_positions()
            self._changed.set()

    def _is_followed(self, standby: Standby, followed: Followed) -> bool:
        return self._has(standby) and standby.followed.get(followed.table.changelog) is followed

    async def _tidy(self, standby: Standby) -> None:
        """Drop expired rows, and have the disks say that they are up to date."""
        tables = [followed.table for followed in standby.followed.values()]
        if not tables:
            return
        try:
            for _ in standby.plan.expire([table.rows for table in tables]):
                self._write_local(standby)
                await self._rest(0.0)
                if not self._has(standby):
                    return
            self._write_local(standby)
        except DiskError as error:
            self._fail(standby, error)

    def _write_local(self, standby: Standby) -> None:
        for followed in standby.followed.values():
            rows = followed.table.rows
            followed.table.disk.write(rows.local, None, followed.stamp_ms)
            rows.settle()


def _chunks(
    expand: Expand, records: Sequence[ChangelogRecord]
) -> Iterator[tuple[dict[bytes, bytes | None], Sequence[ChangelogRecord]]]:
    """Rows for the disk, not many more than are written at once, and the records they are of."""
    rows: dict[bytes, bytes | None] = {}
    first = 0
    for index, record in enumerate(records):
        rows.update(expand(record.key, record.value))
        if len(rows) >= _ROWS_MAX or index == len(records) - 1:
            yield rows, records[first : index + 1]
            rows, first = {}, index + 1
