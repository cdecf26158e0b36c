"""Records of other people's topics, made events by a mapping."""

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.contract import (
    Codec,
    Contract,
    KeyOrder,
    MonotonicOrder,
    NoOrder,
    OrderingPolicy,
)
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.record import Headers, StoredRecord
from edo_stream.sources import decoder
from edo_stream.sources.refused import MappingError

ORDER = {
    "order": {"id": 4711, "customer": "c-1"},
    "kind": "placed",
    "at": "2026-01-31T12:00:00+01:00",
    "version": "12",
}


def contract(
    mapping: dict[str, Any],
    ordering: OrderingPolicy | None = None,
    order_key: str | None = None,
    position: str = "sequence",
) -> Contract:
    return Contract(
        topic="legacy.orders.changed",
        owner="team-orders",
        group="orders",
        partitions=4,
        codec=Codec.MAPPED,
        emit="shop.order.accepted",
        emit_partitions=4,
        dead_letters="edo.dead-letters.legacy.orders.changed",
        ordering=ordering or KeyOrder(),
        order_key=order_key,
        position=position,
        mapping=mapping,
    )


def record(value: Any, key: bytes | None = b"k", headers: Headers = ()) -> StoredRecord:
    data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return StoredRecord(
        "legacy.orders.changed", 2, 41, 1_700_000_000_000, key, data, tuple(headers)
    )


def decode(
    mapping: dict[str, Any], value: Any = ORDER, key: bytes | None = b"k", headers: Headers = ()
) -> Decoded:
    return decoder(contract(mapping))(record(value, key, headers))


def event(mapping: dict[str, Any], **given: Any) -> Event:
    found = decode(mapping, **given)
    assert isinstance(found, Event), found
    return found


def test_without_a_mapping_the_position_says_all() -> None:
    found = event({})
    assert "legacy.orders.changed/2/41" == found.id
    assert ("/kafka/legacy.orders.changed", "legacy.orders.changed") == (found.source, found.type)
    assert (b"k", None, 1_700_000_000_000) == (found.key, found.subject, found.time_ms)
    assert "application/json" == found.content_type


def test_attributes_come_from_where_the_mapping_says() -> None:
    mapping = {
        "id": "{/order/id}-{/version}",
        "source": "const:/legacy/shop",
        "type": "order.{/kind}",
        "subject": "/order/id",
        "time": "/at",
        "sequence": "/version",
        "key": "key:/tenant",
        "correlation_id": "header:trace",
    }
    found = event(mapping, key=b'{"tenant":"t-1"}', headers=[("trace", b"abc"), ("x", b"y")])
    assert ("4711-12", "/legacy/shop", "order.placed") == (found.id, found.source, found.type)
    assert ("4711", b"t-1", "abc") == (found.subject, found.key, found.correlation_id)
    assert (1_769_857_200_000, 12) == (found.time_ms, found.position)
    assert (("trace", b"abc"), ("x", b"y")) == found.extensions
    assert json.dumps(ORDER).encode() == found.data


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("key", "k"),
        ("topic", "legacy.orders.changed"),
        ("partition", "2"),
        ("offset", "41"),
        ("timestamp", "1700000000000"),
        ("/order/id", "4711"),
        ("{topic}:{offset}", "legacy.orders.changed:41"),
        ("const:{braces}", "{braces}"),
    ],
)
def test_places(place: str, expected: str) -> None:
    assert expected == event({"id": place}).id


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"1.10", "1.10"),
        (b"1e3", "1000"),
        (b"true", "true"),
    ],
)
def test_numbers_keep_every_digit(number: bytes, expected: str) -> None:
    assert expected == event({"id": "/n"}, value=b'{"n":%b}' % number).id


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("ms", 1_700_000_000_123, 1_700_000_000_123),
        ("s", 1_700_000_000, 1_700_000_000_000),
        ("s", 1_700_000_000.5, 1_700_000_000_500),
        ("us", 1_700_000_000_123_999, 1_700_000_000_123),
        ("ns", "1700000000123999999", 1_700_000_000_123),
    ],
)
def test_times_in_numbers(unit: str, value: Any, expected: int) -> None:
    mapping = {"time": "/t", "time_unit": unit}
    assert expected == event(mapping, value={"t": value}).time_ms


def test_a_time_that_is_not_there_is_none() -> None:
    assert event({"time": "/t"}, value={}).time_ms is None


def test_bytes_are_data_as_they_are() -> None:
    mapping = {"format": "bytes", "id": "header:id", "content_type": "text/csv"}
    found = event(mapping, value=b"\xff;1", headers=[("id", b"7")])
    assert ("7", b"\xff;1", "text/csv") == (found.id, found.data, found.content_type)


AVRO = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "raw", "type": "bytes"},
    ],
}


def avro(at: int = 1_700_000_000_123) -> bytes:
    target = io.BytesIO()
    fastavro.schemaless_writer(target, AVRO, {"id": 2**60, "at": at, "raw": b"\xff"})
    return target.getvalue()


@pytest.mark.parametrize("schema", [AVRO, json.dumps(AVRO)])
def test_avro_becomes_json(schema: Any) -> None:
    mapping = {"format": "avro", "schema": schema, "id": "/id", "time": "/at"}
    found = event(mapping, value=avro())
    assert (str(2**60), 1_700_000_000_123) == (found.id, found.time_ms)
    assert found.data is not None
    expected = {"id": 2**60, "at": "2023-11-14T22:13:20.123000Z", "raw": "/w=="}
    assert expected == json.loads(found.data)


def test_avro_with_the_id_of_its_schema_before_it() -> None:
    mapping = {"format": "avro", "schema": AVRO, "framing": "confluent", "id": "/id"}
    assert str(2**60) == event(mapping, value=b"\0\0\0\0\7" + avro()).id


