"""`edo events publish` before anything is sent: what is wrong with which document."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edo_stream.cli.environment import CommandError
from edo_stream.cli.events import split_event
from edo_stream.cli.main import app
from tests.catalog.shelf import CLEAN, Shelf


def publish(tmp_path: Path, documents: str, *options: str) -> tuple[list[dict[str, Any]], str]:
    """What it prints as JSON lines, and what it says of a file that breaks the contract."""
    shelf = Shelf(tmp_path / "topics")
    rules = {"key": "record", "record_bytes_max": "1KiB"}
    shelf.add(CLEAN | rules | {"producers": [{"name": "shop", "source": "/shop"}]})
    file = tmp_path / "events.jsonl"
    file.write_text(documents, encoding="utf-8")
    environment = {"EDO_TOPICS": str(shelf.root), "EDO_BROKER": "127.0.0.1:1"}
    command = ["events", "publish", "shop.order.placed", str(file), *options]
    result = CliRunner().invoke(app, command, env=environment)
    assert isinstance(result.exception, CommandError), result.output
    assert 1 == result.exception.code
    assert str(result.exception).endswith("nothing was written")
    return [json.loads(line) for line in result.stdout.splitlines()], str(result.exception)


def test_a_source_of_nobody_is_told_which_there_are(tmp_path: Path) -> None:
    printed, said = publish(tmp_path, '{"order": 1}\n', "--key", "k")

    assert [] == printed
    assert "document 1: " in said
    assert "whose sources are /shop [producer]" in said


@pytest.mark.parametrize(
    ("text", "reason"), [("x" * 2_000, "too-large"), ("\\ud800", "undecodable")]
)
def test_one_that_cannot_be_a_record_keeps_all_back(tmp_path: Path, text: str, reason: str) -> None:
    documents = '{"order": 1}\n' + '{"order": "' + text + '"}\n'

    printed, _ = publish(tmp_path, documents, "--source", "/shop", "--json", "--key", "k")
    assert [(2, reason)] == [(one["document"], one["reason"]) for one in printed]


EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "t", "data": {"order": 1}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"specversion": "0.3"}, 'specversion is another one: write "1.0"'),
        ({"id": 5}, "attribute id has a value of the wrong JSON type"),
        ({"id": ""}, "id is empty"),
        ({"own": {"a": 1}}, "attribute own has a value of the wrong JSON type"),
        ({"own": 1.5}, "attribute own has a value of the wrong JSON type"),
        ({"data_base64": "e30="}, "both data and data_base64 are there"),
        ({"data": None, "data_base64": "{}"}, "data_base64 is not Base64"),
        ({"dataschemaversion": "v" + 5_000 * "9"}, "dataschemaversion has more than 9 digits"),
    ],
)
def test_an_event_is_one_as_cloudevents_has_it(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    printed, _ = publish(tmp_path, json.dumps(EVENT | changes), "--json", "--key", "k")

    assert [(1, "invalid", said)] == [tuple(one.values()) for one in printed]


def test_an_event_says_what_is_in_its_envelope() -> None:
    said = {"id": None, "time": "2026-01-31T12:00:00Z", "n": 5, "b": True, "z": None}
    data, told = split_event(EVENT | said | {"dataschemaversion": "v2", "subject": "s"})

    assert {"order": 1} == data
    extensions = {"time": "2026-01-31T12:00:00Z", "n": "5", "b": "true"}
    assert {
        "source": "/shop",
        "type": "t",
        "subject": "s",
        "version": 2,
        "extensions": extensions,
    } == told
    assert b"{}" == split_event({"specversion": "1.0", "data_base64": "e30="})[0]
