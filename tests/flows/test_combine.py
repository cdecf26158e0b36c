"""Flows that debounce and batch, as files: what they become, how they run, each mistake's line."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord
from typer.testing import CliRunner

from edo_stream.catalog.scaffold import project_files
from edo_stream.cli.dlq_combined import joined_again
from edo_stream.cli.main import app
from edo_stream.core.correlation.rows import FlowRow, encode_flow
from edo_stream.core.correlation.spec import Batched, Debounced, Fire, OnLate
from edo_stream.core.state import Table
from edo_stream.engine.joins import join_plans, join_topics
from edo_stream.engine.task import TaskSpec
from edo_stream.flows import Flows, load_flows
from edo_stream.flows.graph import graph_of
from edo_stream.flows.lint import lint
from edo_stream.observe.dead_letters import letter_of
from edo_stream.observe.owners import owners_of
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.registry.plan import deleted_by_age
from edo_stream.testing import FlowWorld, Seen
from edo_stream.testing.broker import NewRecord
from tests.core.memory import Memory

Begin = Callable[..., FlowWorld]
ROOT = Path(__file__).parents[2]
TOPIC = "shop.order.placed"
HEAD = f"name: f\nowner: team\ndescription: Does.\non: {TOPIC}\n"
ACTION = "action: {kind: noop, idempotency_key: command, replay: safe}\n"
DEBOUNCE = "debounce: {quiet: 30s, max: 5m}\n"
BATCH = "batch: {count: 3, after: 10s}\n"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "topics")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in project_files("shop").items():
        if not name.startswith("flows/"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (tmp_path / "flows").mkdir()
    return tmp_path


def flows_in(folder: Path, registry: Registry, text: str) -> Flows:
    (folder / "f.yaml").write_text(text)
    return load_flows(folder, registry)


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start the worker of a project; with lines, of a flow of these."""
    worlds = []

    def begin(project: Path, *lines: str) -> FlowWorld:
        if lines:
            (project / "flows/f.yaml").write_text(HEAD + "".join(lines))
        worlds.append(FlowWorld.of_project(project))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.close()


def order(number: int, amount: str = "1.00") -> dict[str, Any]:
    return {"order": {"id": f"o-{number}"}, "amount": amount}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (DEBOUNCE, Debounced(30_000, 300_000)),
        (BATCH, Batched(3, 256 * 1024, 10_000)),
        ("batch: {count: 2, bytes: 1KiB, after: 1s, partitions: 3}\n", Batched(2, 1024, 1_000)),
    ],
)
def test_a_flow_s_events_come_to_its_commands_by_a_correlation(
    tmp_path: Path, registry: Registry, said: str, kind: Any
) -> None:
    flows = flows_in(tmp_path, registry, HEAD + said + "key: /order/id\n" + ACTION)
    group = flows.join_groups["joins"]
    correlation = group.spec.correlations["f"]
    assert (kind, Fire.EACH, OnLate.NEW_RUN) == (
        correlation.kind,
        correlation.fire,
        correlation.late,
    )
    assert ("edo.commands.f", True) == (correlation.target.topic, correlation.target.is_command)
    assert ((TOPIC, registry.contracts[TOPIC].partitions),) == group.spec.upstream
    routes = flows.task_routes(TOPIC)
    assert routes is not None
    (route,) = routes.routes
    assert route.feed is not None
    assert ("/order/id", "edo.joins.joins") == (route.feed.key.place, route.feed.topic)
    assert () == flows.triggers(TOPIC)
    assert 3 == group.partitions or "partitions" not in said
    taken = next(one for one in join_topics(flows, "app", 1) if one.name == "edo.joins.joins")
    assert (
        taken.config["max.message.bytes"] == deleted_by_age(1, group.bytes_max)["max.message.bytes"]
    )


