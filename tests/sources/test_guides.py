"""What the guides show is what there is."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edo_stream.cli.main import app
from edo_stream.outbox import table_sql
from edo_stream.registry import load

ROOT = Path(__file__).parents[2]
GUIDES = ("add-a-source.md", "cdc.md", "outbox.md")


def blocks(guide: str, language: str) -> list[str]:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_codec_of_the_guide_is_the_one_of_the_package() -> None:
    assert (ROOT / "edo_stream/sources/maxwell.py").read_text() in blocks(
        "add-a-source.md", "python"
    )


def test_table_of_the_guide_is_the_one_that_is_printed() -> None:
    assert [table_sql()] == blocks("outbox.md", "sql")


CONTRACTS = [
    pytest.param(text, id=f"{guide}-{number}")
    for guide in GUIDES
    for number, text in enumerate(blocks(guide, "yaml"))
]


@pytest.mark.parametrize("text", CONTRACTS)
def test_contract_of_a_guide_is_one(text: str, tmp_path: Path) -> None:
    for each in text.split("---\n"):
        name = re.search(r"^name: (\S+)", each, re.MULTILINE)
        assert name is not None
        folder = tmp_path / name[1]
        folder.mkdir()
        (folder / "contract.yaml").write_text(each, encoding="utf-8")

    assert load(tmp_path).topics


PROBES = [
    pytest.param(*found, id=f"{guide}-{number}")
    for guide in GUIDES
    for number, found in enumerate(
        re.findall(
            r"\$ echo '(.*?)' \|\s+edo source decode (\w+)",
            (ROOT / "docs" / guide).read_text(encoding="utf-8"),
            re.DOTALL,
        )
    )
]


@pytest.mark.parametrize(("record", "kind"), PROBES)
def test_probe_of_a_guide_shows_an_event(record: str, kind: str) -> None:
    result = CliRunner().invoke(app, ["source", "decode", kind], input=record)

    assert 0 == result.exit_code, result.output
    assert 1 == len(json.loads(result.stdout)["events"])
