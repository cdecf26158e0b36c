"""Flows that split their events, and flows that gather what becomes of the pieces, at work."""

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from edo_stream.actions import BusinessError, PermanentError
from edo_stream.core.correlation.feed import ValueOf
from edo_stream.core.correlation.spec import Counted
from edo_stream.flows import load_flows
from edo_stream.flows.lint import lint
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.testing.actions import Run
from edo_stream.testing.world import FlowWorld

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/order-quote"
PLACED = "shop.order.placed"
HEAD = "name: f\nowner: team\ndescription: Splits.\n"
ACTION = "action: {kind: noop, idempotency_key: command, replay: safe}\n"


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    world = FlowWorld.of_project(EXAMPLE)
    yield world
    world.close()


def order(*skus: str) -> dict[str, Any]:
    return {"order": "o-1", "lines": [{"sku": sku, "quantity": 1.10} for sku in skus]}


def priced(run: Run) -> dict[str, Any]:
    if run.data["sku"] == "gone":
        raise BusinessError("it is not sold any more", reason="gone")
    if run.data["sku"] == "odd":
        raise PermanentError("no such sku")
    return {"sku": run.data["sku"], "price": 3}


def test_each_element_is_a_command_with_its_place(world: FlowWorld) -> None:
    event_id = world.publish(PLACED, order("A", "B", "A"), key="o-1")
    runs = world.runs("quote-line")
    assert [("A", 0), ("A", 2), ("B", 1)] == sorted((r.data["sku"], r.data["line"]) for r in runs)
    commands = world.records("edo.commands.quote-line")
    places = {
        (one.key, *(one.headers[f"ce_split{name}"] for name in ("of", "index", "count")))
        for one in commands
    }
    assert {("A", event_id, "0", "3"), ("B", event_id, "1", "3"), ("A", event_id, "2", "3")} == (
        places
    )
    assert 3 == len({one.headers["ce_id"] for one in commands})


def test_the_same_event_has_the_same_commands(world: FlowWorld) -> None:
    world.publish(PLACED, order("A", "B"), key="o-1")
    again = FlowWorld.of_project(EXAMPLE, seed=7)
    try:
        again.publish(PLACED, order("A", "B"), key="o-1")
        first, second = (
            {(one.headers["ce_splitindex"], one.headers["ce_id"]) for one in w.records(topic)}
            for w, topic in ((world, "edo.commands.quote-line"), (again, "edo.commands.quote-line"))
        )
        assert first == second
    finally:
        again.close()


def test_all_answers_of_an_order_are_one_event(world: FlowWorld) -> None:
    world.answer("quote-line", priced)
    event_id = world.publish(PLACED, order("A", "B", "A"), key="o-1")
    (quoted,) = world.records("shop.order.quoted")
    assert (event_id, "complete", True) == (
        quoted.key,
        quoted.data["reason"],
        quoted.data["complete"],
    )
    answers = {one["member"]: one["data"]["sku"] for one in quoted.data["inputs"]["results"]}
    assert {"0": "A", "1": "B", "2": "A"} == answers
    assert (3, 3, [], []) == tuple(
        quoted.data[name] for name in ("count", "expected", "missing", "failed")
    )
    assert "o-1" == quoted.data["inputs"]["split"]["data"]["order"]


def test_lines_that_fail_are_part_of_the_answer(world: FlowWorld) -> None:
    world.answer("quote-line", priced)
    world.publish(PLACED, order("A", "gone", "odd"), key="o-1")
    (quoted,) = world.records("shop.order.quoted")
    assert ("partial", False, ["1", "2"]) == (
        quoted.data["reason"],
        quoted.data["complete"],
        sorted(quoted.data["failed"]),
    )
    kinds = {one["member"]: one["type"] for one in quoted.data["inputs"]["results"]}
    assert {
        "0": "edo.quote-line.done",
        "1": "edo.quote-line.failed",
        "2": "edo.quote-line.dead-lettered",
    } == kinds


def test_a_line_without_an_answer_is_missing_at_the_deadline(world: FlowWorld) -> None:
    world.answer("quote-line", priced)
    world.fail("quote-line", times=1)  # the first attempt of one of them
    world.publish(PLACED, order("A", "B"), key="o-1")
    assert [] == world.records("shop.order.quoted")
    world.advance(5)
    (quoted,) = world.records("shop.order.quoted")
    assert "complete" == quoted.data["reason"]


def test_the_deadline_gives_what_there_is(tmp_path: Path) -> None:
    slow = "retry: {initial: 10m, max: 10m, retries: 3}"
    world = project(tmp_path, "failed: partial", slow, split="{at: /lines, key: /sku}")
    try:
        world.answer("quote-line", priced)
        world.fail("quote-line", times=1)
        world.publish(PLACED, order("A", "B", "C"), key="o-1")
        world.advance(61)
        (quoted,) = world.records("shop.order.quoted")
        told = [quoted.data[name] for name in ("reason", "complete", "count", "expected")]
        assert ["timeout", False, 2, 3] == told
        assert 1 == len(quoted.data["missing"])
        world.advance(600)
        assert 1 == len(world.records("shop.order.quoted"))
    finally:
        world.close()


