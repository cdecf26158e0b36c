"""The simulation itself: its clock, its broker, and that a seed says everything."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidTxnState,
    MessageSizeTooLargeError,
)

from edo_stream.testing.broker import Broker, NewRecord
from edo_stream.testing.loop import DeadlockError, LivelockError, Process, VirtualLoop
from tests.simulation.__main__ import run

PLACE = TopicPartition("t", 0)
RECORD = NewRecord(0, b"k", b"v")


def _loop() -> VirtualLoop:
    return VirtualLoop(Random(0), 10_000)


@pytest.fixture
def broker() -> Iterator[Broker]:
    loop = _loop()
    broker = Broker(loop, Random(0))
    broker.create("t", 1, 100)
    broker.create("u", 1)
    yield broker
    loop.dispose()


def _begin(broker: Broker) -> tuple[str, int, int]:
    return ("app.0", *broker.init_producer("app.0", 8.0))


def _let_pass(broker: Broker, seconds: float) -> None:
    broker._loop.run_until_complete(asyncio.sleep(seconds))


def _read(broker: Broker) -> list[int]:
    return [entry.offset for entry in broker.logs[PLACE].read(0, 100)[0]]


def test_time_passes_without_waiting() -> None:
    loop = _loop()
    loop.run_until_complete(asyncio.sleep(86_400))
    assert loop.time() >= 86_400
    loop.dispose()


def test_a_loop_with_nothing_left_to_do_says_so() -> None:
    loop = _loop()

    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="nothing is ready"):
        loop.run_until_complete(wait_for_ever())
    loop.dispose()


def test_a_loop_that_goes_round_and_round_says_so() -> None:
    loop = _loop()

    def spin() -> None:
        loop.call_soon(spin)

    loop.call_soon(spin)
    with pytest.raises(LivelockError, match="callbacks have run"):
        loop.run_forever()
    loop.dispose()


def test_a_dead_process_does_nothing_and_a_paused_one_does_it_later() -> None:
    loop = _loop()
    done: list[tuple[str, float]] = []

    async def work(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            done.append((name, round(loop.time(), 1)))

    dead, paused = Process("dead", loop), Process("paused", loop)
    dead.start(work("dead"))
    paused.start(work("paused"))
    loop.later(1.5, dead.kill)
    loop.later(1.5, paused.pause)
    loop.later(9.5, paused.resume)
    loop.run_until_complete(asyncio.sleep(20))
    expected = [("dead", 1.0), ("paused", 1.0), ("paused", 9.5), ("paused", 10.5)]
    assert expected == sorted(done, key=lambda each: (each[1], each[0]))
    loop.dispose()


def test_records_are_visible_when_their_transaction_has_its_marker(broker: Broker) -> None:
    who = _begin(broker)
    assert broker.produce(who, PLACE, [RECORD], 0) == 0
    broker.append(PLACE, [RECORD])
    assert _read(broker) == [], "an open transaction hides what comes after it, too"
    broker.end(who, True)
    assert _read(broker) == [], "decided, not yet marked"
    _let_pass(broker, 1)
    assert _read(broker) == [0, 1]
    assert broker.logs[PLACE].end == 3, "the marker has an offset"


def test_records_of_an_aborted_transaction_never_show(broker: Broker) -> None:
    who = _begin(broker)
    broker.produce(who, PLACE, [RECORD], 0)
    broker.end(who, False)
    _let_pass(broker, 1)
    assert _read(broker) == []
    assert broker.logs[PLACE].last_stable == 2


def test_a_new_producer_aborts_and_fences_the_old_one(broker: Broker) -> None:
    old = _begin(broker)
    broker.produce(old, PLACE, [RECORD], 0)
    with pytest.raises(ConcurrentTransactions):
        _begin(broker)
    with pytest.raises(InvalidProducerEpoch):
        broker.end(old, True)
    _let_pass(broker, 1)
    new = _begin(broker)
    for late in (
        lambda: broker.produce(old, TopicPartition("u", 0), [RECORD], 0),
        lambda: broker.add_offsets(old, {PLACE: 1}),
    ):
        with pytest.raises(InvalidProducerEpoch):
            late()
    broker.produce(new, PLACE, [RECORD], 0)
    broker.end(new, True)
    _let_pass(broker, 1)
    assert _read(broker) == [2]


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(
    broker: Broker,
) -> None:
    who = _begin(broker)
    broker.produce(who, PLACE, [RECORD], 0)
    _let_pass(broker, 9)
    with pytest.raises(InvalidProducerEpoch):
        broker.end(who, True)
    assert _read(broker) == []


def test_a_refused_batch_does_not_keep_its_transaction_from_committing(broker: Broker) -> None:
    who = _begin(broker)
    with pytest.raises(MessageSizeTooLargeError):
        broker.produce(who, PLACE, [NewRecord(0, b"k", b"v" * 101)], 0)
    broker.add_offsets(who, {PLACE: 777})
    broker.end(who, True)
    _let_pass(broker, 1)
    assert broker.offsets == {PLACE: 777}


def test_a_repeated_batch_lands_once_and_a_repeated_commit_is_confirmed(broker: Broker) -> None:
    who = _begin(broker)
    assert broker.produce(who, PLACE, [RECORD], 0) == 0
    assert broker.produce(who, PLACE, [RECORD], 0) == 0
    broker.end(who, True)
    broker.end(who, True)
    with pytest.raises(InvalidTxnState):
        broker.end(who, False)
    _let_pass(broker, 1)
    assert _read(broker) == [0]


def test_compaction_keeps_the_last_record_of_each_key_and_what_is_not_stable(
    broker: Broker,
) -> None:
    broker.append(PLACE, [NewRecord(0, b"a", b"1"), NewRecord(0, b"b", b"1")])
    broker.append(PLACE, [NewRecord(0, b"a", b"2"), NewRecord(0, b"b", None)])
    txn = broker.open_foreign(PLACE, [NewRecord(0, b"a", b"3")])
    broker.logs[PLACE].compact(100)
    assert _read(broker) == [2, 3]
    broker.end_foreign(txn, True)
    assert _read(broker) == [2, 3, 4]


def test_a_seed_is_one_history() -> None:
    def told(seed: int) -> list[str]:
        return run(seed, keeps_trace=True).trace

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_a_seed_is_one_history_whatever_the_hashes_of_strings() -> None:
    def told(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", "13", "--trace"]
        done: Any = subprocess.run(
            command, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        return str(done.stdout)

    assert told("1") == told("2")
