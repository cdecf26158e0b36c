"""Records as side effects."""

import asyncio
from dataclasses import replace

from edo_stream.actions.kafka import RecordExecutor, RecordPlan
from edo_stream.actions.template import Template
from edo_stream.core.act.outcome import Done, Failed, FailureClass
from edo_stream.core.partitioner import partition_of
from tests.act.world import World, policy, spec
from tests.actions.commands import command

PLAN = RecordPlan("ship.label.printed", 8, "ship.label.printed", "/ship", Template("{{ data.id }}"))


def test_a_record_is_the_same_for_every_attempt_and_goes_to_its_key_s_partition() -> None:
    first, second = (
        asyncio.run(RecordExecutor(PLAN)(command({"id": "o-9"}, attempt=attempt)))
        for attempt in (1, 2)
    )
    assert isinstance(first, Done)
    assert first == second
    (record,) = first.records
    assert (record.topic, record.key, record.value) == (
        "ship.label.printed",
        b"o-9",
        b'{"id":"o-9"}',
    )
    assert record.partition == partition_of(b"o-9", 8)
    assert ("ce_causationid", b"c-1") in record.headers


def test_it_is_written_in_the_transaction_of_the_outcome() -> None:
    world = World(spec(policy()))
    world.send("a1", "a")
    world.settle()
    outcome = asyncio.run(RecordExecutor(PLAN)(command({"id": "o-9"})))
    work = world.take()
    world.pipeline.finish(work, outcome)
    effects = world.step()
    assert [one.topic for one in effects.publish] == [
        "ship.label.printed",
        "edo.outcomes.ship",
        "edo.accounts",
    ]
    assert {one.timestamp_ms for one in effects.publish} == {world.now_ms}


def test_a_key_that_is_not_there_is_poison() -> None:
    assert isinstance(asyncio.run(RecordExecutor(PLAN)(command({}))), Failed)


def test_a_record_that_its_topic_does_not_take_is_poison_and_stops_no_transaction() -> None:
    plan = replace(PLAN, bytes_max=2_000)
    small = asyncio.run(RecordExecutor(plan)(command({"id": "x" * 100})))
    assert isinstance(small, Done)
    large = asyncio.run(RecordExecutor(plan)(command({"id": "x" * 2_000})))
    assert isinstance(large, Failed)
    assert (large.failure, large.reason) == (FailureClass.POISON, "record-too-large")
