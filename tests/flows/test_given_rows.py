"""`edo flow test --row` as its users meet it: what is printed, where, and with which exit code."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from edo_stream.cli.main import main
from tests.flows.test_lookup import EXAMPLE

ORDER = {"order": "o-1", "customer": "c-1", "country": "NO", "lines": []}
RATE = "shop.tax.rate"
SCHEMA = {
    "type": "object",
    "properties": {"percent": {"type": "integer"}},
    "required": ["percent"],
}


class Told(NamedTuple):
    """What a command has said."""

    code: int
    out: str
    err: str


Edo = Callable[..., Told]


@pytest.fixture
def edo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Edo:
    """Try a flow of the example with an event, in a folder of its own."""
    for folder in ("topics", "flows"):
        shutil.copytree(EXAMPLE / folder, tmp_path / folder)
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "order.json").write_text(json.dumps(ORDER))
    monkeypatch.setenv("EDO_TOPICS", str(tmp_path / "topics"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, flow: str = "tax-order", event: str = "order.json") -> Told:
        words = ["edo", "flow", "test", flow, "--event", event, "--key", "o-1"]
        if flow == "quote-line":
            words += ["--topic", "shop.order.placed"]
        monkeypatch.setattr(sys, "argv", [*words, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Told(code if isinstance(code, int) else 0, out, err)

    return run


def written(name: str, row: Any) -> str:
    """A file with a row; its name."""
    Path(name).write_text(row if isinstance(row, str) else json.dumps(row))
    return name


def with_schema() -> None:
    """Let the contract of the table say what its rows are."""
    contract = Path("topics", RATE, "contract.yaml")
    more = "schema: {format: json, versions: {1: {note: First.}}}\n"
    contract.write_text(contract.read_text() + more)
    Path("topics", RATE, "v1.schema.json").write_text(json.dumps(SCHEMA))


def test_a_row_of_a_global_table_makes_the_command(edo: Edo) -> None:
    told = edo("--json", "--row", f"rate={written('no.json', {'percent': 25})}")
    assert (0, "") == (told.code, told.err)
    said = json.loads(told.out)
    assert ("command", {"order": "o-1", "percent": 25}) == (
        said["result"],
        said["command"]["data"],
    )
    assert "o-1" == said["command"]["key"], "the event's own key, and not the row's"


def test_without_a_row_the_key_that_is_looked_up_is_told(edo: Edo) -> None:
    told = edo()
    assert (0, "") == (told.code, told.err)
    said = " ".join(told.out.split())
    assert "tax-order: the event looks up what is not known here" in said
    assert f"lookup.rate: the row of {RATE} with key NO: give it by --row" in said


def test_a_flow_of_one_lookup_needs_no_name(edo: Edo) -> None:
    told = edo("--json", "--row", written("no.json", {"percent": 25}))
    assert 25 == json.loads(told.out)["command"]["data"]["percent"]


def test_the_name_of_a_file_may_have_an_equals_sign(edo: Edo) -> None:
    Path("day=1").mkdir()
    file = written("day=1/no.json", {"percent": 25})
    told = edo("--json", "--row", f"rate={file}")
    assert 25 == json.loads(told.out)["command"]["data"]["percent"]


@pytest.mark.parametrize(("event", "row"), [("order.json", "-"), ("-", "no.json")])
def test_standard_input_is_the_event_or_a_row(
    edo: Edo, monkeypatch: pytest.MonkeyPatch, event: str, row: str
) -> None:
    written("no.json", {"percent": 25})
    content = json.dumps(ORDER if event == "-" else {"percent": 25}).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    told = edo("--json", "--row", f"rate={row}", event=event)
    assert 25 == json.loads(told.out)["command"]["data"]["percent"]


def test_a_row_that_the_flow_cannot_use_tells_where(edo: Edo) -> None:
    told = edo("--row", f"rate={written('no.json', {'rate': 25})}")
    assert (1, "") == (told.code, told.err)
    said = " ".join(told.out.split())
    assert "tax-order: the event is a dead letter" in said
    assert "input: " in said
    assert "percent" in said


AS_JSON = f"write the data of a row of {RATE}"
MISTAKES = [
    ("rat=no.json", "write NAME=FILE, NAME as in lookup of the flow; did you mean rate?"),
    ("zz=no.json", "write NAME=FILE, NAME as in lookup of the flow; known are rate"),
    ("rate=", "names no file; write rate=FILE, or rate=-"),
    ("", "names no file; write rate=FILE, or rate=-"),
    ("rate=gone.json", "gone.json: No such file or directory"),
    ("rate=topics", "topics: Is a directory"),
    ("rate=text.json", f"not JSON: JSON is malformed: invalid character (byte 0); {AS_JSON}"),
    ("rate=empty.json", f"not JSON: Input data was truncated; {AS_JSON}"),
]


@pytest.mark.parametrize(("row", "why"), MISTAKES)
def test_a_row_that_is_none_is_one_line_that_says_why(edo: Edo, row: str, why: str) -> None:
    written("no.json", {"percent": 25})
    written("text.json", "percent: 25")
    written("empty.json", "")
    assert Told(2, "", f"edo: --row {row}: {why}\n") == edo("--row", row)


def test_a_row_that_breaks_the_contract_of_its_table_is_refused(edo: Edo) -> None:
    with_schema()
    told = edo("--row", f"rate={written('no.json', {'percent': 'much'})}")
    assert (2, "") == (told.code, told.out)
    assert f"edo: --row rate=no.json: no row of {RATE} by its contract: schema: " in told.err
    assert "/percent" in told.err
    assert 0 == edo("--row", f"rate={written('no.json', {'percent': 25})}").code


def test_a_lookup_has_one_row(edo: Edo) -> None:
    written("no.json", {"percent": 25})
    told = edo("--row", "rate=no.json", "--row", "rate=no.json")
    why = "--row rate=no.json: rate is given twice; give each lookup one row"
    assert Told(2, "", f"edo: {why}\n") == told


def test_standard_input_is_read_once(edo: Edo, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO(json.dumps(ORDER).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=content))
    why = "--row rate=-: standard input is read by --event; write the row to a file"
    assert Told(2, "", f"edo: {why}\n") == edo("--row", "rate=-", event="-")


def test_a_flow_that_looks_nothing_up_has_no_rows(edo: Edo) -> None:
    written("no.json", {"percent": 25})
    why = "--row rate=no.json: the flow looks no rows up; leave --row out"
    assert Told(2, "", f"edo: {why}\n") == edo("--row", "rate=no.json", flow="quote-line")
