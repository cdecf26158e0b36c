"""Requests to flows that split, gather or wait, and to sagas: each is told of its end, once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from edo_stream.actions import BusinessError
from edo_stream.core.headers import time_text
from edo_stream.testing.actions import Run
from edo_stream.testing.broker import NewRecord
from edo_stream.testing.world import FlowWorld, Seen

EXAMPLE = Path(__file__).parents[2] / "docs/examples/order-quote"
PLACED = "shop.order.placed"
ACTION = "{kind: noop, idempotency_key: command, replay: safe}"
SPLITS = f"""\
name: quote-line
owner: team
description: Splits.
on: {PLACED}
split: {{at: /lines, empty: EMPTY}}
input: {{cel: element}}
action: {ACTION}
"""
GATHERS = """\
name: order-quoted
owner: team
description: Gathers.
when: {gather: quote-line, within: 1m, failed: failure}
emit: {topic: shop.order.quoted}
replies: shop
"""
WAITS = f"""\
name: two-orders
owner: team
description: Waits.
when: {{count: {{order: {{topic: {PLACED}, key: /order}}}}, expect: 2, within: 1m}}
action: {ACTION}
replies: shop
"""
SAGA = f"""\
name: ship-order
version: 1
owner: team
description: Ships.
on: {PLACED}
key: /order
replies: shop
steps:
  - name: reserve
    action: {ACTION}
    compensate: {{action: {ACTION}}}
  - name: ship
    action: {ACTION}
