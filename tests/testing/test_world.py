"""Flows in tests of others: the fixture, the world behind it, and what `edo flow new` writes."""

import asyncio
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edo_stream.actions import BusinessError, PermanentError, TransientError
from edo_stream.catalog.scaffold import TopicPlan, project_files, topic_files
from edo_stream.cli.main import app
from edo_stream.outgoing import ContractError
from edo_stream.testing import FlowWorld, plugin
from edo_stream.testing.actions import Run

ROOT = Path(__file__).parents[2]
TOPIC = "shop.order.placed"
FLOW = """\
name: {name}
owner: team
description: Does.
on: {on}
action: {{{action}, idempotency_key: command, replay: safe}}
"""
HTTP = "kind: http, url: 'https://x.example/{{ data.order.id }}', auth: {bearer: 'env:NOT_SET'}"


def order(number: int, amount: str = "129.90") -> dict[str, Any]:
    return {"order": {"id": f"o-{number}"}, "amount": amount}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in project_files("shop").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "flows/confirm-order.yaml").unlink()
    # Flows write to it as well.
    add_topic(tmp_path, TOPIC)
    return tmp_path


def add_topic(project: Path, name: str) -> None:
    """A topic that anybody may write."""
    domain, entity, _ = name.split(".")
    producers = f"producers:\n  - {{name: {domain}-{entity}, source: /{domain}/{entity}}}\n"
    for file, text in topic_files(TopicPlan(name, "team")).items():
        path = project / "topics" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(producers, ""))


def world_of(project: Path, **flows: tuple[str, str]) -> FlowWorld:
    for name, (on, action) in flows.items():
        (project / f"flows/{name}.yaml").write_text(FLOW.format(name=name, on=on, action=action))
    return FlowWorld.of_project(project)


def test_an_event_goes_on_once_and_its_flows_follow(project: Path) -> None:
    dear = f"{{topic: {TOPIC}, match: {{data: {{amount: [{{prefix: '9'}}]}}}}}}"
    world = world_of(project, tell=(TOPIC, HTTP), dear=(dear, "kind: noop"))
    first = world.publish(TOPIC, order(1))
    world.publish(TOPIC, order(1), id=first)
    world.publish(TOPIC, order(2, "99.00"))
    assert ["o-1", "o-2"] == [one.data["order"]["id"] for one in world.results(TOPIC)]
    assert ["o-1", "o-2"] == [run.key for run in world.runs("tell")]
    assert ["o-2"] == [run.key for run in world.runs("dear")]
    (outcome, _) = world.outcomes("tell")
    assert (outcome.type, outcome.headers["ce_correlationid"]) == ("edo.tell.done", first)
    (action, _) = [run.action for run in world.runs("tell")]
    assert (action["url"], action["auth"]["bearer"]) == ("https://x.example/o-1", "env:NOT_SET")
    world.close()


def test_a_failing_action_is_run_again_in_its_time_and_its_key_waits(project: Path) -> None:
    world = world_of(project, tell=(TOPIC, HTTP))

    def answer(run: Run) -> None:
        if run.key == "o-1" and run.data["amount"] == "129.90" and run.attempt < 3:
            raise TransientError("not yet")

    world.answer("tell", answer)
    began_ms = world.now_ms()
    world.publish(TOPIC, order(1))
    world.publish(TOPIC, order(1, "1.00"))
    world.publish(TOPIC, order(2))
    assert [("o-1", 1), ("o-2", 1)] == [(run.key, run.attempt) for run in world.runs("tell")]
    world.advance(10)
    runs = [(run.key, run.attempt, run.data["amount"]) for run in world.runs("tell")]
    assert runs[2:] == [("o-1", 2, "129.90"), ("o-1", 3, "129.90"), ("o-1", 1, "1.00")]
    waits_ms = [run.at_ms - began_ms for run in world.runs("tell") if run.key == "o-1"]
    assert 1_000 <= waits_ms[1] < 2_000
    assert 3_000 <= waits_ms[2] < 5_000
    assert 3 == len(world.outcomes("tell"))
    world.close()


def test_a_test_says_what_an_action_comes_to(project: Path) -> None:
    world = world_of(project, tell=(TOPIC, HTTP))

    async def answer(run: Run) -> dict[str, str]:
        await asyncio.sleep(3)
        if run.key == "o-1":
            raise BusinessError("no stock", reason="no-stock")
        return {"parcel": run.key}

    world.answer("tell", answer)
    world.publish(TOPIC, order(1))
    world.publish(TOPIC, order(2))
    assert ["edo.tell.failed", "edo.tell.done"] == [one.type for one in world.outcomes("tell")]
    assert world.outcomes("tell")[1].data == {"parcel": "o-2"}
    world.answer("tell", PermanentError("never"))
    world.publish(TOPIC, order(3))
    assert ["o-3"] == [letter.key for letter in world.dead_letters("tell")]
    world.close()


