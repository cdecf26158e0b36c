"""What a task must not decide by itself: it stops and says so, and goes on when told to."""

from dataclasses import replace
from typing import Any

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.state import FORMAT
from edo_stream.core.task import TASK_KEY
from edo_stream.testing.broker import NewRecord
from tests.simulation.load import START_MS, Arrival
from tests.simulation.small import PLACE, small_scenario
from tests.simulation.world import Blow, Outcome, Scenario, World


def _run_with_loss(scenario: Scenario) -> Outcome:
    """While no worker runs, the log loses two records that nobody has read: offsets 3 and 4."""
    scenario = replace(scenario, blows=[Blow(0.5, "kill", 0, 4.0)])
    world = World(scenario)
    world.loop.later(3.0, lambda: world.broker.logs[PLACE].delete_before(5))
    return world.run()


def test_records_deleted_before_they_were_read_stop_the_task() -> None:
    outcome = _run_with_loss(replace(small_scenario(), is_refusal_wanted=True))
    assert outcome.failures == []
    assert "EDO_ACCEPT_LOSS=shop.order:0:3-5" in outcome.refusals[0]


def test_an_accepted_loss_is_counted_and_passed() -> None:
    accepted = frozenset({("shop.order", 0, 3, 5)})
    outcome = _run_with_loss(replace(small_scenario(), accepted_losses=accepted))
    assert outcome.failures == []
    assert outcome.refusals == []


def test_records_deleted_under_a_running_consumer_stop_the_task() -> None:
    world = World(replace(small_scenario(), is_refusal_wanted=True))

    def lose(arrival: Arrival) -> None:
        entries = world.broker.append(PLACE, arrival.records)
        world.broker.logs[PLACE].delete_before(entries[-1].offset)

    arrivals = world.scenario.arrivals
    world.loop.later(3.0, lose, arrivals[-1])
    outcome = world.run()
    assert outcome.failures == []
    assert "deleted from the log" in outcome.refusals[0]


def test_group_offsets_changed_from_outside_stop_the_task() -> None:
    scenario = replace(small_scenario(), blows=[Blow(2.0, "kill", 0, 1.0)], is_refusal_wanted=True)
    world = World(scenario)
    world.loop.later(2.5, world.broker.offsets.update, {PLACE: 1})
    outcome = world.run()
    assert outcome.failures == []
    assert "stands at offset 1" in outcome.refusals[0]


def test_a_topic_that_does_not_take_what_must_be_written_stops_the_task() -> None:
    world = World(replace(small_scenario(), is_refusal_wanted=True))
    results = TopicPartition(world.scenario.groups[0].contracts[0].emit, 0)
    world.loop.later(0.5, setattr, world.broker.logs[results], "record_bytes_max", 10)
    outcome = world.run()
    assert outcome.failures == []
    assert f"{results.topic}-0 takes no batch of" in outcome.refusals[0]
    assert "Raise max.message.bytes" in outcome.refusals[0]


def test_a_topic_that_takes_it_after_all_stops_nobody() -> None:
    world = World(small_scenario())
    results = world.broker.logs[TopicPartition(world.scenario.groups[0].contracts[0].emit, 0)]
    refused = []

    def refuse_twice(records: list[NewRecord]) -> None:
        refused.append(len(records))
        results.record_bytes_max = 10 if len(refused) < 3 else 1 << 20

    produce = world.broker.produce

    def watched(who: Any, place: TopicPartition, records: Any, sequence: int) -> int:
        if place == results.place:
            refuse_twice(records)
        return produce(who, place, records, sequence)

    world.broker.produce = watched  # type: ignore[method-assign]
    outcome = world.run()
    assert (outcome.failures, outcome.refusals) == ([], [])
    assert 2 < len(refused)


def test_a_state_that_a_later_version_has_written_stops_the_task() -> None:
    world = World(replace(small_scenario(), is_refusal_wanted=True))
    later = msgspec.msgpack.encode([FORMAT + 1, "something else"])
    place = TopicPartition(world.tables["shop-state"][0], 0)
    world.broker.append(place, [NewRecord(START_MS, TASK_KEY, later)])
    outcome = world.run()
    assert outcome.failures == []
    assert f"its state has format {FORMAT + 1}" in outcome.refusals[0]
