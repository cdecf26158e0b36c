"""The guide to patterns says what is so: each of its examples is run."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from edo_stream.catalog.scaffold import project_files
from edo_stream.cli.main import app
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts, UndecidedError
from edo_stream.core.patterns import PatternIndex, parse_pattern
from edo_stream.flows import load_flows
from edo_stream.flows.declaration import Input
from edo_stream.flows.expression import WhereExpression
from edo_stream.flows.inputs import maker_of
from edo_stream.registry import load
from edo_stream.testing import FlowWorld

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/flow-patterns.md").read_text()
_ROW = re.compile(r"^\| `(.+?)` \| (yes|no|true|false|error)(?:: (.+?))? \|$", re.MULTILINE)
_INPUT = re.compile(r"^\| `\{(jq|cel|template): …\}` \| .+? \| `(.+)` \|$", re.MULTILINE)


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)
    return str(text)


def facts() -> Facts:
    event = json.loads(block("json"))
    data = msgspec.json.encode(event.pop("data"))
    return Facts(
        Event(
            event["id"],
            event["source"],
            event["type"],
            b"key",
            data,
            "application/json",
            event["subject"],
            time_text=event["time"].encode(),
            time_ms=0,
            extensions=(("ce_tenant", event["tenant"].encode()),),
        )
    )


ROWS = [(text.replace("\\|", "|"), said, why) for text, said, why in _ROW.findall(GUIDE)]


def test_the_guide_has_examples() -> None:
    assert (19, 9) == (
        sum(said in ("yes", "no") for _, said, _ in ROWS),
        sum(said not in ("yes", "no") for _, said, _ in ROWS),
    )


@pytest.mark.parametrize(("text", "said", "why"), ROWS)
def test_what_the_guide_says_of_an_event_is_so(text: str, said: str, why: str) -> None:
    if said in ("yes", "no"):
        index = PatternIndex([(1, parse_pattern(json.loads(text)))])
        assert (said == "yes") == bool(index.matches(facts().whole))
    elif said == "error":
        with pytest.raises(UndecidedError, match=why):
            WhereExpression(text)(facts())
    else:
        assert (said == "true") == WhereExpression(text)(facts())


@pytest.mark.parametrize(("kind", "text"), _INPUT.findall(GUIDE))
def test_the_guide_s_inputs_make_what_they_say(kind: str, text: str) -> None:
    made = json.loads(maker_of(Input(**{kind: text.replace("\\|", "|")}))(facts()))
    assert made == {"order": "o-17"} | ({} if kind == "template" else {"skus": ["A-100", "B-7"]})


def test_the_guide_s_flow_is_one(tmp_path: Path) -> None:
    (tmp_path / "ship-dear-order.yaml").write_text(block("yaml"))
    routes = load_flows(tmp_path, load(ROOT / "topics")).routes("shop.order.placed")
    assert routes is not None
    assert 1 == len(routes.choose(facts()))


def test_the_guide_s_trial_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/ship-dear-order.yaml").write_text(block("yaml"))
    event = json.loads(block("json"))
    event["data"]["limit"] = 500.0
    (tmp_path / "order.json").write_text(json.dumps({**event, "sequence": 1}))
    environment = {"EDO_TOPICS": str(ROOT / "topics"), "EDO_FLOWS": str(tmp_path / "flows")}
    command, *expected = block("console").splitlines()
    arguments = command.removeprefix("$ edo ").split()
    arguments[-1] = str(tmp_path / arguments[-1])
    result = CliRunner().invoke(app, arguments, env=environment)
    assert (1, expected) == (result.exit_code, result.output.splitlines())


def test_the_guide_s_test_passes(tmp_path: Path) -> None:
    for name, text in project_files("shop").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "flows/tell-carrier.yaml").write_text(
        "name: tell-carrier\nowner: team\ndescription: Tells.\non: shop.order.placed\n"
        "action: {kind: http, url: 'https://carrier.example/parcels/{{ data.order.id }}', "
        "idempotency_key: command, replay: safe}\n"
    )
    module: dict[str, Any] = {}
    exec(compile(block("python"), "docs/flow-patterns.md", "exec"), module)  # the guide's own code
    world = FlowWorld.of_project(tmp_path)
    module["test_a_carrier_that_is_down_is_asked_again"](world)
    world.close()
