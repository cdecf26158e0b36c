"""The verbs of `edo contracts`, as a user types them: what they print, and their exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edo_stream.cli.environment import CommandError
from edo_stream.cli.main import app
from tests.catalog.shelf import CLEAN, ORDER_V1, WITH_SCHEMA, Shelf, order
from tests.catalog.test_difference import git

Run = Callable[..., Result]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "topics")


@pytest.fixture
def run(shelf: Shelf) -> Run:
    def run(*arguments: str, given: str | None = None) -> Result:
        environment = {"EDO_TOPICS": str(shelf.root)}
        return CliRunner().invoke(app, [*arguments], env=environment, input=given)

    return run


def refused(result: Result) -> tuple[str, int]:
    """What `edo` says in one line, and its exit code."""
    assert isinstance(result.exception, CommandError), result.output
    return str(result.exception), result.exception.code


@pytest.mark.parametrize("noun", ["topics", "contracts"])
def test_every_verb_has_both_names(run: Run, noun: str) -> None:
    shown = run(noun, "--help").output

    for verb in ("init", "new", "lint", "diff", "validate", "owners", "show", "compatible"):
        assert f" {verb} " in shown


def test_lint_without_findings_ends_with_0(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN)

    result = run("contracts", "lint")
    assert (0, "1 topic, no findings\n") == (result.exit_code, result.output)


def test_lint_names_file_and_line_and_ends_with_1(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN | {"partitons": 4})

    result = run("topics", "lint")
    file = shelf.root / "shop.order.placed" / "contract.yaml"
    assert 1 == result.exit_code
    assert f"{file}:8: partitons is not a key: did you mean partitions?" in result.output


def test_lint_as_json(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN | {"related": ["shop.order.paid"]})

    found = json.loads(run("contracts", "lint", "--json").output)
    assert (1, [9]) == (found["topics"], [one["line"] for one in found["findings"]])


def test_lint_of_one_topic_leaves_the_findings_of_others_out(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN)
    shelf.add(CLEAN | {"name": "shop.order.paid", "related": ["shop.no.one"]})

    assert 0 == run("contracts", "lint", "shop.order.placed").exit_code
    assert 1 == run("contracts", "lint", "shop.order.paid").exit_code


def test_lint_of_a_folder_that_is_not_there_is_wrong_usage(run: Run) -> None:
    message, code = refused(run("contracts", "lint"))

    assert 2 == code
    assert "no such folder" in message


def test_lint_against_a_commit_refuses_an_edited_schema(
    run: Run, shelf: Shelf, tmp_path: Path
) -> None:
    shelf.add(WITH_SCHEMA, v1_schema_json=ORDER_V1, examples__a_json=order())
    git(tmp_path, "init", "-q", "-b", "trunk")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    shelf.put("shop.order.placed", v1_schema_json={**ORDER_V1, "title": "x"})

    assert 0 == run("contracts", "lint").exit_code
    result = run("contracts", "lint", "--against", "trunk")
    assert 1 == result.exit_code
    assert "differs from trunk" in result.output
    assert 1 == run("contracts", "diff", "--against", "trunk").exit_code
    assert 2 == refused(run("contracts", "diff"))[1]


def test_example_that_the_codec_does_not_read_is_a_finding(run: Run, shelf: Shelf) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/shop",
        "type": "shop.order.placed",
        "time": "yesterday",
    }
    shelf.add(CLEAN, examples__a_json=event)

    assert "is no event by its contract: ce_time" in run("contracts", "lint").output


def test_validate_says_what_is_wrong_and_where(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(WITH_SCHEMA, v1_schema_json=ORDER_V1)
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(order()))
    bad.write_text(json.dumps(order(total=1)))
    topic = ("--topic", "shop.order.placed")

    assert 0 == run("contracts", "validate", *topic, str(good)).exit_code
    result = run("contracts", "validate", *topic, str(good), str(bad), "--json")
    found = json.loads(result.output)
    assert (1, 1, 1) == (result.exit_code, found["valid"], found["invalid"])
    assert ["/total"] == [fault["pointer"] for fault in found["results"][1]["faults"]]


def cloudevent(**changes: Any) -> str:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/shop",
        "type": "shop.order.placed",
        "data": order(),
    }
    return json.dumps(event | changes)


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (cloudevent(), 0, "shop.order.placed v1: valid"),
        (f"{cloudevent()}\n{cloudevent(data=order(total=2))}\n", 1, "1 valid, 1 invalid"),
        (f"[{cloudevent()},{cloudevent()}]", 0, "2 valid"),
        (cloudevent(data={}), 1, "/data: "),
        (cloudevent(dataschemaversion="2"), 1, "there is no version 2: known are 1"),
        (cloudevent(id=""), 1, "/id: "),
        (cloudevent(time="yesterday"), 1, "ce_time is not an RFC 3339 time"),
        (cloudevent(data_base64="e30=", data=None), 1, "both data and data_base64"),
        (cloudevent(type="shop.order.plced"), 1, "did you mean shop.order.placed?"),
        (cloudevent(expirytime="2020-01-01T00:00:00Z"), 1, "expired"),
        (json.dumps(order()), 1, "say --topic"),
        ("{", 1, "not JSON"),
        (cloudevent(note=float("nan")), 1, "not JSON"),
        (cloudevent().replace('"1"', "1e999"), 1, "not JSON"),
        (cloudevent(note="\ud800"), 1, "not JSON"),
    ],
)
def test_validate_reads_standard_input(
    run: Run, shelf: Shelf, given: str, code: int, words: str
) -> None:
    shelf.add(WITH_SCHEMA, v1_schema_json=ORDER_V1)

    result = run("contracts", "validate", "-", given=given)
    assert (code, True) == (result.exit_code, words in result.output), result.output


def test_validate_refuses_who_is_no_producer(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN | {"producers": [{"name": "checkout", "source": "/checkout"}]})

    assert "none of the producers" in run("contracts", "validate", "-", given=cloudevent()).output


def test_file_that_is_not_there_is_wrong_usage(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN)

    assert 2 == refused(run("contracts", "validate", "none.json"))[1]


def test_show_says_what_the_defaults_are(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN)

    found = json.loads(run("contracts", "show", "shop.order.placed", "--json").output)
    assert "7d" == found["retention"]
    assert "edo.dead-letters.shop.order.placed" == found["dead_letters"]["topic"]
    assert "retention" in run("contracts", "show", "shop.order.placed").output
    assert "shop.order.placed" in run("contracts", "show").output
    assert 2 == refused(run("contracts", "show", "shop.order.plced"))[1]


def test_owners_are_listed_with_what_is_theirs(run: Run, shelf: Shelf) -> None:
    consumers = [{"name": "billing", "owner": "team-billing"}]
    shelf.add(CLEAN | {"consumers": consumers, "dead_letters": {"owner": "team-ops"}})

    found = {one["owner"]: one for one in json.loads(run("contracts", "owners", "--json").output)}
    assert ["team-billing", "team-ops", "team-orders"] == sorted(found)
    assert ["shop.order.placed"] == found["team-ops"]["dead_letters"]
    assert "team-ops" in run("contracts", "owners").output


@pytest.mark.parametrize("format", ["json", "avro"])
@pytest.mark.parametrize("topic", ["shop.order.placed", "shop.order-line.ship", "a.1.b-c_d"])
def test_new_topic_passes_the_lint(run: Run, shelf: Shelf, topic: str, format: str) -> None:
    assert 0 == run("contracts", "new", topic, "--format", format).exit_code

    linted = run("contracts", "lint")
    assert (0, "1 topic, no findings\n") == (linted.exit_code, linted.output)
    example = shelf.root / topic / "examples" / "v1.first.json"
    assert 0 == run("contracts", "validate", str(example)).exit_code


@pytest.mark.parametrize("topic", ["placed", "Shop.order.placed", "edo.a.b"])
def test_new_topic_needs_a_good_name(run: Run, topic: str) -> None:
    assert 2 == refused(run("contracts", "new", topic))[1]


def test_new_topic_overwrites_nothing(run: Run, shelf: Shelf) -> None:
    shelf.add(CLEAN)

    assert "is there already" in refused(run("contracts", "new", "shop.order.placed"))[0]


def test_new_project_passes_the_lint(run: Run, tmp_path: Path) -> None:
    project = tmp_path / "my project"
    assert 0 == run("init", str(project)).exit_code

    result = run("contracts", "lint", str(project / "topics"))
    assert (0, "2 topics, no findings\n") == (result.exit_code, result.output)
    assert "EDO_SERVICE=my-project\n" in (project / "edo.env").read_text()


def test_project_is_written_into_an_empty_folder_only(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    assert "is not empty, it has notes.txt" in refused(run("init", str(tmp_path)))[0]


def test_project_may_be_in_a_folder_that_is_a_repository(run: Run, tmp_path: Path) -> None:
    (tmp_path / "new" / ".git").mkdir(parents=True)

    assert 0 == run("contracts", "init", str(tmp_path / "new")).exit_code


def test_topics_that_are_not_at_the_broker_are_found_missing(
    run: Run, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Empty:
        def __init__(self, access: object) -> None:
            pass

        async def __aenter__(self) -> "Empty":
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            pass

        async def seen(self, topics: object) -> dict[str, Any]:
            return {}

    monkeypatch.setattr("edo_stream.cli.contracts_live.Broker", Empty)
    shelf.add(CLEAN)

    result = run("contracts", "test", "--json")
    [found] = json.loads(result.output)
    assert (1, "shop.order.placed", False) == (result.exit_code, found["topic"], found["there"])
