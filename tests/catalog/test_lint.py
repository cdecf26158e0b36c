"""The lint says of every mistake where it is and what to write instead."""

from pathlib import Path
from typing import Any

import pytest

from edo_stream.catalog.tree import read_tree
from tests.catalog.shelf import CLEAN, ORDER_V1, WITH_SCHEMA, Shelf, order

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def only(shelf: Shelf) -> tuple[str, int, str]:
    found = shelf.findings()
    assert len(found) == 1, found
    return found[0]


def test_contracts_of_this_repository_have_no_findings() -> None:
    shelf = Shelf(ROOT / "topics")

    assert [] == shelf.findings()


def test_topic_with_schema_and_examples_has_no_findings(shelf: Shelf) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/shop",
        "type": "shop.order.placed",
        "data": order(),
    }
    shelf.add(
        WITH_SCHEMA,
        v1_schema_json=ORDER_V1,
        examples__v1_small_json=order(),
        examples__event_json=event,
        examples__invalid__v1_no_total_json={"order": {"id": "o-1"}},
    )

    assert [] == shelf.findings()


@pytest.mark.parametrize(
    ("changes", "line", "message"),
    [
        ({"name": "shop.order.place"}, 1, "place is not in the past tense"),
        ({"kind": "command"}, 8, "placed is in the past tense, and a command is a request"),
        ({"related": ["shop.order.acepted"]}, 9, "did you mean shop.order.accepted?"),
        ({"producers": ["a", "b", "a"]}, 11, "a is listed twice"),
        (
            {
                "consumers": [
                    {"name": "billing", "group": "g"},
                    {"name": "mail", "group": "g"},
                ]
            },
            12,
            "g is the group of billing",
        ),
        ({"key": "/order/id"}, 8, "write fields: {/order/id: identifier}"),
        ({"key": "/total", "fields": {"/total": "fact"}}, 8, "/total, which is a fact"),
        (
            {"dedupe": {"key": ["/order/number"]}, "fields": {"/order": "identifier"}},
            9,
            "does not imply the records' key",
        ),
        (
            {"dedupe": {"key": ["id"]}, "partition_key": "subject"},
            9,
            "[id] does not imply the partition key subject",
        ),
        (
            {
                "key": "/order/id",
                "partition_key": "/shop/id",
                "fields": {"/order/id": "identifier", "/shop/id": "identifier"},
            },
            9,
            "write partition_key: /order/id",
        ),
        (
            {"cleanup": "compact", "ordering": {"policy": "sequence"}},
            8,
            "each is a gap in its sequence",
        ),
        (
            {"delivery": {"process": "at-most-once"}},
            9,
            "at-most-once is not honoured by any code here: write effectively-once",
        ),
        (
            {"delivery": {"produce": "effectively-once"}, "dedupe": "off"},
            9,
            "effectively-once needs dedupe",
        ),
        (
            {"slo": {"trigger_to_ready": "10s"}, "retry": {"retries": 5}},
            9,
            "the retries wait 31 s in all, longer than the 10 s",
        ),
        (
            {"slo": {"trigger_to_ready": "10s"}, "ordering": {"policy": "sequence"}},
            9,
            "a gap is waited for 30 s",
        ),
        (
            {"slo": {"trigger_to_ready": "1s"}, "rate": {"expected": 1, "burst": 400_000}},
            12,
            "write partitions: 40",
        ),
        ({"retry": {"initial": "1m"}}, 9, "longer than max, 30 s"),
        ({"retry": {"total": "10ms"}}, 9, "write a longer total"),
        ({"rate": {"expected": 10, "peak": 5}}, 10, "5 is less than expected, 10"),
        ({"rate": {"expected": 90_000}}, 5, "write partitions: 9"),
        ({"dead_letters": {"acknowledge_within": "31d"}}, 9, "dead letters are kept 30 days"),
        (
            {"deprecation": {"since": "2026-01-31", "sunset": "2026-06-14"}},
            10,
            "2026-06-14 is in the past",
        ),
        (
            {"deprecation": {"since": "2026-08-01", "sunset": "2026-07-01"}},
            10,
            "before it is deprecated",
        ),
        (
            {"deprecation": {"since": "2026-01-31", "replacement": "shop.order.placed"}},
            10,
            "shop.order.placed is this topic",
        ),
        (
            {
                "deprecation": {"since": "2026-01-31", "sunset": "2026-09-01"},
                "consumers": [{"name": "billing"}],
            },
            10,
            "not acknowledged by billing",
        ),
        (
            {
                "deprecation": {"since": "2026-01-31", "acknowledged": ["billings"]},
            },
            11,
            "billings is no consumer",
        ),
        ({"consumers": [{"name": "billing", "versions": [1]}]}, 10, "there is no schema"),
    ],
)
def test_contract_contradicts_itself(
    shelf: Shelf, changes: dict[str, Any], line: int, message: str
) -> None:
    shelf.add(CLEAN | changes)

    file, found_line, found = only(shelf)
    assert ("contract.yaml", line) == (file, found_line), found
    assert message in found


