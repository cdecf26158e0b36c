"""No bytes stop a partition: a decoder returns one of three values and never raises."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.core.contract import (
    Codec,
    Contract,
    KeyOrder,
    MonotonicOrder,
    NoOrder,
    OrderingPolicy,
    SequenceOrder,
)
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import StoredRecord
from edo_stream.sources import decoder

POLICIES: tuple[OrderingPolicy, ...] = (NoOrder(), KeyOrder(), MonotonicOrder(), SequenceOrder())
KEYS = (None, "subject", "/order/id", "/0")
POSITIONS = ("sequence", "time", "id", "/order/number")


def contract(
    codec: Codec, ordering: OrderingPolicy, order_key: str | None, position: str
) -> Contract:
    return Contract(
        topic="shop.order.placed",
        owner="team-orders",
        group="orders",
        partitions=4,
        codec=codec,
        emit="shop.order.accepted",
        emit_partitions=4,
        dead_letters="edo.dead-letters.shop.order.placed",
        ordering=ordering,
        order_key=order_key,
        position=position,
    )


contracts = st.builds(
    contract,
    # What is mapped has no format of its own, and places to choose: see its own tests.
    st.sampled_from([codec for codec in Codec if codec is not Codec.MAPPED]),
    st.sampled_from(POLICIES),
    st.sampled_from(KEYS),
    st.sampled_from(POSITIONS),
)

# fmt: off
MEMBERS = [
    "id", "source", "type", "specversion", "subject", "time", "data", "data_base64", "sequence",
    "datacontenttype", "metadata", "correlationId", "order", "number", "op", "before", "after",
    "ts_ms", "schema", "payload", "transaction", "connector", "name", "table", "lsn", "txId",
    "snapshot", "file", "pos", "db", "__op", "__deleted", "__lsn", "__table", "ddl", "status",
    "event_count", "message", "prefix", "updateDescription", "fields", "collection", "ord",
    "commit_lsn", "total_order", "databaseName", "position", "database", "Records", "detail",
]
HEADERS = [
    "ce_id", "ce_source", "ce_type", "ce_specversion", "ce_subject", "ce_time", "ce_sequence",
    "ce_correlationid", "ce_datacontenttype", "ce_data", "ce_", "CE_ID", "content-type",
]
# fmt: on

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["1.0", "c", "r", "true", "postgresql", "mysql", '["1",null]', "a.000001"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(MEMBERS),
            inner,
            max_size=8,
        )
    ),
    max_leaves=20,
)
documents = json_values.map(lambda value: json.dumps(value).encode())
values = (
    st.none()
    | st.binary()
    | documents
    | documents.map(lambda text: text[:-1])
    | st.sampled_from([b"[" * 5_000, b'{"a":' * 2_000, b"1e999", b'"\xff"', b'"\\ud800"'])
)
core_headers = st.sampled_from(HEADERS)
header_values = (
    st.none()
    | st.binary(max_size=40)
    | st.sampled_from([b"1.0", b"17", b"9" * 60, "é\u0085".encode(), b"2026-01-31T12:00:60Z"])
    | st.sampled_from([b"application/json", b"application/cloudevents+json", b"text/plain"])
    | st.sampled_from([b"application/cloudevents-batch+json", b"0001-01-01T00:00:00+23:59"])
)
headers = st.lists(st.tuples(core_headers | st.text(max_size=5), header_values), max_size=10).map(
    tuple
)
valid_headers = st.just(
    (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/shop"),
        ("ce_type", b"shop.order.placed"),
    )
)


def judge(contract: Contract, record: StoredRecord) -> None:
    decoded = decoder(contract)(record)

    assert isinstance(decoded, Event | Violation | Ignored)
    if isinstance(decoded, Event):
        assert isinstance(decoded.key, bytes)
        assert all(name != "content-type" for name, _ in decoded.extensions)
    if isinstance(decoded, Violation):
        assert decoded.reason in {"undecodable", "invalid"}
        assert decoded.detail


@settings(max_examples=400, deadline=None)
@given(contracts, st.none() | st.binary(max_size=20), values, headers)
def test_any_record_is_judged_without_an_exception(
    contract: Contract, key: bytes | None, value: bytes | None, some_headers: Any
) -> None:
    judge(contract, StoredRecord("shop.order.placed", 0, 1, 0, key, value, some_headers))


@settings(max_examples=400, deadline=None)
@given(contracts, st.none() | documents, values, valid_headers, headers)
def test_any_data_and_headers_beside_valid_attributes_are_judged_without_an_exception(
    contract: Contract, key: bytes | None, value: bytes | None, valid: Any, more: Any
) -> None:
    names = {name for name, _ in valid}
    some_headers = valid + tuple(item for item in more if item[0] not in names)
    judge(contract, StoredRecord("shop.order.placed", 0, 1, 0, key, value, some_headers))


source_fields = st.fixed_dictionaries(
    {
        "connector": st.sampled_from(["postgresql", "mysql", "sqlserver", "mongodb", "other"]),
        "name": st.just("shop"),
    },
    optional={
        "table": st.just("orders") | json_values,
        "schema": st.just("public") | json_values,
        "db": json_values,
        "lsn": st.integers() | json_values,
        "txId": json_values,
        "sequence": st.sampled_from(['["1","2"]', "[", '[null,"2"]', "[1,2]", "\ud800"]),
        "snapshot": json_values,
        "file": st.sampled_from(["binlog.000003", "binlog", "²"]) | json_values,
        "pos": json_values,
        "ts_ms": json_values,
        "ord": st.integers() | json_values,
        "collection": st.just("orders") | json_values,
        "commit_lsn": st.sampled_from(["00000027:00000758:0005", "NULL"]) | json_values,
        "change_lsn": st.sampled_from(["00000027:00000758:0003"]) | json_values,
        "event_serial_no": json_values,
    },
)
envelopes = st.fixed_dictionaries(
    {"op": st.sampled_from("curdtmx"), "source": source_fields},
    optional={
        "before": json_values,
        "after": json_values | json_values.map(json.dumps),
        "transaction": json_values,
        "message": json_values,
        "updateDescription": json_values,
    },
)


@pytest.mark.parametrize("has_schema", [False, True])
@settings(max_examples=200, deadline=None)
@given(contracts, st.none() | documents | st.binary(max_size=20), envelopes)
def test_any_debezium_envelope_is_judged_without_an_exception(
    has_schema: bool, contract: Contract, key: bytes | None, envelope: Any
) -> None:
    written = {"schema": {}, "payload": envelope} if has_schema else envelope
    value = json.dumps(written).encode()
    judge(contract, StoredRecord("shop.order.placed", 0, 1, 0, key, value))


topics = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["BEGIN", "END"]) | json_values,
        "id": st.sampled_from(["571:5", "571"]) | json_values,
        "event_count": st.integers(0, 5) | json_values,
        "data_collections": st.lists(st.dictionaries(st.sampled_from(MEMBERS), json_values)),
        "ddl": json_values,
        "tableChanges": json_values,
        "databaseName": json_values,
        "source": source_fields | json_values,
        "ts_ms": json_values,
        "__op": st.sampled_from("curdx") | json_values,
        "__deleted": json_values,
        "__lsn": json_values,
        "__table": json_values,
        "__sequence": json_values,
        "__connector": json_values,
    },
)


@pytest.mark.parametrize("key", [None, "transaction"])
@settings(max_examples=120, deadline=None)
@given(topics, headers, st.sampled_from(POLICIES))
def test_anything_else_of_debezium_is_judged_without_an_exception(
    key: str | None, members: Any, some_headers: Any, policy: OrderingPolicy
) -> None:
    asked = replace(contract(Codec.DEBEZIUM, policy, key, "sequence"), mapping={})
    if key == "transaction":
        asked = replace(asked, mapping={"collections": ["public.orders"]})
    value = json.dumps(members).encode()
    judge(asked, StoredRecord("shop.transaction", 0, 1, 0, b"k", value, some_headers))
