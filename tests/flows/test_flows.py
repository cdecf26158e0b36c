"""Flows as files: what they become, and every mistake at its line."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from edo_stream.actions.build import Outside, targets_of
from edo_stream.actions.handler import PythonExecutor
from edo_stream.core.act.outcome import Done, Failed, FailureClass
from edo_stream.core.act.policy import AfterDeadLetter, Delivery, Order
from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.fleet import Fleet
from edo_stream.engine.target import Targets
from edo_stream.flows import Flows, load_flows
from edo_stream.flows.targets import target_policies
from edo_stream.registry import Registry, RegistryError, load
from tests.actions.commands import command

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/flows.md").read_text()
FLOW = """\
name: ship
owner: team-shipping
description: Ships.
on: shop.order.placed
action: {kind: noop, idempotency_key: command, replay: safe}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "topics")


def flows_in(folder: Path, registry: Registry, **texts: str) -> Flows:
    for name, text in texts.items():
        (folder / f"{name.replace('_', '-')}.yaml").write_text(text)
    return load_flows(folder, registry)


def targets_in(flows: Flows, registry: Registry) -> Targets:
    fleet = Fleet("app", "worker", target_policies(flows), lambda *_: None)
    return targets_of(flows, registry, Outside(lambda: 0), fleet)


def mistakes(folder: Path, registry: Registry, text: str, name: str = "ship") -> list[str]:
    with pytest.raises(RegistryError) as refused:
        flows_in(folder, registry, **{name: text})
    return [f"{one.line}: {one.message}" for one in refused.value.findings]


def test_what_is_not_said_has_a_default(tmp_path: Path, registry: Registry) -> None:
    flows = flows_in(tmp_path, registry, ship=FLOW)
    policy = flows.flows["ship"].policy
    assert (policy.commands, policy.outcomes) == ("edo.commands.ship", "edo.outcomes.ship")
    assert policy.dead_letters == "edo.dead-letters.ship"
    assert (policy.order, policy.delivery) == (Order.STRICT, Delivery.AT_LEAST_ONCE)
    assert policy.after_dead_letter is AfterDeadLetter.CONTINUE
    group = flows.groups["actions"]
    assert group.partitions == 8
    assert group.spec.ladder.delays_ms == (1_000, 2_000, 4_000, 8_000, 16_000)
    assert group.topics[1:] == tuple(f"edo.retry.actions.{n}s" for n in (1, 2, 4, 8, 16))


def test_flows_of_a_group_share_its_ladder_and_each_topic_has_its_partitions(
    tmp_path: Path, registry: Registry
) -> None:
    more = "partitions: 4\nretry: {initial: 500ms, retries: 1}\n"
    other = FLOW.replace("name: ship", "name: bill-it") + more
    flows = flows_in(tmp_path, registry, ship=FLOW, bill_it=other)
    assert flows.groups["actions"].spec.ladder.delays_ms[:2] == (500, 1_000)
    wanted = act_topics(flows, "edo-decide", 3)
    assert {4} == {topic.partitions for topic in wanted}
    assert {"2"} == {topic.config["min.insync.replicas"] for topic in wanted}
    assert "edo.retry.actions.500ms" in {topic.name for topic in wanted}