@pytest.mark.parametrize(
    ("files", "file", "line", "message"),
    [
        ({}, "contract.yaml", 11, "v1.schema.json is missing"),
        ({"v1_schema_json": "{"}, "v1.schema.json", 1, "not JSON"),
        ({"v1_schema_json": {"type": "objekt"}}, "v1.schema.json", 1, "not a JSON Schema: /type"),
        (
            {"v1_schema_json": ORDER_V1, "v2_schema_json": ORDER_V1},
            "contract.yaml",
            10,
            "v2.schema.json is not declared",
        ),
        ({"v1_schema_json": ORDER_V1, "v2_avsc": "{}"}, "v2.avsc", 1, "is no json"),
        (
            {"v1_schema_json": ORDER_V1, "order_schema_json": ORDER_V1},
            "order.schema.json",
            1,
            "is neither a schema nor an example by its name",
        ),
        (
            {"v1_schema_json": ORDER_V1, "examples__v2_a_json": order()},
            "examples/v2.a.json",
            1,
            "there is no version 2",
        ),
        (
            {"v1_schema_json": ORDER_V1, "examples__v1_b_json": order(total=1)},
            "examples/v1.b.json",
            6,
            "/total: 1 is not of type",
        ),
        (
            {"v1_schema_json": ORDER_V1, "examples__v1_b_json": "{"},
            "examples/v1.b.json",
            1,
            "not JSON",
        ),
        (
            {"v1_schema_json": ORDER_V1, "examples__v1_b_json": order(note="\ud800")},
            "examples/v1.b.json",
            7,
            "not JSON",
        ),
        (
            {"v1_schema_json": ORDER_V1, "examples__invalid__v1_b_json": order()},
            "examples/invalid/v1.b.json",
            1,
            "is meant to fail and passes v1.schema.json",
        ),
    ],
)
def test_files_do_not_fit_the_contract(
    shelf: Shelf, files: dict[str, Any], file: str, line: int, message: str
) -> None:
    has_example = "v1_schema_json" in files and isinstance(files["v1_schema_json"], dict)
    if has_example and "properties" in files["v1_schema_json"]:
        files = {**files, "examples__v1_a_json": order()}
    shelf.add(WITH_SCHEMA, **files)

    found = [one for one in shelf.findings() if message in one[2]]
    assert [(file, line)] == [one[:2] for one in found], shelf.findings()


def test_version_without_an_example_is_a_finding(shelf: Shelf) -> None:
    shelf.add(WITH_SCHEMA, v1_schema_json=ORDER_V1)

    assert "version 1 has no example" in only(shelf)[2]


def two_versions(shelf: Shelf, second: dict[str, Any], mode: str = "BACKWARD") -> None:
    versions = {1: {"note": "First."}, 2: {"note": "Second."}}
    declared = {"format": "json", "compatibility": mode, "versions": versions}
    shelf.add(
        CLEAN | {"schema": declared},
        v1_schema_json=ORDER_V1,
        v2_schema_json=second,
        examples__v1_a_json=order(),
        examples__v2_a_json=order(currency="EUR"),
    )


def with_currency(required: bool) -> dict[str, Any]:
    properties = {**ORDER_V1["properties"], "currency": {"type": "string"}}
    names = [*ORDER_V1["required"], *(["currency"] if required else [])]
    return {**ORDER_V1, "required": names, "properties": properties}


def test_version_that_does_not_read_older_data_breaks_backward(shelf: Shelf) -> None:
    two_versions(shelf, with_currency(required=True))

    file, _, message = only(shelf)
    assert "v2.schema.json" == file
    assert "v2.schema.json does not read all that v1.schema.json writes" in message


def test_mode_none_compares_nothing(shelf: Shelf) -> None:
    two_versions(shelf, with_currency(required=True), "NONE")

    assert [] == shelf.findings()


def test_role_is_wanted_for_every_leaf_once_there_are_roles(shelf: Shelf) -> None:
    fields = {"/order": "identifier", "/totl": "fact"}
    shelf.add(
        WITH_SCHEMA | {"fields": fields}, v1_schema_json=ORDER_V1, examples__v1_a_json=order()
    )

    messages = [message for _, _, message in shelf.findings()]
    assert ["/total of v1.schema.json has no role" in messages[0]] == [True]
    assert "/totl is not in v1.schema.json: did you mean /total?" in messages[1]


