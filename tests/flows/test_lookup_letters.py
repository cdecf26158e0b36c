"""Dead letters of flows that look up, sent again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from edo_stream.cli.dlq_lookups import sought_again
from edo_stream.cli.environment import CommandError
from edo_stream.flows import load_flows
from edo_stream.observe.dead_letters import Letter, letter_of
from edo_stream.observe.owners import owners_of
from edo_stream.testing.broker import NewRecord
from edo_stream.testing.world import APP, FlowWorld
from tests.flows.test_global_lookup import project as in_full
from tests.flows.test_lookup import ACTION, HEAD, PLACED, place, profile, project

PROJECTS = [project, in_full]
WAIT = "missing: wait, within: 1m"


def letters_of(world: FlowWorld) -> list[Letter]:
    owners = owners_of(world.registry, world.flows)
    found: list[Any] = []
    for at, log in world.broker.logs.items():
        found += log.committed() if at.topic == "edo.dead-letters.f" else []
    found.sort(key=lambda entry: entry.appended_at)
    return [letter_of(entry, owners) for entry in found]


def redrive(world: FlowWorld, letter: Letter) -> None:
    for one in sought_again(letter, world.flows, APP, world.now_ms()) or ():
        record = NewRecord(world.now_ms(), one.key, one.value, tuple(one.headers))
        world.broker.append(TopicPartition(one.topic, one.partition), [record])
    world.settle()


@pytest.mark.parametrize("made", PROJECTS)
def test_an_event_whose_row_was_missing_is_sent_again_and_waits_anew(
    tmp_path: Path, made: Callable[[Path, str], FlowWorld]
) -> None:
    world = made(tmp_path, WAIT)
    try:
        place(world, 1)
        world.advance(61)
        (letter,) = letters_of(world)
        assert ("no-row", 0) == (letter.reason, letter.redrive)
        redrive(world, letter)
        world.advance(61)
        # As a letter of its own: the first one is done with.
        _, again = letters_of(world)
        assert ("no-row", 1) == (again.reason, again.redrive)
        assert letter.id != again.id
        redrive(world, again)
        world.advance(30)
        assert [] == world.runs("f")
        profile(world, "Ada")
        (run,) = world.runs("f")
        assert {"order": "o-1", "row": {"name": "Ada"}} == run.data
        assert 2 == len(letters_of(world))
        (command,) = world.records("edo.commands.f")
        first = command.headers["ce_id"]
    finally:
        world.close()
    # The id is that of the event, whenever it has found its row.
    (tmp_path / "other").mkdir()
    world = made(tmp_path / "other", WAIT)
    try:
        profile(world, "Ada")
        place(world, 1)
        (command,) = world.records("edo.commands.f")
        assert first == command.headers["ce_id"]
    finally:
        world.close()


def test_an_event_of_which_no_command_could_be_made_looks_up_anew(tmp_path: Path) -> None:
    made = "input: {jq: '.lookup.customer.name.first'}\n"
    world = project(tmp_path, WAIT, "", made)
    try:
        profile(world, "Ada")
        place(world, 1)
        (letter,) = letters_of(world)
        assert "input" == letter.reason
        world.publish("shop.customer.profile", {"name": {"first": "Ada"}}, key="c-1")
        redrive(world, letter)
        assert ["Ada"] == [run.data for run in world.runs("f")]
    finally:
        world.close()


def test_what_nobody_looks_up_any_more_is_not_sent_again(tmp_path: Path) -> None:
    world = project(tmp_path, "missing: dead-letter")
    try:
        place(world, 1)
        (letter,) = letters_of(world)
        (tmp_path / "flows" / "f.yaml").write_text(f"{HEAD}on: {PLACED}\n{ACTION}")
        flows = load_flows(tmp_path / "flows", world.registry)
        with pytest.raises(CommandError, match="no flow f looks anything up"):
            sought_again(letter, flows, APP, world.now_ms())
    finally:
        world.close()
