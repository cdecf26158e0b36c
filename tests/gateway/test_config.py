"""`gateway.yaml`: every mistake, with its line and what to write instead."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edo_stream.cli.environment import CommandError
from edo_stream.cli.main import app
from edo_stream.gateway.config import read_config
from edo_stream.registry import RegistryError
from tests.gateway.place import ENVIRON, SOURCES

SOURCE = """\
sources:
  github:
    topic: shop.code.pushed
    verify: {{scheme: github, secrets: ["env:PLAIN"]}}
    {line}
"""


def findings(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    with pytest.raises(RegistryError) as raised:
        read_config(file, ENVIRON)
    return [(finding.line, finding.message) for finding in raised.value.findings]


def test_the_example_is_read(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(SOURCES)
    assert len(read_config(file, ENVIRON).sources) == 7


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sise: 5KiB", "did you mean size?"),
        ("size: 5", "not a size"),
        ("rate: fast", "not a rate"),
        ("burst: 5", "burst means nothing without rate"),
        ("path: github", "not a path"),
        ("path: /metrics", "answered by the gateway itself"),
        ("from: [nowhere]", "not a network"),
        ("id: '{body}'", "is not known"),
        ("key: '{id'", "unpaired brace"),
        ("content_types: [json]", "not a content type"),
        ("body: xml", "write"),
        ("form_field: payload", "means nothing without body: form"),
        ("headers: ['a b']", "not the name of a header"),
        ("headers: [Content-Type]", "written by the gateway itself"),
        ("headers: [CE_id]", "written by the gateway itself"),
        ("headers: [traceparent]", "written by the gateway itself"),
    ],
)
def test_a_mistake_is_found_at_its_line(tmp_path: Path, line: str, expected: str) -> None:
    ((number, message),) = findings(tmp_path, SOURCE.format(line=line))
    assert expected in message
    assert number == 5 or "burst" in line


@pytest.mark.parametrize(
    ("verify", "expected"),
    [
        ("{scheme: githb, secrets: ['env:PLAIN']}", "did you mean github?"),
        ("{scheme: github}", "secrets is missing"),
        ("{scheme: github, secrets: [hush]}", "written by reference"),
        ("{scheme: github, secrets: ['env:NOTHING']}", "env:NOTHING: the variable is not set"),
        ("{scheme: github, secrets: ['file:/nothing']}", "file:/nothing: No such file"),
        ("{scheme: github, secrets: ['env:PLAIN'], header: X}", "header means nothing"),
        ("{scheme: basic, secrets: ['env:PLAIN']}", "is not user:password"),
        ("{scheme: api-key, secrets: ['env:PLAIN']}", "id is missing"),
        ("{scheme: sns}", "topic_arns is missing"),
        ("{scheme: pubsub, audience: a}", "email is missing"),
        ("{scheme: none}", "believes everybody"),
        ("{scheme: hmac, secrets: ['env:PLAIN'], template: x}", "does not sign the body"),
    ],
)
def test_a_proof_that_proves_nothing_is_refused(tmp_path: Path, verify: str, expected: str) -> None:
    text = f"sources:\n  a:\n    topic: a.b.c\n    verify: {verify}\n"
    found = findings(tmp_path, text)
    ((line, _),) = [one for one in found if expected in one[1]]
    assert line == (2 if expected == "id is missing" else 4)
    assert "hush" not in str(found) or "hush" not in verify


@pytest.mark.parametrize("scheme", ["eventbridge", "event-grid", "minio"])
def test_what_the_events_of_a_scheme_say_is_not_said_again(tmp_path: Path, scheme: str) -> None:
    verify = f"{{scheme: {scheme}, secrets: ['env:PLAIN']}}"
    text = (
        f"sources:\n  cloud:\n    topic: shop.code.pushed\n    verify: {verify}\n    type: /kind\n"
    )
    ((line, message),) = findings(tmp_path, text)
    assert (5, True) == (line, "type is in the events of body" in message)
    file = tmp_path / "gateway.yaml"
    file.write_text(f"{text}    body: json\n    id: /0/id\n")
    assert read_config(file, ENVIRON).sources["cloud"].type == "/kind"


def test_a_list_of_event_grid_has_no_id_that_is_read_from_it(tmp_path: Path) -> None:
    text = """\
sources:
  grid:
    topic: shop.code.pushed
    verify: {scheme: event-grid, secrets: ["env:PLAIN"]}
    body: json
"""
    ((_, message),) = findings(tmp_path, text)
    assert "id is missing" in message


def test_two_sources_have_two_paths(tmp_path: Path) -> None:
    text = (
        SOURCES
        + SOURCES.partition("sources:\n")[2].replace("  signed:", "  other:").split("  github")[0]
    )
    ((_, message),) = findings(tmp_path, text.replace("  other:", "  other:\n    path: /signed"))
    assert "/signed is the path of signed" in message


@pytest.mark.parametrize(
    "text", ["", "[]", "sources: {}", "sources: [", "listen: here\nsources: {}"]
)
def test_what_is_no_gateway_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    assert findings(tmp_path, text)


def test_all_mistakes_come_at_once_and_the_command_ends_with_2(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("listen: here\nsources:\n  A: {topic: x, verify: {scheme: y}}\n")
    result = CliRunner().invoke(app, ["gateway", "--check", "--config", str(file)])
    assert isinstance(result.exception, CommandError)
    assert result.exception.code == 2
    assert str(result.exception).count(f"{file}:") >= 3
