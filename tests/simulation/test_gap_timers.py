"""Gap timers against what is on its way: a number that was there in time is never given up."""

from collections.abc import Iterator, Mapping

import msgspec
import pytest

from edo_stream.testing.broker import NewRecord
from tests.simulation.judge import ACCOUNTS, GAPS
from tests.simulation.load import START_MS, Arrival, Parts
from tests.simulation.small import GROUP, PLACE
from tests.simulation.world import Scenario, World

#: When the number 2 is missed first; the contract waits for it for 2 s.
_HELD_S = 0.5
_DUE_S = _HELD_S + 2.0


def _record(number: int) -> NewRecord:
    return NewRecord(START_MS, b"a", msgspec.json.encode(Parts(f"a{number}", number)))


def _world(second: Arrival, rates: Mapping[str, float]) -> World:
    scenario = Scenario(
        seed=int(second.at_s * 1_000),
        groups=[GROUP],
        arrivals=[Arrival(_HELD_S, PLACE, [_record(1), _record(3)]), second],
        machines=1,
        rates=rates,
        hurts_until_s=20.0,
    )
    return World(scenario)


def _gaps(world: World) -> list[bytes | None]:
    return [
        entry.value
        for place, log in world.broker.logs.items()
        if place.topic == GAPS
        for entry in log.committed()
    ]


def _arrivals_just_in_time() -> Iterator[Arrival]:
    for early_ms in range(1, 160, 2):
        yield Arrival(_DUE_S - early_ms / 1_000, PLACE, [_record(2)])


@pytest.mark.parametrize("slow", ["fetch-slow", "delivery-slow", "queue-full"])
def test_a_number_that_arrives_just_in_time_and_is_delivered_late_is_not_given_up(
    slow: str,
) -> None:
    failures = {}
    for arrival in _arrivals_just_in_time():
        world = _world(arrival, {slow: 1.0})
        failures[arrival.at_s] = world.run().failures
    assert {} == {at_s: found for at_s, found in failures.items() if found}


def test_a_number_in_a_transaction_that_is_still_open_is_waited_for() -> None:
    behind = Arrival(_DUE_S - 0.5, PLACE, [_record(2)], open_s=6.0, is_commit=True)
    world = _world(behind, {})
    assert world.run().failures == []
    assert _gaps(world) == []


def test_a_number_in_a_transaction_that_is_aborted_is_given_up_after_it() -> None:
    behind = Arrival(_DUE_S - 0.5, PLACE, [_record(2)], open_s=6.0, is_commit=False)
    world = _world(behind, {})
    assert world.run().failures == []
    (gap,) = _gaps(world)
    assert msgspec.json.decode(gap or b"")["at"] >= START_MS + (_DUE_S - 0.5 + 6.0) * 1_000


def test_a_number_that_never_comes_is_given_up_when_it_is_due_and_no_sooner() -> None:
    other = NewRecord(START_MS, b"b", msgspec.json.encode(Parts("b1", 1)))
    world = _world(Arrival(_HELD_S, PLACE, [other]), {})
    assert world.run().failures == []
    (gap,) = _gaps(world)
    held_ms = min(
        msgspec.json.decode(entry.value or b"")["atMs"]
        for place, log in world.broker.logs.items()
        if place.topic == ACCOUNTS
        for entry in log.committed()
        if b'"h"' in (entry.value or b"")
    )
    late_ms = msgspec.json.decode(gap or b"")["at"] - (held_ms + 2_000)
    assert 0 <= late_ms < 100
