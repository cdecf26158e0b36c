"""Standbys under everything that goes wrong, and the judge judged by standbys that are broken."""

from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import TopicPartition

from edo_stream.engine import restore, standby
from edo_stream.engine.standby import Followed, Standbys
from edo_stream.testing.broker import Entry
from edo_stream.testing.intake import SimulatedFollower
from tests.simulation.scenario import scenario_of
from tests.simulation.small import small_scenario
from tests.simulation.world import Blow, World

_SEEDS_MAX = 1_000

Patch = pytest.MonkeyPatch


def _read_uncommitted(patch: Patch) -> None:
    def read(
        follower: Any, place: TopicPartition, position: int, records_max: int
    ) -> tuple[tuple[list[Entry], int], int]:
        log = follower._m.broker.logs[place]
        found = [entry for entry in log.entries if entry.offset >= position and not entry.is_marker]
        return (found, log.end), log.end

    patch.setattr(SimulatedFollower, "_read", read)


def _read_aborted(patch: Patch) -> None:
    """To the last stable offset only, but with what was aborted before it."""

    def read(
        follower: Any, place: TopicPartition, position: int, records_max: int
    ) -> tuple[tuple[list[Entry], int], int]:
        log = follower._m.broker.logs[place]
        end = log.last_stable
        found = [e for e in log.entries if position <= e.offset < end and not e.is_marker]
        return (found, max(position, end)), end

    patch.setattr(SimulatedFollower, "_read", read)


def _write_on_after_the_takeover(patch: Patch) -> None:
    patch.setattr(Standbys, "_is_followed", lambda *_: True)


def _go_on_where_it_was(patch: Patch) -> None:
    """A standby that comes again goes on at its old position, not at its disk's."""
    positions: dict[Any, int] = {}
    start_offset, init = restore.start_offset, Followed.__init__

    def remembered(table: Any, *args: Any) -> int:
        known = positions.get(table.disk._platter)
        return start_offset(table, *args) if known is None else known

    def remember(followed: Any, table: Any, position: int, *args: Any) -> None:
        positions[table.disk._platter] = position + 5
        init(followed, table, position, *args)

    patch.setattr(standby, "start_offset", remembered)
    patch.setattr(Followed, "__init__", remember)


@pytest.mark.parametrize(
    ("mutate", "words"),
    [
        pytest.param(_read_uncommitted, "not decided", id="uncommitted rows applied"),
        pytest.param(_read_aborted, "the changelog up to", id="aborted rows applied"),
        pytest.param(
            _write_on_after_the_takeover, "is closed", id="disk written after the takeover"
        ),
        pytest.param(_go_on_where_it_was, "the changelog up to", id="rows left out"),
    ],
)
def test_a_broken_standby_is_found_out(
    mutate: Callable[[Patch], None], words: str, monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    for seed in range(_SEEDS_MAX):
        scenario = scenario_of(seed)
        if not scenario.standbys:
            continue
        failures = World(scenario).run().failures
        if any(words in failure for failure in failures):
            return
    pytest.fail(f"no seed below {_SEEDS_MAX} has found the mutant")


@pytest.mark.parametrize("standbys", [0, 1])
def test_a_takeover_restores_the_tail_only_where_there_was_a_standby(standbys: int) -> None:
    scenario = small_scenario(2)
    scenario.standbys = standbys
    world = World(scenario)
    restored: list[int] = []

    def kill_owner() -> None:
        owner = world._owner("shop", 0)
        assert owner is not None
        world._strike(Blow(0.0, "kill", owner.machine, 300.0))

    def look() -> None:
        task = world._task("shop", 0)
        assert task is not None
        restored.append(task.stats.restored_records)

    world.loop.later(4.0, kill_owner)
    world.loop.later(30.0, look)
    # Beyond the session, the takeover and the look.
    scenario.hurts_until_s = 31.0
    outcome = world.run()
    assert outcome.failures == []
    assert (restored == [0]) == bool(standbys), restored
    assert bool(outcome.fired["stood by"]) == bool(standbys)
