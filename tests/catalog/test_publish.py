"""`edo events publish` before anything is sent: what is wrong with which document."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edo_stream.cli.environment import CommandError
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
