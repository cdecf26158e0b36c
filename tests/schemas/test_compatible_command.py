"""`edo contracts compatible` as a user runs it: files, JSON lines, exit codes."""

import json
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from edo_stream.cli.main import app

STRING, INTEGER = {"type": "string"}, {"type": "integer"}


def run(*arguments: str, lines: list[Any] | None = None) -> Result:
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines or [])
    return CliRunner().invoke(app, ["contracts", "compatible", *arguments], input=text)


def write(folder: Path, name: str, schema: Any) -> str:
    file = folder / name
    file.write_text(json.dumps(schema))
    return str(file)


def test_compatible_files_exit_with_0(tmp_path: Path) -> None:
    old = write(tmp_path, "v1.avsc", "int")
    result = run("--mode", "backward", old, write(tmp_path, "v2.avsc", "long"))
    assert (0, "compatible (BACKWARD)\n") == (result.exit_code, result.stdout)


def test_a_break_exits_with_1_and_says_where(tmp_path: Path) -> None:
    versions = [write(tmp_path, f"v{n}.schema.json", s) for n, s in enumerate([INTEGER, STRING])]
    result = run("--mode", "FULL_TRANSITIVE", "--json", *versions, versions[1])
    told = json.loads(result.stdout)
    assert (1, False) == (result.exit_code, told["compatible"])
    assert [("/type", 0, "backward"), ("/type", 0, "forward")] == [
        (item["pointer"], item["against"], item["direction"]) for item in told["breaks"]
    ]


def test_each_line_has_its_answer_and_a_bad_one_an_error() -> None:
    good = {"id": 1, "format": "json", "mode": "BACKWARD", "old": INTEGER, "new": INTEGER}
    result = run(
        "--jsonl",
        lines=[
            good,
            {**good, "id": "x", "new": STRING},
            {**good, "id": 2, "format": "avro", "old": "int", "new": "long", "mode": "FORWARD"},
            {**good, "id": 3, "mode": "SIDEWAYS"},
            {**good, "id": 4, "format": "xml"},
            {"id": 5, "format": "json", "mode": "NONE", "old": {}},
            {**good, "id": 6, "new": {"type": 7}},
            {**good, "id": 7, "format": "avro", "new": ["int", ["x"]]},
            "{",
            "[]",
        ],
    )
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert 0 == result.exit_code
    assert [(1, True), ("x", False), (2, False)] == [(t["id"], t["compatible"]) for t in told[:3]]
    assert [3, 4, 5, 6, 7, None, None] == [t["id"] for t in told[3:]]
    assert all(t["error"] for t in told[3:])
