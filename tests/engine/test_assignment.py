"""Which tasks a worker runs, and which disks it keeps, as partitions come and go."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest
from aiokafka import TopicPartition

from edo_stream.core.contract import Start
from edo_stream.core.state import as_is
from edo_stream.engine.assignment import Assignment, GroupPlan, GroupTable
from edo_stream.engine.pace import Pace
from edo_stream.engine.ports import Handed
from edo_stream.engine.task import Phase
from edo_stream.engine.task_spec import Ports, TaskSpec
from tests.engine.memory import MemoryChangelog, MemoryDisk, MemoryFollower

NOW_MS = 1_700_000_000_000


class StuckProducer:
    """Never gets its transactional id: its task stays where it begins."""

    def __init__(self, transactional_id: str) -> None:
        self.transactional_id = transactional_id

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None: ...


class Pipeline:
    def discard(self) -> None: ...


class Bench:
    """An assignment of two groups: orders reads two topics, customers one."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, int]] = []
        self.disks: dict[tuple[str, int], MemoryDisk] = {}
        self.credited: list[Handed] = []
        self.follower = MemoryFollower()
        ports: Any = Ports(
            producers=StuckProducer,
            changelog=MemoryChangelog({}, 0, 0),
            intake=self,
            membership=self,
            now_ms=lambda: NOW_MS,
            pace=Pace(),
        )
        plans: Any = {
            group: plan(group, *topics)
            for group, topics in (("orders", ("placed", "paid")), ("customers", ("changed",)))
        }
        self.assignment = Assignment(plans, ports, self.follower, self.open_disk, lambda why: None)

    def open_disk(self, table: str, partition: int, *_formats: int) -> MemoryDisk:
        self.opened.append((table, partition))
        disk = self.disks[table, partition] = MemoryDisk()
        return disk

    def credit(self, handed: Handed) -> None:
        self.credited.append(handed)

    @property
    def running(self) -> list[tuple[str, int]]:
        return sorted(self.assignment.tasks)

    @property
    def kept(self) -> set[tuple[str, int]]:
        return {place for place, disk in self.disks.items() if not disk.is_closed}


def plan(group: str, *topics: str) -> GroupPlan:
    spec = TaskSpec(
        app="app",
        group=group,
        sources={topic: Start() for topic in topics},
        transaction_timeout_s=1,
        session_timeout_s=1,
    )
    tables = [GroupTable(f"{group}-state", f"app-{group}-state-changelog", as_is)]
    pipeline: Any = Pipeline()
    return GroupPlan(spec, 4, tables, lambda partition, rows: pipeline)


def places(*topics: str, numbers: Iterable[int] = (0,)) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in topics for number in numbers]


def on_bench(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        bench = Bench()
        await test(bench)
        await bench.assignment.close()

    asyncio.run(run())


def test_a_partition_number_of_a_group_is_one_task() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("placed", "paid", "changed", numbers=(0, 1)))
        assert bench.running == [
            ("customers", 0),
            ("customers", 1),
            ("orders", 0),
            ("orders", 1),
        ]
        task = bench.assignment.task_of(TopicPartition("paid", 1))
        assert task is bench.assignment.tasks["orders", 1]
        assert task is bench.assignment.task_of(TopicPartition("placed", 1))

    on_bench(test)


def test_topics_that_are_nobody_s_have_no_task() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("changed", "unknown"))
        assert bench.running == [("customers", 0)]
        assert bench.assignment.task_of(TopicPartition("unknown", 0)) is None

    on_bench(test)


def test_a_task_whose_sources_are_apart_is_not_started_and_says_which(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(bench: Bench) -> None:
        with caplog.at_level(logging.ERROR):
            await bench.assignment.assign([*places("placed", numbers=(0, 1)), *places("paid")])
        assert bench.running == [("orders", 0)]
        assert bench.opened == [("orders-state", 0)]

    on_bench(test)
    assert "task not started: orders-1: partition 1 of paid is assigned to another" in caplog.text


def test_revoked_tasks_are_stopped_and_their_disks_kept() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("changed", numbers=(0, 1)))
        tasks = list(bench.assignment.tasks.values())
        await bench.assignment.revoke()
        assert bench.running == []
        assert [task.phase for task in tasks] == [Phase.CLOSED, Phase.CLOSED]
        assert bench.kept == {("customers-state", 0), ("customers-state", 1)}

    on_bench(test)


def test_disks_of_what_comes_back_stay_open_and_others_are_closed() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("changed", numbers=(0, 1)))
        await bench.assignment.revoke()
        await bench.assignment.assign(places("changed", numbers=(1, 2)))
        assert bench.kept == {("customers-state", 1), ("customers-state", 2)}
        assert [number for _, number in bench.opened] == [0, 1, 2]

    on_bench(test)


def standing_by(bench: Bench) -> list[tuple[str, int]]:
    return sorted(bench.assignment.standbys.all)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_disk_goes_from_standby_to_task_and_back_without_being_closed() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign([], standbys=places("changed"))
        await settle()
        assert standing_by(bench) == [("customers", 0)]
        disk = bench.disks["customers-state", 0]
        await bench.assignment.assign(places("changed"))
        task = bench.assignment.tasks["customers", 0]
        assert standing_by(bench) == []
        assert [table.disk for table in task.tables] == [disk]
        await bench.assignment.assign([], standbys=places("changed"))
        assert standing_by(bench) == [("customers", 0)]
        assert bench.opened == [("customers-state", 0)]
        assert not disk.is_closed

    on_bench(test)


def test_nobody_stands_by_for_a_task_of_its_own() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(
            places("changed"), standbys=places("changed", "placed", "unknown", numbers=(0, 1))
        )
        assert bench.running == [("customers", 0)]
        assert standing_by(bench) == [("customers", 1), ("orders", 0), ("orders", 1)]

    on_bench(test)


def test_the_disk_of_a_standby_that_goes_elsewhere_is_closed() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign([], standbys=places("changed", numbers=(0, 1)))
        await settle()
        await bench.assignment.assign([], standbys=places("changed", numbers=(1,)))
        assert bench.kept == {("customers-state", 1)}

    on_bench(test)


def test_standbys_stand_still_while_a_task_is_taken_over() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("placed", "paid"), standbys=places("changed"))
        await settle()
        # The task waits for its transactional id: the disk of the standby is not opened yet.
        assert bench.opened == [("orders-state", 0)]
        assert bench.follower.starts == []

    on_bench(test)


def test_a_new_assignment_stops_the_tasks_of_the_one_before() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("changed"))
        before = bench.assignment.tasks["customers", 0]
        await bench.assignment.assign(places("changed"))
        assert before.phase is Phase.CLOSED
        assert bench.assignment.tasks["customers", 0] is not before

    on_bench(test)


def test_a_closed_assignment_has_no_tasks_and_no_disks() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("changed", "placed", "paid"))
        await bench.assignment.close()
        assert (bench.running, bench.kept) == ([], set())
        # Faust may revoke once more at its end.
        await bench.assignment.revoke()
        await bench.assignment.close()

    on_bench(test)


def test_a_batch_goes_to_its_task_and_is_void_without_one() -> None:
    async def test(bench: Bench) -> None:
        await bench.assignment.assign(places("changed"))
        mine = Handed(TopicPartition("changed", 0), [], epoch=1, previous=-1)
        nobody_s = Handed(TopicPartition("changed", 3), [], epoch=1, previous=-1)
        bench.assignment.offer(mine)
        bench.assignment.offer(nobody_s)
        # The task has not sought yet, so the batch is of another time: done with at once.
        assert bench.credited == [mine]

    on_bench(test)
