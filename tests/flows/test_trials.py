"""`edo flow test` of events that are no command: what they cancel, until when they wait."""

import json
from pathlib import Path

import pytest
from typer.testing import Result

from tests.flows.test_commands import EVENT, NOOP, Run, project, run

__all__ = ["project", "run"]

TOPIC, CANCELLED = "shop.order.placed", "shop.order.cancelled"
HEAD = "name: ship\nowner: team\ndescription: Ships.\n"


@pytest.fixture
def place(project: Path) -> Path:
    folder = project / "topics" / CANCELLED
    folder.mkdir()
    (folder / "contract.yaml").write_text(
        f"name: {CANCELLED}\nowner: team\ndescription: Cancelled.\ncodec: cloudevents\n"
        "partitions: 2\nemit: {topic: shop.order.cancelled.out}\n"
    )
    (project / "flows").mkdir(exist_ok=True)
    return project


def flow(place: Path, rules: str) -> None:
    (place / "flows" / "ship.yaml").write_text(f"{HEAD}{rules}action: {NOOP}\n")


def tried(place: Path, run: Run, event: object, *more: str) -> Result:
    file = place / "event.json"
    file.write_text(json.dumps(event))
    return run("test", "ship", "--event", str(file), *more)


def cancel_event(**data: str) -> dict[str, object]:
    return {**EVENT, "type": CANCELLED, "data": data}


def test_it_says_which_commands_an_event_cancels(place: Path, run: Run) -> None:
    flow(
        place,
        f"on: {TOPIC}\nkey: /order/id\ncancel_on:\n"
        f"  - {{topic: {CANCELLED}, where: data.kind == 'all'}}\n"
        f"  - {{topic: {CANCELLED}, by: {{cancelling: /id, cancelled: /amount}}}}\n",
    )
    result = tried(place, run, cancel_event(id="7", kind="one"), "--json")
    told = json.loads(result.output)
    assert (0, "cancels") == (result.exit_code, told["result"])
    assert [{"by": "/amount", "value": "7"}] == told["cancels"]
    assert [False, True] == [one["isMet"] for one in told["conditions"]]
    text = tried(place, run, cancel_event(id="7", kind="one")).output
    assert "is no command, and cancels others" in text
    assert "cancels what has not ended of its commands whose /amount is 7" in text


def test_it_says_why_an_event_cancels_nothing(place: Path, run: Run) -> None:
    flow(
        place,
        f"on: {TOPIC}\nkey: /order/id\ncancel_on: {{topic: {CANCELLED}, where: data.a == 'b'}}\n",
    )
    result = tried(place, run, cancel_event(a="c"), "--json")
    told = json.loads(result.output)
    assert (1, "no-match") == (result.exit_code, told["result"])
    assert "data.a == 'b'" in told["why"]
    result = tried(place, run, cancel_event(a="b"), "--json")
    told = json.loads(result.output)
    assert (1, "dead-letter") == (result.exit_code, told["result"])
    assert told["why"].startswith("no-key")


def test_an_event_that_triggers_and_cancels_says_both(place: Path, run: Run) -> None:
    flow(place, f"on: {TOPIC}\nkey: /order/id\ncancel_on: {TOPIC}\n")
    told = json.loads(tried(place, run, EVENT, "--json").output)
    assert "command" == told["result"]
    assert [{"by": "key", "value": "o-1"}] == told["cancels"]


COUNT = f"when: {{count: {{order: {{topic: {TOPIC}, key: /order/id}}}}, expect: 2, within: 1h}}\n"


@pytest.mark.parametrize(
    ("rules", "until"),
    [
        (f"on: {TOPIC}\nkey: /order/id\ndebounce: {{quiet: 30s, max: 5m}}\n", "22:13:50.000Z"),
        (f"on: {TOPIC}\nkey: /order/id\nbatch: {{count: 3, after: 10s}}\n", "22:13:30.000Z"),
        (COUNT, "23:13:20.000Z"),
    ],
)
def test_it_says_until_when_an_event_waits(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, rules: str, until: str
) -> None:
    monkeypatch.setattr("edo_stream.outgoing.now_ms", lambda: 1_700_000_000_000)
    flow(place, rules)
    told = json.loads(tried(place, run, EVENT, "--json").output)
    assert "input" == told["result"]
    assert {"key": "o-1", "until": f"2023-11-14T{until}"} == told["wait"]


def test_what_is_complete_at_once_waits_for_nothing(place: Path, run: Run) -> None:
    flow(place, f"when: {{any: {{order: {{topic: {TOPIC}, key: /order/id}}}}, within: 1h}}\n")
    told = json.loads(tried(place, run, EVENT, "--json").output)
    assert {"key": "o-1", "until": None} == told["wait"]


@pytest.mark.parametrize("name", ["manifest", "fallback"])
def test_a_manifest_and_a_fallback_are_inputs_too(place: Path, run: Run, name: str) -> None:
    more = f"{{topic: {CANCELLED}, key: /id{', from: /files' if name == 'manifest' else ''}}}"
    expect = ", expect: 2" if name == "fallback" else ""
    count = f"count: {{order: {{topic: {TOPIC}, key: /order/id}}}}{expect}"
    flow(place, f"when: {{{count}, {name}: {more}, within: 1h}}\n")
    event = {**EVENT, "type": CANCELLED, "data": {"id": "o-7", "files": 3}}
    result = tried(place, run, event, "--json")
    told = json.loads(result.output)
    assert (0, "input", "o-7") == (result.exit_code, told["result"], told["wait"]["key"])
    assert [{"input": name, "isMet": True, "why": None}] == told["conditions"]
