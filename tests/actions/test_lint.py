"""What `edo flow lint` says of actions: every mistake that a start would meet, but for secrets."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edo_stream.cli.main import app

ROOT = Path(__file__).parents[2]
FLOW = """\
name: ship
owner: team-shipping
description: Ships.
on: shop.order.placed
action:
  idempotency_key: command
  replay: safe
"""

Lint = Callable[[str], tuple[int, str]]


@pytest.fixture
def lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lint:
    monkeypatch.setenv("EDO_TOPICS", str(ROOT / "topics"))
    monkeypatch.setenv("EDO_FLOWS", str(tmp_path / "flows"))
    (tmp_path / "flows").mkdir()
    (tmp_path / "flawed_handler.py").write_text("import nowhere_at_all\n")

    def look(text: str) -> tuple[int, str]:
        (tmp_path / "flows" / "ship.yaml").write_text(text)
        result = CliRunner().invoke(app, ["flow", "lint"])
        return result.exit_code, result.stdout.replace(f"{tmp_path}/", "")

    return look


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (
            "  kind: python\n  handler: flawed_handler:f\n",
            "ship.yaml:9: action.handler: .*nowhere_at",
        ),
        (
            "  kind: http\n  method: PUT\n  url: 'http://x/{{ dta.id }}'\n",
            "ship.yaml:10: .*dta is not",
        ),
        (
            "  kind: http\n  url: http://x\n  headers: {A: '{{'}\n",
            "ship.yaml:10: .*is not a template",
        ),
        (
            "  kind: sql\n  connection: env:X\n  statement: SELECT %(n)s\n",
            "ship.yaml:10: .*parameter",
        ),
        ("  kind: program\n  arguments: ['{{ x }}']\n", "ship.yaml:9: .*x is not known"),
        (
            "  kind: record\n  topic: shop.payment.received\n  partitions: 9\n",
            "ship.yaml:10: .*the contract says 4",
        ),
    ],
)
def test_a_mistake_in_an_action_is_told_at_its_line(lint: Lint, action: str, expected: str) -> None:
    code, said = lint(FLOW + action)
    assert code == 1
    assert re.search(expected, said), said


@pytest.mark.parametrize("missing", ["idempotency_key", "replay"])
def test_an_action_without_what_a_repetition_means_is_refused(lint: Lint, missing: str) -> None:
    text = re.sub(f"  {missing}: .*\n", "", FLOW) + "  kind: noop\n"
    code, said = lint(text)
    assert code == 1
    assert f"flows/ship.yaml:5: {missing} is missing in action" in said


def test_a_secret_need_not_be_there(lint: Lint) -> None:
    auth = "  kind: http\n  url: http://x\n  auth: {bearer: 'env:NOT_SET_AT_ALL'}\n"
    assert lint(FLOW + auth)[0] == 0


@pytest.mark.parametrize(("table", "code"), [("shop.inbox", 0), ("a b", 2)])
def test_the_inbox_is_printed(table: str, code: int) -> None:
    result = CliRunner().invoke(app, ["flow", "inbox-table", "--table", table])
    if code == 0:
        assert result.exit_code == 0
        assert "CREATE TABLE IF NOT EXISTS shop.inbox (" in result.stdout
        assert "CREATE INDEX IF NOT EXISTS inbox_done_at ON shop.inbox" in result.stdout
    else:
        assert getattr(result.exception, "code", None) == code


SAGA = """\
name: ship-all
version: 1
owner: team-shipping
description: Ships.
on: shop.order.placed
steps:
  - name: a
    action: {kind: python, handler: "ship_all:nope", idempotency_key: command, replay: forbidden}
    compensate:
      action: {kind: http, url: "http://x/{{ dta }}", idempotency_key: command, replay: forbidden}
  - name: b
    action: {kind: python, handler: "ship_all:there", idempotency_key: command, replay: forbidden}
"""


def test_actions_of_a_saga_are_made_too(tmp_path: Path, lint: Lint) -> None:
    """With the line of each, and with handlers from the folder that the flows are in."""
    (tmp_path / "flows" / "sagas").mkdir()
    (tmp_path / "flows" / "sagas" / "ship-all.yaml").write_text(SAGA)
    (tmp_path / "ship_all.py").write_text("async def there(_, __):\n    pass\n")
    code, said = lint(FLOW.replace("action:\n", "action:\n  kind: noop\n"))
    assert 1 == code
    assert re.search(r"ship-all.yaml:8: action.handler: .*no function 'nope'", said)
    assert re.search(r"ship-all.yaml:10: .*dta is not", said)
    assert "2 findings" in said
