"""Events of an outbox: captured rows and what Debezium's router makes of them."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.core.contract import Codec, KeyOrder, MonotonicOrder
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.record import StoredRecord
from edo_stream.outbox import OutboxError, OutboxEvent, table_sql, write
from edo_stream.sources import decoder
from edo_stream.sources.refused import MappingError
from tests.sources.cdc import SOURCE, UNORDERED, record

CONTRACT = replace(
    UNORDERED, topic="shop.public.edo_outbox", codec=Codec.OUTBOX, ordering=KeyOrder()
)
ROW: dict[str, Any] = {
    "id": "018f-1",
    "source": "/shop",
    "type": "shop.order.paid",
    "key": "order-17",
    "subject": None,
    "time": "2026-01-31T12:00:00.123456Z",
    "content_type": "application/json",
    "data": '{"amount": 12.50}',
    "data_binary": None,
    "correlation_id": "checkout-3",
    "causation_id": "018e-9",
    "extensions": '{"traceparent": "00-a-b-01"}',
}


def captured(row: Any, op: str = "c", key: bytes | None = b'{"key":"order-17"}') -> StoredRecord:
    value = {"op": op, "before": None, "after": row, "source": SOURCE | {"table": "edo_outbox"}}
    return record(value, key, topic=CONTRACT.topic)


def decode(found: StoredRecord, **changes: Any) -> Decoded:
    return decoder(replace(CONTRACT, **changes))(found)


def event(found: StoredRecord, **changes: Any) -> Event:
    decoded = decode(found, **changes)
    assert isinstance(decoded, Event), decoded
    return decoded


@pytest.mark.parametrize("op", ["c", "r"])
def test_inserted_row_is_the_event_that_the_service_wrote(op: str) -> None:
    expected = Event(
        id="018f-1",
        source="/shop",
        type="shop.order.paid",
        key=b"order-17",
        data=b'{"amount": 12.50}',
        content_type="application/json",
        subject="order-17",
        time_ms=1_769_860_800_123,
        correlation_id="checkout-3",
        causation_id="018e-9",
        extensions=(("ce_traceparent", b"00-a-b-01"),),
    )
    assert expected == event(captured(ROW, op))


def test_row_with_its_schema_is_the_same_event() -> None:
    bare = captured(ROW)
    wrapped = {"schema": {"type": "struct"}, "payload": json.loads(bare.value or b"")}

    assert event(bare) == event(record(wrapped, bare.key))


@pytest.mark.parametrize("op", ["d", "t"])
def test_what_cleans_the_table_up_is_ignored(op: str) -> None:
    assert Ignored("cleaned-up") == decode(captured(None, op))
    assert Ignored("tombstone") == decode(record(None))


def test_binary_data_has_its_bytes_back() -> None:
    row = ROW | {"data": None, "data_binary": "/wA=", "content_type": "image/png"}

    assert (b"\xff\x00", "image/png") == (
        event(captured(row)).data,
        event(captured(row)).content_type,
    )


def test_event_without_data_has_none() -> None:
    assert event(captured(ROW | {"data": None})).data is None


def test_rows_of_debeziums_own_table_are_events_too() -> None:
    row = {
        "id": "406c07f3",
        "aggregatetype": "Order",
        "aggregateid": "17",
        "type": "OrderCreated",
        "payload": '{"id": 17}',
    }
    found = event(captured(row, key=b'{"aggregateid":"17"}'))

    assert ("406c07f3", "/outbox/Order", "OrderCreated") == (found.id, found.source, found.type)
    assert (b"17", b'{"id": 17}') == (found.key, found.data)


def test_ordering_key_may_be_in_the_data() -> None:
    assert b"12" == event(captured(ROW | {"data": '{"n": 12}'}), order_key="/n").key


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"id": "a\u0000"},
        {"type": 5.5},
        {"key": None},
        {"data": "{"},
        {"data": 5},
        {"data_binary": "?"},
        {"time": "yesterday"},
        {"extensions": "[]"},
        {"extensions": '{"Trace": "x"}'},
        {"extensions": '{"id": "x"}'},
        {"extensions": '{"a": null}'},
        {"extensions": "{"},
    ],
)
def test_row_that_is_no_event_is_a_violation(change: dict[str, Any]) -> None:
    found = decode(captured(ROW | change))

    assert isinstance(found, Violation)
    assert b'{"key":"order-17"}' == found.key


@pytest.mark.parametrize(
    ("op", "row"), [("u", ROW), ("x", ROW), (None, ROW), ("c", None), ("c", [])]
)
def test_change_that_is_no_insert_is_a_violation(op: Any, row: Any) -> None:
    assert isinstance(decode(captured(row, op)), Violation)


def test_records_that_were_spread_by_the_rows_id_are_refused_with_the_setting() -> None:
    found = decode(captured(ROW, key=b'{"id":"018f-1"}'))

    assert isinstance(found, Violation)
    assert "message.key.columns" in found.detail
    assert isinstance(decode(captured(ROW, key=b'{"id":"018f-1"}'), partitions=1), Event)


def test_contract_by_position_is_refused_with_what_to_write() -> None:
    found = decode(captured(ROW), ordering=MonotonicOrder())

    assert isinstance(found, Violation)
    assert "policy: key" in found.detail


ID = ("id", b"406c07f3-26f0-4eea-a50c-109940064b8f")


def routed(value: Any, *headers: tuple[str, bytes], key: bytes | None = b"17") -> StoredRecord:
    data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return StoredRecord("outbox.event.order", 0, 7, 1_700_000_000_000, key, data, (ID, *headers))


@pytest.mark.parametrize(
    "value",
    [
        '{"id": 17}',
        {"schema": {"type": "string"}, "payload": '{"id": 17}'},
        {"payload": '{"id": 17}', "eventType": "OrderCreated"},
    ],
)
def test_routed_payload_in_a_string_is_the_json_that_it_was(value: Any) -> None:
    found = event(routed(value))

    assert (b'{"id": 17}', "application/json") == (found.data, found.content_type)
    assert ("406c07f3-26f0-4eea-a50c-109940064b8f", "/outbox/order", "order") == (
        found.id,
        found.source,
        found.type,
    )
    assert (b"17", "17", 1_700_000_000_000) == (found.key, found.subject, found.time_ms)


def test_routed_payload_that_was_expanded_or_never_a_string_keeps_its_bytes() -> None:
    assert b'{ "id": 1.0e1 }' == event(routed(b'{ "id": 1.0e1 }')).data
    assert (b"paid", "text/plain") == (
        event(routed("paid")).data,
        event(routed(b"paid")).content_type,
    )
    assert (b"\xff", None) == (event(routed(b"\xff")).data, event(routed(b"\xff")).content_type)
    assert event(routed(None)).data is None


@pytest.mark.parametrize(
    "value",
    [b"abc", b'"abc"', b'{"schema":{"type":"string"},"payload":"abc"}'],
)
def test_headers_and_keys_are_read_as_every_converter_writes_them(value: bytes) -> None:
    headers = (("id", value), ("type", value), ("correlationId", value), ("own", b"x"))
    found = event(StoredRecord("outbox.event.order", 0, 0, -1, value, b'"x"', headers))

    assert ("abc", "abc", "abc", "abc") == (
        found.id,
        found.type,
        found.correlation_id,
        found.subject,
    )
    assert (b"abc", (("own", b"x"),), None) == (found.key, found.extensions, found.time_ms)


def test_id_that_looks_like_a_number_keeps_its_digits() -> None:
    assert "1e5" == event(StoredRecord("o", 0, 0, 0, b"k", b"1", (("id", b"1e5"),))).id


def test_mapping_says_what_the_router_was_not_told_to_add() -> None:
    mapping = {"source": "/shop", "type": "shop.order.paid"}
    found = event(routed('{"id": 17}'), mapping=mapping)

    assert ("/shop", "shop.order.paid") == (found.source, found.type)


@pytest.mark.parametrize("mapping", [{"id": "/id"}, {"source": 5}, {"type": ""}])
def test_mapping_that_cannot_be_used_is_refused_at_the_start(mapping: dict[str, Any]) -> None:
    with pytest.raises(MappingError, match="mapping"):
        decoder(replace(CONTRACT, mapping=mapping))


def test_routed_record_with_cloudevents_headers_is_that_cloudevent() -> None:
    attributes = {"specversion": b"1.0", "id": b"1", "source": b"/s", "type": b"t"}
    headers = [(f"ce_{name}", value) for name, value in attributes.items()]

    found = event(routed(b"{}", *headers))

    assert ("1", "/s", "t") == (found.id, found.source, found.type)


def test_record_without_an_id_is_a_violation_that_says_what_was_expected() -> None:
    found = decode(StoredRecord("outbox.event.order", 0, 0, 0, b"17", b"{}", ()))

    assert isinstance(found, Violation)
    assert "header id" in found.detail


class Cursor:
    """A driver's cursor, as far as the outbox knows one."""

    def __init__(self) -> None:
        self.executed: list[tuple[str, Any]] = []

    def execute(self, sql: str, parameters: Any) -> None:
        self.executed.append((sql, parameters))


