"""Everything a Debezium connector writes beside changes of rows, and rows in other shapes.

Envelopes of other databases are those of Debezium's documentation.
"""

import json
from typing import Any

import pytest

from edo_stream.core.event import Event, Ignored, Violation
from tests.sources.cdc import CONTRACT, KEY, UNORDERED, data, decode, envelope, event, record

MYSQL: dict[str, Any] = {
    "version": "3.6.3.Final",
    "connector": "mysql",
    "name": "mysql-server-1",
    "ts_ms": 1_465_581_902_000,
    "snapshot": False,
    "db": "inventory",
    "table": "customers",
    "server_id": 223_344,
    "gtid": None,
    "file": "mysql-bin.000003",
    "pos": 484,
    "row": 0,
    "thread": 7,
    "query": "UPDATE customers SET first_name='Anne Marie' WHERE id=1004",
}
MONGODB: dict[str, Any] = {
    "version": "3.6.3.Final",
    "connector": "mongodb",
    "name": "fulfillment",
    "ts_ms": 1_558_965_508_000,
    "snapshot": False,
    "db": "inventory",
    "collection": "customers",
    "ord": 31,
    "lsid": None,
    "txnNumber": None,
    "wallTime": None,
}
SQLSERVER: dict[str, Any] = {
    "version": "3.6.3.Final",
    "connector": "sqlserver",
    "name": "server1",
    "ts_ms": 1_559_729_468_470,
    "snapshot": False,
    "db": "testDB",
    "schema": "dbo",
    "table": "customers",
    "change_lsn": "00000027:00000758:0003",
    "commit_lsn": "00000027:00000758:0005",
    "event_serial_no": 1,
}


def from_source(source: dict[str, Any], op: str = "u", **more: Any) -> Event:
    value = envelope(op, **more) | {"source": source}
    return event(record(value), CONTRACT)


def position(source: dict[str, Any], op: str = "u", **more: Any) -> int:
    found = from_source(source, op, **more).position
    assert found is not None
    return found


def test_mysql_change_is_named_by_its_place_in_the_binlog() -> None:
    found = from_source(MYSQL)

    assert 'mysql:customers:mysql-bin.000003:484:0:updated:{"id":1004}' == found.id
    assert "inventory.customers.updated" == found.type
    assert "/debezium/mysql/mysql-server-1" == found.source


def test_mysql_snapshot_is_before_the_change_streamed_from_its_place() -> None:
    assert position(MYSQL | {"snapshot": "last"}, "r") < position(MYSQL)
    assert position(MYSQL | {"pos": 483, "row": 9}) < position(MYSQL | {"snapshot": "true"}, "r")


def test_row_of_mysqls_incremental_snapshot_is_ordered_like_a_change() -> None:
    assert position(MYSQL) == position(MYSQL | {"snapshot": "incremental"}, "r")


def test_mongodb_documents_in_strings_become_the_documents_they_are() -> None:
    after = '{"_id": {"$numberLong": "1004"}, "score": 1.10, "tags": ["a"]}'
    update = {"removedFields": None, "updatedFields": '{"score": 1.10}', "truncatedArrays": None}

    found = from_source(MONGODB, after=after, updateDescription=update)

    assert b'"after":{"_id": {"$numberLong": "1004"}, "score": 1.10, "tags": ["a"]}' in (
        found.data or b""
    )
    assert "inventory.customers.updated" == found.type


def test_mongodbs_patch_is_a_document_too() -> None:
    found = from_source(MONGODB, after=None, patch='{"$set": {"n": 1}}', filter='{"_id": 1}')

    assert {"$set": {"n": 1}} == json.loads(found.data or b"")["patch"]


@pytest.mark.parametrize("after", ["{", "[1]", "5", "x" * 100_000, '{"a":' * 5_000])
def test_mongodb_document_that_is_none_is_a_violation(after: str) -> None:
    found = decode(record(envelope(after=after) | {"source": MONGODB}))

    assert isinstance(found, Violation)
    assert "after" in found.detail


def test_mongodb_is_ordered_by_cluster_time_and_number() -> None:
    places = [
        MONGODB | {"snapshot": "true"},
        MONGODB,
        MONGODB | {"ord": 32},
        MONGODB | {"ts_ms": 1_558_965_509_000, "ord": 1},
    ]

    found = [position(source) for source in places]

    assert sorted(set(found)) == found