MISTAKES = [
    (DEBOUNCE + BATCH, "6: both of debounce and batch"),
    ("debounce: {quiet: 30s, max: 10s}\n", "5: debounce.max: expected at least quiet, 30s"),
    ("debounce: {quiet: 0s, max: 10s}\n", "5: debounce.quiet is 0ms"),
    ("debounce: {quiet: 30s}\n", "max is missing"),
    ("batch: {count: 1, after: 10s}\n", "batch.count is 1"),
    ("batch: {count: 20000, after: 10s}\n", "batch.count is 20000"),
    ("batch: {count: 3}\n", "after is missing"),
    ("batch: {count: 3, after: 0s}\n", "5: batch.after is 0ms"),
    ("batch:\n  count: 3\n  bytes: 1MiB\n  after: 1s\n", "7: batch.bytes: expected 1KiB to"),
    ("batch: {count: 3, bytes: 10B, after: 1s}\n", "batch.bytes: expected 1KiB to"),
    ("batch: {count: 3, after: 1s, group: actions}\n", "batch.group actions is another group's"),
    (f"split: /lines\n{BATCH}", "5: split is not of a flow with batch"),
    (
        f"{BATCH}lookup: {{c: {{topic: shop.order.placed, key: /id}}}}\ninput: {{cel: lookup.c}}\n",
        "6: lookup is not of a flow with batch",
    ),
    ("debounce: {quite: 30s, max: 1m}\n", "quite is not a key: did you mean quiet?"),
]


@pytest.mark.parametrize(("said", "told"), MISTAKES)
def test_mistakes_are_told_with_their_lines(
    tmp_path: Path, registry: Registry, said: str, told: str
) -> None:
    with pytest.raises(RegistryError) as refused:
        flows_in(tmp_path, registry, HEAD + said + ACTION)
    assert told in "\n".join(f"{one.line}: {one.message}" for one in refused.value.findings)


@pytest.mark.parametrize("said", [DEBOUNCE, BATCH])
def test_what_a_flow_waits_for_is_neither_debounced_nor_batched(
    tmp_path: Path, registry: Registry, said: str
) -> None:
    when = f"when: {{all: {{a: {{topic: {TOPIC}}}}}, within: 1h}}\n"
    head = HEAD.replace(f"on: {TOPIC}\n", "")
    told = re.escape(f"{said.partition(':')[0]} is not of a flow with when")
    with pytest.raises(RegistryError, match=told):
        flows_in(tmp_path, registry, head + when + said + ACTION)


def test_a_topic_without_keys_wants_a_key_of_the_flow(project: Path) -> None:
    contract = project / f"topics/{TOPIC}/contract.yaml"
    text = contract.read_text().replace("ordering: {policy: key}", "ordering: {policy: none}")
    contract.write_text(text)
    registry = load(project / "topics")
    with pytest.raises(RegistryError, match="key is missing"):
        flows_in(project / "flows", registry, HEAD + BATCH + ACTION)
    flows_in(project / "flows", registry, HEAD + BATCH + "key: /order/id\n" + ACTION)


def test_a_flow_that_drains_takes_nothing_more_and_fires_what_it_has(
    tmp_path: Path, registry: Registry
) -> None:
    flows = flows_in(tmp_path, registry, HEAD + BATCH + "draining: true\n" + ACTION)
    assert ["f"] == list(flows.join_groups["joins"].spec.correlations)
    assert flows.task_routes(TOPIC) is None


def test_a_task_does_not_go_on_without_what_it_owes(tmp_path: Path, registry: Registry) -> None:
    flows = flows_in(tmp_path, registry, HEAD + BATCH + ACTION)
    (table,) = join_plans(flows, TaskSpec("app", "", {}, 1.0, 1.0))["joins"].tables
    owed = Memory()
    owed.write({b"f" + name: encode_flow(FlowRow(1, 7, is_owed=True)) for name in (b"f", b"gone")})
    told = table.refusal(Table(owed))
    assert told is not None
    assert "7 of gone. Declare it again" in told
    owed.write({b"fgone": None})
    assert table.refusal(Table(owed)) is None


