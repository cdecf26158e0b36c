"""The judge judged: each rule of the engine, broken on purpose, must be found out by some seed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from edo_stream.core.state import Table
from edo_stream.engine import task
from edo_stream.engine.ports import Handed
from edo_stream.engine.position import Positions
from edo_stream.engine.task import Task
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.engine.transaction import OutcomeUnknownError, Transaction
from edo_stream.testing.broker import NewRecord
from edo_stream.testing.intake import SimulatedIntake
from tests.simulation.group import SimulatedMembership
from tests.simulation.judge import Watch
from tests.simulation.load import START_MS, Arrival, Parts
from tests.simulation.scenario import scenario_of
from tests.simulation.small import PLACE, small_scenario
from tests.simulation.world import Outcome, World

_SEEDS_MAX = 1_000

Patch = pytest.MonkeyPatch


class TransactionWithoutAwait(Transaction):
    """Commits without having awaited its deliveries, as the client library allows."""

    async def run(self, *args: Any) -> dict[TopicPartition, int]:
        await super().run(*args)
        last = {}
        for partition, records, _, delivery in self._sent:
            with suppress(Exception):
                last[partition] = (await delivery).offset + records - 1
        return last

    async def _write(self, *args: Any) -> dict[TopicPartition, int]:
        await self._producer.begin_transaction()
        for partition, batch in self._filled(*args):
            await self._hand_over(batch, partition)
        return {}


class TransactionThatBelieves(Transaction):
    """Takes a commit of unknown outcome for a success."""

    async def _commit(self) -> None:
        with suppress(OutcomeUnknownError):
            await super()._commit()


class TransactionWithoutOffsets(Transaction):
    """Commits the offsets after the transaction, in a request of their own."""

    async def run(self, publish: Any, changes: Any, offsets: Any, now_ms: int, wire: Any) -> Any:
        last = await super().run(publish, changes, {}, now_ms, wire)
        m = self._producer._m  # type: ignore[attr-defined]
        await m.network.call(m.process, m.broker.offsets.update, dict(offsets))
        return last


class TaskThatWritesFirst(Task):
    """Writes to the disk before the transaction has committed."""

    async def _commit(self, *args: Any) -> None:
        for table in self.tables:
            table.disk.write(table.rows.local, None, 0)
        await super()._commit(*args)


class TaskWithoutChain(Task):
    """Takes batches as they come, without a look at the one before."""

    def offer(self, handed: Handed) -> None:
        handed.previous = -1
        super().offer(handed)


class TaskThatWritesOldOffsets(Task):
    """Writes the rows, but not how far the changelog is."""

    async def _commit(self, *args: Any) -> None:
        for table in self.tables:
            table.write_through = lambda offset, now_ms, table=table: type(table).write_through(  # type: ignore[method-assign,misc]
                table, None, now_ms
            )
        await super()._commit(*args)


def _transaction(mutant: type[Transaction]) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(task, "Transaction", mutant)


def _task(mutant: type[Task]) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(World, "make_task", mutant)


def _never_fence(patch: Patch) -> None:
    serial = count()
    patch.setattr(
        TaskSpec,
        "transactional_id",
        lambda self, partition: f"{self.app}.{self.group}.{partition}.{next(serial)}",
    )


def _keep_the_overlay(patch: Patch) -> None:
    patch.setattr(Table, "discard", lambda table: None)


def _look_behind_the_batch_under_way(patch: Patch) -> None:
    """As the transport once was: a drained batch counted only when it was handed over."""
    hand_over, move_to = SimulatedIntake._hand_over, SimulatedIntake.move_to

    async def noted_hand_over(intake: Any, batch: Handed) -> None:
        intake.__dict__.setdefault("handed", {})[batch.partition] = batch.records[-1].offset
        await hand_over(intake, batch)

    async def noted_move_to(intake: Any, place: TopicPartition, offset: int, epoch: int) -> None:
        intake.__dict__.setdefault("handed", {})[place] = offset - 1
        await move_to(intake, place, offset, epoch)

    patch.setattr(SimulatedIntake, "_hand_over", noted_hand_over)
    patch.setattr(SimulatedIntake, "move_to", noted_move_to)
    patch.setattr(SimulatedIntake, "last_handed", lambda intake, place: intake.handed.get(place))


def _fire_timers_at_once(patch: Patch) -> None:
    async def has_reached(*_: Any) -> bool:
        return True

    patch.setattr(Task, "_has_reached", has_reached)


def _never_watch(patch: Patch) -> None:
    patch.setattr(Task, "watch", lambda task: None)


@pytest.mark.parametrize(
    ("mutate", "words"),
    [
        pytest.param(_transaction(TransactionWithoutAwait), "", id="deliveries not awaited"),
        pytest.param(_transaction(TransactionThatBelieves), "", id="unknown taken for committed"),
        pytest.param(
            _transaction(TransactionWithoutOffsets), "", id="offsets outside of the transaction"
        ),
        pytest.param(_task(TaskThatWritesFirst), "changelog", id="disk before commit"),
        pytest.param(_task(TaskThatWritesOldOffsets), "changelog", id="offset not on disk"),
        pytest.param(_task(TaskWithoutChain), "without a fate", id="chain not checked"),
        pytest.param(_never_fence, "", id="no fence on takeover"),
        pytest.param(_keep_the_overlay, "", id="overlay kept in a reset"),
        pytest.param(
            _look_behind_the_batch_under_way, "FALSE TIMEOUT", id="batch under way not seen"
        ),
        pytest.param(_fire_timers_at_once, "FALSE TIMEOUT", id="timers before the log was read"),
        pytest.param(_never_watch, "STALLED", id="lost last batch not noticed"),
    ],
)
def test_a_broken_rule_is_found_out(
    mutate: Callable[[Patch], None], words: str, monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    for seed in range(_SEEDS_MAX):
        failures = World(scenario_of(seed)).run().failures
        if any(words in failure for failure in failures):
            return
    pytest.fail(f"no seed below {_SEEDS_MAX} has found the mutant")


@pytest.mark.parametrize(
    ("mutate", "words"),
    [
        pytest.param(_transaction(TransactionWithoutAwait), "LOST", id="deliveries not awaited"),
        pytest.param(
            _transaction(TransactionThatBelieves),
            "without a fate",
            id="unknown taken for committed",
        ),
        pytest.param(_task(TaskThatWritesFirst), "changelog", id="disk before commit"),
        pytest.param(_never_fence, "read twice", id="no fence on takeover"),
        pytest.param(_keep_the_overlay, "without a fate", id="overlay kept in a reset"),
    ],
)
def test_a_broken_rule_shows_in_what_comes_out_too(
    mutate: Callable[[Patch], None], words: str, monkeypatch: Patch
) -> None:
    """The same with an eye closed: the watch over the disks would find them earlier."""
    monkeypatch.setattr(Watch, "on_write", lambda *_: None)
    monkeypatch.setattr(Watch, "on_offset", lambda *_: None)
    monkeypatch.setattr(Positions, "_check_agreement", lambda *_: None)
    test_a_broken_rule_is_found_out(mutate, words, monkeypatch)


def _run_zombie() -> Outcome:
    """The owner is put out of the group, which it does not hear, while events keep coming."""
    scenario = small_scenario(2)
    scenario.arrivals += [
        Arrival(at_s, PLACE, [NewRecord(START_MS, b"c", msgspec.json.encode(Parts(f"c{at_s}", n)))])
        for n, at_s in enumerate(range(6, 21), 1)
    ]
    scenario.hurts_until_s = 22.0
    world = World(scenario)

    def mute_owner() -> None:
        owner = world._owner("shop", 0)
        assert owner is not None
        owner.membership.is_mute = True

    # After a first heartbeat, which must count for nothing later on.
    world.loop.later(3.5, mute_owner)
    return world.run()


def test_a_zombie_leaves_the_rightful_owner_alone() -> None:
    outcome = _run_zombie()
    assert outcome.failures == []
    # The zombie's own, once; then it gives up, as the group does not confirm it.
    assert outcome.resets == 1
    assert outcome.fired["given-up"] == 1


def test_a_zombie_that_does_not_wait_for_a_heartbeat_fences_the_rightful_owner(
    monkeypatch: Patch,
) -> None:
    async def at_once(*_: Any) -> bool:
        await asyncio.sleep(0.05)
        return True

    monkeypatch.setattr(SimulatedMembership, "confirmed_since", at_once)
    outcome = _run_zombie()
    # Nothing is lost, as each fences the other; but each does, again and again.
    assert outcome.failures == []
    assert outcome.resets > 10