def test_changes_of_one_document_in_one_transaction_of_mongodb_are_told_apart() -> None:
    first, second = (
        from_source(
            MONGODB,
            updateDescription={"updatedFields": json.dumps({"n": number})},
            transaction={"id": "1", "total_order": number, "data_collection_order": number},
        )
        for number in (1, 2)
    )

    assert first.id != second.id
    assert (first.position or 0) < (second.position or 0)


def test_sqlserver_change_is_named_and_ordered_by_both_lsns() -> None:
    places = [
        SQLSERVER | {"commit_lsn": "00000027:00000758:0004"},
        SQLSERVER | {"change_lsn": "00000027:00000758:0002"},
        SQLSERVER,
        SQLSERVER | {"event_serial_no": 2},
        SQLSERVER | {"commit_lsn": "00000028:00000001:0001"},
    ]

    found = [position(source) for source in places]

    assert sorted(set(found)) == found
    assert "testDB.dbo.customers.updated" == from_source(SQLSERVER).type
    assert from_source(SQLSERVER).id.startswith(
        "sqlserver:dbo.customers:00000027:00000758:0005:00000027:00000758:0003:1:updated:"
    )


def test_sqlserver_snapshot_contains_what_was_committed_up_to_its_lsn() -> None:
    snapshot = position(SQLSERVER | {"snapshot": "true", "change_lsn": None}, "r")

    assert (
        position(SQLSERVER)
        < snapshot
        < position(SQLSERVER | {"commit_lsn": "00000027:00000758:0006"})
    )


@pytest.mark.parametrize("lsn", [None, "", "NULL", 5, "0:0:0", "x" * 1_000])
def test_sqlserver_place_that_is_none_has_no_position(lsn: Any) -> None:
    source = SQLSERVER | {"commit_lsn": lsn}

    assert isinstance(decode(record(envelope() | {"source": source}), CONTRACT), Violation)


def test_truncated_table_is_an_event_of_the_table() -> None:
    found = event(record(envelope("t", after=None), key=None), CONTRACT)

    assert "shop.public.customers.truncated" == found.type
    assert (b"public.customers", "public.customers") == (found.key, found.subject)


def test_logical_message_is_an_event_of_its_prefix() -> None:
    message = {"prefix": "audit", "content": "aGVsbG8="}
    source = {"schema": "", "table": ""}
    value = envelope("m", source, message=message)

    found = event(record(value, key=b'{"prefix":"audit"}'), CONTRACT)

    assert ("shop.audit.message", "audit") == (found.type, found.subject)
    assert message == json.loads(found.data or b"")["message"]


@pytest.mark.parametrize("message", [None, {}, {"prefix": ""}, {"prefix": 5}, "audit", []])
def test_logical_message_without_a_prefix_is_a_violation(message: Any) -> None:
    assert isinstance(decode(record(envelope("m", message=message))), Violation)


def test_delete_and_create_of_a_changed_primary_key_belong_together() -> None:
    place = {"lsn": 120, "sequence": '["100","120"]'}
    deleted = record(envelope("d", place), b'{"id":1004}', [("__debezium.newkey", b'{"id":2004}')])
    created = record(envelope("c", place), b'{"id":2004}', [("__debezium.oldkey", b'{"id":1004}')])

    first, second = event(deleted, CONTRACT), event(created, CONTRACT)

    assert first.correlation_id is not None
    assert first.correlation_id == second.correlation_id
    assert first.id != second.id
    assert (("__debezium.newkey", b'{"id":2004}'),) == first.extensions
    assert event(record(envelope())).correlation_id is None


SCHEMA_CHANGE: dict[str, Any] = {
    "source": MYSQL,
    "ts_ms": 1_691_700_000_000,
    "databaseName": "inventory",
    "schemaName": None,
    "ddl": "ALTER TABLE customers ADD middle_name varchar(255) AFTER first_name",
    "tableChanges": [{"type": "ALTER", "id": '"inventory"."customers"', "table": {}}],
}


