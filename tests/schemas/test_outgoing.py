"""Events on their way: built as the contract says, and refused before anything is sent."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import StoredRecord
from edo_stream.outgoing import ContractError, Envelope, NotProducedError, Writer, caused_by
from edo_stream.outgoing import repeatable_id as id_of
from edo_stream.registry import load
from edo_stream.sources import decoder

CONTRACT = """\
name: shop.order.placed
owner: team-orders
description: An order was placed.
codec: cloudevents
partitions: 4
producers: [{name: checkout, source: /shop/checkout}]
emit: {topic: shop.order.accepted}
"""
SCHEMA = "schema: {format: json, versions: {1: {note: First.}, 2: {note: Second.}}}\n"
ORDER = {"order": {"id": "order-17", "total": 1.5}}


def writer(folder: Path, more: str = SCHEMA, ids: dict[int, int] | None = None) -> Writer:
    place = folder / "shop.order.placed"
    place.mkdir()
    (place / "contract.yaml").write_text(CONTRACT + more)
    (place / "v1.schema.json").write_text("{}")
    required = {"required": ["order"], "properties": {"order": {"required": ["id"]}}}
    (place / "v2.schema.json").write_text(json.dumps(required))
    return Writer(load(folder).entries["shop.order.placed"], "/shop/checkout", ids)


def headers_of(record: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def test_a_record_says_all_that_its_contract_asks_for(tmp_path: Path) -> None:
    record = writer(tmp_path).record(ORDER, Envelope(key="order-17", id="e1", time_ms=0))
    expected = {
        "ce_specversion": "1.0",
        "ce_id": "e1",
        "ce_source": "/shop/checkout",
        "ce_type": "shop.order.placed",
        "ce_time": "1970-01-01T00:00:00.000Z",
        "ce_dataschema": "urn:edo:shop.order.placed:v2",
        "ce_correlationid": "e1",
        "content-type": "application/json",
    }
    assert expected == headers_of(record)
    assert (b"order-17", partition_of(b"order-17", 4)) == (record.key, record.partition)
    assert ORDER == json.loads(record.value or b"")


@pytest.mark.parametrize(
    ("more", "envelope", "key"),
    [
        ("key: /order/id\n", Envelope(), b"order-17"),
        ("partition_key: /order/id\n", Envelope(), b"order-17"),
        ("key: subject\n", Envelope(subject="s"), b"s"),
        ("", Envelope(subject="s"), b"s"),
        ("", Envelope(key=b"\xff"), b"\xff"),
    ],
)
def test_the_key_comes_from_where_the_contract_says(
    tmp_path: Path, more: str, envelope: Envelope, key: bytes
) -> None:
    assert key == writer(tmp_path, SCHEMA + more).record(ORDER, envelope).key


@pytest.mark.parametrize(
    ("data", "envelope", "reason"),
    [
        ({"order": {}}, Envelope(key="k"), r"v2: /order: .* \[required\]"),
        (ORDER, Envelope(key="k", source="/elsewhere"), "producer"),
        (ORDER, Envelope(key="k", version=7), "there is no version 7"),
        (ORDER, Envelope(), "no key"),
        (b"{", Envelope(key="k"), "not JSON"),
        (ORDER, Envelope(key="k", id="a\x1fb"), "control characters"),
        (ORDER, Envelope(key="k", extensions={"Not_a_name": "x"}), "attribute names"),
    ],
)
def test_what_a_worker_would_refuse_is_not_sent(
    tmp_path: Path, data: Any, envelope: Envelope, reason: str
) -> None:
    with pytest.raises(ContractError, match=reason):
        writer(tmp_path).record(data, envelope)


def test_a_reader_that_only_warns_is_no_excuse_to_write(tmp_path: Path) -> None:
    warned = SCHEMA.replace("}}}", "}}, violations: {policy: warn}}")
    with pytest.raises(ContractError, match="required"):
        writer(tmp_path, warned).record({}, Envelope(key="k"))


def test_an_older_version_may_be_written_until_it_is_gone(tmp_path: Path) -> None:
    record = writer(tmp_path).record(ORDER, Envelope(key="k", version=1))
    assert "urn:edo:shop.order.placed:v1" == headers_of(record)["ce_dataschema"]


def test_an_event_knows_its_cause(tmp_path: Path) -> None:
    first = writer(tmp_path).record(ORDER, Envelope(key="k", id="e1", correlation_id="c"))
    topic = load(tmp_path).topics["shop.order.placed"]
    place = ("shop.order.placed", 0, 0, 0)
    stored = StoredRecord(*place, first.key, first.value, tuple(first.headers))
    cause = decoder(topic.contract)(stored)
    told = caused_by(cause, Envelope(key="k"))  # type: ignore[arg-type]
    assert ("c", "e1") == (told.correlation_id, told.causation_id)


def test_numbers_of_a_sequence_are_asked_for(tmp_path: Path) -> None:
    numbered = writer(tmp_path, "ordering: {policy: sequence}\n")
    with pytest.raises(ContractError, match="sequence"):
        numbered.record(ORDER, Envelope(key="k"))
    record = numbered.record(ORDER, Envelope(key="k", extensions={"sequence": "1"}))
    assert "1" == headers_of(record)["ce_sequence"]


def test_confluents_wire_format_has_the_id_of_the_version(tmp_path: Path) -> None:
    framed = SCHEMA.replace("}}}", "}}, wire: confluent}")
    made = writer(tmp_path, framed, {2: 17})
    record = made.record(ORDER, Envelope(key="k"))
    assert struct.pack(">bI", 0, 17) == (record.value or b"")[:5]
    with pytest.raises(NotProducedError, match="no id for version 1"):
        made.record(ORDER, Envelope(key="k", version=1))


def test_avro_is_written_from_values(tmp_path: Path) -> None:
    place = tmp_path / "shop.order.placed"
    place.mkdir()
    contract = CONTRACT + "schema: {format: avro, versions: {1: {note: First.}}}\n"
    (place / "contract.yaml").write_text(contract)
    fields = [{"name": "n", "type": "int"}]
    (place / "v1.avsc").write_text(json.dumps({"type": "record", "name": "O", "fields": fields}))
    made = Writer(load(tmp_path).entries["shop.order.placed"], "/shop/checkout")
    record = made.record({"n": 4}, Envelope(key="k"))
    assert (b"\x08", "application/avro") == (record.value, headers_of(record)["content-type"])
    with pytest.raises(ContractError, match="not of the Avro schema"):
        made.record({"n": "four"}, Envelope(key="k"))


def test_records_of_connectors_are_not_ours_to_write(tmp_path: Path) -> None:
    contract = CONTRACT.replace("codec: cloudevents", "codec: debezium")
    (tmp_path / "shop.order.placed").mkdir()
    (tmp_path / "shop.order.placed" / "contract.yaml").write_text(contract)
    with pytest.raises(NotProducedError, match="written by its connector"):
        Writer(load(tmp_path).entries["shop.order.placed"], "/shop")


def test_the_same_content_has_the_same_id_and_a_twin_another() -> None:
    assert id_of("t", "/s", ORDER, 1) == id_of("t", "/s", dict(ORDER), 1)
    ids = {id_of("t", "/s", ORDER, 1), id_of("t", "/s", ORDER, 2), id_of("t", "/o", ORDER, 1)}
    assert 3 == len(ids)
