"""What flows' files say of their keys' commands: how they run, and each mistake's line."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edo_stream.core.act.policy import Singleton
from edo_stream.core.act.turns import KeyLimit, Throttle
from edo_stream.flows import load_flows
from edo_stream.flows.graph import CANCELS, graph_of
from edo_stream.flows.lint import lint
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.testing import FlowWorld

ROOT = Path(__file__).parents[2]
ORDER, PAYMENT = "shop.order.placed", "shop.payment.received"
HEAD = f"name: f\nowner: team\ndescription: Does.\non: {ORDER}\nkey: /order/id\n"
ACTION = "action: {kind: noop, idempotency_key: command, replay: safe}\n"
Begin = Callable[[str], FlowWorld]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "topics")


@pytest.fixture
def begin(tmp_path: Path, registry: Registry) -> Iterator[Begin]:
    """Start a worker with one flow of these lines."""
    worlds = []

    def begin(lines: str) -> FlowWorld:
        (tmp_path / "f.yaml").write_text(HEAD + lines + ACTION)
        worlds.append(FlowWorld(registry, load_flows(tmp_path, registry)))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.close()


def placed(world: FlowWorld, number: int, key: str = "o-1") -> None:
    data: dict[str, Any] = {"order": {"id": key, "number": number}}
    world.publish(ORDER, data, subject=key, extensions={"sequence": str(number)})


def ends(world: FlowWorld) -> list[str]:
    return [one.type.rpartition(".")[2] for one in world.outcomes("f")]


def test_what_is_said_comes_to_the_core(tmp_path: Path, registry: Registry) -> None:
    lines = "singleton: queue\nthrottle: {limit: 10, per: 1m}\nrate_limit: {limit: 1, per: 1h}\n"
    (tmp_path / "f.yaml").write_text(HEAD + lines + ACTION)
    policy = load_flows(tmp_path, registry).flows["f"].policy
    assert policy.singleton is Singleton.QUEUE
    assert Throttle(10, 60_000, 1) == policy.throttle
    assert KeyLimit(1, 3_600_000) == policy.rate_limit


def test_an_event_of_another_topic_cancels_what_waits_for_its_retry(begin: Begin) -> None:
    world = begin(f"cancel_on: {PAYMENT}\n")
    world.fail("f")
    placed(world, 1)
    placed(world, 2)
    placed(world, 1, "o-2")
    assert ["done"] == ends(world), "of the other order"
    paid = world.publish(PAYMENT, {"order": {"id": "o-1"}}, subject="o-1")
    told = [one.data for one in world.outcomes("f") if one.type == "edo.f.cancelled"]
    assert 2 == len(told)
    assert {(paid, PAYMENT, "event")} == {(t["event"], t["type"], t["reason"]) for t in told}
    placed(world, 3)
    assert "done" == ends(world)[-1]
    assert 3 == len(world.runs("f"))


def test_only_what_is_as_it_says_cancels(begin: Begin) -> None:
    world = begin(f"cancel_on: {{topic: {PAYMENT}, match: {{data: {{amount: ['2.00']}}}}}}\n")
    world.fail("f", 2)
    placed(world, 1)
    world.publish(PAYMENT, {"order": {"id": "o-1"}, "amount": "1.00"}, subject="o-1")
    assert [] == ends(world)
    world.advance(1)
    world.publish(PAYMENT, {"order": {"id": "o-1"}, "amount": "2.00"}, subject="o-1")
    assert ["cancelled"] == ends(world)
    world.advance(60)
    assert 2 == len(world.runs("f"))


def test_an_event_that_triggers_and_cancels_cancels_what_was_before_it(begin: Begin) -> None:
    world = begin(f"cancel_on: {{topic: {ORDER}, where: 'true'}}\n")
    world.fail("f", 1)
    placed(world, 1)
    placed(world, 2)
    assert ["cancelled", "done"] == ends(world)


def test_what_cancels_and_has_no_key_is_a_dead_letter_of_the_flow(begin: Begin) -> None:
    world = begin(f"cancel_on: {PAYMENT}\n")
    world.publish(PAYMENT, {"amount": "1.00"}, subject="o-1")
    (letter,) = world.dead_letters("f")
    assert "no-key" == letter.headers["edo-reason"]


def test_a_singleton_skips_while_a_retry_is_waited_for(begin: Begin) -> None:
    world = begin("singleton: skip\n")
    world.fail("f")
    placed(world, 1)
    placed(world, 2)
    assert ["skipped"] == ends(world)
    world.advance(1)
    assert ["skipped", "done"] == ends(world)


def test_a_throttle_lets_time_pass_and_a_limit_does_not_wait(begin: Begin) -> None:
    world = begin("throttle: {limit: 1, per: 10s}\nrate_limit: {limit: 2, per: 1h}\n")
    for number in (1, 2, 3):
        placed(world, number)
    assert ["done"] == ends(world)
    world.advance(10)
    assert ["done", "done", "limited"] == ends(world)
    first, second = world.runs("f")
    assert 10_000 <= second.at_ms - first.at_ms


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ("order: relaxed\nsingleton: skip\n", 7, "singleton: with order: relaxed"),
        ("singleton: skip\ndead_letters: {after: stop}\n", 6, "dead_letters.after: stop"),
        ("singleton: often\n", 6, "singleton"),
        ("throttle: {limit: 2, per: 1m, burst: 3}\n", 6, "3 at once are more than"),
        ("throttle: {limit: 2, per: 0s}\n", 6, "throttle.per"),
        ("throttle: {limit: 0, per: 1m}\n", 6, "throttle.limit"),
        ("throttle: {limit: 1, per: 1m, key: /sku}\n", 6, "flow's own key"),
        ("rate_limit: {limit: 2, per: 0s}\n", 6, "rate_limit.per"),
        ("rate_limit: {limit: 1001, per: 1s}\n", 6, "rate_limit.limit"),
        (f"order: relaxed\ncancel_on: {PAYMENT}\n", 7, "cancel_on: with order: relaxed"),
        (f"cancel_on: {PAYMENT}s\n", 6, f"no contract of {PAYMENT}s"),
        (f"cancel_on:\n  - topic: {PAYMENT}\n    key: /id\n", 8, "flow's own key"),
        (f"cancel_on:\n  topic: {PAYMENT}\n  where: data.\n", 8, "where"),
        (f"cancel_on: {PAYMENT}\nbatch: {{count: 2, after: 1s}}\n", 6, "with debounce or batch"),
        (f"cancel_on: {PAYMENT}\nsplit: {{at: /items, key: /sku}}\n", 6, "split.key"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, registry: Registry, lines: str, line: int, words: str
) -> None:
    (tmp_path / "f.yaml").write_text(HEAD + lines + ACTION)
    with pytest.raises(RegistryError) as refused:
        load_flows(tmp_path, registry)
    found = [(one.line, one.message) for one in refused.value.findings]
    assert any(at == line and words in message for at, message in found), found


def test_a_flow_that_waits_has_nothing_to_cancel(tmp_path: Path, registry: Registry) -> None:
    text = HEAD.replace(f"on: {ORDER}\nkey: /order/id\n", "")
    when = f"when:\n  all:\n    order: {{topic: {ORDER}, key: /order/id}}\n  within: 1d\n"
    (tmp_path / "f.yaml").write_text(f"{text}{when}cancel_on: {PAYMENT}\n{ACTION}")
    with pytest.raises(RegistryError, match="a flow with when"):
        load_flows(tmp_path, registry)


def test_the_flows_of_the_guide_are_well_formed(tmp_path: Path, registry: Registry) -> None:
    guide = (ROOT / "docs/flow-control.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n# flows/(\S+)\n(.*?)```", guide, re.DOTALL)
    wanted = [one for one in blocks if "singleton:" in one[1] or "cancel_on:" in one[1]]
    names = ["rebuild-page.yaml", "remind-customer.yaml", "call-customer.yaml"]
    assert names == [name for name, _ in wanted]
    for name, text in wanted:
        (tmp_path / name).write_text(text)
    assert [] == list(lint(tmp_path, registry).findings)


def test_the_graph_shows_what_cancels_and_takes_it_for_no_cycle(
    tmp_path: Path, registry: Registry
) -> None:
    action = f"action: {{kind: record, topic: {PAYMENT}, idempotency_key: command, replay: safe}}\n"
    (tmp_path / "f.yaml").write_text(HEAD + f"cancel_on: {PAYMENT}\n" + action)
    graph = graph_of(registry, load_flows(tmp_path, registry))
    ways = [(way.start.name, way.end.name) for way in graph.ways if way.label == CANCELS]
    assert [(PAYMENT, "f")] == ways
    assert [] == graph.cycles()