@pytest.mark.parametrize("has_schema", [False, True])
def test_schema_change_is_an_event_of_its_database(has_schema: bool) -> None:
    value = (
        {"schema": {"type": "struct"}, "payload": SCHEMA_CHANGE} if has_schema else SCHEMA_CHANGE
    )
    found = event(record(value, b'{"databaseName":"inventory"}', topic="mysql-server-1"), CONTRACT)

    assert ("inventory.schema.changed", "inventory") == (found.type, found.subject)
    assert SCHEMA_CHANGE == json.loads(found.data or b"")


def test_statements_at_one_place_are_told_apart() -> None:
    other = SCHEMA_CHANGE | {"ddl": "DROP TABLE customers"}

    assert event(record(SCHEMA_CHANGE)).id != event(record(other)).id


def test_begin_and_end_of_a_source_transaction_are_events() -> None:
    begin = {"status": "BEGIN", "id": "571:53195829", "ts_ms": 1, "event_count": None}
    end = {"status": "END", "id": "571:53195832", "ts_ms": 2, "event_count": 2}

    found = [
        event(record(value, b'{"id":"571"}', topic="shop.transaction")) for value in (begin, end)
    ]

    assert ["shop.transaction.began", "shop.transaction.ended"] == [one.type for one in found]
    assert ["571:53195829", "571:53195832"] == [one.subject for one in found]


@pytest.mark.parametrize(
    "change", [{"status": "STOP"}, {"id": None}, {"id": "a\u0000"}, {"status": []}]
)
def test_transaction_record_that_is_none_is_a_violation(change: dict[str, Any]) -> None:
    assert isinstance(
        decode(record({"status": "BEGIN", "id": "571", "ts_ms": 1} | change)), Violation
    )


@pytest.mark.parametrize(
    "snapshot", ["true", "first", "last", "incremental", "false", True, False, None]
)
def test_record_of_a_snapshot_is_an_event_whatever_it_says_of_it(snapshot: Any) -> None:
    assert "shop.public.customers.read" == event(record(envelope("r", {"snapshot": snapshot}))).type


FLAT: dict[str, Any] = {
    "id": 1004,
    "note": "x",
    "__op": "u",
    "__db": "shop",
    "__schema": "public",
    "__table": "customers",
    "__lsn": 110,
    "__txId": 555,
    "__sequence": '["100","110"]',
    "__source_ts_ms": 1_700_000_000_000,
}


def test_flattened_row_with_its_place_is_the_change_that_its_envelope_was() -> None:
    whole, flat = event(record(envelope()), CONTRACT), event(record(FLAT), CONTRACT)

    assert (whole.id, whole.type, whole.position) == (flat.id, flat.type, flat.position)
    assert (whole.source, whole.time_ms, whole.key) == (flat.source, flat.time_ms, flat.key)
    assert FLAT == json.loads(flat.data or b"")


@pytest.mark.parametrize("as_text", [lambda value: value, json.dumps])
def test_headers_may_keep_what_the_row_does_not(as_text: Any) -> None:
    row = {"id": 1004}
    kept = {name: value for name, value in FLAT.items() if name.startswith("__")}
    headers = [
        (name, (json.dumps(value) if isinstance(value, int) else as_text(value)).encode())
        for name, value in kept.items()
    ]
    headers = [(name, value.strip(b'"') if name == "__op" else value) for name, value in headers]

    found = event(record(row, headers=headers), CONTRACT)

    assert event(record(envelope())).id == found.id


@pytest.mark.parametrize(
    ("members", "verb"),
    [
        ({"__op": "c"}, "created"),
        ({"__op": "r", "__deleted": "false"}, "read"),
        ({"__op": "d", "__deleted": "true"}, "deleted"),
        ({"__deleted": "true"}, "deleted"),
        ({"__deleted": True}, "deleted"),
        ({"__deleted": "false"}, "upserted"),
    ],
)
def test_flattened_row_says_what_happened_to_it(members: dict[str, Any], verb: str) -> None:
    assert f"shop.public.customers.{verb}" == event(record({"id": 1} | members)).type


def test_flattened_row_without_its_place_is_named_by_its_record() -> None:
    value = {"id": 1, "__op": "u"}

    assert "record:shop.public.customers:0:7" == event(record(value)).id
    found = decode(record(value), CONTRACT)
    assert isinstance(found, Violation)
    assert "position" in found.detail


