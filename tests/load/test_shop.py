"""The demo's flows: their files are good, and their judge finds what is wrong."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edo_stream.catalog.lint import lint
from edo_stream.catalog.tree import read_tree
from edo_stream.flows import load_flows
from edo_stream.registry import load
from edo_stream.schedules.folder import load_schedules
from load.shop import SCHEDULE, Shop, write_project
from load.shop_judge import Firings, Flowed

ROOT = Path(__file__).parents[2]
DEADLINE = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
SHOP = Shop("", "", Path("files"), {}, run=1, deadline=DEADLINE, count=10, unpaid=2)
SHIPPED = [name for name in SHOP.paid if name != SHOP.undeliverable]
GOOD = Flowed(
    SHOP,
    Firings(),
    Counter(SHOP.paid),
    {n: Counter(["compensated" if n == SHOP.undeliverable else "completed"]) for n in SHOP.paid},
    sorted(SHIPPED),
    sorted(SHIPPED),
    ["order-1-8", "order-1-9"],
    Firings({"2026-03-28": ["complete"], "2026-03-27": ["fallback"]}),
)


def test_what_is_as_it_must_be_is_exact() -> None:
    assert [] == [check for check, expected, found in GOOD.checks() if expected != found]


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (replace(GOOD, paid=GOOD.paid - Counter(["order-1-0"])), "orders that are placed and paid"),
        (replace(GOOD, paid=GOOD.paid + Counter(["order-1-0"])), "  fired more than once"),
        (replace(GOOD, shipped=GOOD.shipped[1:]), "orders shipped"),
        (replace(GOOD, shipped=[*GOOD.shipped, "order-1-0"]), "  more than once"),
        (replace(GOOD, ends={}), "orders compensated"),
        (replace(GOOD, reserved=sorted(SHOP.paid)), "  goods reserved still"),
        (replace(GOOD, waiting=[]), "orders that wait for a payment"),
        (
            replace(GOOD, firings=Firings({**GOOD.firings.days, "2026-03-28": ["complete"] * 2})),
            "revenue of 2026-03-28, fired by",
        ),
        (
            replace(GOOD, firings=Firings({"2026-03-28": ["complete"]})),
            "revenue of 2026-03-27, fired by",
        ),
    ],
)
def test_what_is_wrong_is_found(wrong: Flowed, check: str) -> None:
    assert not wrong.is_exact
    assert check in [name for name, expected, found in wrong.checks() if expected != found]


def test_a_day_that_has_fired_in_an_earlier_run_does_not_fire_again() -> None:
    before = Firings({"2026-03-28": ["fallback"]})
    again = replace(GOOD, before=before, firings=Firings({**GOOD.firings.days, **before.days}))
    assert again.is_exact


def test_the_project_has_no_findings_and_ticks_at_the_deadline(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project(ROOT / "topics", project)
    SHOP.set_deadline(project / SCHEDULE)
    registry = load(project / "topics")
    flows = load_flows(project / "flows", registry)
    assert ["daily-revenue", "paid-order"] == sorted(flows.joins)
    assert () == tuple(lint(read_tree(project / "topics"), DEADLINE.date(), None).findings)
    (schedule,) = load_schedules(project / "schedules", registry.entries).values()
    due_ms = int(DEADLINE.timestamp() * 1_000)
    ticks = schedule.ticks(2)
    assert due_ms == ticks.next_after_ms(due_ms - 1)
    assert ticks.start_ms is not None
    assert due_ms == ticks.next_after_ms(ticks.next_after_ms(ticks.start_ms) or 0)
