"""Flows and sagas in Python are what they are in YAML; mistakes are told by their lines."""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from edo_stream.flows import Flows, load_flows
from edo_stream.flows.lint import lint
from edo_stream.flows.typed import Flow, On, Saga
from edo_stream.flows.typed_source import typed_source
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.registry.declaration import Declared

ROOT = Path(__file__).parents[2]
HANDLERS = """\
class NoStock(Exception):
    pass


def ship(order):
    return order
"""
SHIP: Flow = {
    "name": "ship-order",
    "owner": "team-shipping",
    "description": "Ships.",
    "on": [On(topic="shop.order.placed"), "shop.payment.received"],
    "retry": {"initial": timedelta(milliseconds=1_500), "factor": 1.5, "max": timedelta(hours=1)},
    "action": {"kind": "noop", "idempotency_key": "command", "replay": "safe"},
}
SAGA: Saga = {
    "name": "ship-order",
    "version": 1,
    "owner": "team-orders",
    "description": "Ships.",
    "on": "shop.order.placed",
    "deadline": timedelta(days=1),
    "steps": [
        {
            "name": "reserve",
            "action": {"kind": "noop", "idempotency_key": "command", "replay": "safe"},
        }
    ],
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "topics")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flows" / "sagas").mkdir(parents=True)
    return tmp_path / "flows"


def mistakes(folder: Path, registry: Registry, text: str, name: str = "ship.py") -> list[str]:
    (folder / name).write_text(text)
    with pytest.raises(RegistryError) as refused:
        load_flows(folder, registry)
    return [f"{one.file.name}:{one.line}: {one.message}" for one in refused.value.findings]


def declared(flows: Flows, name: str) -> Declared:
    return flows.flows[name].declaration


def in_yaml(value: Any) -> str:
    """As YAML has it; durations are written in one more way, to tell that they were read."""
    return yaml.safe_dump(json.loads(json.dumps(value, default=lambda one: f"{one / MS:.0f}ms")))


MS = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("declares", "file", "value"), [("flow", "ship", SHIP), ("saga", "sagas/ship", SAGA)]
)
def test_both_are_the_same(
    folder: Path, registry: Registry, declares: str, file: str, value: Any
) -> None:
    place = folder / f"{file}-order.yaml"
    place.write_text(in_yaml(value))
    wanted = load_flows(folder, registry)
    place.unlink()
    text = f"from datetime import timedelta\nimport datetime\n{declares} = {value!r}\n"
    (folder / f"{file}_order.py").write_text(text)
    found = load_flows(folder, registry)
    assert list(wanted.flows) == list(found.flows)
    for name in wanted.flows:
        assert declared(wanted, name) == declared(found, name)
    assert wanted.sagas == found.sagas
    assert [] == list(lint(folder, registry).findings)


