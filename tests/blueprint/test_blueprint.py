"""The page of an installation: all that is declared, in diagrams that parse, byte for byte."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edo_stream.blueprint.chart import SHAPES, Chart
from edo_stream.cli.main import app
from tests.catalog.shelf import CLEAN, Shelf

FLOW = """\
name: ship
owner: team-shipping
description: Ships | with <b>"care"</b>.
on: {topic: shop.order.placed, match: {data: {total: [{numeric: [">", 100]}]}}}
key: /order/id
action:
  kind: http
  url: https://carrier.example/{{ data.id }}?token=secret
  idempotency_key: command
  replay: safe
retry: {initial: 250ms, factor: 2, max: 10s, retries: 3}
order: relaxed
dead_letters: {owner: team-parcels, acknowledge_within: 2h, after: stop}
rate: {per_second: 5}
"""
RECORD = """\
name: label
owner: team-labels
description: Wants a label.
on: shop.order.placed
action:
  {kind: record, topic: shop.label.wanted, partitions: 2, idempotency_key: command, replay: safe}
"""
JOIN = """\
name: ready
owner: team-shipping
description: Ready.
when:
  sequence: {placed: {topic: shop.order.placed}, paid: {topic: shop.order.placed}}
  within: 1d
  on_timeout: partial
action: {kind: noop, idempotency_key: command, replay: safe}
"""
SAGA = """\
name: order
version: 1
owner: team-orders
description: Orders.
on: shop.order.placed
deadline: 2h
steps:
  - name: reserve
    action: {kind: noop, idempotency_key: command, replay: safe}
    timeout: 5m
    compensate: {action: {kind: noop, idempotency_key: command, replay: safe}}
  - {name: approve, manual: team-desk}
  - {name: end, pivot: true, action: {kind: noop, idempotency_key: command, replay: safe}}
"""
SCHEDULE = """\
name: nightly
owner: team-reports
description: The report is due.
topic: shop.order.placed
cron: "0 6 * * *"
"""

Blueprint = Callable[..., Result]

_NODE = re.compile(
    "|".join(
        rf'  {kind}_\d+{re.escape(start)}"[^"]*"{re.escape(end)}'
        for kind, (start, end) in SHAPES.items()
    )
)
_ARROW = re.compile(r'  (\w+) (?:-->|-\.->)(?:\|"[^"]*"\|)? (\w+)')


def parse(chart: list[str]) -> tuple[set[str], set[tuple[str, str]]]:
    """Names of nodes and arrows; fails on a line that Mermaid's grammar has no place for."""
    assert re.fullmatch("flowchart (LR|TD)", chart[0]), chart[0]
    nodes: set[str] = set()
    arrows: set[tuple[str, str]] = set()
    for line in chart[1:]:
        if (arrow := _ARROW.fullmatch(line)) is not None:
            arrows.add((arrow[1], arrow[2]))
        else:
            assert _NODE.fullmatch(line), line
            assert "<" not in line, line
            nodes.add(re.match(r"  (\w+)", line)[1])  # type: ignore[index]  # it has matched
    assert {name for arrow in arrows for name in arrow} <= nodes
    return nodes, arrows


@pytest.fixture
def blueprint(tmp_path: Path) -> Blueprint:
    shelf = Shelf(tmp_path / "topics")
    ordering = {"policy": "sequence", "gap_timeout": "7s", "on_late": "drop"}
    letters = {"owner": "team-desk", "acknowledge_within": "3h"}
    shelf.add(
        CLEAN | {"ordering": ordering, "dead_letters": letters, "producers": ["checkout"]},
    )
    for folder, texts in (
        ("flows", {"ship": FLOW, "label": RECORD}),
        ("schedules", {"nightly": SCHEDULE}),
    ):
        (tmp_path / folder).mkdir()
        for name, text in texts.items():
            (tmp_path / folder / f"{name}.yaml").write_text(text)

    def run(*arguments: str, code: int = 0) -> Result:
        environment = {"EDO_TOPICS": str(shelf.root), "EDO_SERVICE": "shop"}
        result = CliRunner().invoke(app, ["blueprint", *arguments], env=environment)
        assert code == result.exit_code, result.output or result.exception
        return result

    return run


def charts_of(page: str) -> list[list[str]]:
    return [
        found.splitlines() for found in re.findall(r"```mermaid\n(.*?)```", page, flags=re.DOTALL)
    ]


def rows_of(page: str, section: str) -> list[str]:
    body = page.split(f"## {section}\n")[1].split("\n## ", maxsplit=1)[0]
    return [line for line in body.splitlines() if line.startswith("| ")]


def test_every_diagram_parses_and_shows_who_triggers_what(blueprint: Blueprint) -> None:
    page = blueprint().stdout
    routing, ladder = charts_of(page)
    nodes, arrows = parse(routing)
    assert len(nodes) == 10
    assert len(arrows) == 9
    parse(ladder)
    assert '("edo.retry.actions.250ms")' in "".join(ladder)
    assert '| `ship` | match: `{"data":{"total":[{"numeric":[">",100]}]}}` |' in page
    assert "| `label` | each that goes on |" in page


