"""The history checker: a history for each anomaly, and the published ones if at hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edo_stream.observe.history import Operation, check

HERE = Path(__file__)
SUITES = Path(os.environ.get("EDO_CONFORMANCE") or HERE.parents[3] / "shared" / "conformance")
PUBLISHED = SUITES / "history_checker" / "jepsen_kafka_histories.json"
CYCLES = {"G0", "G1c"}


def published() -> list[Any]:
    if not PUBLISHED.exists():
        reason = f"no published histories at {PUBLISHED}: set EDO_CONFORMANCE to the suites"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason))]
    cases = json.loads(PUBLISHED.read_text())["cases"]
    return [pytest.param(case, id=case["id"]) for case in cases]


def canonical(details: Any) -> list[str]:
    if isinstance(details, dict):  # "unseen" is written as key → values
        details = [{"key": key, "values": values} for key, values in details.items()]
    return sorted(json.dumps(detail, sort_keys=True) for detail in details)


@pytest.mark.parametrize("case", published())
def test_a_published_history_has_its_anomalies(case: dict[str, Any]) -> None:
    found = check(case["history"])
    expected = {name: one for name, one in case["expect_errors"].items() if name not in CYCLES}
    assert {name: canonical(found.get(name, [])) for name in expected} == {
        name: canonical(details) for name, details in expected.items()
    }
    assert not set(case.get("expect_absent", ())) & set(found)


def history(*completed: tuple[int, str, str, list[Any]]) -> list[Operation]:
    """Operations ``(process, type, f, value)`` by their completion, indices from 0."""
    return [
        {"index": index, "process": process, "type": kind, "f": what, "value": value}
        for index, (process, kind, what, value) in enumerate(completed)
    ]


def sent(
    *places: tuple[int, str], by: int = 0, kind: str = "ok"
) -> tuple[int, str, str, list[Any]]:
    return by, kind, "send", [["send", "k", [offset, value]] for offset, value in places]


def polled(
    *places: tuple[int, str], by: int = 1, kind: str = "ok"
) -> tuple[int, str, str, list[Any]]:
    return by, kind, "poll", [["poll", {"k": [[offset, value] for offset, value in places]}]]


A, B, C = (0, "a"), (1, "b"), (2, "c")


@pytest.mark.parametrize(
    ("anomaly", "operations"),
    [
        ("duplicate", history(sent(A), polled(A, (1, "a")))),
        ("inconsistent-offsets", history(sent(A), sent((0, "b"), by=2))),
        ("lost-write", history(sent(A, B), polled(B))),
        ("G1a", history(sent(A, kind="fail"), polled(A))),
        (
            "precommitted-read",
            history((0, "ok", "txn", [["send", "k", [0, "a"]], ["poll", {"k": [[0, "a"]]}]])),
        ),
        ("unseen", history(sent(A, B), polled(A))),
        ("poll-skip", history(sent(A, B, C), polled(A), polled(C))),
        ("nonmonotonic-poll", history(sent(A, B), polled(A, B), polled(B))),
        ("int-poll-skip", history(sent(A, B, C), polled(A, C))),
        ("int-nonmonotonic-poll", history(sent(A, B), polled(B, A))),
        ("nonmonotonic-send", history(sent(B), sent(A))),
        ("int-send-skip", history(sent(B, by=2), sent(A, C))),
        ("int-nonmonotonic-send", history(sent(B, A))),
        ("no-operations", history((0, "ok", "assign", ["k"]))),
    ],
)
def test_a_history_with_an_anomaly_is_found_out(anomaly: str, operations: list[Operation]) -> None:
    assert anomaly in check(operations)


def test_a_faultless_history_has_no_anomaly() -> None:
    assert check(history(sent(A), sent(B, C), polled(A, B), polled(C))) == {}


def test_an_offset_of_a_transaction_marker_is_no_skip() -> None:
    assert check(history(sent(A), sent((5, "b")), polled(A), polled((5, "b")))) == {}


def test_an_operation_that_never_completed_proves_nothing() -> None:
    pending: Operation = {
        "index": 9,
        "process": 3,
        "type": "invoke",
        "f": "send",
        "value": [["send", "k", "z"]],
    }
    assert check([*history(sent(A), polled(A)), pending]) == {}


def test_an_aborted_poll_rewinds_its_process() -> None:
    assert check(history(sent(A, B), polled(A), polled(B, kind="fail"), polled(B))) == {}


def test_a_dropped_subscription_forgets_the_position() -> None:
    subscribed = (1, "ok", "subscribe", ["other"])
    found = check(history(sent(A, B, C), polled(A), subscribed, polled(C), polled(B, by=2)))
    assert found == {}