@pytest.fixture
def imports() -> Iterator[None]:
    """What is imported from a test's folder is forgotten."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.usefixtures("imports")
def test_the_guide_s_flow_is_one(folder: Path, registry: Registry) -> None:
    guide = (ROOT / "docs/flows.md").read_text()
    (text,) = re.findall(r"```python\n(# flows/ship_order.py.+?)```", guide, re.DOTALL)
    (folder.parent / "handlers").mkdir()
    (folder.parent / "handlers" / "shipping.py").write_text(HANDLERS)
    (folder / "ship_order.py").write_text(text)
    (folder / "shared.py").write_text("raise SystemExit('it is no flow, and not run')\n")
    flow: Any = declared(load_flows(folder, registry), "ship-order")
    assert "handlers.shipping:ship" == flow.action.handler
    assert ["handlers.shipping.NoStock"] == flow.action.rules[0].exceptions
    assert 10_000 == flow.action.timeout
    assert ["ship-order"] == list(lint(folder, registry).names)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("flow = {\n", "ship.py:1: not Python: '{' was never closed"),
        ("x = 1\nflow = {'name': y}\n", "ship.py:2: it cannot be run: NameError: name 'y' is not"),
        ("flow = 1\n", "ship.py:1: not a flow: write its keys, such as name: ship-order"),
        ("flow = {}\nraise SystemExit(3)\n", "ship.py:2: it cannot be run: SystemExit: 3"),
        (
            "flow = dict(\n    name='ship',\n    on={1, 2},\n)\n",
            "ship.py:3: on: expected a text, a number, a list or a mapping, found set",
        ),
        ("flow = {\n 'on': {1: 2}}\n", "ship.py:2: on: the key 1 is no text"),
        ("flow = {}\nflow['on'] = flow\n", "ship.py:1: on: it is within itself"),
        (
            "def ship(): ...\nflow = {\n'action': {\n'handler': ship}}\n",
            "ship.py:4: action.handler: ship cannot be imported by its name: put it at the top",
        ),
        ("flow = {}\nreturn\n", "ship.py:2: not Python: 'return' outside function"),
        ("flow = {}\ndel flow\n", "ship.py:1: it assigns flow, and has none when it has been run"),
        ("if 0:\n  flow = {}\n", "ship.py:2: it assigns flow, and has none when it has been run"),
        ("for one in 'ab':\n    flow = one\n", "ship.py:2: not a flow: write its keys"),
        ("flow, x = 'ab'\n", "ship.py:1: not a flow: write its keys"),
        (
            "flow = {\n'on': 'a',\n'on': 'b'}\n",
            "ship.py:3: on is given twice, first in line 2: keep one of them",
        ),
        (
            "from datetime import timedelta\nflow = {\n'retry': timedelta(microseconds=1500)}\n",
            "ship.py:3: retry: 0:00:00.001500 is no whole number of milliseconds",
        ),
        (
            "import functools, json\nflow = {\n'on': functools.wraps(json.loads)(lambda: 0)}\n",
            "ship.py:3: on: loads cannot be imported by its name",
        ),
        (
            "flow = {'rules': [\n  lambda: 0]}\n",
            "ship.py:2: rules.0: <lambda> cannot be imported by its name",
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_line(
    folder: Path, registry: Registry, text: str, mistake: str
) -> None:
    (found,) = mistakes(folder, registry, text)
    assert found.startswith(mistake)


def test_values_are_checked_as_those_of_yaml(folder: Path, registry: Registry) -> None:
    text = f"from edo_stream.flows.typed import Flow\nflow = Flow(\n{_lines(SHIP)})\n"
    found = mistakes(folder, registry, text.replace("shop.order.placed", "shop.oder.placed"))
    assert [
        "ship.py:3: name: ship-order is not the name of its file: write ship, or rename the file",
    ] == found
    found = mistakes(
        folder, registry, text.replace("'safe'", "'sure'").replace("ship-order", "ship")
    )
    assert ["ship.py:7"] == [one[:9] for one in found]


def _lines(flow: Any) -> str:
    flow = {key: value for key, value in flow.items() if key != "retry"} | {"draining": False}
    return "".join(f"{key}={value!r},\n" for key, value in flow.items())


def test_a_flow_is_declared_once(folder: Path, registry: Registry) -> None:
    (folder / "ship-order.yaml").write_text(in_yaml(SHIP))
    found = mistakes(folder, registry, "flow = {}\n", "ship_order.py")
    told = "ship-order.yaml declares ship-order as well: keep one of them"
    assert [f"ship_order.py:1: {told}"] == found


def test_two_names_in_python_that_are_one(folder: Path, registry: Registry) -> None:
    (folder / "ship-order.py").write_text(f"from datetime import timedelta\nflow = {_twice()}")
    found = mistakes(folder, registry, f"flow = {_twice()}", "ship_order.py")
    told = [
        "ship-order.py:1: ship_order.py declares ship-order as well: keep one of them",
        "ship_order.py:1: ship-order.py declares ship-order as well: keep one of them",
    ]
    assert told == found


def _twice() -> str:
    return repr({key: value for key, value in SHIP.items() if key not in ("retry", "on")})


def test_a_file_may_say_it_in_a_branch_and_define_and_print(
    folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "ship_order.py").write_text(
        "# coding: latin-1\nfrom __future__ import annotations\nimport datetime\n"
        "from dataclasses import dataclass\n@dataclass\nclass Wait:\n    long: int\n"
        f"print(Wait(1))\nif True:\n    flow = {SHIP!r}  # \xe9\n",
        encoding="latin-1",
    )
    assert "ship-order" in load_flows(folder, registry).flows
    assert ("", "Wait(long=1)\n") == tuple(capsys.readouterr())


def test_a_type_checker_believes_the_types_of_what_is_installed() -> None:
    """A checker takes all of an installed package for unknown unless the marker is there."""
    (name,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["edo_stream"]
    assert (ROOT / "edo_stream" / name).exists()
    assert "py.typed" == name


def test_the_types_are_those_of_the_models() -> None:
    assert typed_source() == (ROOT / "edo_stream/flows/typed.py").read_text()