def test_no_folder_means_no_flows(tmp_path: Path, registry: Registry) -> None:
    assert load_flows(tmp_path / "none", registry).flows == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("name: ship", "name: skip"), "1: name: skip is not the name of its file: write ship"),
        (("shop.order.placed", "shop.order.placd"), "4: on: no contract of shop.order.placd"),
        (("kind: noop", "kind: nope"), "5: action.kind is nope: write one of python, http, "),
        (("replay: safe", "replay: maybe"), "5: action.replay is maybe: write 'safe', "),
        ((", replay: safe", ""), "5: replay is missing in action"),
        (("idempotency_key: command, ", ""), "5: idempotency_key is missing in action"),
        (("owner: team", "ownr: team"), "2: ownr is not a key: did you mean owner?"),
        (("action: {", "action: {url: x, "), "5: url is not a key: known are "),
        (("on: shop", "group: orders\non: shop"), "1: group orders is a group of topics"),
    ],
)
def test_a_mistake_is_told_at_its_line(
    tmp_path: Path, registry: Registry, change: tuple[str, str], expected: str
) -> None:
    found = mistakes(tmp_path, registry, FLOW.replace(*change))
    assert [line for line in found if line.startswith(expected)], found


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("{kind: python, handler: nowhere}", "nowhere is not a handler"),
        ("{kind: http, url: ftp://x}", "ftp://x is not a URL"),
        ("{kind: http, url: 'http://x', auth: {bearer: s3cret}}", "not a reference to a secret"),
        ("{kind: dapr}", "write either invoke or publish"),
        ("{kind: http, url: 'http://u:s3cret@x/'}", "a URL has no user or password"),
        ("{kind: dapr, invoke: shipping}", "action.invoke is 'shipping': "),
        ("{kind: http, url: 'http://x', rules: [{codes: [x-y], means: success}]}", "not a code"),
        ("{kind: http, url: 'http://x', rules: [{codes: [599-500], means: poison}]}", "500-599"),
        ("{kind: sql, connection: 'env:X', statement: s, inbox: 'a b'}", "a b is not a table"),
        (
            "{kind: python, handler: 'a:b', rules: [{exceptions: [a-b], means: poison}]}",
            "a-b is not",
        ),
        ("{kind: airflow, url: 'http://x', dag: d, user: u}", "user and password go together"),
        ("{kind: record, topic: some.other.topic}", "write its partitions"),
    ],
)
def test_an_action_that_cannot_be_is_told(
    tmp_path: Path, registry: Registry, action: str, expected: str
) -> None:
    whole = action[:-1] + ", idempotency_key: command, replay: safe}"
    text = re.sub("action: .*", lambda _: f"action: {whole}", FLOW)
    found = mistakes(tmp_path, registry, text)
    assert [line for line in found if expected in line], found
    assert not [line for line in found if "s3cret" in line]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("{kind: python, handler: 'nowhere.at_all:f'", "nowhere.at_all"),
        ("{kind: http, url: 'http://x/{{'", "is not a template"),
        ("{kind: http, url: 'http://x', auth: {bearer: 'env:NOT_SET_AT_ALL'}", "NOT_SET_AT_ALL"),
        ("{kind: http, url: 'http://x', body: '{{ dta.id }}'", "5: action.body: dta is not known"),
        ("{kind: sql, connection: 'env:X', statement: 'SELECT 1 % 2'", "5: action.statement: "),
    ],
)
def test_what_only_a_start_can_tell_is_told_then(
    tmp_path: Path, registry: Registry, action: str, expected: str
) -> None:
    whole = f"action: {action}, idempotency_key: command, replay: safe}}"
    flows = flows_in(tmp_path, registry, ship=re.sub("action: .*", lambda _: whole, FLOW))
    with pytest.raises(RegistryError) as refused:
        targets_in(flows, registry)
    assert expected in str(refused.value)


# -- the guide


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_the_guide_s_flow_is_one(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRIER_TOKEN", "s3cret")
    text = _blocks("yaml")[0]
    flows = flows_in(tmp_path, registry, ship_order=text)
    target = targets_in(flows, registry)["ship-order"]
    assert target.protection.timeout_s == 10


def test_the_guide_s_actions_are_some(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE", "host=x")
    monkeypatch.setenv("AIRFLOW_PASSWORD", "s3cret")
    actions = [text for text in _blocks("yaml") if text.startswith("action:")]
    assert len(actions) == 2
    for text in actions:
        flow = re.sub("action: .*\n", lambda _, text=text: text, FLOW)
        assert targets_in(flows_in(tmp_path, registry, ship=flow), registry)["ship"]


def test_the_guide_s_handler_ships() -> None:
    text, _ = _blocks("python")
    module: dict[str, Any] = {"__name__": "guide"}
    exec(compile(text, "docs/flows.md", "exec"), module)  # the guide's own code
    executor = PythonExecutor(module["ship"])
    done = asyncio.run(executor(command({"id": "o-7", "items": 2})))
    assert done == Done(b'{"parcel":"o-7-1"}', "application/json")
    refused = asyncio.run(executor(command({"id": "o-7", "items": 0})))
    assert refused == Failed(FailureClass.BUSINESS, "empty-order", "nothing to ship")
