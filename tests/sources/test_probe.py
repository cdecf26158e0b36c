"""``edo source decode``: one answer for each line, whatever it is."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from edo_stream.cli.main import app
from edo_stream.cli.source import CommandError
from edo_stream.core.contract import Codec
from edo_stream.sources.kinds import KINDS, reader
from edo_stream.sources.probe import answer, probe_contract
from tests.sources.cdc import envelope

CLOUDEVENT = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/shop", "ce_type": "a.b"}


def asked(kind: str, *records: Any) -> list[dict[str, Any]]:
    lines = "".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in records)
    result = CliRunner().invoke(app, ["source", "decode", kind, "--jsonl"], input=lines)
    assert 0 == result.exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_codec_has_its_kind_and_every_kind_its_codec() -> None:
    assert {codec.value for codec in Codec} == KINDS.keys()


def test_each_line_has_its_answer_in_order() -> None:
    change = {"id": "a", "topic": "t", "key": '{"id":1}', "value": json.dumps(envelope())}
    answers = asked(
        "debezium",
        change,
        {"id": 2, "value": None},
        {"id": 3, "value": "{"},
        "\n",
        "x\n",
        '{"id": 4,\n',
    )

    assert ["a", 2, 3, None, 4] == [one["id"] for one in answers]
    assert "shop.public.customers.updated" == answers[0]["events"][0]["type"]
    assert {"id": 2, "events": [], "ignored": "tombstone"} == answers[1]
    assert "undecodable" == answers[2]["violation"]["reason"]
    assert "not JSON" in answers[3]["error"]


def test_event_is_shown_in_cloudevents_json_format() -> None:
    headers = CLOUDEVENT | {
        "content-type": "application/json",
        "ce_traceparent": "00-a",
        "own": "x",
    }
    found = asked(
        "cloudevents", {"id": 1, "headers": headers, "key": "k", "value": '{ "n": 1.0e1 }'}
    )

    expected = {
        "specversion": "1.0",
        "id": "1",
        "source": "/shop",
        "type": "a.b",
        "datacontenttype": "application/json",
        "traceparent": "00-a",
        "data": {"n": 10.0},
        "key": "k",
        "headers": [["own", "x"]],
    }
    assert [{"id": 1, "events": [expected]}] == found


def test_data_is_shown_digit_for_digit_on_one_line() -> None:
    value = '{\n "n": 1.10e2,\n "big": 123456789012345678901234567890\n}'
    line = json.dumps({"headers": list(CLOUDEVENT.items()), "value": value}).encode()

    read = reader(KINDS["cloudevents"], probe_contract("cloudevents"))
    assert b'"data":{"n":1.10e2,"big":123456789012345678901234567890}' in answer(line, read)


@pytest.mark.parametrize("as_pairs", [False, True])
def test_bytes_are_text_or_base64_both_ways(as_pairs: bool) -> None:
    raw = {"base64": base64.b64encode(b"\xff\x00").decode()}
    headers: Any = CLOUDEVENT | {"own": raw, "none": None}
    if as_pairs:
        headers = [*headers.items(), ("own", "again")]

    (found,) = asked("cloudevents", {"headers": headers, "key": raw, "value": raw})[0]["events"]

    assert raw == found["key"]
    assert raw["base64"] == found["data_base64"]
    assert [["own", raw], ["none", None]] == found["headers"][:2]


def test_text_that_cannot_be_utf8_reaches_the_codec_as_bytes_that_are_none() -> None:
    found = asked("debezium", '{"id":1,"value":"{\\"op\\":\\"\\ud800\\"}"}\n')

    assert "undecodable" == found[0]["violation"]["reason"]


@pytest.mark.parametrize(
    "record",
    [
        [],
        "5\n",
        {"topic": 5},
        {"offset": "5"},
        {"partition": True},
        {"timestamp": 2**70},
        {"headers": 5},
        {"headers": [["a"]]},
        {"headers": [[1, "a"]]},
        {"value": {"base64": "?"}},
        '{"value":' + "[" * 100_000 + "\n",
    ],
)
def test_line_that_is_no_record_is_answered_with_an_error(record: Any) -> None:
    (found,) = asked("debezium", record)

    assert ["id", "error"] == list(found)


def test_single_record_is_shown_for_people_and_says_by_its_code_what_it_is() -> None:
    def run(value: Any) -> int:
        text = json.dumps({"value": value}, indent=1)
        return CliRunner().invoke(app, ["source", "decode", "debezium"], input=text).exit_code

    assert [0, 0, 1] == [run(envelope()), run(None), run("{")]


def test_contract_gives_the_key_and_the_mapping(tmp_path: Path) -> None:
    file = tmp_path / "shop.public.prices" / "contract.yaml"
    file.parent.mkdir()
    file.write_text(
        "name: shop.public.prices\nowner: team\ndescription: Prices.\ncodec: debezium\n"
        "partitions: 1\nkey: /after/id\nmapping: {columns: {price: decimal(2)}}\n"
        "emit: {topic: shop.price.changed}\n"
    )
    line = json.dumps({"value": envelope(after={"id": 7, "price": "B88="})})

    command = ["source", "decode", "debezium", "--contract", str(file)]
    found = json.loads(CliRunner().invoke(app, command, input=line).stdout)["events"][0]

    assert ("7", "19.99") == (found["key"], found["data"]["after"]["price"])
    other = CliRunner().invoke(app, ["source", "decode", "outbox", "--contract", str(file)])
    assert isinstance(other.exception, CommandError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["debezium", "-m", "columns"],
        ["debezium", "-m", "columns={price: money}"],
        ["debezium", "-m", "columns=[", "--jsonl"],
        ["debezium", "--contract", "nosuch.yaml"],
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["source", "decode", *arguments], input="{}")

    assert isinstance(result.exception, CommandError)
    assert 2 == result.exception.code


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=60), st.data())
def test_any_line_has_an_answer_of_one_line(kind: str, raw: bytes, data: Any) -> None:
    value = data.draw(st.none() | st.text() | st.dictionaries(st.text(max_size=5), st.text()))
    name = data.draw(st.none() | st.text() | st.floats() | st.lists(st.integers()))
    record = {"id": name, "value": value, "key": data.draw(st.none() | st.text())}
    line = data.draw(st.sampled_from([raw, json.dumps(record).encode()]))
    contract = probe_contract(kind)
    found = answer(line, reader(KINDS[kind], contract))

    assert b"\n" not in found
    assert json.loads(found).keys() & {"events", "violation", "error"}
