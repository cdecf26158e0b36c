"""What can be seen of a task, without waiting and without asking the broker."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition

from edo_stream.core.contract import Start
from edo_stream.core.record import Batch
from edo_stream.engine.look import look_at
from edo_stream.engine.pace import Pace
from edo_stream.engine.ports import Handed, Standing
from edo_stream.engine.task import Task
from edo_stream.engine.task_spec import Ports, TaskSpec
from edo_stream.observe.health import stuck_reasons
from edo_stream.views import Phase, SourceView, TaskView
from tests.core.bench import record
from tests.observe.look import worker

TOPIC = "shop.order.placed"
PLACE = TopicPartition(TOPIC, 5)
NOW_MS = 1_700_000_100_000


class Core:
    """Stands for the pipeline: what a task says of it."""

    def positions(self) -> Mapping[str, int]:
        return {TOPIC: 10}

    def stream_ms(self) -> int | None:
        return NOW_MS - 60_000

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        return {TOPIC: (2, NOW_MS - 500)}


def make_task() -> Task:
    spec = TaskSpec("app", "g", {TOPIC: Start()}, transaction_timeout_s=10, session_timeout_s=6)
    nothing: Any = None
    ports = Ports(nothing, nothing, nothing, nothing, lambda: NOW_MS, Pace())
    pipeline: Any = Core()
    task = Task(spec, 5, (), pipeline, ports, print)
    task.phase = Phase.RUNNING
    task._epochs[PLACE] = 1
    task.progress.committed[TOPIC] = 10
    return task


def seen(task: Task, standing: Standing | None, later_s: float = 0.0) -> TaskView:
    async def look() -> TaskView:
        loop_time = asyncio.get_running_loop().time() + later_s
        return look_at(task, lambda _: standing, NOW_MS, loop_time)

    return asyncio.run(look())


def source(task: Task, standing: Standing | None) -> SourceView:
    return seen(task, standing).sources[0]


def offer(task: Task, *offsets: int) -> None:
    records = [record(offset, timestamp=NOW_MS - 1_000 + offset) for offset in offsets]

    async def hand_over() -> None:
        task.offer(Handed(PLACE, records, 1, offsets[0] - 1))

    asyncio.run(hand_over())


def test_lag_is_what_the_last_fetch_told_beyond_what_is_committed() -> None:
    view = source(make_task(), Standing(position=14, end=14, last_handed=13))
    assert (view.next_offset, view.end_offset, view.lag_records) == (10, 14, 4)
    assert (view.held, view.held_since_ms) == (2, NOW_MS - 500)


def test_transaction_markers_at_the_end_are_no_lag() -> None:
    view = source(make_task(), Standing(position=11, end=11, last_handed=9))
    assert (view.lag_records, view.lag_ms) == (0, 0)


def test_a_fetch_that_has_not_reached_the_end_is_lag() -> None:
    assert source(make_task(), Standing(10, 12, 9)).lag_records == 2


def test_before_the_first_fetch_the_end_is_that_of_the_task_s_begin() -> None:
    task = make_task()
    assert source(task, None).lag_records is None
    task.progress.ends[TOPIC] = 12
    assert source(task, Standing(10, None, None)).lag_records == 2


def test_lag_in_seconds_is_the_age_of_the_oldest_record_at_hand() -> None:
    task, behind = make_task(), Standing(14, 14, 13)
    assert source(task, behind).lag_ms == 60_000
    task.progress.done_ms[TOPIC] = NOW_MS - 5_000
    assert source(task, behind).lag_ms == 5_000
    offer(task, 10, 11)
    assert source(task, behind).lag_ms == 990
    task.progress.in_hand = [Batch(TOPIC, 5, [record(9, timestamp=NOW_MS - 3_000)])]
    assert source(task, behind).lag_ms == 3_000


def test_a_task_that_does_not_take_what_it_was_handed_is_stuck_in_the_end() -> None:
    task = make_task()
    assert not seen(task, None, later_s=3_600).has_work
    offer(task, 10)
    assert stuck_reasons(worker(seen(task, None, later_s=20))) == []
    offer(task, 11)
    (reason,) = stuck_reasons(worker(seen(task, None, later_s=31)))
    assert reason.startswith("task g-5 has work")
