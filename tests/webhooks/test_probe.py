"""`edo webhook verify`: lines in, answers out, and a single request."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edo_stream.cli.environment import CommandError
from edo_stream.cli.main import app
from edo_stream.webhooks.options import Options
from edo_stream.webhooks.probe import answer, time_ms
from tests.webhooks.ask import CERTIFICATE_URL, NOW_MS, certificate, sns_message
from tests.webhooks.test_signatures import BODY, GITHUB_CODE, GITHUB_SECRET, HEADERS, SECRET

RUNNER = CliRunner()
LINE = {
    "id": "a",
    "secrets": [SECRET],
    "headers": HEADERS,
    "body": BODY.decode(),
    "now": 1_614_265_330,
}


def no_fetch(url: str) -> str:
    raise TimeoutError(url)


def judged(line: Any, scheme: str = "standard-webhooks") -> dict[str, Any]:
    text = line if isinstance(line, bytes) else json.dumps(line).encode()
    return answer(text, scheme, Options(), NOW_MS, no_fetch)


def test_lines_are_answered_in_order_and_bad_ones_with_an_error() -> None:
    lines = [json.dumps(LINE), "{", json.dumps(LINE | {"id": "b", "body": "{}"}), "", "[]"]
    result = RUNNER.invoke(
        app, ["webhook", "verify", "standard-webhooks", "--jsonl"], "\n".join(lines)
    )
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert ["a", None, "b", None] == [one["id"] for one in answers]
    assert [True, None, False, None] == [one.get("accepted") for one in answers]
    assert answers[0]["event_id"] == HEADERS["webhook-id"]
    assert answers[2]["cause"] == "signature-mismatch"
    assert all("error" in answers[number] for number in (1, 3))


@pytest.mark.parametrize(
    "change",
    [
        {"body": {"base64": "eyJ0ZXN0IjogMjQzMjIzMjMxNH0="}},
        {"secrets": SECRET},
        {"headers": [[name, value] for name, value in HEADERS.items()]},
        {"headers": HEADERS | {"webhook-timestamp": 1_614_265_330}},
        {"now": 1_614_265_330_000},
        {"now": "2021-02-25T15:02:10Z"},
        {"options": {"window_ms": 1_000}},
        {"window_ms": 1_000},
    ],
)
def test_a_line_may_say_it_in_other_words(change: dict[str, Any]) -> None:
    assert judged(LINE | change)["accepted"] is True


@pytest.mark.parametrize(
    "change",
    [
        {"body": 5},
        {"body": {"base64": "§"}},
        {"secrets": [5]},
        {"headers": "x"},
        {"headers": {"a": None}},
        {"headers": [["a"]]},
        {"now": "soon"},
        {"now": True},
        {"now": -1},
        {"now": 1e300},
        {"options": {"prefix": "x"}},
        {"options": {"colour": "x"}},
        {"query": 5},
        {"documents": {"a": 5}},
        {"scheme": "nothing"},
        {"scheme": []},
        {"headers": [[1, 5]]},
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_with_its_id(change: dict[str, Any]) -> None:
    told = judged(LINE | change)
    assert ("a", {"id", "error"}) == (told["id"], {*told})


def test_a_line_that_is_no_json_is_answered_with_its_id_where_that_is_in_front() -> None:
    told = judged(b'{"id": "a", "secrets": ["s"')
    assert ("a", {"id", "error"}) == (told["id"], {*told})


def test_an_id_that_cannot_be_repeated_is_an_error_of_its_line() -> None:
    told = judged(b'{"id": ' + b"[" * 300 + b"]" * 300 + b"}")
    assert ({"id", "error"}, None) == ({*told}, told["id"])


def test_a_line_may_repeat_a_header() -> None:
    headers = HEADERS | {"webhook-signature": [HEADERS["webhook-signature"]] * 2}
    assert judged(LINE | {"headers": headers})["cause"] == "header-repeated"


def test_a_certificate_is_fetched_once_it_is_known_whose_it_is() -> None:
    line = json.dumps({"headers": {}, "body": json.dumps(sns_message())}).encode()
    assert answer(line, "sns", Options(), NOW_MS, no_fetch)["cause"] == "document-unavailable"
    found = answer(line, "sns", Options(), NOW_MS, {CERTIFICATE_URL: certificate()}.__getitem__)
    assert found["accepted"] is True
    with_it = json.loads(line) | {"documents": {CERTIFICATE_URL: certificate()}}
    assert judged(with_it, "sns")["accepted"] is True


@pytest.mark.parametrize(("text", "expected"), [("1", 1_000), ("1700000000123", 1_700_000_000_123)])
def test_times_are_seconds_until_they_are_too_many(text: str, expected: int) -> None:
    assert expected == time_ms(text) == time_ms(int(text))


def test_a_single_request_is_judged(tmp_path: Path) -> None:
    body, secret = tmp_path / "body", tmp_path / "secret"
    body.write_bytes(b"Hello, World!")
    secret.write_text(GITHUB_SECRET + "\n")
    command = ["webhook", "verify", "github", "--secret", f"file:{secret}", "--body", str(body)]
    header = f"X-Hub-Signature-256: {GITHUB_CODE}"
    assert RUNNER.invoke(app, [*command, "-H", header]).exit_code == 0
    result = RUNNER.invoke(app, [*command, "--json"])
    assert (1, "signature-missing") == (result.exit_code, json.loads(result.stdout)["cause"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["githb"],
        ["github", "-o", "prefix=x"],
        ["github", "-o", "prefix"],
        ["hmac", "-o", "algorithm=md5"],
        ["github", "--now", "soon"],
        ["github", "--secret", "env:EDO_NO_SUCH_SECRET"],
        ["github", "-H", "no header"],
    ],
)
def test_wrong_usage_is_said(arguments: list[str]) -> None:
    result = RUNNER.invoke(app, ["webhook", "verify", *arguments], "x")
    assert isinstance(result.exception, CommandError)
    assert result.exception.code == 2
