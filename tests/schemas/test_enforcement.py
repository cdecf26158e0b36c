"""A contract around its decoder: which version, what is refused, and what goes on instead."""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edo_stream.core.event import Event, Violation
from edo_stream.core.record import StoredRecord
from edo_stream.registry import RegistryError, load
from edo_stream.registry.enforced import rules_of
from edo_stream.schemas.enforcement import Decode, Tally, enforced
from edo_stream.sources import decoder

NOW_MS = 1_790_000_000_000  # 2026-09-21
CONTRACT = """\
name: shop.order.placed
owner: team-orders
description: An order was placed.
codec: cloudevents
partitions: 4
emit: {topic: shop.order.accepted}
"""
STRING, INTEGER = {"type": "string"}, {"type": "integer"}
V1 = {
    "type": "object",
    "properties": {"id": STRING, "mail": STRING, "items": {"items": {"required": ["sku"]}}},
    "required": ["id"],
    "additionalProperties": False,
}
V2 = {
    "type": "object",
    "properties": {
        "id": STRING,
        "customer": {"type": "object", "properties": {"email": STRING}},
        "currency": {**STRING, "default": "EUR"},
        "items": {"type": "array"},
    },
    "required": ["id", "currency"],
    "additionalProperties": False,
}
SCHEMA = """\
schema:
  format: json
  versions:
    1: {note: First.}
    2:
      note: The customer has a place of its own.
      upcast:
        - move: {/mail: /customer/email}
        - rename: {/items/*/sku: article}
"""


class Topic:
    """A contract on disk, compiled."""

    def __init__(self, folder: Path, more: str = "", **schemas: Any) -> None:
        self.tally = Tally()
        self.now_ms = NOW_MS
        place = folder / "shop.order.placed"
        place.mkdir()
        contract = CONTRACT if "emit:" not in more else CONTRACT[: CONTRACT.index("emit:")]
        (place / "contract.yaml").write_text(contract + more)
        for name, schema in schemas.items():
            file = name.replace("_", ".") if name.startswith("v") else name
            (place / f"{file}.schema.json").write_text(json.dumps(schema))
        self.place = place

    def decode(self) -> Decode:
        topic = load(self.place.parent).topics["shop.order.placed"]
        rules = rules_of(topic.declaration, topic.file)
        return enforced(decoder(topic.contract), rules, lambda: self.now_ms, self.tally)

    def judge(self, data: Any, **headers: str) -> Event | Violation:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        found = self.decode()(record(raw, **headers))
        assert isinstance(found, Event | Violation)
        return found

    def refused(self, data: Any, **headers: str) -> dict[str, str]:
        found = self.judge(data, **headers)
        assert isinstance(found, Violation)
        return {name.removeprefix("edo-"): value.decode() for name, value in found.headers} | {
            "reason": found.reason
        }


def record(value: bytes | None, **headers: str) -> StoredRecord:
    base = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "shop.order.placed"}
    all_headers = {f"ce_{name}": text for name, text in (base | headers).items()}
    pairs = tuple((name, text.encode()) for name, text in all_headers.items())
    return StoredRecord("shop.order.placed", 0, 7, NOW_MS, b"k", value, pairs)


@pytest.fixture
def topic(tmp_path: Path) -> Topic:
    return Topic(tmp_path, SCHEMA, v1=V1, v2=V2)


def data_of(event: Event | Violation) -> Any:
    assert isinstance(event, Event), event
    assert event.data is not None
    return json.loads(event.data)


def test_data_of_the_newest_version_goes_on_byte_for_byte(topic: Topic) -> None:
    found = topic.judge(b'{"id": "a",  "currency":"EUR"}', dataschema="urn:shop:order/v2")
    assert isinstance(found, Event)
    assert b'{"id": "a",  "currency":"EUR"}' == found.data


@pytest.mark.parametrize(
    "headers",
    [
        {"dataschema": "https://example.com/schemas/order/v1"},
        {"dataschema": "v1.schema.json"},
        {"dataschema": "urn:order#1"},
        {"dataschemaversion": "1"},
    ],
)
def test_data_of_an_older_version_becomes_the_newest(topic: Topic, headers: dict[str, str]) -> None:
    found = topic.judge({"id": "a", "mail": "x@y", "items": [{"sku": "s"}]}, **headers)
    expected = {"id": "a", "currency": "EUR", "customer": {"email": "x@y"}, "items": [
        {"article": "s"}]}  # fmt: skip
    assert expected == data_of(found)
    assert {("shop.order.placed", "1", "2"): 1} == topic.tally.cast
    assert isinstance(found, Event)
    [(_, said)] = [pair for pair in found.extensions if "dataschema" in pair[0]]
    assert said.decode() == next(iter(headers.values())).replace("1", "2")