def test_what_cannot_be_told_is_a_letter_and_what_breaks_its_contract_is_not_written(
    project: Path,
) -> None:
    world = world_of(project, odd=(f"{{topic: {TOPIC}, where: data.limit > 1}}", "kind: noop"))
    world.publish(TOPIC, order(1))
    (letter,) = world.dead_letters("odd")
    assert (letter.headers["edo-reason"], letter.data) == ("undecided", order(1))
    with pytest.raises(ContractError):
        world.publish(TOPIC, {"order": {}})
    assert world.dead_letters(TOPIC) == []
    world.close()


def test_a_record_of_one_flow_triggers_the_next(project: Path) -> None:
    add_topic(project, "shop.parcel.sent")
    value = '{"parcel": {"id": {{ data.order.id | json }}}, "amount": "1.00"}'
    write = f"kind: record, topic: shop.parcel.sent, value: '{value}'"
    world = world_of(project, send=(TOPIC, write), tell=("shop.parcel.sent", HTTP))
    world.answer("tell", None)
    world.publish(TOPIC, order(1))
    assert [{"parcel": {"id": "o-1"}, "amount": "1.00"}] == [
        one.data for one in world.records("shop.parcel.sent")
    ]
    assert "template" in world.dead_letters("tell")[0].headers["edo-reason"]
    world.close()


def test_the_same_calls_give_the_same_history(project: Path) -> None:
    histories = []
    for _ in range(2):
        world = world_of(project, tell=(TOPIC, HTTP))
        world.fail("tell")
        for number in range(5):
            world.publish(TOPIC, order(number))
        world.advance(3_600)
        histories.append([(one.key, one.offset, one.at_ms) for one in world.outcomes("tell")])
        world.close()
    assert histories[0] == histories[1]


def test_a_cycle_does_not_settle(project: Path) -> None:
    world = world_of(project, back=(TOPIC, f"kind: record, topic: {TOPIC}"))
    with pytest.raises(AssertionError, match="does not settle: is there a cycle"):
        world.publish(TOPIC, order(1))
    world.close()


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    is_installed = any(one.value == plugin.__name__ for one in entry_points(group="pytest11"))
    with_plugin = [] if is_installed else ["-p", plugin.__name__]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *with_plugin, str(folder)],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_edo_flow_new_writes_passes_under_pytest(project: Path) -> None:
    environment = {"EDO_TOPICS": str(project / "topics")}
    written = CliRunner().invoke(app, ["flow", "new", "ship-order"], env=environment)
    assert 0 == written.exit_code, written.output
    (project / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    ran = pytest_in(project)
    assert (0, True) == (ran.returncode, "3 passed" in ran.stdout), ran.stdout + ran.stderr


def test_the_project_may_be_in_a_folder_of_its_own(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    project.rename(outer / "orders")
    world_of(outer / "orders", tell=(TOPIC, HTTP)).close()
    (outer / "pytest.ini").write_text("[pytest]\nedo_project = orders\n")
    (outer / "test_it.py").write_text(
        "def test_it(edo_flows):\n"
        f"    edo_flows.publish('{TOPIC}', {json.dumps(order(1))})\n"
        "    assert len(edo_flows.outcomes('tell')) == 1\n"
    )
    ran = pytest_in(outer)
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_what_flows_wait_for_comes_in_the_same_world(project: Path) -> None:
    add_topic(project, "shop.parcel.sent")
    (project / "flows/ready.yaml").write_text(
        "name: ready\nowner: team\ndescription: Both.\n"
        "when:\n  all:\n"
        "    order: {topic: shop.order.placed, key: /order/id}\n"
        "    parcel: {topic: shop.parcel.sent, key: /parcel/id}\n"
        "  within: 1h\n"
        "action: {kind: noop, idempotency_key: command, replay: safe}\n"
    )
    world = FlowWorld.of_project(project)
    world.publish(TOPIC, order(1))
    world.advance(60)
    assert world.runs("ready") == []
    world.publish("shop.parcel.sent", {"parcel": {"id": "o-1"}, "amount": "1.00"})
    (run,) = world.runs("ready")
    assert run.key == "o-1"
    world.close()


def test_a_wait_that_ends_in_an_event_has_outcomes_and_dead_letters_too(project: Path) -> None:
    add_topic(project, "shop.parcel.sent")
    for name in ("failure", "dead-letter"):
        (project / f"flows/{name}.yaml").write_text(
            f"name: {name}\nowner: team\ndescription: Both.\n"
            "when:\n  all:\n"
            "    order: {topic: shop.order.placed, key: /order/id}\n"
            "    parcel: {topic: shop.parcel.sent, key: /parcel/id}\n"
            f"  within: 1h\n  on_timeout: {name}\n"
            "emit: {topic: shop.order.confirmed}\n"
        )
    world = FlowWorld.of_project(project)
    world.publish(TOPIC, order(1))
    world.advance(3_700)
    assert ["edo.failure.timed-out"] == [one.type for one in world.outcomes("failure")]
    assert [] == world.outcomes("dead-letter")
    (letter,) = world.dead_letters("dead-letter")
    assert "correlation-timeout" == letter.headers["edo-reason"]
    world.close()
