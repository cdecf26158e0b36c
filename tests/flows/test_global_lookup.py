"""Flows that look rows up in tables that every worker has in full."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from edo_stream.core.partitioner import partition_of
from edo_stream.testing.broker import NewRecord
from edo_stream.testing.world import FlowWorld
from tests.flows.test_lookup import ACTION, EXAMPLE, HEAD, INPUT, PLACED, PROFILE, profile

HEADERS = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"),
           ("ce_type", PROFILE.encode()), ("content-type", b"application/json"))  # fmt: skip
WAIT = "missing: wait, within: 1m, then: null"


def project(folder: Path, rules: str, more: str = "") -> FlowWorld:
    flows = folder / "flows"
    flows.mkdir()
    rules = f"topic: {PROFILE}, table: global, key: /customer, {rules}"
    lookup = f"lookup: {{customer: {{{rules}}}{more}}}\n"
    (flows / "f.yaml").write_text(f"{HEAD}on: {PLACED}\n{lookup}{INPUT}{ACTION}")
    (folder / "topics").symlink_to(EXAMPLE / "topics")
    return FlowWorld.of_project(folder)


def place(world: FlowWorld, order: str, customer: str) -> None:
    world.publish(PLACED, {"order": order, "customer": customer, "lines": []}, key=order)


def write(world: FlowWorld, customer: str, value: bytes | None, partition: int) -> None:
    """A record in any partition, as a producer with a partitioner of its own writes it."""
    key = customer.encode()
    record = NewRecord(world.now_ms(), key, value, () if value is None else HEADERS)
    world.broker.append(TopicPartition(PROFILE, partition), [record])
    world.settle()


def found(world: FlowWorld) -> dict[str, Any]:
    return {run.data["order"]: run.data["row"] for run in world.runs("f")}


def test_events_of_all_tasks_find_all_rows(tmp_path: Path) -> None:
    world = project(tmp_path, WAIT)
    try:
        for number in range(6):
            profile(world, f"name {number}", f"c-{number}")
        for number in range(24):
            place(world, f"o-{number}", f"c-{number % 6}")
        assert {f"o-{number}": {"name": f"name {number % 6}"} for number in range(24)} == found(
            world
        )
        places = {place for place, log in world.broker.logs.items() if log.committed()}
        events = [place for place in places if place.topic.startswith("edo.lookups-")]
        # Where the events' own keys belong, wherever the rows are.
        assert len(events) > 1
    finally:
        world.close()


def test_a_row_that_comes_lets_go_what_waits_in_every_task(tmp_path: Path) -> None:
    world = project(tmp_path, WAIT)
    try:
        for number in range(12):
            place(world, f"o-{number}", "c-1")
        place(world, "o-x", "c-2")
        world.advance(30)
        assert {} == found(world)
        profile(world, "Ada", "c-1")
        assert {f"o-{number}": {"name": "Ada"} for number in range(12)} == found(world)
        world.advance(31)
        assert found(world)["o-x"] is None
    finally:
        world.close()


@pytest.mark.parametrize(
    ("rules", "reason"), [("missing: dead-letter", "no-row"), ("missing: failure", None)]
)
def test_what_has_no_row_ends_as_the_flow_says(
    tmp_path: Path, rules: str, reason: str | None
) -> None:
    world = project(tmp_path, rules)
    try:
        place(world, "o-1", "c-1")
        if reason is None:
            (outcome,) = world.outcomes("f")
            assert "edo.f.unmatched" == outcome.type
        else:
            (letter,) = world.dead_letters("f")
            assert reason == letter.headers["edo-reason"]
        profile(world, "Ada")
        place(world, "o-2", "c-1")
        assert {"o-2": {"name": "Ada"}} == found(world)
    finally:
        world.close()


def test_a_deleted_row_is_missing_and_one_that_is_none_leaves_the_one_before(
    tmp_path: Path,
) -> None:
    world = project(tmp_path, "missing: null")
    try:
        home = partition_of(b"c-1", 3)
        write(world, "c-1", b'{"name":"Ada"}', home)
        write(world, "c-1", b"no JSON", home)
        place(world, "o-1", "c-1")
        write(world, "c-1", None, home)
        place(world, "o-2", "c-1")
        assert {"o-1": {"name": "Ada"}, "o-2": None} == found(world)
        # One, however many tasks and workers read the table.
        (letter,) = world.records("edo.dead-letters.lookups-3")
        assert b"no JSON" == letter.data
    finally:
        world.close()


def test_rows_may_be_in_any_partition_and_the_later_one_holds(tmp_path: Path) -> None:
    world = project(tmp_path, "missing: null")
    try:
        for partition, name in ((2, "Ada"), (0, "Grace"), (1, "Edsger")):
            write(world, "c-1", f'{{"name":"{name}"}}'.encode(), partition)
            place(world, f"o-{partition}", "c-1")
            world.advance(1)
        rows = {"o-2": {"name": "Ada"}, "o-0": {"name": "Grace"}, "o-1": {"name": "Edsger"}}
        assert rows == found(world)
        assert [] == world.records("edo.dead-letters.lookups-3")
    finally:
        world.close()


def test_lookups_of_both_kinds_follow_one_another(tmp_path: Path) -> None:
    more = f", own: {{topic: {PROFILE}, key: /order, missing: wait, within: 1m}}"
    more += f", last: {{topic: {PROFILE}, table: global, missing: 'null'}}"
    world = project(tmp_path, WAIT, more)
    try:
        place(world, "o-1", "c-1")
        profile(world, "Ada", "c-1")
        assert {} == found(world)
        profile(world, "Order", "o-1")
        assert {"o-1": {"name": "Ada"}} == found(world)
    finally:
        world.close()


def test_a_table_that_grows_is_read_in_full(tmp_path: Path) -> None:
    world = project(tmp_path, WAIT)
    try:
        place(world, "o-1", "c-1")
        world.broker.grow(PROFILE, 5)
        write(world, "c-1", b'{"name":"Ada"}', 4)
        world.advance(31)
        assert {"o-1": {"name": "Ada"}} == found(world)
    finally:
        world.close()
