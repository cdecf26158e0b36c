"""The guide's examples: files that load, a saga that goes as the guide says."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edo_stream.actions.handler import PythonExecutor, import_from, load_handler
from edo_stream.core.act.outcome import Done, Failed
from edo_stream.flows import load_flows
from edo_stream.registry import load
from tests.actions.commands import command
from tests.saga import guide
from tests.saga.world import World, judge


@pytest.fixture
def project(tmp_path: Path) -> Path:
    guide.write(tmp_path)
    return tmp_path


def test_the_files_of_the_guide_can_be_used(project: Path) -> None:
    registry = load(project / "topics")
    flows = load_flows(project / "flows", registry)
    assert {"reserve-stock", "take-payment", "refuse-payment", "release-stock"} <= set(flows.flows)
    steps = flows.sagas["sagas"].sagas["ship-order"].newest.by_name
    assert ["reserve", "pay", "label", "invoice", "hand-over", "thank"] == list(steps)
    assert ("pay",) == steps["label"].after == steps["invoice"].after


@pytest.mark.parametrize(
    ("total", "steps", "status"),
    [
        (
            20,
            ["reserve", "pay", "label", "invoice", "hand-over", "thank"],
            "completed",
        ),
        (200, ["reserve", "pay", "reserve.undo"], "compensated"),
    ],
)
def test_an_order_of_the_guide_goes_as_the_guide_says(
    project: Path, total: int, steps: list[str], status: str
) -> None:
    flows = load_flows(project / "flows", load(project / "topics"))
    import_from(project)
    world = World(flows.sagas["sagas"].sagas["ship-order"])
    world.send("o1", "k", {"id": "o1", "total": total})
    world.settle()
    results: dict[str, Any] = {}
    while world.open:
        flow = world.open[0].flow
        outcome = _run(flows.flows[flow].declaration.action.handler, world.open[0].data)
        results[flow.removeprefix("ship-order.v1.")] = outcome
        if isinstance(outcome, Done):
            world.end(world.open[0], "done", msgspec.json.decode(outcome.data or b"null"))
        else:
            world.end(world.open[0], "failed", reason=outcome.reason)
        world.settle()
    assert steps == list(results)
    assert status == world.row("k").status.value
    if total > 100:
        assert results["reserve.undo"].data == b'{"released":"shelf of o1"}'
        assert "pay: no-credit" == world.row("k").reason
    else:
        assert results["label"].data == b'{"from":"shelf of o1"}'
    judge(world)


def _run(handler: str, data: Any) -> Done | Failed:
    executor = PythonExecutor(load_handler(handler))
    return asyncio.run(executor(command(data)))