def test_numbers_keep_their_digits_in_another_version(tmp_path: Path) -> None:
    more = SCHEMA[: SCHEMA.index("      upcast")] + "      upcast: [rename: {/n: m}]\n"
    topic = Topic(tmp_path, more, v1={}, v2={})
    data = b'{"n":12345678901234567890123,"f":1.10000000000000000005}'
    found = topic.judge(data, dataschemaversion="1")
    assert isinstance(found, Event)
    assert b'{"f":1.10000000000000000005,"m":12345678901234567890123}' == found.data


def test_without_a_version_the_newest_is_meant_and_its_defaults_are_filled_in(
    topic: Topic,
) -> None:
    assert {"id": "a", "currency": "EUR"} == data_of(topic.judge({"id": "a"}))


def test_a_violation_names_contract_version_place_and_rule(topic: Topic) -> None:
    found = topic.judge({"id": "a", "mail": 5}, dataschemaversion="1")
    assert isinstance(found, Violation)
    assert ("schema", b"k") == (found.reason, found.key)
    text = 'shop.order.placed v1: /mail: the value is not of type "string" [type]'
    assert text == found.detail
    headers = {
        "edo-contract": b"shop.order.placed",
        "edo-version": b"1",
        "edo-pointer": b"/mail",
        "edo-rule": b"type",
    }
    assert headers == dict(found.headers)
    assert {("shop.order.placed", "1", "type", "dead-letter"): 1} == topic.tally.violations


@pytest.mark.parametrize(
    ("data", "headers", "rule"),
    [
        (b"<order/>", {"dataschemaversion": "1"}, "json"),
        ({"id": "a"}, {"dataschema": "urn:x/v9"}, "version"),
        ({"id": "a"}, {"dataschemaversion": "latest"}, "version"),
        ({"id": "a"}, {"expirytime": "2026-01-01T00:00:00Z"}, "expired"),
        ([], {}, "type"),
        ({"mail": "a"}, {"dataschemaversion": "1"}, "required"),
    ],
)
def test_each_violation_has_its_rule(
    topic: Topic, data: Any, headers: dict[str, str], rule: str
) -> None:
    found = topic.refused(data, **headers)
    assert rule == found["rule"]


def test_keys_are_compared_with_their_partitions_at_samples(tmp_path: Path) -> None:
    topic = Topic(tmp_path)
    decode = topic.decode()
    for offset in range(256):
        for partition in (0, 1):
            one = msgspec.structs.replace(record(b"{}"), offset=offset, partition=partition)
            decode(one)
    # One key hashes to one partition, so half of the samples were written by somebody else's hash.
    assert ({("shop.order.placed",): 8}, {("shop.order.placed",): 4}) == (
        topic.tally.sampled,
        topic.tally.misplaced,
    )


def test_an_event_that_is_not_over_goes_on(topic: Topic) -> None:
    found = topic.judge({"id": "a"}, expirytime="2026-12-01T00:00:00Z")
    assert isinstance(found, Event)


def test_who_may_write_is_declared_by_source_or_by_name(tmp_path: Path) -> None:
    topic = Topic(tmp_path, "producers: [{name: checkout, source: /shop}, {name: import}]\n")
    assert isinstance(topic.judge({}), Event)
    assert isinstance(topic.judge({}, producer="import"), Event)
    assert "producer" == topic.refused({}, source="/elsewhere")["rule"]
    assert "producer" == topic.refused({}, producer="somebody")["rule"]


def test_a_contract_after_its_sunset_refuses_all(tmp_path: Path) -> None:
    topic = Topic(tmp_path, "deprecation: {since: 2026-01-01, sunset: 2026-09-22}\n")
    assert isinstance(topic.judge({}), Event)
    topic.now_ms += 86_400_000
    assert "sunset" == topic.refused({})["rule"]


def test_a_version_after_its_sunset_is_refused(tmp_path: Path) -> None:
    retired = SCHEMA.replace(
        "{note: First.}",
        "{note: First., deprecation: {since: 2026-01-01, sunset: 2026-02-01}}",
    )
    topic = Topic(tmp_path, retired, v1=V1, v2=V2)
    assert "version" == topic.refused({"id": "a"}, dataschemaversion="1")["rule"]
    assert isinstance(topic.judge({"id": "a"}, dataschemaversion="2"), Violation)
    assert isinstance(topic.judge({"id": "a"}), Event)


def test_warn_counts_and_lets_pass_until_its_last_day(tmp_path: Path) -> None:
    warned = SCHEMA + "  violations: {policy: warn, until: 2026-09-21}\n"
    topic = Topic(tmp_path, warned, v1=V1, v2=V2)
    assert {"id": 5} == data_of(topic.judge({"id": 5}))
    assert {("shop.order.placed", "2", "type", "warn"): 1} == topic.tally.violations
    topic.now_ms += 86_400_000
    assert "type" == topic.refused({"id": 5})["rule"]


