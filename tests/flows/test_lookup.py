"""Flows that look rows up, at work, and every mistake at its line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from typer.testing import CliRunner, Result

from edo_stream.cli.main import app
from edo_stream.core.partitioner import partition_of
from edo_stream.flows import load_flows
from edo_stream.flows.lint import lint
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.testing.broker import NewRecord
from edo_stream.testing.world import FlowWorld

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/order-quote"
PLACED, PROFILE = "shop.order.placed", "shop.customer.profile"
HEAD = "name: f\nowner: team\ndescription: Looks up.\n"
ACTION = "action: {kind: noop, idempotency_key: command, replay: safe}\n"
INPUT = 'input: {cel: \'{"order": data.order, "row": lookup.customer}\'}\n'


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    world = FlowWorld.of_project(EXAMPLE)
    yield world
    world.close()


def place(world: FlowWorld, number: int, customer: Any = "c-1") -> None:
    data: dict[str, Any] = {"order": f"o-{number}", "lines": []}
    if customer is not None:
        data["customer"] = customer
    world.publish(PLACED, data, key="k")


def profile(world: FlowWorld, name: str, customer: str = "c-1") -> None:
    world.publish(PROFILE, {"name": name}, key=customer)


def delete(world: FlowWorld, customer: str = "c-1") -> None:
    partition = partition_of(customer.encode(), 3)
    record = NewRecord(world.now_ms(), customer.encode(), None)
    world.broker.append(TopicPartition(PROFILE, partition), [record])
    world.settle()


def thanked(world: FlowWorld) -> list[tuple[str, str]]:
    return [(run.data["order"], run.data["name"]) for run in world.runs("thank-customer")]


def test_a_command_is_made_with_its_row(world: FlowWorld) -> None:
    profile(world, "Ada")
    place(world, 1)
    assert [("o-1", "Ada")] == thanked(world)


def test_the_last_row_of_a_key_counts(world: FlowWorld) -> None:
    profile(world, "Ada")
    profile(world, "Ada Lovelace")
    profile(world, "Grace", "c-2")
    place(world, 1)
    place(world, 2, "c-2")
    assert [("o-1", "Ada Lovelace"), ("o-2", "Grace")] == thanked(world)


def test_a_row_that_comes_later_lets_all_go_on_in_their_order(world: FlowWorld) -> None:
    for number in range(5):
        place(world, number)
    assert [] == thanked(world)
    world.advance(60)
    assert [] == thanked(world)
    profile(world, "Ada")
    commands = world.records("edo.commands.thank-customer")
    assert [f"o-{number}" for number in range(5)] == [one.data["order"] for one in commands]
    assert {"Ada"} == {one.data["name"] for one in commands}


def test_what_waits_too_long_goes_on_without(world: FlowWorld) -> None:
    place(world, 1)
    world.advance(300)
    place(world, 2)
    world.advance(310)
    assert [("o-1", "you")] == thanked(world)
    profile(world, "Ada")
    assert [("o-1", "you"), ("o-2", "Ada")] == thanked(world)


def test_a_row_that_was_deleted_is_missing(world: FlowWorld) -> None:
    profile(world, "Ada")
    delete(world)
    place(world, 1)
    assert [] == thanked(world)
    profile(world, "Grace")
    assert [("o-1", "Grace")] == thanked(world)


def test_an_event_without_the_key_goes_on_with_null(world: FlowWorld) -> None:
    place(world, 1, customer=None)
    assert [("o-1", "you")] == thanked(world)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("missing: dead-letter", "no-row"),
        ("missing: wait, within: 1m", "no-row"),
        ("missing: wait, within: 1m, max_per_key: 1", "lookup-full"),
    ],
)
def test_what_has_no_row_is_a_dead_letter(tmp_path: Path, rules: str, reason: str) -> None:
    world = project(tmp_path, rules)
    try:
        place(world, 1)
        if reason == "lookup-full":
            place(world, 2)
        else:
            world.advance(61)
        letter = world.dead_letters("f")[0]
        assert reason == letter.headers["edo-reason"]
        assert "lookup.customer" in letter.headers["edo-detail"]
        assert "c-1" == letter.data["customer"]
    finally:
        world.close()


def test_what_has_no_row_may_be_told(tmp_path: Path) -> None:
    world = project(tmp_path, "missing: failure")
    try:
        place(world, 1)
        (outcome,) = world.outcomes("f")
        assert "edo.f.unmatched" == outcome.type
        assert PROFILE == outcome.data["topic"]
    finally:
        world.close()


def test_without_waiting_a_row_written_before_is_found(tmp_path: Path) -> None:
    world = project(tmp_path, "missing: null")
    try:
        place(world, 1)
        profile(world, "Ada")
        place(world, 2)
        rows = [run.data["row"] for run in world.runs("f")]
        assert [None, {"name": "Ada"}] == rows
    finally:
        world.close()


def test_lookups_follow_one_another(tmp_path: Path) -> None:
    made = "input: {jq: '{order: .data.order, rows: .lookup}'}\n"
    more = f", again: {{topic: {PROFILE}, key: /order, missing: wait, within: 1m, then: null}}"
    world = project(tmp_path, "missing: wait, within: 1m", more, made)
    try:
        place(world, 1)
        profile(world, "Ada")
        assert [] == world.runs("f")
        profile(world, "Order", "o-1")
        place(world, 2)
        world.advance(61)
        assert [
            {"order": "o-1", "rows": {"customer": {"name": "Ada"}, "again": {"name": "Order"}}},
            {"order": "o-2", "rows": {"customer": {"name": "Ada"}, "again": None}},
        ] == [run.data for run in world.runs("f")]
    finally:
        world.close()


def test_an_event_with_its_rows_may_be_split(tmp_path: Path) -> None:
    made = "split: /lines\ninput: {cel: '[element, lookup.customer.name]'}\n"
    world = project(tmp_path, "missing: wait, within: 1m", "", made)
    try:
        profile(world, "Ada")
        world.publish(PLACED, {"customer": "c-1", "lines": [1, 2]}, key="o-1")
        assert [[1, "Ada"], [2, "Ada"]] == [run.data for run in world.runs("f")]
    finally:
        world.close()


def test_a_row_that_nobody_could_find_is_a_dead_letter(world: FlowWorld) -> None:
    wrong = (partition_of(b"c-1", 3) + 1) % 3
    headers = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"),
               ("ce_type", PROFILE.encode()), ("content-type", b"application/json"))  # fmt: skip
    record = NewRecord(world.now_ms(), b"c-1", b'{"name":"Ada"}', headers)
    world.broker.append(TopicPartition(PROFILE, wrong), [record])
    world.settle()
    (letter,) = world.records("edo.dead-letters.lookups-3")
    assert "misplaced-row" == letter.headers["edo-reason"]
    assert "murmur2" in letter.headers["edo-detail"]


def test_a_row_that_is_none_leaves_the_one_before(world: FlowWorld) -> None:
    profile(world, "Ada")
    partition = partition_of(b"c-1", 3)
    world.broker.append(
        TopicPartition(PROFILE, partition), [NewRecord(world.now_ms(), b"c-1", b"?")]
    )
    world.settle()
    (letter,) = world.records("edo.dead-letters.lookups-3")
    assert b"?" == letter.data
    place(world, 1)
    assert [("o-1", "Ada")] == thanked(world)


def project(folder: Path, rules: str, more: str = "", made: str = INPUT) -> FlowWorld:
    flows = folder / "flows"
    flows.mkdir()
    lookup = f"lookup: {{customer: {{topic: {PROFILE}, key: /customer, {rules}}}{more}}}\n"
    (flows / "f.yaml").write_text(f"{HEAD}on: {PLACED}\n{lookup}{made}{ACTION}")
    (folder / "topics").symlink_to(EXAMPLE / "topics")
    return FlowWorld.of_project(folder)


MISTAKES = [
    (f"{{topic: {PROFILE}, missing: wait}}", "5: lookup.c: within is missing"),
    (
        f"{{topic: {PROFILE}, missing: wait, within: 0s}}",
        "5: lookup.c: within is 0ms: no row would be waited for",
    ),
    (f"{{topic: {PROFILE}, within: 1m}}", "5: lookup.c: within is of missing: wait"),
    ("{topic: shop.customer.profil}", f"did you mean {PROFILE}?"),
    ("{topic: shop.order.quoted}", "shop.order.quoted does not keep the last record of each key"),
    (f"{{topic: {PROFILE}, table: globl}}", "globl"),
    ("{topic: shop.customer.profil, table: global}", f"did you mean {PROFILE}?"),
    ("{topic: shop.order.quoted, table: global}", "does not keep the last record of each key"),
    (f"{{topic: {PROFILE}, keys: /a}}", "keys is not a key: did you mean key?"),
]


@pytest.mark.parametrize(("rules", "told"), MISTAKES)
def test_mistakes_are_told_with_their_lines(
    tmp_path: Path, registry: Registry, rules: str, told: str
) -> None:
    text = f"{HEAD}on: {PLACED}\nlookup: {{c: {rules}}}\ninput: {{cel: lookup.c}}\n{ACTION}"
    assert told in mistakes_in(tmp_path, text, registry)


def test_rows_that_nothing_uses_are_a_mistake(tmp_path: Path, registry: Registry) -> None:
    text = f"{HEAD}on: {PLACED}\nlookup: {{c: {{topic: {PROFILE}}}}}\n{ACTION}"
    assert "5: lookup: nothing uses the rows" in mistakes_in(tmp_path, text, registry)


def mistakes_in(folder: Path, text: str, registry: Registry) -> str:
    (folder / "f.yaml").write_text(text)
    with pytest.raises(RegistryError) as refused:
        load_flows(folder, registry)
    return "\n".join(f"{one.line}: {one.message}" for one in refused.value.findings)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(EXAMPLE / "topics")


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, folder: Path = EXAMPLE) -> Result:
    monkeypatch.setenv("EDO_TOPICS", str(folder / "topics"))
    return CliRunner().invoke(app, ["flow", *arguments])


def test_a_flow_is_tried_with_rows_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "order.json").write_text('{"order": "o-1", "customer": "c-1", "lines": []}')
    (tmp_path / "ada.json").write_text('{"name": "Ada"}')
    event = ("test", "thank-customer", "--event", str(tmp_path / "order.json"), "--key", "o-1")
    told = run(*event, "--json", monkeypatch=monkeypatch)
    assert "lookup" == json.loads(told.stdout)["result"]
    assert "key c-1: give it by --row" in json.loads(told.stdout)["why"]
    told = run(*event, "--json", "--row", f"customer={tmp_path}/ada.json", monkeypatch=monkeypatch)
    assert {"name": "Ada", "order": "o-1"} == json.loads(told.stdout)["command"]["data"]
    told = run(*event, "--row", f"custmer={tmp_path}/ada.json", monkeypatch=monkeypatch)
    assert "did you mean customer?" in str(told.exception)


def test_the_graph_shows_where_rows_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("graph", "--json", monkeypatch=monkeypatch)
    ways = {
        (way["from"]["name"], way["to"]["name"], way["label"])
        for way in json.loads(told.stdout)["ways"]
    }
    assert (PROFILE, "thank-customer", "row: customer") in ways
    assert ("quote-line", "order-quoted", "ends") in ways


def test_the_key_of_a_row_is_in_the_events(tmp_path: Path) -> None:
    topics = tmp_path / "topics"
    shutil.copytree(EXAMPLE / "topics", topics)
    contract = topics / PLACED / "contract.yaml"
    contract.write_text(
        f"{contract.read_text()}schema: {{format: json, versions: {{1: {{note: First.}}}}}}\n"
    )
    schema = {
        "type": "object",
        "properties": {"customer": {"type": "boolean"}, "order": {"type": "string"}},
        "additionalProperties": False,
    }
    (topics / PLACED / "v1.schema.json").write_text(json.dumps(schema))
    found = lint(EXAMPLE / "flows", load(topics)).findings
    told = [one.message for one in found if "lookup.customer: key" in one.message]
    assert ["/customer is true or false"] == [text.partition(", and")[0][-26:] for text in told]