def test_an_offset_is_a_position() -> None:
    made = decoder(contract({"sequence": "offset"}, MonotonicOrder()))(record(ORDER))
    assert isinstance(made, Event)
    assert 41 == made.position


def test_the_position_may_be_where_the_ordering_says() -> None:
    made = decoder(contract({}, MonotonicOrder(), position="/version"))(record(ORDER))
    assert isinstance(made, Event)
    assert 12 == made.position


def test_the_key_may_be_where_the_contract_says() -> None:
    made = decoder(contract({}, order_key="/order/customer"))(record(ORDER, None))
    assert isinstance(made, Event)
    assert b"c-1" == made.key


def test_a_tombstone_is_no_fact() -> None:
    assert isinstance(decode({}, value=None), Ignored)


@pytest.mark.parametrize(
    ("mapping", "given", "said"),
    [
        ({"id": "/x"}, {}, "id is missing"),
        ({"id": "/order"}, {}, "id is missing"),
        ({"id": "{/x}-1"}, {}, "id is missing"),
        ({"subject": "/order"}, {}, "subject is neither"),
        ({"id": "header:id"}, {"headers": [("id", b"1"), ("id", b"2")]}, "given 2 times"),
        ({"id": "header:id"}, {"headers": [("id", b"\xff")]}, "not UTF-8"),
        ({"id": "key"}, {"key": b"\xff"}, "key is not UTF-8"),
        ({"id": "key:/a"}, {"key": b"{"}, "key is not JSON"),
        ({"id": "/a"}, {"value": b"{"}, "not JSON"),
        ({}, {"value": b"{"}, "not JSON"),
        ({"id": "/a"}, {"value": b'{"a":"\\u0000"}'}, "control characters"),
        ({"time": "/a"}, {"value": {"a": "soon"}}, "not an RFC 3339 time"),
        ({"time": "/a"}, {"value": {"a": -1}}, "neither an RFC 3339"),
        ({"time": "/a"}, {"value": b'{"a":1e99999}'}, "neither an RFC 3339"),
        ({"id": "/a"}, {"value": b'{"a":1e99999}'}, "id is missing"),
        ({"sequence": "/a"}, {"value": {"a": -1}}, "no position"),
        ({"key": "/a"}, {"value": {}}, "no key"),
        ({"format": "avro", "schema": AVRO}, {"value": b"\x01"}, "not Avro"),
        ({"format": "avro", "schema": AVRO}, {"value": avro() + b"x"}, "left over"),
        (
            {"format": "avro", "schema": AVRO, "framing": "confluent"},
            {"value": b"\x01" + avro()},
            "magic byte",
        ),
    ],
)
def test_a_record_that_does_not_fit_says_why(
    mapping: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    found = decode(mapping, **given)
    assert isinstance(found, Violation)
    assert said in found.detail


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"ids": "/a"}, "mapping.ids is not a key"),
        ({"id": 5}, "mapping.id is no place"),
        ({"id": "order.id"}, "write a JSON pointer"),
        ({"id": "/a~2"}, "no JSON pointer"),
        ({"id": "const:"}, "empty constant"),
        ({"id": "{/a"}, "brace without its other"),
        ({"id": "{a}"}, "is no place"),
        ({"id": "header:"}, "is no place"),
        ({"format": "xml"}, "write json or avro or bytes"),
        ({"format": "avro"}, "format avro needs it"),
        ({"schema": AVRO}, "means nothing"),
        ({"framing": "confluent"}, "means nothing"),
        ({"format": "avro", "schema": "x"}, "mapping.schema"),
        ({"format": "avro", "schema": {"type": "foo"}}, "mapping.schema"),
        ({"format": "avro", "schema": {"type": "array", "items": "null"}}, "array of null"),
        ({"format": "bytes", "id": "/a"}, "which is bytes"),
        ({"time_unit": "h"}, "write s or ms"),
        ({"content_type": 5}, "content_type is no text"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(MappingError) as raised:
        decoder(contract(mapping))
    assert said in str(raised.value)


def test_an_ordering_needs_a_position() -> None:
    with pytest.raises(MappingError, match="sequence is missing"):
        decoder(contract({}, MonotonicOrder()))


def test_one_key_is_enough() -> None:
    with pytest.raises(MappingError, match="both given"):
        decoder(contract({"key": "/a"}, order_key="/b"))


PLACES = ("/order/id", "/0", "key", "key:/a", "header:a", "position", "timestamp", "x{/order/id}")
MAPPINGS = st.dictionaries(
    st.sampled_from(["id", "source", "type", "subject", "time", "sequence", "correlation_id"]),
    st.sampled_from(PLACES),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["order", "id", "a", "~"]), inner, max_size=3)
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())
FORMATS = st.sampled_from([{}, {"format": "bytes"}, {"format": "avro", "schema": AVRO}])


@given(
    mapping=MAPPINGS,
    form=FORMATS,
    value=VALUES | st.binary(max_size=40),
    key=st.none() | st.binary(max_size=8) | VALUES,
    headers=st.lists(
        st.tuples(st.sampled_from(["a", "ce_id"]), st.none() | st.binary(max_size=6)), max_size=3
    ),
)
def test_no_bytes_stop_a_partition(
    mapping: dict[str, Any],
    form: dict[str, Any],
    value: bytes,
    key: bytes | None,
    headers: list[tuple[str, bytes | None]],
) -> None:
    try:
        made = decoder(contract({**mapping, **form}, NoOrder()))
    except MappingError:
        return
    assert isinstance(made(record(value, key, headers)), Event | Violation | Ignored)
