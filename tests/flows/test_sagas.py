"""Sagas as files: what they become, and every mistake at its line."""

from pathlib import Path

import pytest

from edo_stream.core.saga.definition import SagaTopics
from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.saga_plans import saga_plans, saga_topics
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.flows import Flows, load_flows
from edo_stream.registry import Registry, RegistryError, load

ROOT = Path(__file__).parents[2]
ACT = "{kind: noop, idempotency_key: command, replay: safe}"
SAGA = f"""\
name: ship
version: 1
owner: team-orders
description: Ships.
on: shop.order.placed
key: /order/id
deadline: 1h
steps:
  - name: reserve
    action: {ACT}
    retry: {{retries: 1, initial: 2s}}
    timeout: 5m
    compensate:
      action: {ACT}
      concurrency: 3
  - name: pay
    pivot: true
    action: {ACT}
  - name: approve
    manual: team-desk
  - name: mail
    after: [pay]
    action: {ACT}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "topics")


def sagas_in(folder: Path, registry: Registry, **texts: str) -> Flows:
    (folder / "sagas").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "sagas" / f"{name.replace('__', '.')}.yaml").write_text(text)
    return load_flows(folder, registry)


def mistakes(folder: Path, registry: Registry, **texts: str) -> list[str]:
    with pytest.raises(RegistryError) as refused:
        sagas_in(folder, registry, **texts)
    return [f"{one.line}: {one.message}" for one in refused.value.findings]


def test_a_saga_is_a_definition_and_a_flow_for_each_step(
    tmp_path: Path, registry: Registry
) -> None:
    flows = sagas_in(tmp_path, registry, ship=SAGA)
    group = flows.sagas["sagas"]
    spec = group.sagas["ship"]
    assert spec.topics == SagaTopics(
        "edo.saga-starts.ship", "edo.outcomes.ship", "edo.dead-letters.ship", "edo.sagas.ship"
    )
    steps = {step.name: step for step in spec.newest.steps}
    assert [(), ("reserve",), ("pay",), ("pay",)] == [step.after for step in steps.values()]
    assert ("ship.v1.reserve", "ship.v1.reserve.undo", 300_000) == (
        steps["reserve"].flow,
        steps["reserve"].undo,
        steps["reserve"].timeout_ms,
    )
    assert (None, "pay", 3_600_000) == (
        steps["approve"].flow,
        spec.newest.pivot,
        spec.newest.deadline_ms,
    )
    names = ["ship.v1.mail", "ship.v1.pay", "ship.v1.reserve", "ship.v1.reserve.undo"]
    assert names == list(flows.flows)
    policy = flows.flows["ship.v1.reserve"].policy
    assert (policy.outcomes, policy.retry.delays_ms()) == ("edo.outcomes.ship", (2_000,))
    assert policy.is_awaited
    assert flows.flows["ship.v1.reserve.undo"].declaration.concurrency.max == 3
    assert group.partitions == flows.groups["sagas-steps"].partitions == 8


def test_events_start_it_by_the_conditions_of_a_flow(tmp_path: Path, registry: Registry) -> None:
    on = "{topic: shop.order.placed, match: {type: [placed]}}"
    flows = sagas_in(tmp_path, registry, ship=SAGA.replace("shop.order.placed", on))
    routes = flows.routes("shop.order.placed")
    assert routes is not None
    (route,) = routes.routes
    assert ("ship", "edo.saga-starts.ship", 8) == (
        route.trigger.flow,
        route.trigger.commands,
        route.trigger.partitions,
    )
    assert () == flows.triggers("shop.order.placed")
    assert len(route.conditions) == 1


def test_its_topics_have_one_number_of_partitions(tmp_path: Path, registry: Registry) -> None:
    flows = sagas_in(tmp_path, registry, ship=SAGA + "partitions: 3\n")
    wanted = [*saga_topics(flows, "app", 1), *act_topics(flows, "app", 1)]
    of_saga = {one.name: one.partitions for one in wanted if "targets" not in one.name}
    assert {3} == set(of_saga.values())
    spec = TaskSpec("app", "", {}, 60.0, 10.0)
    plan = saga_plans(flows, spec)["sagas"]
    assert plan.spec.sources.keys() <= of_saga.keys()
    assert 4 == len(plan.spec.sources)


def test_versions_stand_side_by_side(tmp_path: Path, registry: Registry) -> None:
    second = SAGA.replace("version: 1", "version: 2").replace("name: mail", "name: letter")
    flows = sagas_in(tmp_path, registry, ship=second, ship__v1=SAGA)
    spec = flows.sagas["sagas"].sagas["ship"]
    assert ({1, 2}, 2) == (set(spec.versions), spec.newest.version)
    assert {"ship.v1.mail", "ship.v2.letter"} <= set(flows.flows)
    routes = flows.routes("shop.order.placed")
    assert routes is not None
    assert 1 == len(routes.routes)


def test_what_decides_how_an_instance_goes_on_is_in_the_digest(
    tmp_path: Path, registry: Registry
) -> None:
    def digest(text: str) -> str:
        return sagas_in(tmp_path, registry, ship=text).sagas["sagas"].sagas["ship"].newest.digest

    known = digest(SAGA)
    assert known == digest(SAGA.replace("retries: 1", "retries: 3"))
    assert known == digest(SAGA.replace("timeout: 5m", "timeout: 6m"))
    for changed in (
        SAGA.replace("name: mail", "name: letter"),
        SAGA.replace("    pivot: true\n", ""),
        SAGA.replace("after: [pay]", "after: [approve]"),
    ):
        assert known != digest(changed)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("name: ship\n", "name: shop\n", "1: name: shop is not the name of its file"),
        ("version: 1\n", "", "1: version is missing"),
        ("shop.order.placed", "shop.order.paced", "5: on: no contract of shop.order.paced"),
        ("after: [pay]", "after: [pya]", "22: step mail: no step pya above it: did you mean pay?"),
        ("after: [pay]", "after: [reserve]", "21: step mail runs beside the pivot pay"),
        ("manual: team-desk", "pivot: true", "19: step approve: write either action or manual"),
        ("name: mail", "name: pay", "21: steps.3.name: pay stands twice"),
        ("name: mail", "name: Mail", "21: steps.3.name: Mail is not a step's name"),
        ("after: [pay]", "pivot: true", "22: pivot: only one step closes the way back"),
        ("timeout: 5m", "timeout: soon", "12: steps.0.timeout: soon is not a duration"),
        ("timeout: 5m", "timeout: 0s", "12: step reserve: timeout is 0ms: it would fail before"),
        ("retries: 1", "total: 1ms", "11: step reserve: retry.total is shorter than the first"),
        ("deadline: 1h", "deadline: 0s", "7: deadline is 0ms: each instance would be undone"),
        ("deadline: 1h", "deadlin: 1h", "7: deadlin is not a key: did you mean deadline?"),
    ],
)
def test_each_mistake_has_its_line(
    tmp_path: Path, registry: Registry, before: str, after: str, said: str
) -> None:
    assert before in SAGA
    found = mistakes(tmp_path, registry, ship=SAGA.replace(before, after, 1))
    assert any(one.startswith(said) for one in found), found


def test_what_comes_after_the_pivot_is_never_undone(tmp_path: Path, registry: Registry) -> None:
    text = SAGA + f"    compensate: {{action: {ACT}}}\n"
    (found,) = mistakes(tmp_path, registry, ship=text)
    assert found == "24: step mail comes after the pivot pay: it is never undone"


def test_names_and_versions_do_not_clash(tmp_path: Path, registry: Registry) -> None:
    flow = f"name: ship\nowner: a\ndescription: b\non: shop.order.placed\naction: {ACT}\n"
    (tmp_path / "ship.yaml").write_text(flow)
    assert ["1: ship is the name of a flow: take another"] == mistakes(
        tmp_path, registry, ship=SAGA
    )
    (tmp_path / "ship.yaml").unlink()
    (found,) = mistakes(tmp_path, registry, ship=SAGA, ship__v1=SAGA)
    assert found == "1: version 1 is not before that of ship.yaml"
    (tmp_path / "sagas" / "ship.v1.yaml").write_text(SAGA)
    (tmp_path / "sagas" / "ship.yaml").unlink()
    (found,) = mistakes(tmp_path, registry)
    assert "no ship.yaml" in found
    found_all = mistakes(tmp_path, registry, ship__v1=SAGA.replace("version: 1", "version: 3"))
    assert "2: version: write 1, as in the file's name, or rename the file" in found_all