def test_a_lint_looks_at_what_is_wanted_and_the_graph_says_how(project: Path) -> None:
    (project / "flows/f.yaml").write_text(
        HEAD
        + BATCH
        + "key: /order/ident\ninput: {cel: 'data.events.map(e, e.data.order.id)'}\n"
        + ACTION
    )
    registry = load(project / "topics")
    review = lint(project / "flows", registry)
    assert ["key: /order/ident"] == [one.message.partition(" is")[0] for one in review.findings]
    ways = graph_of(registry, load_flows(project / "flows", registry)).ways
    way = next(way for way in ways if way.start.name == TOPIC)
    assert (TOPIC, "f", "batch") == (way.start.name, way.end.name, way.label)


def test_a_key_that_is_edited_often_has_one_command_when_it_is_quiet(
    project: Path, begin: Begin
) -> None:
    world = begin(project, DEBOUNCE, ACTION)
    for number in range(4):
        world.publish(TOPIC, order(1, f"{number}.00"))
        world.advance(20)
    world.publish(TOPIC, order(2))
    assert [] == world.runs("f")
    world.advance(11)
    (run,) = world.runs("f")
    assert ("o-1", "quiet", 4, "3.00") == (
        run.key,
        run.data["reason"],
        run.data["count"],
        run.data["event"]["data"]["amount"],
    )
    world.advance(30)
    assert ["o-1", "o-2"] == [run.key for run in world.runs("f")]
    assert ["edo.f.done"] * 2 == [one.type for one in world.outcomes("f")]


def test_a_key_that_is_never_quiet_has_its_command_by_the_cap(project: Path, begin: Begin) -> None:
    world = begin(project, DEBOUNCE, ACTION)
    for number in range(40):
        world.publish(TOPIC, order(1, f"{number}.00"))
        world.advance(10)
    (run,) = world.runs("f")
    assert ("max", 29, "28.00") == (
        run.data["reason"],
        run.data["count"],
        run.data["event"]["data"]["amount"],
    )


def test_a_batch_has_its_events_in_order_and_comes_by_count_or_time(
    project: Path, begin: Begin
) -> None:
    made = 'input: {jq: "[.data.reason, (.data.events | map(.data.amount))]"}\n'
    world = begin(project, BATCH, made, ACTION)
    for number in range(5):
        world.publish(TOPIC, order(1, f"{number}.00"))
    world.publish(TOPIC, order(2))
    assert [["count", ["0.00", "1.00", "2.00"]]] == [run.data for run in world.runs("f")]
    world.advance(9)
    assert 1 == len(world.runs("f"))
    world.advance(2)
    assert [["time", ["1.00"]], ["time", ["3.00", "4.00"]]] == sorted(
        run.data for run in world.runs("f")[1:]
    )


def test_only_wanted_events_count_and_each_template_is_filled(project: Path, begin: Begin) -> None:
    url = "https://x.example/{{ data.events[0].data.order.id }}/{{ data.count }}"
    (project / "flows/f.yaml").write_text(
        "name: f\nowner: team\ndescription: Does.\n"
        f"on: {{topic: {TOPIC}, match: {{data: {{amount: [{{prefix: '9'}}]}}}}}}\n"
        f"{BATCH}action: {{kind: http, url: '{url}', idempotency_key: command, replay: safe}}\n"
    )
    world = begin(project)
    for number in range(6):
        world.publish(TOPIC, order(1, "9.00" if number % 2 else "1.00"))
    (run,) = world.runs("f")
    assert "https://x.example/o-1/3" == run.action["url"]


def edo(project: Path, *arguments: str) -> Any:
    environment = {"EDO_TOPICS": str(project / "topics"), "EDO_FLOWS": "", "EDO_SERVICE": "shop"}
    result = CliRunner().invoke(
        app, ["flow", *arguments, "--json"], env=environment, catch_exceptions=False
    )
    assert 0 == result.exit_code, result.output
    return json.loads(result.output)