@pytest.mark.parametrize("members", [{"__op": "x"}, {"__op": 5}, {"__op": "u", "__table": 5}])
def test_flattened_row_that_contradicts_itself_is_a_violation(members: dict[str, Any]) -> None:
    assert isinstance(decode(record({"id": 1} | members)), Violation)


@pytest.mark.parametrize(
    "value", [b"null", b" null ", {"schema": {"type": "struct"}, "payload": None}]
)
def test_null_with_a_type_is_a_flattened_delete(value: Any) -> None:
    found = event(record(value))

    assert "shop.public.customers.deleted" == found.type
    assert KEY == found.key


def test_null_with_the_headers_of_its_place_is_a_flattened_delete() -> None:
    headers = [("__op", b"d"), ("__lsn", b"110"), ("__txId", b"555")]

    assert "shop.public.customers.deleted" == event(record(None, headers=headers), CONTRACT).type
    assert Ignored("tombstone") == decode(record(None, headers=headers[:1]), CONTRACT)


def test_flattened_values_are_converted_and_completed_like_those_of_envelopes() -> None:
    fields = [{"field": "day", "type": "int32", "name": "io.debezium.time.Date"}]
    row = {"day": 0, "note": "__debezium_unavailable_value", "__op": "u"}
    value = {"schema": {"type": "struct", "fields": fields}, "payload": row}

    expected = {"day": "1970-01-01", "__op": "u", "__unavailable": ["/note"]}
    assert expected == data(record(value))


@pytest.mark.parametrize(
    "value",
    [
        {"before": {}, "after": {}},
        {"op": "u", "source": None},
        {"op": "u", "source": []},
        {"op": "u", "source": {"connector": "postgresql"}},
        {"after": {"id": 1}, "op": None, "source": MYSQL},
        envelope("u", after=[1, 2, 3, "__debezium_unavailable_value"]),
    ],
)
def test_record_of_no_known_shape_is_a_violation_that_says_what_was_expected(value: Any) -> None:
    found = decode(record(value), UNORDERED)

    assert isinstance(found, Violation)
    assert found.detail


CONVERTED: dict[str, Any] = {
    "id": "name:test_server;lsn:29274832;txId:565",
    "source": "/debezium/postgresql/test_server",
    "specversion": "1.0",
    "type": "io.debezium.connector.postgresql.DataChangeEvent",
    "time": "2020-01-13T13:55:39.738Z",
    "datacontenttype": "application/json",
    "iodebeziumop": "c",
    "iodebeziumversion": "2.4.1.Final",
    "iodebeziumconnector": "postgresql",
    "iodebeziumname": "test_server",
    "iodebeziumtsms": "1578923739738",
    "iodebeziumsnapshot": "false",
    "iodebeziumdb": "postgres",
    "iodebeziumschema": "s1",
    "iodebeziumtable": "a",
    "iodebeziumlsn": "29274832",
    "iodebeziumxmin": None,
    "iodebeziumtxid": "565",
    "iodebeziumtxtotalorder": "1",
    "iodebeziumtxdatacollectionorder": "1",
    "data": {"before": None, "after": {"pk": 1, "name": "Bob"}},
}


@pytest.mark.parametrize("has_schema", [False, True])
def test_envelope_of_debeziums_cloudevents_converter_is_put_together_again(
    has_schema: bool,
) -> None:
    value = dict(CONVERTED)
    if has_schema:
        value["data"] = {"schema": {"type": "struct"}, "payload": value["data"]}

    found = event(record(value, b'{"pk":1}'), CONTRACT)

    assert 'postgresql:s1.a:29274832:565:created:{"pk":1}' == found.id
    assert ("postgres.s1.a.created", 29274832 << 64 | 29274832) == (found.type, found.position)
    assert (1_578_923_739_738, ("ce_transactionorder", b"1")) == (
        found.time_ms,
        found.extensions[-1],
    )
    assert {"pk": 1, "name": "Bob"} == json.loads(found.data or b"")["after"]


@pytest.mark.parametrize("change", [{"data": None}, {"data": "x"}, {"iodebeziumop": None}])
def test_converted_record_that_lacks_a_part_is_a_violation(change: dict[str, Any]) -> None:
    assert isinstance(decode(record(CONVERTED | change)), Violation)