@pytest.mark.parametrize("label", ['say "end"', "a|b", "<b>&</b>", "# {{x}}", "`a`\nend", "end"])
def test_no_label_breaks_a_diagram(label: str) -> None:
    chart = Chart()
    chart.arrow(chart.node("topic", label), chart.node("flow", label), label)
    nodes, arrows = parse(chart.lines()[1:-2])
    assert (2, 1) == (len(nodes), len(arrows))


def test_a_chart_without_nodes_is_left_out() -> None:
    assert [] == Chart().lines()


def test_owners_guarantees_waits_and_ladders_are_those_of_the_files(blueprint: Blueprint) -> None:
    page = blueprint().stdout
    assert "| team-orders | topic `shop.order.placed` |" in rows_of(page, "Catalog")
    assert "| team-reports | schedule `nightly` |" in rows_of(page, "Catalog")
    guarantees = rows_of(page, "Delivery guarantees")
    assert any(
        "`label` | act | at-least-once | the record is written in" in row for row in guarantees
    )
    assert "| `shop.order.placed` | a missing number | 7s | skip |" in rows_of(
        page, "Waits and policies"
    )
    assert any(
        row.startswith("| `ship` | 250ms, 500ms, 1s | 1750ms | 4 | `edo.retry.actions.250ms`,")
        for row in rows_of(page, "Retry ladders")
    )
    assert any("| `/order/id` | relaxed |" in row for row in rows_of(page, "Order and partitions"))
    letters = rows_of(page, "Dead letters")
    assert any("| team-desk | 3h | its key goes on |" in row for row in letters)
    assert any("| team-parcels | 2h | its key stops |" in row for row in letters)


def test_words_of_people_are_no_markup_and_secrets_stay_out(blueprint: Blueprint) -> None:
    page = blueprint().stdout
    assert 'Ships \\| with &lt;b>"care"&lt;/b>.' in page
    assert "POST https://carrier.example/{{ data.id }}" in page
    assert "secret" not in page


def test_the_same_files_give_the_same_page_and_no_other_does(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    file = tmp_path / "docs" / "blueprint.md"
    blueprint("--out", str(file))
    assert file.read_text() == blueprint().stdout
    assert "is true" in blueprint("--out", str(file), "--check").stdout

    flow = tmp_path / "flows" / "ship.yaml"
    flow.write_text(FLOW.replace("team-shipping", "team-parcels"))
    stale = blueprint("--out", str(file), "--check", code=1).stdout
    assert "-| `ship` | team-shipping |" in stale
    assert "+| `ship` | team-parcels |" in stale
    told = json.loads(blueprint("--out", str(file), "--check", "--json", code=1).stdout)
    assert told["isStale"]
    assert "| `ship` | team-parcels |" not in file.read_text()


def test_a_page_that_is_not_there_is_stale(blueprint: Blueprint, tmp_path: Path) -> None:
    missing = tmp_path / "none.md"
    assert "is not there" in blueprint("--out", str(missing), "--check", code=1).stdout
    assert not missing.exists()


def test_what_a_flow_waits_for_is_drawn_with_its_deadline(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    (tmp_path / "flows" / "ready.yaml").write_text(JOIN)
    page = blueprint().stdout
    nodes, arrows = parse(charts_of(page)[1])
    assert (2, 1) == (len(nodes), len(arrows)), "two inputs of one topic"
    (row,) = rows_of(page, "Correlation")[1:]
    assert row.endswith("| 1d | partial | as its firing does |")
    assert "flow `ready`" in page


def test_a_saga_is_drawn_with_what_undoes_it(blueprint: Blueprint, tmp_path: Path) -> None:
    assert "## Sagas" not in blueprint().stdout
    (tmp_path / "flows" / "sagas").mkdir()
    (tmp_path / "flows" / "sagas" / "order.yaml").write_text(SAGA)
    page = blueprint().stdout
    routing, saga, ladder = charts_of(page)
    nodes, arrows = parse(saga)
    assert (6, 5) == (len(nodes), len(arrows))
    parse(routing)
    parse(ladder)
    row = "| `reserve` |  | `order.v1.reserve` | `order.v1.reserve.undo` | 5m |  |"
    assert row in rows_of(page, "Sagas")
    assert "team-orders, version 1; deadline 2h; remembered for 7d;" in page


def test_mistakes_in_the_files_are_said_and_nothing_is_written(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    (tmp_path / "flows" / "ship.yaml").write_text(FLOW.replace("order: relaxed", "order: any"))
    file = tmp_path / "blueprint.md"
    blueprint("--out", str(file), code=1)
    assert not file.exists()
