"""The contracts in the words of other tools: valid there, and with nothing left out."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import jsonschema_rs
import pytest
from typer.testing import CliRunner, Result

from edo_stream.catalog.export.avro import NoCounterpartError, avro_of, json_of
from edo_stream.catalog.export.draft_07 import draft_07
from edo_stream.cli.main import app
from tests.catalog.shelf import CLEAN, ORDER_V1, Shelf, order

BESIDE = Path(__file__).parents[3] / "shared" / "conformance"
FOLDER = Path(os.environ.get("EDO_CONFORMANCE", BESIDE)) / "tool_schemas" / "asyncapi"

Export = Callable[..., Result]
AVRO = {
    "type": "record",
    "name": "Paid",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "string", "doc": "Its number."},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["card", "cash"]}},
    ],
}


@pytest.fixture
def export(tmp_path: Path) -> Export:
    shelf = Shelf(tmp_path / "topics")
    consumers = [{"name": "billing", "group": "billing", "versions": [1, 2], "owner": "team-b"}]
    schema = {
        "format": "json",
        "compatibility": "NONE",
        "versions": {1: {"note": "First."}, 2: {"note": "With a currency."}},
    }
    second = {
        **ORDER_V1,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"currency": {"enum": ["EUR", "USD"]}},
        "properties": {**ORDER_V1["properties"], "currency": {"$ref": "#/$defs/currency"}},
    }
    shelf.add(
        CLEAN
        | {
            "schema": schema,
            "consumers": consumers,
            "producers": ["checkout"],
            "tags": ["sales"],
            "related": ["shop.payment.received"],
            "retry": {"retries": 2},
        },
        v1_schema_json=ORDER_V1,
        v2_schema_json=second,
        examples__v1_first_json=order(),
        examples__v2_first_json=order(currency="EUR"),
    )
    avro = {"format": "avro", "versions": {1: {"note": "First."}}}
    shelf.add(
        CLEAN | {"name": "shop.payment.received", "schema": avro, "emit": {"topic": "shop.a.b"}},
        v1_avsc=AVRO,
        examples__v1_a_json={"id": "1", "note": None, "kind": "card"},
    )

    def export(*arguments: str) -> Result:
        environment = {"EDO_TOPICS": str(shelf.root), "EDO_SERVICE": "shop"}
        result = CliRunner().invoke(app, ["contracts", "export", *arguments], env=environment)
        assert 0 == result.exit_code, result.exception
        return result

    return export


def at(document: Any, reference: str) -> Any:
    """What a reference leads to; fails where it leads nowhere."""
    for token in reference.removeprefix("#/").split("/"):
        document = document[token.replace("~1", "/").replace("~0", "~")]
    return document


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for inner in value.values() for one in references(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in references(inner)]
    return []


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no schema of AsyncAPI in {FOLDER}")
def test_asyncapi_document_is_valid_by_its_own_schema(export: Export) -> None:
    document = json.loads(export("asyncapi").output)
    validator = jsonschema_rs.validator_for(json.loads((FOLDER / "3.0.0.json").read_text()))

    assert [] == [f"{e.instance_path}: {e.message}" for e in validator.iter_errors(document)]


def test_references_of_the_asyncapi_document_lead_where_they_must(export: Export) -> None:
    document = json.loads(export("asyncapi").output)

    found = references(document)
    assert found
    for reference in found:
        assert at(document, reference) is not None
    for operation in document["operations"].values():
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")


def test_asyncapi_document_has_every_version_and_the_whole_contract(export: Export) -> None:
    document = json.loads(export("asyncapi").output)

    channel = document["channels"]["shop.order.placed"]
    assert ["shop.order.placed.v1", "shop.order.placed.v2"] == list(channel["messages"])
    assert "effectively-once" == channel["x-edo-contract"]["delivery"]["process"]
    assert 604_800_000 == channel["bindings"]["kafka"]["topicConfiguration"]["retention.ms"]
    assert "shop.order.accepted" in document["channels"]
    letters = document["channels"]["edo.dead-letters.shop.order.placed"]
    assert ["deadLetter"] == list(letters["messages"])


def test_payload_of_the_asyncapi_document_judges_as_the_schema_does(export: Export) -> None:
    document = json.loads(export("asyncapi").output)
    schema = {
        **at(document, "#/components/schemas/shop.order.placed.v2/schema"),
        "components": document["components"],
    }
    validator = jsonschema_rs.validator_for(schema)

    assert validator.is_valid(order(currency="EUR"))
    assert not validator.is_valid(order(currency="GBP"))


def test_one_version_is_exported_as_the_schema_itself(export: Export) -> None:
    assert AVRO == json.loads(export("avsc", "shop.payment.received").output)


def test_schemas_of_several_versions_are_exported_by_topic_and_version(export: Export) -> None:
    found = json.loads(export("jsonschema").output)

    assert ["1", "2"] == list(found["shop.order.placed"])
    assert ORDER_V1 == found["shop.order.placed"]["1"]
    payment = jsonschema_rs.validator_for(found["shop.payment.received"]["1"])
    assert payment.is_valid({"id": "1", "note": "x", "kind": "card"})
    assert not payment.is_valid({"id": "1", "note": 1, "kind": "card"})


def test_schemas_are_written_to_a_folder(export: Export, tmp_path: Path) -> None:
    export("avsc", "--out", str(tmp_path / "out"))

    assert [
        "shop.order.placed.v1.avsc",
        "shop.order.placed.v2.avsc",
        "shop.payment.received.v1.avsc",
    ] == sorted(path.name for path in (tmp_path / "out").iterdir())


def test_avro_of_a_json_schema_takes_the_same_data() -> None:
    schema = {
        "type": "object",
        "required": ["id", "items"],
        "properties": {
            "id": {"type": "string"},
            "note": {"type": ["string", "null"]},
            "when": {"type": "string", "format": "date-time"},
            "kind": {"enum": ["a", "b"]},
            "code": {"enum": ["a-1", "b-2"]},
            "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
            "more": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "$defs": {"item": {"type": "object", "properties": {"count": {"type": "integer"}}}},
    }
    compiled = fastavro.parse_schema(avro_of(schema, "shop.order-line.placed"), {})

    data = {"id": "1", "note": None, "when": "x", "kind": "a", "code": "a-1", "more": {"x": 1.5}}
    assert fastavro.validate({**data, "items": [{"count": 2}]}, compiled)
    wrong = {**data, "items": [{"count": "2"}]}
    assert not fastavro.validate(wrong, compiled, raise_errors=False)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "array"},
        {"type": "object", "properties": {"a-b": {"type": "string"}}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "properties": {"a": {"enum": [1, 2]}}},
    ],
)
def test_what_avro_has_no_word_for_is_refused(schema: Any) -> None:
    with pytest.raises(NoCounterpartError):
        avro_of(schema, "shop.order.placed")


def test_json_schema_of_a_recursive_avro_schema_refers_to_itself() -> None:
    children = {"type": "array", "items": "Node"}
    schema = {"type": "record", "name": "Node", "fields": [{"name": "below", "type": children}]}
    validator = jsonschema_rs.validator_for(json_of(schema, "shop.tree.grown"))

    assert validator.is_valid({"below": [{"below": []}]})
    assert not validator.is_valid({"below": [{"below": 1}]})


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"b": 1}, {"a": 1}),
        ({"$ref": "#/$defs/s", "maxLength": 2, "$defs": {"s": {"type": "string"}}}, "ab", "abc"),
        ({"$defs": {"s": {"type": "string"}}, "items": {"$ref": "#/$defs/s"}}, ["a"], [1]),
    ],
)
def test_newer_drafts_in_the_words_of_draft_7(schema: Any, good: Any, bad: Any) -> None:
    old = jsonschema_rs.validator_for(draft_07(schema))

    assert (True, False) == (old.is_valid(good), old.is_valid(bad))


def test_markdown_has_owners_versions_fields_and_consumers(export: Export) -> None:
    page = export("markdown").output

    for words in (
        "# Topics of shop",
        "## shop.order.placed",
        "team-orders",
        "With a currency.",
        "| `/order/id` | string | yes |",
        "| billing | billing | v1, v2 | team-b |",
        "```mermaid",
    ):
        assert words in page


def test_mermaid_draws_who_writes_and_who_reads(export: Export) -> None:
    chart = export("mermaid", "shop.order.placed").output

    assert chart.startswith("flowchart LR\n")
    assert 'service1["checkout"]' in chart
    assert 'topic1 -->|"v1, v2"| service2' in chart


def test_script_creates_every_topic(export: Export) -> None:
    script = export("kafka-cli", "shop.order.placed").output

    for topic in (
        "shop.order.placed",
        "shop.order.accepted",
        "edo.dead-letters.shop.order.placed",
        "edo.retry.shop.order.placed.1s",
    ):
        assert f"--topic {topic} " in script
    assert "--topic shop.payment.received " not in script


def test_text_may_be_wrapped_as_json_or_written_to_a_file(export: Export, tmp_path: Path) -> None:
    wrapped = json.loads(export("mermaid", "--json").output)
    export("mermaid", "--out", str(tmp_path / "new" / "chart.mmd"))

    assert wrapped["text"] == (tmp_path / "new" / "chart.mmd").read_text()
