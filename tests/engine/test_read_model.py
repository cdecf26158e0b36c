"""What is said of a key that this worker has, or has not, or may have no longer."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from edo_stream.core.state import Table
from edo_stream.core.task import SourceRow, TaskRow, save_task
from edo_stream.engine.read_model import Answer, MinOffset, Question, ReadModel, StateOf
from edo_stream.views import Phase
from tests.core.memory import Memory

pytestmark = pytest.mark.asyncio
OWN, INPUT = "edo.joins.g", "shop.order.placed"
OTHER = "http://other:6066"


class Here:
    """A worker with one task, as the read model sees it."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.task: Any = SimpleNamespace(
            name="g-0",
            partition=0,
            partitions=[TopicPartition(OWN, 0)],
            phase=Phase.RUNNING,
            refusal=None,
            spec=SimpleNamespace(sources={OWN: None}, session_timeout_s=6.0),
            tables=[SimpleNamespace(disk=self.memory, rows=Table(self.memory))],
        )
        self.tasks: dict[tuple[str, int], Any] | None = {("g", 0): self.task}
        self.owner: str | None = None
        self.heard_s_ago = 0.0
        self.is_stopping = False
        self.group: int | None = None
        self.end = 0
        self.error: Exception | None = None
        places = {"pair": StateOf("g", 1, _read, {INPUT: 2})}
        self.model = ReadModel(
            places,
            lambda: self.tasks,
            lambda _: self.owner,
            lambda: self,
            lambda: self.is_stopping,
        )
        self.apply(0)

    def apply(self, following: int) -> None:
        """The next offset is this one, committed."""
        table = Table(self.memory)
        save_task(table, TaskRow(sources={OWN: SourceRow(following)}))
        self.memory.write(table.local)

    async def ask(self, *wanted: MinOffset, wait_s: float = 0.2, flow: str = "pair") -> Answer:
        return await self.model.answer(Question(flow, b"k", wanted, wait_s))

    # What the consumer tells.

    async def committed(self, partitions: Any) -> list[int | None]:
        if self.error is not None:
            raise self.error
        return [self.group for _ in partitions]

    async def high_watermarks(self, partitions: Any) -> list[int]:
        return [self.end for _ in partitions]

    def last_handed(self, _: TopicPartition) -> int | None:
        return None

    async def fetch_position(self, _: TopicPartition) -> int | None:
        return None

    def heard_at(self) -> float:
        return asyncio.get_running_loop().time() - self.heard_s_ago


def _read(state: Table, key: bytes, limit: int, after: bytes) -> dict[str, Any] | None:
    row = state.get(b"w" + key)
    return None if row is None else {"row": row.decode()}


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, str(answer.document.get("reason", ""))


async def test_a_key_is_shown_with_what_it_follows_from() -> None:
    here = Here()
    here.apply(8)
    assert (404, "unknown-key") == said(await here.ask())
    here.memory.rows[b"wk"] = b"seen"
    answer = await here.ask()
    assert (200, "seen", {OWN: {"0": 7}}) == (
        answer.status,
        answer.document["row"],
        answer.document["applied"],
    )
    assert [MinOffset(OWN, 0, 7)] == list(answer.applied)


async def test_what_is_not_committed_is_not_shown() -> None:
    here = Here()
    here.task.tables[0].rows.write(b"wk", b"not yet")
    assert (404, "unknown-key") == said(await here.ask())


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"phase": Phase.RESTORING}, 503, "restoring"),
        ({"phase": Phase.FENCING}, 503, "fencing"),
        ({"phase": Phase.WAITING}, 503, "waiting"),
        ({"phase": Phase.REFUSED, "refusal": "a person must look"}, 503, "stopped"),
    ],
)
async def test_a_task_that_is_not_ready_shows_nothing(
    change: dict[str, Any], status: int, reason: str
) -> None:
    here = Here()
    vars(here.task).update(change)
    assert (status, reason) == said(await here.ask())