def test_unread_topic_is_known_and_not_read(shelf: Shelf) -> None:
    shelf.add(CLEAN)
    accepted = {name: value for name, value in CLEAN.items() if name != "emit"}
    shelf.add(accepted | {"name": "shop.order.accepted", "related": ["shop.order.placed"]})

    assert [] == shelf.findings()


def test_all_mistakes_of_all_topics_are_found_at_once(shelf: Shelf) -> None:
    shelf.add(CLEAN | {"related": ["shop.none.seen"], "delivery": {"process": "at-most-once"}})
    shelf.add(CLEAN | {"name": "shop.order.paid", "partitons": 4})
    shelf.add(WITH_SCHEMA | {"name": "shop.order.sent"}, v1_schema_json="[")

    assert 4 == len({(file, message) for file, _, message in shelf.findings()})


def test_mistake_in_one_key_does_not_hide_those_in_others(shelf: Shelf) -> None:
    wrong = {
        "name": "shop.order.place",
        "owner": "",
        "partitions": "many",
        "ordring": {},
        "tags": ["A", "b", 3],
        "delivery": {"process": "at-most-once"},
        "related": ["shop.no.one", "shop.order.sent"],
        "slo": {"trigger_to_ready": "1s"},
        "retry": {"retries": 3, "jitter": 9},
    }
    shelf.add(
        WITH_SCHEMA | wrong, v1_schema_json=ORDER_V1, examples__v1_a_json={"order": {"id": 1}}
    )
    shelf.add(CLEAN | {"name": "shop.order.sent", "consumers": {}})

    said = "\n".join(message for _, _, message in shelf.findings())
    for words in (
        "place is not in the past tense",
        "owner is ''",
        "partitions is 'many'",
        "ordring is not a key",
        "A is not a tag",
        "3 is not a tag",
        "at-most-once is not honoured",
        "shop.no.one does not exist",
        "retries wait",
        "/order/id: 1 is not",
        "consumers is {}",
    ):
        assert words in said, said
    assert "shop.order.sent does not exist" not in said


def test_files_are_not_judged_by_a_schema_that_cannot_be_read(shelf: Shelf) -> None:
    declared = {"format": "jsn", "versions": {1: {"note": "First."}}}
    shelf.add(CLEAN | {"schema": declared}, v1_schema_json=ORDER_V1)

    assert "did you mean json?" in only(shelf)[2]


def test_tree_leaves_hidden_files_out(shelf: Shelf) -> None:
    folder = shelf.add(CLEAN)
    (folder / ".DS_Store").write_text("x")

    assert ["contract.yaml"] == list(read_tree(shelf.root).files["shop.order.placed"])


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"op": "c", "before": None, "after": {"id": "x"}}, "/after/id"),
        ({"op": "d", "before": {"id": "x"}, "after": None}, "/before/id"),
        ({"schema": {}, "payload": {"op": "c", "after": {"id": "x"}}}, "/payload/after/id"),
    ],
)
def test_row_change_is_judged_by_its_row(shelf: Shelf, row: dict[str, Any], place: str) -> None:
    contract = WITH_SCHEMA | {"codec": "debezium", "ordering": {"policy": "monotonic"}}
    shelf.add(
        contract,
        v1_schema_json={"type": "object", "properties": {"id": {"type": "integer"}}},
        examples__v1_a_json=row,
    )

    assert only(shelf)[2].startswith(f'{place}: "x" is not of type')


def test_step_of_a_cast_that_is_none_is_a_finding(shelf: Shelf) -> None:
    versions = {1: {"note": "First."}, 2: {"note": "Second.", "upcast": [{"turn": "/a"}]}}
    declared = {"format": "json", "compatibility": "NONE", "versions": versions}
    shelf.add(
        CLEAN | {"schema": declared},
        v1_schema_json=ORDER_V1,
        v2_schema_json=with_currency(required=False),
        examples__v1_a_json=order(),
        examples__v2_a_json=order(currency="EUR"),
    )

    assert "turn" in only(shelf)[2]


def test_registry_of_many_topics_is_reviewed_by_two_processes_alike(shelf: Shelf) -> None:
    for number in range(210):
        shelf.add(CLEAN | {"name": f"shop.order{number}.placed", "emit": {"topic": "shop.a.b"}})
    wrong = [shelf.root / f"shop.order{number}.placed" / "contract.yaml" for number in (0, 209)]
    for file in wrong:
        file.write_text(file.read_text() + "related: [shop.no.one]\n")

    assert [8, 8] == [line for _, line, _ in shelf.findings()]
