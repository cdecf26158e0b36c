"""The files that the guides of sources show are files that can be used."""

import re
from pathlib import Path

import pytest

from edo_stream.registry import load
from edo_stream.schedules.folder import load_schedules

DOCS = Path(__file__).parents[2] / "docs"
DUE = """\
name: shop.report.due
owner: team-reports
description: A report is due.
codec: cloudevents
partitions: 1
emit: {topic: shop.report.accepted}
"""


def shown(page: str) -> tuple[str, str]:
    """Path and text of the first file of a page."""
    block = re.search(r"```yaml\n# (\S+)\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert block is not None
    return block[1], block[2]


@pytest.mark.parametrize("page", ["objects.md", "mapping.md"])
def test_contracts_of_the_guides_load(page: str, tmp_path: Path) -> None:
    path, text = shown(page)
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    assert [file.parent.name] == list(load(tmp_path / "topics").contracts)


def test_the_schedule_of_the_guide_loads(tmp_path: Path) -> None:
    path, text = shown("schedules.md")
    folder = tmp_path / "topics" / "shop.report.due"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(DUE, encoding="utf-8")
    file = tmp_path / path
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    (file.parent / "holidays.txt").write_text("2026-05-01\n", encoding="utf-8")
    schedules = load_schedules(file.parent, load(tmp_path / "topics").entries)
    assert [file.stem] == list(schedules)