"""

World = Callable[..., FlowWorld]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[World]:
    worlds = []

    def make(**files: str) -> FlowWorld:
        (tmp_path / "flows/sagas").mkdir(parents=True)
        for name, text in files.items():
            folder = "flows/sagas" if "steps:" in text else "flows"
            (tmp_path / folder / f"{name.replace('_', '-')}.yaml").write_text(text)
        (tmp_path / "topics").symlink_to(EXAMPLE / "topics")
        worlds.append(FlowWorld.of_project(tmp_path))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def ask(world: FlowWorld, *skus: str, order: str = "o-1", **more: str) -> str:
    """Send a request."""
    lines = [{"sku": sku, "quantity": 1} for sku in skus]
    extensions = {"edoreplyto": "edo.replies.shop/3", **more}
    data = {"order": order, "lines": lines}
    return world.publish(PLACED, data, key=order, extensions=extensions)


def replies(world: FlowWorld) -> list[Seen]:
    return world.records("edo.replies.shop")


def ends(world: FlowWorld) -> list[tuple[str, str]]:
    """Requests that were told, and of which end."""
    return [(one.headers["ce_edorequestid"], one.headers["ce_type"]) for one in replies(world)]


def no_price(run: Run) -> Any:
    raise BusinessError("it is not sold any more", reason="gone")


def test_who_asks_for_a_split_event_is_told_of_all_its_pieces(project: World) -> None:
    world = project(quote_line=SPLITS.replace("EMPTY", "event"), order_quoted=GATHERS)
    world.answer("quote-line", lambda run: {"sku": run.data["sku"], "price": 3})
    request = ask(world, "A", "B")
    (reply,) = replies(world)
    assert [(request, "edo.order-quoted.done")] == ends(world)
    assert (3, request) == (reply.partition, reply.headers["ce_correlationid"])
    prices = [one["data"]["price"] for one in reply.data["inputs"]["results"]]
    assert ([3, 3], True) == (prices, reply.data["complete"])
    assert [reply.data] == [one.data for one in world.records("shop.order.quoted")]


def test_a_piece_that_fails_fails_the_request(project: World) -> None:
    world = project(quote_line=SPLITS.replace("EMPTY", "event"), order_quoted=GATHERS)
    world.answer("quote-line", no_price)
    request = ask(world, "A")
    assert [(request, "edo.order-quoted.failed")] == ends(world)


@pytest.mark.parametrize(("empty", "end"), [("event", "done"), ("nothing", "empty")])
def test_an_empty_list_is_told(project: World, empty: str, end: str) -> None:
    world = project(quote_line=SPLITS.replace("EMPTY", empty), order_quoted=GATHERS)
    request = ask(world)
    assert [(request, f"edo.order-quoted.{end}")] == ends(world)
    ((reply),) = replies(world)
    assert 0 == reply.data["count"]


def test_what_cannot_be_split_is_told(project: World) -> None:
    rules = SPLITS.replace("EMPTY", "event, max: 1")
    world = project(quote_line=rules, order_quoted=GATHERS)
    request = ask(world, "A", "B")
    assert [(request, "edo.order-quoted.dead-letter")] == ends(world)
    assert "split-too-long" == replies(world)[0].data["reason"]


def test_each_request_that_a_command_was_made_of_has_its_result(project: World) -> None:
    world = project(two_orders=WAITS)
    world.answer("two-orders", {"parcel": 7})
    first = ask(world, "A")
    assert [] == ends(world)
    second = ask(world, "B")
    assert [(first, "edo.two-orders.done"), (second, "edo.two-orders.done")] == ends(world)
    assert [{"parcel": 7}] * 2 == [one.data for one in replies(world)]


def test_a_wait_that_times_out_fails_its_request(project: World) -> None:
    world = project(two_orders=WAITS)
    request = ask(world, "A")
    world.advance(61)
    assert [(request, "edo.two-orders.failed")] == ends(world)
    assert "timeout" == replies(world)[0].data["reason"]


def test_a_command_that_fails_at_last_fails_all_its_requests(project: World) -> None:
    world = project(two_orders=WAITS)
    world.fail("two-orders")
    requests = [ask(world, "A"), ask(world, "B")]
    assert [] == ends(world)
    world.answer("two-orders", no_price)
    world.advance(600)
    assert [(one, "edo.two-orders.failed") for one in requests] == ends(world)


def test_a_saga_tells_what_its_steps_returned(project: World) -> None:
    world = project(ship_order=SAGA)
    world.answer("ship-order.v1.ship", {"parcel": 7})
    request = ask(world, "A")
    assert [(request, "edo.ship-order.done")] == ends(world)
    (reply,) = replies(world)
    assert {"parcel": 7} == reply.data["results"]["ship"]
    assert (3, request) == (reply.partition, reply.headers["ce_correlationid"])


def test_a_saga_that_is_undone_fails_its_request(project: World) -> None:
    world = project(ship_order=SAGA)
    world.answer("ship-order.v1.ship", no_price)
    request = ask(world, "A")
    assert [(request, "edo.ship-order.compensated")] == ends(world)
    assert "ship: gone" == replies(world)[0].data["reason"]
    assert 1 == len(world.runs("ship-order.v1.reserve.undo"))


def test_a_request_for_an_instance_that_is_there_is_told_so(project: World) -> None:
    world = project(ship_order=SAGA)
    first, second = ask(world, "A"), ask(world, "A")
    ended = [(first, "edo.ship-order.done"), (second, "edo.ship-order.skipped")]
    assert ended == ends(world)
    assert "completed" in replies(world)[1].data["detail"]


def raw(world: FlowWorld, request: str, data: Any, **more: str) -> None:
    """Write a request as some client might, whatever its contract says."""
    said = {
        "ce_specversion": "1.0",
        "ce_id": request,
        "ce_source": "/test",
        "ce_type": PLACED,
        "ce_correlationid": "talk",
        "content-type": "application/json",
        **more,
    }
    headers = tuple((name, text.encode()) for name, text in said.items())
    value = msgspec.json.encode(data)
    record = NewRecord(world.now_ms(), b"o-1", value, headers)
    world.broker.append(TopicPartition(PLACED, 0), [record])
    world.settle()


ORDER = {"order": "o-1", "lines": [{"sku": "A", "quantity": 1}]}


@pytest.mark.parametrize("flow", [WAITS, SAGA, f"{GATHERS}---"])
def test_a_request_of_which_nothing_can_be_made_is_told(project: World, flow: str) -> None:
    if flow.endswith("---"):
        world = project(quote_line=SPLITS.replace("EMPTY", "event"), order_quoted=GATHERS)
    else:
        world = project(**{"ship_order" if "steps:" in flow else "two_orders": flow})
    reply_to = {"ce_edoreplyto": "edo.replies.shop/3"}
    raw(world, "odd", {"lines": "none"}, **reply_to)
    raw(world, "elsewhere", {"lines": "none"}, ce_edoreplyto="edo.replies.other/3")
    raw(world, "silent", {"lines": "none"})
    (reply,) = replies(world)
    assert "odd" == reply.headers["ce_edorequestid"]
    assert reply.headers["ce_type"].endswith(".dead-letter")
    assert (3, "talk", "poison") == (
        reply.partition,
        reply.headers["ce_correlationid"],
        reply.data["class"],
    )


def test_a_request_that_breaks_its_contract_is_told(project: World) -> None:
    world = project(ship_order=SAGA)
    until = (time_text(world.now_ms() - 1) or b"").decode()
    raw(world, "old", ORDER, ce_edoreplyto="edo.replies.shop/3", ce_expirytime=until)
    assert [("old", "edo.ship-order.dead-letter")] == ends(world)
    assert "expired" == replies(world)[0].data["reason"]
    assert [] == world.runs("ship-order.v1.reserve")
