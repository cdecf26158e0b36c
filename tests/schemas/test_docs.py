"""What the guide shows is what the command answers."""

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from edo_stream.cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "contracts-validation.md"


def test_the_lines_of_the_guide_have_the_answers_of_the_guide() -> None:
    asked, answered = re.findall(r"```jsonl\n(.*?)```", PAGE.read_text(), re.DOTALL)
    result = CliRunner().invoke(app, ["contracts", "compatible", "--jsonl"], input=asked)
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [json.loads(line) for line in answered.splitlines()] == told
