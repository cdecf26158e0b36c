"""Row changes of Debezium: one event each, one id in every delivery, the order of the log."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edo_stream.core.contract import Contract
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import StoredRecord
from edo_stream.sources import decoder
from tests.sources.cdc import CONTRACT, KEY, UNORDERED, envelope, record

SCHEMA = {"type": "struct", "name": "shop.public.customers.Envelope"}


def event(found: StoredRecord, contract: Contract = CONTRACT) -> Event:
    decoded = decoder(contract)(found)
    assert isinstance(decoded, Event), decoded
    return decoded


def position(source: dict[str, Any], op: str = "u") -> int:
    found = event(record(envelope(op, source))).position
    assert found is not None
    return found


def streamed(commit: int | None, lsn: int) -> int:
    sequence = json.dumps([None if commit is None else str(commit), str(lsn)])
    return position({"sequence": sequence, "lsn": lsn})


def read_in_snapshot(lsn: int, snapshot: Any = "true", commit: int | None = None) -> int:
    sequence = json.dumps([None if commit is None else str(commit), str(lsn)])
    return position({"sequence": sequence, "lsn": lsn, "snapshot": snapshot}, op="r")


def test_change_becomes_an_event_named_by_its_table_and_operation() -> None:
    value = json.dumps(envelope("u")).encode()

    expected = Event(
        id='postgresql:public.customers:110:555:updated:{"id":1004}',
        source="/debezium/postgresql/shop",
        type="shop.public.customers.updated",
        key=KEY,
        data=value,
        content_type="application/json",
        subject='{"id":1004}',
        time_ms=1_700_000_000_000,
        position=100 << 64 | 110,
    )
    assert expected == event(record(value))


@pytest.mark.parametrize(
    ("op", "verb"), [("c", "created"), ("u", "updated"), ("d", "deleted"), ("r", "read")]
)
def test_each_operation_has_its_type(op: str, verb: str) -> None:
    assert event(record(envelope(op))).type == f"shop.public.customers.{verb}"


def test_record_with_its_schema_is_the_same_event_as_without() -> None:
    bare = envelope()
    wrapped_key = json.dumps({"schema": {"type": "struct"}, "payload": {"id": 1004}}).encode()

    plain = event(record(bare, b'{"id": 1004}'))
    wrapped = event(record({"schema": SCHEMA, "payload": bare}, wrapped_key))

    assert (plain.id, plain.type, plain.subject) == (wrapped.id, wrapped.type, wrapped.subject)
    assert (plain.data, plain.key) == (wrapped.data, wrapped.key)


def test_row_with_columns_called_schema_and_payload_keeps_its_key() -> None:
    key = b'{"schema":"a","payload":1}'

    assert key.decode() == event(record(envelope(), key)).subject


def test_key_that_is_not_json_is_shown_as_text_or_hex() -> None:
    assert event(record(envelope(), b"Struct{id=1}")).subject == "Struct{id=1}"
    assert event(record(envelope(), b"\x00\xff")).subject == "00ff"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        ({"schema": None, "payload": None}, "tombstone"),
        ({"id": "1", "aggregate_type": "Initial Snapshot", "type": "STARTED"}, "notification"),
        ({"ts_ms": 1_700_000_000_000}, "heartbeat"),
        ({"schema": SCHEMA, "payload": {"ts_ms": 1}}, "heartbeat"),
    ],
)
def test_record_without_a_change_of_a_row_is_ignored(value: Any, reason: str) -> None:
    assert Ignored(reason) == decoder(CONTRACT)(record(value))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "undecodable"),
        (b"{", "undecodable"),
        (b"[]", "undecodable"),
        (b'{"op":"\xff"}', "undecodable"),
        ({}, "invalid"),
        (envelope("x"), "invalid"),
        (envelope(None), "invalid"),
        (envelope(["c"]), "invalid"),
        ({"op": "c"}, "invalid"),
        ({"op": "c", "source": None}, "invalid"),
        (envelope("c", {"connector": ""}), "invalid"),
        (envelope("c", {"table": None}), "invalid"),
        (envelope("c", {"lsn": None, "sequence": None}), "invalid"),
        (envelope("c", {"connector": "unheard-of"}), "invalid"),
    ],
)
def test_record_that_is_no_envelope_is_a_violation_with_its_key(value: Any, reason: str) -> None:
    found = decoder(CONTRACT)(record(value))

    assert isinstance(found, Violation)
    assert (reason, KEY) == (found.reason, found.key)


def test_change_without_a_key_is_invalid_where_order_matters() -> None:
    assert isinstance(decoder(CONTRACT)(record(envelope(), None)), Violation)


def test_redelivered_change_has_the_same_id_although_its_record_differs() -> None:
    again = envelope(source={"version": "3.6.4.Final"}, ts_ms=1_800_000_000_000)

    assert event(record(envelope())).id == event(record(again)).id


@pytest.mark.parametrize(
    "other",
    [
        record(envelope(source={"lsn": 111})),
        record(envelope(source={"txId": 556})),
        record(envelope(source={"table": "orders"})),
        record(envelope("d")),
        record(envelope(), b'{"id":1005}'),
        record(envelope(), b'{"id":%d}' % 10**300),
    ],
)
def test_another_change_has_another_id(other: StoredRecord) -> None:
    assert event(record(envelope())).id != event(other).id


def test_rows_without_a_key_are_told_apart_by_their_number_in_the_transaction() -> None:
    first = envelope(transaction={"id": "555:110", "total_order": 1})
    second = envelope(transaction={"id": "555:110", "total_order": 2})

    ids = {event(record(value, None), UNORDERED).id for value in (first, second)}

    assert len(ids) == 2


def test_rows_without_a_key_and_number_are_told_apart_by_their_content() -> None:
    values = [envelope(after={"name": "a"}), envelope(after={"name": "b"})]

    assert len({event(record(value, None), UNORDERED).id for value in values}) == 2


def test_long_key_enters_the_id_as_its_digest() -> None:
    assert len(event(record(envelope(), b'"%b"' % (b"x" * 5_000))).id) < 200


def test_changes_of_one_transaction_are_ordered_by_lsn() -> None:
    assert streamed(100, 110) < streamed(100, 120)


def test_later_transaction_is_later_although_it_wrote_earlier() -> None:
    assert streamed(100, 130) < streamed(140, 120)


@pytest.mark.parametrize("snapshot", [True, "true", "first", "last", "last_in_data_collection"])
def test_snapshot_is_before_a_change_at_the_same_lsn(snapshot: Any) -> None:
    assert read_in_snapshot(110, snapshot) < streamed(None, 110) < streamed(110, 111)


def test_snapshot_is_before_a_change_made_earlier_and_committed_after_it() -> None:
    assert read_in_snapshot(110) < streamed(115, 105)


def test_repeated_snapshot_is_after_the_changes_that_it_contains() -> None:
    assert streamed(100, 110) < read_in_snapshot(200)
    assert streamed(100, 110) < read_in_snapshot(200, commit=100)


def test_row_of_an_incremental_snapshot_is_between_the_changes_around_it() -> None:
    earlier, later = streamed(100, 110), streamed(125, 115)

    assert earlier < read_in_snapshot(120, "incremental", commit=100) < later


@pytest.mark.parametrize("sequence", [None, "", "[", "5", "[1]", '["a","b"]', '["-1",null]', []])
def test_position_falls_back_to_the_lsn(sequence: Any) -> None:
    assert position({"sequence": sequence}) == 110 << 64 | 110


def test_position_takes_the_lsn_of_the_source_where_the_sequence_has_none() -> None:
    assert position({"sequence": '["100",null]'}) == 100 << 64 | 110


def test_mysql_is_ordered_by_file_position_and_row() -> None:
    places = [("binlog.000009", 900, 0), ("binlog.000010", 4, 0), ("binlog.000010", 4, 1)]
    found = [
        position({"connector": "mysql", "file": file, "pos": at, "row": row, "schema": None})
        for file, at, row in places
    ]

    assert sorted(found) == found
    assert len(set(found)) == len(places)


def test_unknown_connector_is_read_without_a_position_where_none_is_needed() -> None:
    source = {"connector": "unheard-of", "collection": "customers", "schema": None}
    found = event(record(envelope("c", source)), UNORDERED)

    assert (found.position, found.type) == (None, "shop.customers.created")
    assert found.id == event(record(envelope("c", source | {"ts_us": 5})), UNORDERED).id


def test_key_may_be_in_the_envelope() -> None:
    assert event(record(envelope()), replace(CONTRACT, order_key="/after/id")).key == b"1004"


@pytest.mark.parametrize("time", [2**53 + 1, -(10**40), 1.5, True, "1700000000000", None])
def test_time_that_is_none_is_left_out_and_the_change_goes_on(time: Any) -> None:
    assert event(record(envelope(source={"ts_ms": time}))).time_ms is None
