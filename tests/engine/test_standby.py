"""A standby's disk is what the changelog says, is written by nobody else, and gives way."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from edo_stream.core.state import Table, as_is
from edo_stream.engine import standby
from edo_stream.engine.ports import ChangelogRecord, DiskError, Grown
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS, TaskTable
from edo_stream.engine.standby import Courtesy, Place, Standby, StandbyPlan, Standbys
from edo_stream.views import StandbyPhase
from tests.engine.memory import MemoryChangelog, MemoryDisk, MemoryFollower

NOW_MS = 1_700_000_000_000
HERE: Place = ("orders", 2)
LOG = TopicPartition("state-changelog", 2)


class Bench:
    """Standbys over one disk; the changelog has offsets 0 to ``end``."""

    def __init__(self, end: int = 10) -> None:
        self.now_ms = NOW_MS
        self.disk = MemoryDisk()
        self.opened = 0
        self.is_restoring = False
        self.applied: list[int] = []
        self.refusal: Callable[[Table], str | None] = lambda rows: None
        self.expire: Callable[[Sequence[Table]], Iterable[None]] = lambda tables: ()
        self.follower = MemoryFollower()
        self.standbys = Standbys(
            MemoryChangelog({}, 0, end),
            self.follower,
            lambda: self.now_ms,
            Courtesy(lambda: self.is_restoring, lambda: False),
            lambda group, records: self.applied.append(records),
        )

    def plan(self) -> StandbyPlan:
        def open_tables() -> list[TaskTable]:
            self.opened += 1
            return [TaskTable(LOG, self.disk, as_is, self.refusal)]

        return StandbyPlan(open_tables, self.expire)

    def keep(self, *places: Place) -> None:
        self.standbys.keep({place: self.plan() for place in places})

    @property
    def one(self) -> Standby:
        return self.standbys.all[HERE]

    async def comes(self, *records: tuple[int, bytes, bytes | None], end: int = 10) -> None:
        """The broker gives records, and what follows from it happens."""
        found = [ChangelogRecord(*record) for record in records]
        position = found[-1].offset + 1 if found else end
        self.follower.put({LOG: Grown(found, position, end, self.now_ms)})
        await settle()


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def on_bench(test: Callable[[Bench], Coroutine[Any, Any, None]], **parts: Any) -> None:
    async def run() -> None:
        bench = Bench(**parts)
        await test(bench)
        await bench.standbys.close()
        assert bench.follower.is_closed

    asyncio.run(run())


def test_records_are_applied_with_their_offset_in_the_order_of_the_log() -> None:
    async def test(bench: Bench) -> None:
        bench.keep(HERE)
        await bench.comes((0, b"a", b"1"), (1, b"b", b"1"))
        await bench.comes((3, b"a", b"2"), (4, b"b", None))
        assert bench.disk.rows == {b"a": b"2"}
        assert bench.disk.offset() == 4
        assert (bench.one.applied_records, bench.applied) == (4, [2, 2])
        assert (bench.one.phase, bench.one.lag) == (StandbyPhase.FOLLOWING, 5)

    on_bench(test)


def test_it_goes_on_behind_what_is_on_the_disk() -> None:
    async def test(bench: Bench) -> None:
        bench.disk.write({b"a": b"1"}, 6, NOW_MS - 1)
        bench.keep(HERE)
        await settle()
        assert bench.follower.starts == [{LOG: 7}]

    on_bench(test)


@pytest.mark.parametrize("offset", [3, 12])
def test_a_disk_that_cannot_be_built_upon_is_begun_anew(offset: int) -> None:
    async def test(bench: Bench) -> None:
        # Older than the tombstones, or of a changelog that is gone.
        bench.disk.write({b"a": b"1"}, offset, NOW_MS - TOMBSTONES_KEPT_MS - 1)
        bench.keep(HERE)
        await settle()
        assert bench.disk.wiped == 1
        assert bench.follower.starts == [{LOG: 0}]

    on_bench(test)


def test_once_dropped_it_writes_no_more_although_records_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(standby, "_ROWS_MAX", 1)
        bench.keep(HERE)
        await settle()
        records = [ChangelogRecord(n, b"k%d" % n, b"1") for n in range(9)]
        bench.follower.put({LOG: Grown(records, 9, 10, NOW_MS)})
        for _ in range(5):
            await asyncio.sleep(0)
        bench.keep()
        # A takeover: what is on the disk now is what the task begins with.
        rows, offset = dict(bench.disk.rows), bench.disk.offset()
        await settle()
        assert 0 < len(rows) < len(records)
        assert (bench.disk.rows, bench.disk.offset()) == (rows, offset)

    on_bench(test)


def test_given_back_it_goes_on_where_the_task_was() -> None:
    async def test(bench: Bench) -> None:
        bench.keep(HERE)
        await bench.comes((0, b"a", b"1"))
        bench.keep()
        bench.disk.write({b"a": b"by the task"}, 5, NOW_MS)
        bench.keep(HERE)
        await bench.comes((1, b"a", b"asked for before the takeover"))
        assert bench.follower.starts[-1] == {LOG: 6}
        assert bench.disk.rows == {b"a": b"by the task"}

    on_bench(test)


def test_a_rebalance_that_leaves_it_in_place_does_not_disturb_it() -> None:
    async def test(bench: Bench) -> None:
        bench.keep(HERE)
        await bench.comes((0, b"a", b"1"))
        bench.keep(HERE)
        await bench.comes((1, b"a", b"2"))
        assert (bench.opened, bench.follower.starts) == (1, [{LOG: 0}])
        assert bench.disk.rows == {b"a": b"2"}

    on_bench(test)


def test_it_neither_opens_disks_nor_reads_while_a_task_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(standby, "_STANDSTILL_POLL_S", 0)
        bench.is_restoring = True
        bench.keep(HERE)
        await settle()
        assert (bench.opened, bench.one.phase) == (0, StandbyPhase.WAITING)
        bench.is_restoring = False
        await bench.comes((0, b"a", b"1"))
        assert bench.disk.rows == {b"a": b"1"}
        bench.is_restoring = True
        await bench.comes((1, b"a", b"2"))
        await bench.comes((2, b"a", b"3"))
        # What had been asked for before is applied; nothing is asked for after it.
        assert bench.disk.offset() == 1

    on_bench(test)


def test_a_reader_that_fails_begins_again_where_the_disk_stands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(standby, "_RETRY_S", 0)
        bench.keep(HERE)
        await bench.comes((0, b"a", b"1"))
        for error in (KafkaConnectionError("no answer"), RuntimeError("a bug")):
            bench.follower.put(error)
            await settle()
        await bench.comes((1, b"a", b"2"))
        assert bench.follower.starts == [{LOG: 0}, {LOG: 1}, {LOG: 1}]
        assert bench.disk.rows == {b"a": b"2"}

    with caplog.at_level(logging.WARNING):
        on_bench(test)
    assert "no answer" in caplog.text
    assert "a bug" in caplog.text


def test_a_disk_that_cannot_be_written_ends_it_until_the_next_rebalance(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise DiskError("no space left")

    async def test(bench: Bench) -> None:
        bench.keep(HERE)
        await settle()
        with monkeypatch.context() as patch:
            patch.setattr(bench.disk, "write", full)
            await bench.comes((0, b"a", b"1"))
        assert (bench.one.phase, bench.one.lag) == (StandbyPhase.FAILED, None)
        bench.keep(HERE)
        await settle()
        assert bench.one.phase is StandbyPhase.FOLLOWING

    on_bench(test)
    assert "no standby any more until the next rebalance: orders-2: no space left" in caplog.text


def test_one_of_a_task_of_a_later_version_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.refusal = lambda rows: "format 9" if rows.get(b"o") == b"9" else None
        bench.keep(HERE)
        await bench.comes((0, b"o", b"1"))
        assert bench.one.phase is StandbyPhase.FOLLOWING
        await bench.comes((1, b"o", b"9"))
        assert bench.one.phase is StandbyPhase.FAILED

    on_bench(test)
    assert "no standby any more until the next rebalance: orders-2: format 9" in caplog.text


def test_a_disk_looks_fresh_only_when_it_has_reached_the_end() -> None:
    async def test(bench: Bench) -> None:
        long_ago_ms = NOW_MS - TOMBSTONES_KEPT_MS // 2
        bench.disk.write({b"a": b"1"}, 3, long_ago_ms)
        bench.keep(HERE)
        await bench.comes((4, b"a", b"2"))
        assert bench.disk.written_at_ms() == long_ago_ms
        await bench.comes((9, b"a", b"3"))
        await bench.comes((10, b"a", b"4"), end=11)
        assert bench.disk.written_at_ms() == NOW_MS

    on_bench(test)


def test_one_that_has_not_reached_the_end_for_too_long_is_begun_anew() -> None:
    async def test(bench: Bench) -> None:
        bench.keep(HERE)
        await bench.comes((0, b"a", b"1"))
        bench.now_ms += TOMBSTONES_KEPT_MS + 1
        await bench.comes((1, b"a", b"2"))
        assert bench.disk.wiped == 1
        assert bench.follower.starts[-1] == {LOG: 0}

    on_bench(test)


def test_what_a_task_forgets_by_its_clock_is_forgotten_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def expire(tables: Sequence[Table]) -> Iterator[None]:
        (rows,) = tables
        for key in (b"a", b"b"):
            rows.forget(key)
            yield

    async def test(bench: Bench) -> None:
        monkeypatch.setattr(standby, "_TIDY_S", 0)
        bench.expire = expire
        bench.keep(HERE)
        await bench.comes((0, b"a", b"1"), (1, b"b", b"1"), (2, b"c", b"1"))
        assert bench.disk.rows == {b"c": b"1"}
        assert bench.disk.offset() == 2

    on_bench(test)


def test_tasks_that_have_work_get_most_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    sleep = asyncio.sleep

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)

    async def run() -> None:
        monkeypatch.setattr(standby.asyncio, "sleep", rest)
        for is_busy in (True, False):
            courtesy = Courtesy(lambda: False, lambda is_busy=is_busy: is_busy)
            nothing: Any = None
            await Standbys(nothing, nothing, lambda: 0, courtesy, nothing)._rest(0.02)

    asyncio.run(run())
    assert rests == [pytest.approx(0.06), 0]


def test_without_standbys_there_is_no_connection() -> None:
    async def test(bench: Bench) -> None:
        bench.keep()
        await settle()
        assert bench.follower.starts == []
        bench.keep(HERE)
        await settle()
        assert not bench.follower.is_closed
        bench.keep()
        await bench.comes((0, b"a", b"1"))
        assert bench.follower.is_closed

    on_bench(test)
