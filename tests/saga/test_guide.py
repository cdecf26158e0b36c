"""The guide's examples, at work on a broker in memory: both ways do what the guide says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edo_stream.testing import FlowWorld, Seen
from tests.saga import guide


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[FlowWorld]:
    guide.write(tmp_path)
    world = FlowWorld.of_project(tmp_path)
    yield world
    world.close()


def place(shop: FlowWorld, order: str, total: int) -> None:
    data = {"id": order, "total": total}
    shop.publish("shop.order.placed", data, key=order, source="/shop", type="order.placed")


def deeds(shop: FlowWorld) -> list[tuple[str, Any]]:
    """Steps that have run, in order, and what each was given."""
    prefix = "ship-order.v1."
    return [
        (run.flow.removeprefix(prefix), run.data)
        for run in shop._actions.runs
        if run.flow.startswith(prefix)
    ]


def changes(shop: FlowWorld) -> list[str]:
    return [event.data["change"] for event in shop.records("edo.sagas.ship-order")]


def test_facts_lead_to_facts_and_what_is_refused_is_released(shop: FlowWorld) -> None:
    place(shop, "o1", 20)
    place(shop, "o2", 200)

    def orders(topic: str) -> list[str]:
        return [event.data["id"] for event in shop.records(topic)]

    assert ["o1", "o2"] == orders("shop.stock.reserved")
    assert ["o1"] == orders("shop.payment.taken")
    assert ["o2"] == orders("shop.payment.refused") == orders("shop.stock.released")


def test_an_order_is_shipped_with_what_earlier_steps_have_returned(shop: FlowWorld) -> None:
    place(shop, "o1", 20)
    done = dict(deeds(shop))
    assert {"reserve", "pay", "label", "invoice", "hand-over", "thank"} == done.keys()
    assert {"shelf": "shelf of o1"} == done["label"]["results"]["reserve"]
    assert {"id": "o1", "total": 20} == done["thank"]["event"]
    outcomes = {event.headers["edo-flow"]: event.data for event in outcomes_of(shop)}
    assert {"amount": 20} == outcomes["ship-order.v1.invoice"]
    assert "completed" == changes(shop)[-1]


def outcomes_of(shop: FlowWorld) -> list[Seen]:
    return shop.records("edo.outcomes.ship-order")


def test_an_order_that_cannot_be_paid_is_undone(shop: FlowWorld) -> None:
    place(shop, "o2", 200)
    assert ["reserve", "pay", "reserve.undo"] == [step for step, _ in deeds(shop)]
    assert {"released": "shelf of o2"} == outcomes_of(shop)[-1].data
    (turned,) = [
        event.data
        for event in shop.records("edo.sagas.ship-order")
        if event.data["change"] == "compensating"
    ]
    assert "pay: no-credit" == turned["reason"]
    assert "compensated" == changes(shop)[-1]


def test_a_step_that_fails_in_passing_is_run_again_and_nothing_is_undone(shop: FlowWorld) -> None:
    shop.fail("ship-order.v1.pay", times=2)
    place(shop, "o1", 20)
    assert "completed" not in changes(shop)
    shop.advance(10)
    assert 3 == len(shop.runs("ship-order.v1.pay"))
    assert "completed" == changes(shop)[-1]


def test_a_step_that_is_given_up_is_undone_too(shop: FlowWorld) -> None:
    shop.fail("ship-order.v1.pay", times=6)
    place(shop, "o1", 20)
    shop.advance(60)
    undone = [step for step, _ in deeds(shop) if step.endswith(".undo")]
    assert ["pay.undo", "reserve.undo"] == undone
    (letter,) = shop.dead_letters("ship-order.v1.pay")
    assert "transient" == letter.headers["edo-class"]
    assert "compensated" == changes(shop)[-1]


def test_the_first_step_may_be_given_up_as_well(shop: FlowWorld) -> None:
    """Its compensation bears it that nobody knows what the step has returned."""
    shop.fail("ship-order.v1.reserve", times=6)
    place(shop, "o1", 20)
    shop.advance(600)
    assert [None] == [data["result"] for step, data in deeds(shop) if step == "reserve.undo"]
    assert "compensated" == changes(shop)[-1]


def test_a_reply_that_is_late_turns_the_saga_back_and_is_undone_once_it_has_come(
    tmp_path: Path,
) -> None:
    guide.write(tmp_path)
    file = tmp_path / "flows" / "sagas" / "ship-order.yaml"
    file.write_text(file.read_text().replace("timeout: 10m", "timeout: 20s"))
    shop = FlowWorld.of_project(tmp_path)
    shop.fail("ship-order.v1.reserve", times=5)
    place(shop, "o1", 20)
    shop.advance(19)
    assert "compensating" not in changes(shop)
    shop.advance(2)
    assert ["step-overdue", "compensating"] == changes(shop)[-2:]
    assert {"reserve"} == {step for step, _ in deeds(shop)}, "it may still happen"
    shop.advance(20)
    assert ["step-done", "undo-sent", "step-undone", "compensated"] == changes(shop)[-4:]
    assert {"shelf": "shelf of o1"} == deeds(shop)[-1][1]["result"]
    shop.close()


def test_behind_the_pivot_an_instance_is_stuck(shop: FlowWorld) -> None:
    shop.fail("ship-order.v1.thank", times=6)
    place(shop, "o1", 20)
    shop.advance(60)
    assert "stuck" == changes(shop)[-1]
    assert "compensating" not in changes(shop)