def test_the_time_begins_with_the_event_though_nothing_is_answered(tmp_path: Path) -> None:
    slow = "retry: {initial: 10m, max: 10m, retries: 3}"
    world = project(tmp_path, "failed: partial", slow)
    try:
        world.fail("quote-line", times=1)
        world.publish(PLACED, order("A", "B", "C"), key="o-1")  # B and C wait behind A
        world.advance(61)
        (quoted,) = world.records("shop.order.quoted")
        assert ["timeout", 0, 3, [0, 1, 2]] == [
            quoted.data[name] for name in ("reason", "count", "expected", "missing")
        ]
    finally:
        world.close()


def test_a_failure_event_instead_of_a_part(tmp_path: Path) -> None:
    world = project(tmp_path, "failed: failure")
    try:
        world.answer("quote-line", priced)
        world.publish(PLACED, order("A", "gone"), key="o-1")
        assert [] == world.records("shop.order.quoted")
        (failure,) = world.records("edo.outcomes.order-quoted")
        assert "edo.order-quoted.incomplete" == failure.type
        assert ["1"] == failure.data["failed"]
    finally:
        world.close()


def test_failed_lines_that_are_waited_for_do_not_count(tmp_path: Path) -> None:
    world = project(tmp_path, "failed: wait")
    try:
        world.answer("quote-line", priced)
        world.publish(PLACED, order("A", "gone"), key="o-1")
        assert [] == world.records("shop.order.quoted")
        world.advance(61)
        (quoted,) = world.records("shop.order.quoted")
        told = [quoted.data[name] for name in ("reason", "count", "expected", "failed")]
        assert ["timeout", 1, 2, ["1"]] == told
    finally:
        world.close()


def test_an_empty_list_is_told_and_gathered_at_once(world: FlowWorld) -> None:
    event_id = world.publish(PLACED, order(), key="o-1")
    assert [] == world.records("edo.commands.quote-line")
    (outcome,) = world.outcomes("quote-line")
    assert ("edo.quote-line.empty", {"count": 0}) == (outcome.type, outcome.data)
    assert event_id == outcome.headers["ce_splitof"]
    (quoted,) = world.records("shop.order.quoted")
    told = [quoted.data[name] for name in ("reason", "count", "expected")]
    assert ["complete", 0, 0] == told
    assert [] == quoted.data["inputs"]["results"]


def test_of_an_empty_list_nothing_need_come(tmp_path: Path) -> None:
    world = project(tmp_path, "failed: partial", split="{at: /lines, empty: nothing}")
    try:
        world.publish(PLACED, order(), key="o-1")
        assert [] == world.outcomes("quote-line")
        assert [] == world.records("shop.order.quoted")
    finally:
        world.close()


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (order(*"A" * 101), "split-too-long", "split.max: expected at most 100 elements"),
        ({"order": "o-1"}, "split", "expected a list at /lines, found nothing"),
        ({"order": "o-1", "lines": {}}, "split", "found an object"),
        ({"order": "o-1", "lines": [{"quantity": 1}]}, "no-key", "/sku in element 0"),
        ({"order": "o-1", "lines": [{"sku": "A"}]}, "input", "(element 0)"),
    ],
)
def test_what_cannot_be_split_is_one_dead_letter(
    world: FlowWorld, data: Any, reason: str, detail: str
) -> None:
    world.publish(PLACED, data, key="o-1")
    (letter,) = world.dead_letters("quote-line")
    assert reason == letter.headers["edo-reason"]
    assert detail in letter.headers["edo-detail"]
    assert data == letter.data
    assert [] == world.records("edo.commands.quote-line")


def test_one_element_that_cannot_be_a_command_takes_all_with_it(world: FlowWorld) -> None:
    world.publish(PLACED, {"lines": [{"sku": "A", "quantity": 1}, {"sku": "B"}]}, key="o-1")
    (letter,) = world.dead_letters("quote-line")
    assert "input" == letter.headers["edo-reason"]
    assert [] == world.records("edo.commands.quote-line")


def test_an_event_too_large_to_be_gathered_is_a_dead_letter_and_stops_nobody(
    tmp_path: Path,
) -> None:
    world = project(tmp_path, "failed: partial", contract="record_bytes_max: 4MiB\n")
    try:
        lines = [{"sku": "A", "quantity": 1, "note": "x" * 700_000} for _ in range(4)]
        world.publish(PLACED, {"order": "o-1", "lines": lines}, key="o-1")
        world.publish(PLACED, order("B"), key="o-1")
        (letter,) = world.dead_letters("quote-line")
        assert ("too-large", "true", None) == (
            letter.headers["edo-reason"],
            letter.headers["edo-reference"],
            letter.data,
        )
        assert "order-quoted gathers what comes of it" in letter.headers["edo-detail"]
        assert ["B"] == [run.data["sku"] for run in world.runs("quote-line")]
        assert 1 == len(world.records("shop.order.quoted"))
    finally:
        world.close()


