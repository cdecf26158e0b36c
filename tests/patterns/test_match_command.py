"""`edo pattern match`, as another program asks it."""

import json
from typing import Any

from typer.testing import CliRunner

from edo_stream.cli.main import app


def answers(lines: str) -> list[Any]:
    result = CliRunner().invoke(app, ["pattern", "match", "--jsonl"], input=lines)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_number_beyond_all_others_spoils_its_own_line_only() -> None:
    cases = [
        '{"id":1,"pattern":{"a":[1]},"event":{"a":1e99999999999999999999}}',
        '{"id":2,"pattern":{"a":[0]},"event":{"a":1e-99999999999999999999}}',
        '{"id":3,"pattern":{"a":[1]},"event":{"a":1}}',
    ]
    spoilt, *good = answers("\n".join(cases))
    assert "out of range" in spoilt["error"]
    assert good == [{"id": 2, "match": True}, {"id": 3, "match": True}]


def test_an_answer_has_the_id_of_its_case_and_says_what_is_no_json() -> None:
    asked = [
        '{"id":1.50,"pattern":{"a":[1]},"event":{"a":1}}',
        '{"id":"x","pattern":"{","event":1}',
    ]
    right, wrong = answers("\n".join(asked))
    assert right == {"id": 1.5, "match": True}
    assert wrong["id"] == "x"
    assert wrong["error"].startswith("the pattern is not JSON: ")
