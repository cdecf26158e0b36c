"""Events that cancel commands by another field than their key, from the file to the outcome."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edo_stream.flows import load_flows
from edo_stream.registry import RegistryError, load
from edo_stream.testing.world import FlowWorld

CONTRACT = """\
name: {topic}
owner: team
description: Orders.
codec: cloudevents
partitions: 4
emit: {{topic: {topic}.out}}
"""
HEAD = "name: f\nowner: team\ndescription: Works.\non: shop.order.placed\nkey: /customer\n"
ACTION = "action: {kind: noop, idempotency_key: command, replay: safe}\n"
BY = "cancel_on: {topic: shop.order.cancelled, by: {cancelling: /id, cancelled: /order}}\n"
RETRY = "retry: {initial: 10s, max: 10s, retries: 5}\n"


def project(folder: Path, rules: str) -> Path:
    for topic in ("shop.order.placed", "shop.order.cancelled"):
        (folder / "topics" / topic).mkdir(parents=True)
        (folder / "topics" / topic / "contract.yaml").write_text(CONTRACT.format(topic=topic))
    (folder / "flows").mkdir()
    (folder / "flows" / "f.yaml").write_text(HEAD + ACTION + RETRY + rules)
    return folder


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FlowWorld]:
    world = FlowWorld.of_project(project(tmp_path, BY))
    yield world
    world.close()


def placed(world: FlowWorld, *orders: str) -> None:
    for order in orders:
        data = {"order": order, "customer": f"c-{order[-1]}"}
        world.publish("shop.order.placed", data, key=f"c-{order[-1]}")


def cancelled(world: FlowWorld) -> list[str]:
    return [one.key for one in world.outcomes("f") if one.headers["ce_type"] == "edo.f.cancelled"]


def test_an_event_of_an_order_cancels_the_command_of_its_customer(world: FlowWorld) -> None:
    world.fail("f", times=4)
    placed(world, "o-a", "o-b", "p-a", "p-b")
    event = world.publish("shop.order.cancelled", {"id": "o-a"}, key="o-a")
    assert ["c-a"] == cancelled(world)
    (end,) = world.outcomes("f")
    assert ("event", event) == (end.data["reason"], end.data["event"])
    world.advance(100)
    done = [one for one in world.outcomes("f") if one.headers["ce_type"] == "edo.f.done"]
    assert ["c-a", "c-b", "c-b"] == sorted(one.key for one in done), "others of its key run"


def test_what_waits_behind_a_retry_is_cancelled_and_what_comes_later_runs(
    world: FlowWorld,
) -> None:
    world.fail("f", times=1)
    placed(world, "o-a", "p-a")
    world.publish("shop.order.cancelled", {"id": "p-a"}, key="x")
    assert ["c-a"] == cancelled(world)
    placed(world, "p-a")
    world.advance(100)
    orders = [run.data["order"] for run in world.runs("f")]
    assert ["o-a", "o-a", "p-a"] == orders


def test_what_cancels_lies_on_each_partition_with_an_id_of_its_own(world: FlowWorld) -> None:
    world.publish("shop.order.cancelled", {"id": "o-a"}, key="o-a")
    marks = world.records("edo.commands.f")
    assert list(range(8)) == sorted(one.partition for one in marks)
    assert 8 == len({one.headers["ce_id"] for one in marks})
    assert {'["/order","o-a"]'} == {one.headers["edo-cancel-tag"] for one in marks}
    told = world.records("edo.control.actions")
    assert {one.headers["ce_id"] for one in marks} == {one.headers["ce_id"] for one in told}


def test_an_event_without_the_field_cancels_nothing_and_is_a_dead_letter(world: FlowWorld) -> None:
    world.publish("shop.order.cancelled", {"order": "o-a"}, key="o-a")
    (letter,) = world.dead_letters("f")
    assert "no-key" == letter.headers["edo-reason"]
    assert [] == world.records("edo.commands.f")


def test_a_command_without_the_field_is_no_ones_to_cancel(world: FlowWorld) -> None:
    world.fail("f", times=1)
    world.publish("shop.order.placed", {"customer": "c-a"}, key="c-a")
    (command,) = world.records("edo.commands.f")
    assert "edo-tags" not in command.headers


def test_pieces_of_keys_of_their_own_are_cancelled_with_their_event(tmp_path: Path) -> None:
    rules = f"{BY}split: {{at: /lines, key: /sku}}\n"
    world = FlowWorld.of_project(project(tmp_path, rules))
    world.fail("f", times=3)
    lines = [{"sku": sku} for sku in ("A", "B", "C")]
    data = {"order": "o-a", "customer": "c-a", "lines": lines}
    world.publish("shop.order.placed", data, key="c-a")
    world.publish("shop.order.cancelled", {"id": "o-a"}, key="o-a")
    assert ["A", "B", "C"] == sorted(cancelled(world))
    world.close()


def test_an_event_may_cancel_by_the_key_and_by_fields(tmp_path: Path) -> None:
    rules = (
        "cancel_on:\n  - shop.order.cancelled\n"
        "  - {topic: shop.order.cancelled, by: /order, where: data.kind == 'order'}\n"
    )
    world = FlowWorld.of_project(project(tmp_path, rules))
    world.fail("f", times=3)
    placed(world, "o-a", "o-b", "o-c")
    world.publish("shop.order.cancelled", {"customer": "c-a", "order": "x"}, key="x")
    assert ["c-a"] == cancelled(world)
    data = {"customer": "c-b", "order": "o-c", "kind": "order"}
    world.publish("shop.order.cancelled", data, key="x")
    assert ["c-a", "c-b", "c-c"] == sorted(cancelled(world))
    world.close()


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("cancel_on: {topic: shop.order.cancelled, by: order}\n", ""),
        ("cancel_on: {topic: shop.order.cancelled, by: {cancelling: /id}}\n", "cancelled is miss"),
        ("cancel_on: {topic: shop.order.cancelled, key: /id}\n", "write by"),
        ("throttle: {limit: 1, per: 1m, by: /tenant}\n", "throttle.by: commands of one /tenant"),
        ("rate_limit: {limit: 1, per: 1m, by: /tenant}\n", "rate_limit.by: commands of one"),
        ("concurrency: {max: 4, by: /tenant}\n", "concurrency.by: commands of one /tenant"),
        (f"order: relaxed\n{BY}", "with order: relaxed"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, rules: str, told: str) -> None:
    folder = project(tmp_path, rules)
    if not told:
        load_flows(folder / "flows", load(folder / "topics"))
        return
    with pytest.raises(RegistryError) as refused:
        load_flows(folder / "flows", load(folder / "topics"))
    assert told in str(refused.value)