def project(
    folder: Path,
    gather: str,
    flow: str = "",
    split: str = "/lines",
    made: str | None = None,
    contract: str = "",
) -> FlowWorld:
    """The example with other rules."""
    made = "input: {cel: element}\n" if made is None else made
    flows = folder / "flows"
    flows.mkdir()
    (flows / "quote-line.yaml").write_text(
        f"name: quote-line\nowner: team\ndescription: Splits.\non: {PLACED}\nsplit: {split}\n"
        f"{made}{ACTION}{flow}\n"
    )
    (flows / "order-quoted.yaml").write_text(
        "name: order-quoted\nowner: team\ndescription: Gathers.\n"
        f"when: {{gather: quote-line, within: 1m, {gather}"
        f"{'' if 'failure' in gather else ', on_timeout: partial'}}}\n"
        "emit: {topic: shop.order.quoted}\n"
    )
    copytree(EXAMPLE / "topics", folder / "topics")
    with (folder / "topics" / PLACED / "contract.yaml").open("a") as file:
        file.write(contract)
    return FlowWorld.of_project(folder)


GUIDE = (ROOT / "docs/enrichment.md").read_text()


@pytest.mark.parametrize("text", re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
def test_the_guide_does_what_it_says(world: FlowWorld, text: str) -> None:
    names: dict[str, Any] = {"BusinessError": BusinessError}
    exec(text, names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    test(world)


def test_the_example_has_nothing_for_the_lint(registry: Registry) -> None:
    assert [] == lint(EXAMPLE / "flows", registry).findings


def test_the_guide_shows_what_the_example_says() -> None:
    for name, text in re.findall(r"```yaml\n# flows/(\S+)\n(.*?)```", GUIDE, re.DOTALL):
        file = (EXAMPLE / "flows" / name).read_text()
        shown = [line.strip() for line in text.splitlines()]
        written = [line.partition(" #")[0].strip() for line in file.splitlines()]
        assert [] == [line for line in shown if line not in written]


MISTAKES = [
    ("split: items\n", "5: split.at: items is not a JSON pointer: write one such as /items"),
    ("split: {key: /sku}\n", "5: split: write one of at, jq, cel"),
    ("split: {at: /items, cel: data.items}\n", "write one of at, jq, cel"),
    ("split: {jq: '.data | range(9)'}\n", "split.jq: range may not be used"),
    ("split: {at: /items, max: 20000}\n", "split.max is 20000"),
    ("split: {at: /items, mx: 20}\n", "mx is not a key: did you mean max?"),
]


@pytest.mark.parametrize(("split", "told"), MISTAKES)
def test_mistakes_are_told_with_their_lines(
    tmp_path: Path, registry: Registry, split: str, told: str
) -> None:
    (tmp_path / "f.yaml").write_text(f"{HEAD}on: {PLACED}\n{split}{ACTION}")
    assert told in mistakes_in(tmp_path, registry)


def test_what_splits_nothing_is_not_gathered(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "g.yaml").write_text(f"{HEAD.replace(': f', ': g')}on: {PLACED}\n{ACTION}")
    (tmp_path / "f.yaml").write_text(f"{HEAD}when: {{gather: g, within: 1m}}\n{ACTION}")
    assert "4: gather: g splits nothing" in mistakes_in(tmp_path, registry)
    (tmp_path / "f.yaml").write_text(f"{HEAD}when: {{gather: h, within: 1m}}\n{ACTION}")
    assert "4: gather: no flow h" in mistakes_in(tmp_path, registry)


def test_a_flow_that_waits_splits_nothing(tmp_path: Path, registry: Registry) -> None:
    when = f"when: {{all: {{a: {{topic: {PLACED}}}}}, within: 1m}}\nsplit: /items\n"
    (tmp_path / "f.yaml").write_text(f"{HEAD}{when}{ACTION}")
    assert "5: split is of a flow with on" in mistakes_in(tmp_path, registry)


def test_events_may_say_how_many_there_are(tmp_path: Path, registry: Registry) -> None:
    inputs = f"count: {{a: {{topic: {PLACED}, key: splitof, member: splitindex}}}}"
    when = f"when: {{{inputs}, expect: splitcount, within: 1m}}\n"
    (tmp_path / "f.yaml").write_text(f"{HEAD}{when}{ACTION}")
    (join,) = load_flows(tmp_path, registry).joins.values()
    assert Counted() == join.kind
    assert ValueOf("splitcount") == join.sources[0].expect
    (tmp_path / "f.yaml").write_text(f"{HEAD}{when.replace('splitcount', '-1')}{ACTION}")
    assert "4: when.expect: -1 is not how many" in mistakes_in(tmp_path, registry)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(EXAMPLE / "topics")


def mistakes_in(folder: Path, registry: Registry) -> str:
    with pytest.raises(RegistryError) as refused:
        load_flows(folder, registry)
    return "\n".join(f"{one.line}: {one.message}" for one in refused.value.findings)