def test_results_that_are_pinned_are_cast_down(tmp_path: Path) -> None:
    pinned = SCHEMA + "emit: {topic: shop.order.accepted, version: 1}\n"
    down = pinned.replace("      upcast:", "      downcast:\n        - remove: [/currency]\n"
        "        - move: {/customer/email: /mail}\n        - remove: [/customer]\n"
        "      upcast:")  # fmt: skip
    topic = Topic(tmp_path, down, v1=V1, v2=V2)
    found = topic.judge({"id": "a", "currency": "EUR", "customer": {"email": "x"}})
    assert {"id": "a", "mail": "x"} == data_of(found)
    assert {"id": "a"} == data_of(topic.judge({"id": "a"}, dataschemaversion="1"))


def test_what_a_cast_makes_is_checked_as_well(tmp_path: Path) -> None:
    broken = SCHEMA.replace("/customer/email}", "/customers/email}")
    topic = Topic(tmp_path, broken, v1=V1, v2=V2)
    found = topic.refused({"id": "a", "mail": "x"}, dataschemaversion="1")
    assert ("cast", "1") == (found["rule"], found["version"])


def test_casts_may_lie_beside_the_contract(tmp_path: Path) -> None:
    topic = Topic(tmp_path, SCHEMA[: SCHEMA.index("      upcast")], v1=V1, v2=V2)
    (topic.place / "v1-to-v2.yaml").write_text("- move: {/mail: /customer/email}\n")
    found = topic.judge({"id": "a", "mail": "x"}, dataschemaversion="1")
    assert {"id": "a", "currency": "EUR", "customer": {"email": "x"}} == data_of(found)


def test_a_row_change_is_judged_by_the_row_that_there_is_now(tmp_path: Path) -> None:
    more = SCHEMA[: SCHEMA.index("      upcast")]
    topic = Topic(tmp_path, more, v1={}, v2={"required": ["id"]})
    contract = topic.place / "contract.yaml"
    contract.write_text(contract.read_text().replace("codec: cloudevents", "codec: debezium"))
    source = {"connector": "postgresql", "name": "shop", "db": "shop", "schema": "public",
        "table": "orders", "lsn": 7, "txId": 1, "ts_ms": 1}  # fmt: skip
    change = {"op": "c", "before": None, "after": {"id": 1}, "source": source}
    assert isinstance(topic.judge(change), Event)
    assert "/after" == topic.refused({**change, "after": {"no": 1}})["pointer"]
    deleted = {**change, "op": "d", "before": {}, "after": None}
    assert isinstance(topic.judge(deleted), Event)


def test_confluents_frame_is_taken_off_and_must_be_there(tmp_path: Path) -> None:
    topic = Topic(tmp_path, SCHEMA + "  wire: confluent\n", v1=V1, v2=V2)
    framed = struct.pack(">bI", 0, 17) + b'{"id":"a","currency":"EUR"}'
    assert {"id": "a", "currency": "EUR"} == data_of(topic.judge(framed))
    assert "frame" == topic.refused({"id": "a"})["rule"]
    assert "frame" == topic.refused(b"\0\0")["rule"]


def avro_topic(folder: Path) -> Topic:
    more = SCHEMA[: SCHEMA.index("      upcast")].replace("json", "avro")
    topic = Topic(folder, more)
    field = {"name": "total", "type": "int"}
    currency = {"name": "currency", "type": "string", "default": "EUR"}
    for name, fields in (("v1", [field]), ("v2", [{**field, "type": "long"}, currency])):
        schema = {"type": "record", "name": "Order", "fields": fields}
        (topic.place / f"{name}.avsc").write_text(json.dumps(schema))
    return topic


def test_avro_of_an_older_version_is_resolved_to_the_newest(tmp_path: Path) -> None:
    topic = avro_topic(tmp_path)
    content = {"datacontenttype": "application/avro", "dataschemaversion": "1"}
    found = topic.judge(b"\x08", **content)
    assert isinstance(found, Event)
    assert b"\x08\x06EUR" == found.data
    assert "avro" == topic.refused(b"\x08\x08", **content)["rule"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (SCHEMA.replace("rename", "renam"), "renam is not a step"),
        (SCHEMA.replace("/mail:", "mail:"), "mail is not a JSON pointer"),
        (SCHEMA + "emit: {topic: x.y.z, version: 7}\n", "there is no version 7"),
        (
            SCHEMA.replace("move: {/mail: /customer/email}", "remove: [/mail]")
            + "emit: {topic: x.y.z, version: 1}\n",
            "remove cannot be undone",
        ),
        (SCHEMA.replace("    2:\n", "    3:\n"), "v3.schema.json:1: is missing"),
        (SCHEMA.replace("- rename: {/items/*/sku: article}", "- python: no.module:f"), "no.module"),
    ],
)
def test_what_cannot_be_enforced_is_said_at_start(tmp_path: Path, more: str, reason: str) -> None:
    with pytest.raises(RegistryError, match=reason):
        Topic(tmp_path, more, v1=V1, v2=V2).decode()