@pytest.mark.parametrize(("said", "reason"), [(DEBOUNCE, "quiet"), (BATCH, "time")])
def test_a_trial_shows_the_command_that_an_event_alone_leads_to(
    project: Path, said: str, reason: str
) -> None:
    (project / "flows/f.yaml").write_text(HEAD + said + ACTION)
    (project / "event.json").write_text(json.dumps(order(1)))
    told = edo(project, "test", "f", "--event", str(project / "event.json"))
    assert ("input", "o-1", [0]) == (
        told["result"],
        told["wait"]["key"],
        [one["on"] for one in told["conditions"]],
    )
    assert (reason, 1) == (told["command"]["data"]["reason"], told["command"]["data"]["count"])
    word = said.partition(":")[0]
    assert edo(project, "show", "f")[word]
    (listed,) = edo(project, "list")
    assert [{"topic": TOPIC}] == listed["on"]


def test_letters_of_a_batch_wait_again_when_the_flow_is_mended(project: Path, begin: Begin) -> None:
    broken = begin(project, BATCH, "input: {cel: 'data.events[9].id'}\n", ACTION)
    for number in range(3):
        broken.publish(TOPIC, order(1, f"{number}.00"))
    owners = owners_of(broken.registry, broken.flows)
    letters = [letter_of(_record(one), owners) for one in broken.dead_letters("f")]
    assert ["input"] * 3 == [letter.reason for letter in letters]
    world = begin(project, BATCH, "input: {cel: 'data.events.map(e, e.data.amount)'}\n", ACTION)
    for letter in letters:
        again = joined_again(letter, world.flows)
        assert again is not None
        topic, partition, value = again
        (before,) = {(one.topic, one.partition) for one in broken.records("edo.joins.joins")}
        assert before == (topic, partition)
        record = NewRecord(world.now_ms(), letter.key, value)
        world.broker.append(TopicPartition(topic, partition), [record])
    world.settle()
    (run,) = world.runs("f")
    assert ("o-1", ["0.00", "1.00", "2.00"]) == (run.key, run.data)
    (headers,) = [one.headers for one in world.records("edo.commands.f")]
    (first, _, last) = [dict(letter.headers) for letter in letters]
    assert (first["ce_correlationid"], last["ce_id"]) == (
        headers["ce_correlationid"].encode(),
        headers["ce_causationid"].encode(),
    )


def _record(seen: Seen) -> Any:
    return ConsumerRecord(
        topic=seen.topic,
        partition=seen.partition,
        offset=seen.offset,
        timestamp=seen.at_ms,
        timestamp_type=0,
        key=seen.key.encode(),
        value=json.dumps(seen.data).encode(),
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=[(name, value.encode()) for name, value in seen.headers.items()],
    )


def test_a_trial_tells_of_an_input_that_cannot_be_made(project: Path) -> None:
    made = "input: {cel: 'data.events[7]'}\n"
    (project / "flows/f.yaml").write_text(HEAD + BATCH + made + ACTION)
    (project / "event.json").write_text(json.dumps(order(1)))
    environment = {"EDO_TOPICS": str(project / "topics"), "EDO_FLOWS": "", "EDO_SERVICE": "shop"}
    arguments = ["flow", "test", "f", "--event", str(project / "event.json"), "--json"]
    result = CliRunner().invoke(app, arguments, env=environment)
    told = json.loads(result.output)
    assert (1, "dead-letter") == (result.exit_code, told["result"])
    assert told["why"].startswith("input: ")


def test_the_flows_of_the_guide_run(project: Path, begin: Begin) -> None:
    guide = (ROOT / "docs/flow-control.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n# flows/(\S+)\n(.*?)```", guide, re.DOTALL)
    wanted = {name: text for name, text in blocks if "debounce:" in text or "batch:" in text}
    assert ["index-order.yaml", "bill-order.yaml"] == list(wanted)
    for name, text in wanted.items():
        (project / "flows" / name).write_text(text)
    world = begin(project)
    world.publish(TOPIC, order(1, "1.00"))
    world.publish(TOPIC, order(1, "2.00"))
    world.advance(31)
    assert [{"amounts": ["1.00", "2.00"]}] == [run.data for run in world.runs("bill-order")]
    assert [{"order": "o-1", "edits": 2}] == [run.data for run in world.runs("index-order")]