@pytest.mark.parametrize(
    ("data", "text", "binary"),
    [
        ({"a": [1, None]}, '{"a":[1,null]}', None),
        ("text", "text", None),
        (b"\x00", None, b"\x00"),
        (None, None, None),
    ],
)
def test_data_is_written_as_json_text_or_bytes(data: Any, text: Any, binary: Any) -> None:
    cursor = Cursor()

    event_id = write(cursor, OutboxEvent("a.b", "/s", "k", data))

    ((sql, parameters),) = cursor.executed
    assert sql.startswith("INSERT INTO edo_outbox (id, source, ")
    assert (event_id, text, binary) == (
        parameters["id"],
        parameters["data"],
        parameters["data_binary"],
    )


@pytest.mark.parametrize(
    "event",
    [
        OutboxEvent("", "/s", "k"),
        OutboxEvent("a", "/s", ""),
        OutboxEvent("a", "/s", "k", object()),
        OutboxEvent("a", "/s", "k", extensions={"Trace": "x"}),
        OutboxEvent("a", "/s", "k", extensions={"id": "x"}),
    ],
)
def test_event_that_is_none_is_not_written(event: OutboxEvent) -> None:
    cursor = Cursor()

    with pytest.raises(OutboxError):
        write(cursor, event)
    assert [] == cursor.executed


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a.b.c", 'a"', "1a"])
def test_name_that_is_no_table_is_refused(name: str) -> None:
    with pytest.raises(OutboxError):
        table_sql(name)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
rows = st.fixed_dictionaries({}, optional=dict.fromkeys([*ROW, "aggregateid", "payload"], values))
raw = st.binary(max_size=30) | values.map(lambda value: json.dumps(value).encode())
names = st.sampled_from(["id", "type", "correlationId", "ce_specversion", "content-type", "x"])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from("curdtx"), rows | values, st.lists(st.tuples(names, st.none() | raw)), raw, raw
)
def test_any_record_is_judged_without_an_exception(
    op: str, row: Any, headers: Any, key: bytes, value: bytes
) -> None:
    whole = json.dumps({"op": op, "after": row, "source": SOURCE}).encode()
    wrapped = b'{"payload":%b}' % base64.b64encode(value)
    for data in (whole, value, wrapped, b"[" * 5_000, None):
        found = decode(StoredRecord("outbox.event.order", 0, 0, 0, key, data, tuple(headers)))

        assert isinstance(found, Event | Violation | Ignored)
