"""What `edo flow explain` says of records, and why a pattern does not match."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edo_stream.cli.environment import Environment
from edo_stream.cli.flow_explain import explained
from edo_stream.core.patterns import Reason, parse_pattern, reason_of
from edo_stream.core.record import StoredRecord

ROOT = Path(__file__).parents[2]
TOPIC = "shop.order.placed"


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        ({"a": [1]}, {"a": 1}, None),
        ({"a": [1]}, {}, Reason("a", None)),
        ({"a": [1], "b": [2]}, {"a": 1, "b": 3}, Reason("b", [3])),
        ({"a": [1]}, {"a": [2, 3]}, Reason("a", [2, 3])),
        ({"a": [{"exists": False}]}, {"a": 1}, Reason("a", [1])),
        ({"a": {"x": [1], "y": [2]}}, {"a": [{"x": 1}, {"y": 2}]}, Reason("a.y", None, True)),
        # Of the alternatives, the one that gets farthest.
        ({"$or": [{"a": [9]}, {"a": [1], "b": [9]}]}, {"a": 1, "b": 2}, Reason("b", [2])),
    ],
)
def test_the_first_field_that_is_not_as_wanted(
    pattern: Any, event: Any, expected: Reason | None
) -> None:
    assert expected == reason_of(parse_pattern(pattern), event)


def record(offset: int, value: bytes, key: bytes = b"k", **attributes: str) -> StoredRecord:
    said = {"specversion": "1.0", "id": f"e-{offset}", "source": "/shop", "type": TOPIC,
            "sequence": str(offset), **attributes}  # fmt: skip
    headers = tuple((f"ce_{name}", text.encode()) for name, text in said.items())
    return StoredRecord(TOPIC, 1, offset, 1_700_000_000_000, key, value,
                        (*headers, ("content-type", b"application/json")))  # fmt: skip


def test_each_record_is_told_with_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dear.yaml").write_text(
        "name: dear\nowner: team\ndescription: Dear.\n"
        f"on: {{topic: {TOPIC}, where: data.total > 100}}\n"
        "action: {kind: noop, idempotency_key: command, replay: safe}\n"
    )
    monkeypatch.setenv("EDO_TOPICS", str(ROOT / "topics"))
    monkeypatch.setenv("EDO_FLOWS", str(tmp_path))
    environment = Environment.read()
    totals = [120, 5, None]
    records = [
        record(n, msgspec.json.encode({"total": total} if total else {}), b"%d" % n)
        for n, total in enumerate(totals)
    ]
    records.append(StoredRecord(TOPIC, 1, 3, 0, b"3", b"{}", ()))
    told = list(explained(environment, "dear", records, None))
    assert ["command", "no-match", "dead-letter", "no-event"] == [one["result"] for one in told]
    assert told[0]["command"]
    assert "where: data.total > 100 is false" == told[1]["why"]
    assert told[2]["why"].startswith("undecided: where: the event has no total")
    assert [f"{TOPIC}/1/1"] == [
        one["place"] for one in explained(environment, "dear", records, b"1")
    ]


def test_of_an_input_it_tells_which_it_is_and_of_which_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dear.yaml").write_text(
        "name: dear\nowner: team\ndescription: Dear.\nwhen:\n  within: 1h\n  all:\n"
        f"    dear: {{topic: {TOPIC}, key: /id, where: data.total > 100}}\n"
        f"    cheap: {{topic: {TOPIC}, key: /id, where: data.total < 50}}\n"
        "action: {kind: noop, idempotency_key: command, replay: safe}\n"
    )
    monkeypatch.setenv("EDO_TOPICS", str(ROOT / "topics"))
    monkeypatch.setenv("EDO_FLOWS", str(tmp_path))
    totals = [120, 5, 70]
    records = [
        record(n, b'{"id":"o-%d","total":%d}' % (n, total)) for n, total in enumerate(totals)
    ]
    told = list(explained(Environment.read(), "dear", records, None))
    assert ["input", "input", "no-match"] == [one["result"] for one in told]
    assert [("dear", "o-0"), ("cheap", "o-1")] == [
        (one["input"], one["wait"]["key"]) for one in told if "input" in one
    ]
