"""``edo schedule next``: questions and answers."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.schedules.probe import answer

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_times_have_the_offset_of_the_zone() -> None:
    question = {
        "id": 7,
        "expr": "30 2 * * *",
        "tz": "America/New_York",
        "from": "2024-03-09T12:00:00Z",
        "count": 2,
    }
    times = ["2024-03-10T03:00:00-04:00", "2024-03-11T02:30:00-04:00"]
    assert {"id": 7, "times": times} == answer(question, NOW)


def test_from_is_exclusive_and_local_without_an_offset() -> None:
    question = {"id": 1, "expr": "0 * * * *", "tz": "Asia/Kolkata", "from": "2026-01-01T06:00:00"}
    assert "2026-01-01T07:00:00+05:30" == answer(question | {"count": 1}, NOW)["times"][0]


def test_what_is_left_out_is_utc_and_now_and_five() -> None:
    assert [f"2026-01-01T0{hour}:00:00+00:00" for hour in range(1, 6)] == answer(
        {"expr": "@hourly"}, NOW
    )["times"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expr": None}, "expr is missing"),
        ({"expr": 5}, "expr is not a text"),
        ({"expr": "0 0 30 2 *"}, "never"),
        ({"tz": "Europe/Berln"}, "did you mean Europe/Berlin?"),
        ({"tz": "../../etc/passwd"}, "not a time zone"),
        ({"tz": "Europe"}, "not a time zone"),
        ({"from": "yesterday"}, "not a time"),
        ({"from": "0001-01-01T00:00:00+10:00"}, "outside the years"),
        ({"from": "1890-01-01T00:00:00Z"}, "outside the years"),
        ({"from": 12}, "not a time"),
        ({"count": 0}, "not a number from 1"),
        ({"count": True}, "not a number from 1"),
        ({"count": 10**9}, "not a number from 1"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(change: dict[str, Any], said: str) -> None:
    found = answer({"id": "x", "expr": "@hourly"} | change, NOW)
    assert "x" == found["id"]
    assert said in found["error"]


_VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=30) | st.floats()


@given(st.dictionaries(st.sampled_from(["id", "expr", "tz", "from", "count"]), _VALUES) | _VALUES)
def test_every_question_is_answered(question: object) -> None:
    found = answer(question, NOW)
    assert ("times" in found) != ("error" in found)


def test_lines_are_answered_one_by_one() -> None:
    lines = b'{"id":1,"expr":"@daily","from":"2026-01-01T00:00:00Z","count":1}\n\n[\xff\n{"id":2}\n'
    lines += b'{"id":"a","expr":"\xff"}\n{"id":NaN,"expr":"@daily"}\n'
    done = subprocess.run(
        [sys.executable, "-m", "edo_stream", "schedule", "next", "--jsonl"],
        input=lines,
        capture_output=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [1, None, 2, "a", None] == [line["id"] for line in found]
    assert ["2026-01-02T00:00:00+00:00"] == found[0]["times"]