async def test_who_may_have_lost_its_partitions_shows_nothing() -> None:
    here = Here()
    here.heard_s_ago = 5.9
    assert 404 == (await here.ask()).status
    here.heard_s_ago = 6.1
    assert (503, "cut-off") == said(await here.ask())


async def test_a_key_of_another_worker_is_shown_there() -> None:
    here = Here()
    here.tasks = {}
    assert (503, "no-owner") == said(await here.ask())
    here.owner = OTHER
    answer = await here.ask()
    assert (307, "elsewhere", OTHER) == (*said(answer), answer.owner)
    here.tasks = None
    assert (503, "rebalancing") == said(await here.ask())
    assert (404, "unknown-flow") == said(await here.ask(flow="none"))


async def test_a_record_of_its_own_is_waited_for_so_long() -> None:
    here = Here()
    here.apply(7)
    late = await here.ask(MinOffset(OWN, 0, 7))
    assert (504, "not-applied", {OWN: {"0": 6}}) == (*said(late), late.document["applied"])
    assert 404 == (await here.ask(MinOffset(OWN, 0, 6), wait_s=0)).status
    asking = asyncio.create_task(here.ask(MinOffset(OWN, 0, 7), wait_s=60))
    await asyncio.sleep(0.05)
    assert not asking.done()
    here.apply(8)
    assert 404 == (await asking).status


async def test_a_record_of_an_input_is_waited_for_through_the_task_that_reads_it() -> None:
    here = Here()
    asking = asyncio.create_task(here.ask(MinOffset(INPUT, 1, 3), wait_s=60))
    await asyncio.sleep(0.05)
    # Its task has read it, and what it led to is at offset 4.
    here.group, here.end = 4, 5
    await asyncio.sleep(0.2)
    assert not asking.done(), "it is passed on, and not applied"
    here.apply(5)
    answer = await asking
    assert {INPUT: {"1": 3}, OWN: {"0": 4}} == answer.document["applied"]


@pytest.mark.parametrize("wanted", [(INPUT, 2), ("shop.other.topic", 0), (OWN, 1)])
async def test_what_is_no_input_is_told(wanted: tuple[str, int]) -> None:
    answer = await Here().ask(MinOffset(*wanted, 1))
    assert (400, "not-an-input") == said(answer)
    assert f"{INPUT}:0…1, {OWN}:0" in answer.document["detail"]


async def test_a_key_that_goes_elsewhere_meanwhile_is_waited_for_there() -> None:
    here = Here()
    asking = asyncio.create_task(here.ask(MinOffset(OWN, 0, 7), wait_s=60))
    await asyncio.sleep(0.05)
    here.tasks, here.owner = {}, OTHER
    assert (307, OTHER) == ((answer := await asking).status, answer.owner)


async def test_a_worker_that_stops_waits_no_longer() -> None:
    here = Here()
    asking = asyncio.create_task(here.ask(MinOffset(OWN, 0, 7), wait_s=60))
    await asyncio.sleep(0.05)
    here.is_stopping = True
    assert (503, "stopping") == said(await asking)


async def test_a_broker_that_does_not_answer_is_told() -> None:
    here = Here()
    here.error = KafkaConnectionError("away")
    assert (503, "no-broker") == said(await here.ask(MinOffset(INPUT, 0, 1)))


async def test_so_many_wait_and_no_more() -> None:
    here = Here()
    waiting = [asyncio.create_task(here.ask(MinOffset(OWN, 0, 7), wait_s=60)) for _ in range(256)]
    await asyncio.sleep(0.05)
    assert (503, "busy") == said(await here.ask(MinOffset(OWN, 0, 7)))
    here.apply(8)
    assert {404} == {answer.status for answer in await asyncio.gather(*waiting)}
    assert 404 == (await here.ask(MinOffset(OWN, 0, 7))).status
