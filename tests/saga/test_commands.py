"""`edo saga` as far as no broker is asked, and what it reads from changelogs."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edo_stream.cli.main import app
from edo_stream.core.saga.pipeline import INSTANCE
from edo_stream.observe.sagas import InstanceRows, as_document, whole_document
from tests.saga import guide
from tests.saga.world import World, chain, definition, spec


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "ship-ordr"], "no saga ship-ordr: did you mean ship-order?"),
        (["list", "--status", "lost"], "--status lost: write one of running,"),
        (["retry", "ship-order"], "write the key, or --key-base64"),
        (["show", "ship-order", "--key-base64", "~"], "--key-base64 ~:"),
        (["complete", "ship-order", "k", "--step", "a", "--result", "{"], "--result: not JSON"),
        (["complete", "ship-order", "k", "--step", "a", "--result", "NaN"], "--result: not JSON"),
        (["complete", "ship-order", "k", "--step", "a", "--result", "1e999"], "--result: not JSON"),
        (
            ["complete", "ship-order", "k", "--step", "a", "--result", f'"{"x" * 16_384}"'],
            "--result: 16,386 bytes, and of more than 16,384 nothing is kept",
        ),
        (["abandon", "none", "k"], "no saga none"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    guide.write(tmp_path)
    environment = {"EDO_TOPICS": str(tmp_path / "topics"), "EDO_BROKER": "127.0.0.1:1"}
    result = CliRunner().invoke(app, ["saga", *arguments], env=environment)
    assert result.exception is not None
    assert said in str(result.exception)


def test_instances_are_read_from_the_changelog_and_shown_whole() -> None:
    world = World(spec(definition(*chain("a", "b"), kept_ms=1_000)))
    world.send("o1")
    world.send("o2", key="other")
    world.settle()
    (first, _) = world.open
    world.end(first, "done", {"shelf": 3})
    world.settle()
    rows = InstanceRows()
    for key, value in world.changelog.records:
        rows.apply(key, value)
    assert {b"k", b"other"} == {row.key for row in rows.rows.values()}
    row = rows.rows[INSTANCE + b"ship\0k"]
    told: dict[str, Any] = {**as_document(row), **whole_document(row)}
    assert (told["status"], told["event"]) == ("running", {"order": "o1"})
    assert {"shelf": 3} == told["steps"]["a"]["result"]
    assert ("sent", None) == (told["steps"]["b"]["status"], told["steps"]["b"]["error"])

    rows.apply(INSTANCE + b"ship\0k", None)
    assert {b"other"} == {row.key for row in rows.rows.values()}
