"""CloudEvents as Kafka carries them: what is read, what is refused, what travels on."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edo_stream.core.contract import (
    Codec,
    Contract,
    KeyOrder,
    MonotonicOrder,
    NoOrder,
    SequenceOrder,
)
from edo_stream.core.event import Event, Violation
from edo_stream.core.record import StoredRecord
from edo_stream.sources import decoder

CONTRACT = Contract(
    topic="shop.order.placed",
    owner="team-orders",
    group="orders",
    partitions=4,
    codec=Codec.CLOUDEVENTS,
    emit="shop.order.accepted",
    emit_partitions=4,
    dead_letters="edo.dead-letters.shop.order.placed",
    ordering=KeyOrder(),
)
SEQUENCE = replace(CONTRACT, ordering=SequenceOrder())
UNORDERED = replace(CONTRACT, ordering=NoOrder())
HEADERS: dict[str, bytes | None] = {
    "ce_specversion": b"1.0",
    "ce_id": b"a-1",
    "ce_source": b"/shop",
    "ce_type": b"shop.order.placed",
    "content-type": b"application/json",
}
STRUCTURED: dict[str, bytes | None] = {"content-type": b"application/cloudevents+json"}
MEMBERS: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/shop",
    "type": "shop.order.placed",
}


def record(
    value: bytes | None = b"{}",
    headers: dict[str, bytes | None] | None = None,
    key: bytes | None = b"order-17",
    without: str = "",
) -> StoredRecord:
    items = tuple(
        (name, value) for name, value in (HEADERS | (headers or {})).items() if name != without
    )
    return StoredRecord("shop.order.placed", 0, 7, 0, key, value, items)


def structured(members: dict[str, Any] | bytes, key: bytes | None = b"order-17") -> StoredRecord:
    value = members if isinstance(members, bytes) else json.dumps(MEMBERS | members).encode()
    return StoredRecord("shop.order.placed", 0, 7, 0, key, value, tuple(STRUCTURED.items()))


def event(found: StoredRecord, contract: Contract = CONTRACT) -> Event:
    decoded = decoder(contract)(found)
    assert isinstance(decoded, Event), decoded
    return decoded


def violation(found: StoredRecord, contract: Contract = CONTRACT) -> Violation:
    decoded = decoder(contract)(found)
    assert isinstance(decoded, Violation), decoded
    return decoded


def test_binary_mode_keeps_the_data_byte_for_byte() -> None:
    data = b'{ "price" : 12.50, "big": 12345678901234567890123 }'

    assert data == event(record(data)).data


def test_all_core_attributes_become_fields_and_the_rest_travels_on() -> None:
    found = event(
        record(
            headers={
                "ce_subject": b"order-17",
                "ce_time": b"2026-01-31T12:00:00.250Z",
                "ce_correlationid": b"c-1",
                "ce_causationid": b"b-1",
                "ce_sequence": b"3",
                "ce_traceparent": b"00-1",
                "tenant": b"\xff",
            }
        )
    )

    expected = Event(
        id="a-1",
        source="/shop",
        type="shop.order.placed",
        key=b"order-17",
        data=b"{}",
        content_type="application/json",
        subject="order-17",
        time_ms=1_769_860_800_250,
        position=3,
        correlation_id="c-1",
        causation_id="b-1",
        extensions=(("ce_sequence", b"3"), ("ce_traceparent", b"00-1"), ("tenant", b"\xff")),
        time_text=b"2026-01-31T12:00:00.250Z",
    )
    assert expected == found


@pytest.mark.parametrize(
    ("written", "is_kept"),
    [
        (b"2026-01-31T12:00:00.250Z", True),
        (b"2026-01-31t12:00:00.250Z", False),
        (b"2026-01-31 12:00:00.250Z", False),
        (b"2026-01-31T12:00:00.250z", False),
        (b"2026-01-31T12:00:00.25Z", False),
        (b"2026-01-31T12:00:00.2500Z", False),
        (b"2016-12-31T23:59:60.250Z", False),
        (b"2026-01-31T13:00:00+01:00", False),
    ],
)
def test_time_is_taken_over_only_as_it_would_be_written(written: bytes, is_kept: bool) -> None:
    found = event(record(headers={"ce_time": written}))

    assert found.time_ms is not None
    assert found.time_text == (written if is_kept else None)


def test_own_header_that_occurs_twice_or_is_null_travels_on_as_it_is() -> None:
    items = (*record().headers, ("tag", b"a"), ("tag", b"b"), ("empty", None))
    found = StoredRecord("shop.order.placed", 0, 7, 0, b"k", b"{}", items)

    assert event(found).extensions == (("tag", b"a"), ("tag", b"b"), ("empty", None))


def test_tombstone_with_attributes_is_an_event_without_data() -> None:
    assert event(record(None)).data is None


def test_empty_data_is_accepted_as_the_python_sdk_writes_it() -> None:
    assert event(record(b"")).data == b""


def test_null_value_without_attributes_is_undecodable() -> None:
    found = StoredRecord("shop.order.placed", 0, 7, 0, b"k", None)

    assert violation(found).reason == "undecodable"


@pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_source", "ce_type"])
def test_record_without_a_required_attribute_is_a_violation_that_names_it(name: str) -> None:
    assert name in violation(record(without=name)).detail


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type"])
def test_required_attribute_must_not_be_empty(name: str) -> None:
    found = violation(record(headers={name: b""}))

    assert (found.reason, found.detail) == ("invalid", f"{name} is empty")


def test_record_that_is_no_cloudevent_says_what_was_expected() -> None:
    found = StoredRecord("shop.order.placed", 0, 7, 0, b"k", b"{}", (("CE_ID", b"1"),))

    assert "specversion" in violation(found).detail


def test_other_specversion_is_undecodable_and_named() -> None:
    found = violation(record(headers={"ce_specversion": b"0.3"}))

    assert found.reason == "undecodable"
    assert "0.3" in found.detail


def test_detail_never_shows_a_value_that_is_no_version_number() -> None:
    assert "secret" not in violation(record(headers={"ce_specversion": b"secret"})).detail


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_subject", "ce_sequence"])
def test_attribute_given_twice_is_a_violation(name: str) -> None:
    items = (*record().headers, (name, b"1"), (name, b"1"))
    found = StoredRecord("shop.order.placed", 0, 7, 0, b"k", b"{}", items)

    assert "more than once" in violation(found).detail


def test_position_given_twice_fills_no_slot() -> None:
    items = (*record().headers, ("ce_sequence", b"1"), ("ce_sequence", b"2"))
    found = StoredRecord("shop.order.placed", 0, 7, 0, b"k", b"{}", items)

    assert violation(found, SEQUENCE).position is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_id", b"\xff"),
        ("ce_subject", b"\xc3"),
        ("ce_extension", b"\xff"),
        ("content-type", b"\xff"),
    ],
)
def test_attribute_that_is_not_utf8_is_undecodable(name: str, value: bytes) -> None:
    assert violation(record(headers={name: value})).reason == "undecodable"


@pytest.mark.parametrize("value", ["a\x1fb", "a\n", "\x7f", "\x85", "\ufdd0", "\U0001fffe"])
def test_text_with_control_characters_or_noncharacters_is_invalid(value: str) -> None:
    assert violation(record(headers={"ce_id": value.encode()})).reason == "invalid"


@pytest.mark.parametrize("value", ["Euro € 😀", "a\u00a0b", "\u2028"])
def test_other_characters_are_text(value: str) -> None:
    assert value == event(record(headers={"ce_id": value.encode()})).id


@pytest.mark.parametrize("name", ["ce_Upper", "ce_under_score", "ce_", "ce_data", "ce_é"])
def test_extension_name_must_keep_the_rules(name: str) -> None:
    assert violation(record(headers={name: b"x"})).reason == "invalid"


def test_null_attribute_is_refused_and_named() -> None:
    assert violation(record(headers={"ce_extension": None})).detail == (
        "header ce_extension is missing"
    )


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        (b"1970-01-01T00:00:00Z", 0),
        (b"1969-12-31T23:59:59.999Z", -1),
        (b"2026-01-31T12:00:00+02:00", 1_769_853_600_000),
        (b"2026-01-31t12:00:00.123456789z", 1_769_860_800_123),
        (b"2016-12-31T23:59:60Z", 1_483_228_800_000),
        (b"0001-01-01T00:00:00+23:59", -62_135_683_140_000),
    ],
)
def test_time_becomes_epoch_ms(text: bytes, expected_ms: int) -> None:
    assert expected_ms == event(record(headers={"ce_time": text})).time_ms


@pytest.mark.parametrize(
    "text",
    [b"yesterday", b"2026-01-31", b"2026-01-31T12:00:00", b"2026-02-30T12:00:00Z", b"\xff", b'"'],
)
def test_time_that_is_not_rfc_3339_is_invalid(text: bytes) -> None:
    assert violation(record(headers={"ce_time": text})).reason == "invalid"


@pytest.mark.parametrize(
    "data",
    [b"{", b'{"a":1}x', b'"\xff"', b'{"\xff":1}', b"NaN", b'"\\ud800"', b"[" * 1_025, b"01", b" "],
)
def test_json_data_that_is_not_well_formed_is_undecodable(data: bytes) -> None:
    assert violation(record(data)).reason == "undecodable"


@pytest.mark.parametrize(
    "data", [b"{}", b" [1] ", b'"x"', b"null", b"1.5e3", b"[" * 1_024 + b"]" * 1_024]
)
def test_any_well_formed_json_is_data(data: bytes) -> None:
    assert data == event(record(data)).data


def test_nesting_bound_does_not_depend_on_the_depth_of_the_caller() -> None:
    data = b'{"a":' * 950 + b"1" + b"}" * 950

    def deep(levels: int) -> Event:
        return deep(levels - 1) if levels else event(record(data))

    assert data == deep(300).data


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/octet-stream", b"x"])
def test_data_of_other_content_types_is_not_looked_at(content_type: bytes) -> None:
    assert event(record(b"\xff{", {"content-type": content_type})).data == b"\xff{"


@pytest.mark.parametrize(
    "content_type", [b"application/json; charset=utf-8", b"Text/JSON", b"application/x+JSON;a=b"]
)
def test_json_content_types_are_recognised(content_type: bytes) -> None:
    assert violation(record(b"{", {"content-type": content_type})).reason == "undecodable"


def test_data_without_a_content_type_may_be_anything() -> None:
    assert event(record(b"{", without="content-type")).content_type is None


def test_batch_mode_is_refused_explicitly() -> None:
    found = record(b"[]", {"content-type": b"application/cloudevents-batch+json"})

    assert "one event in each record" in violation(found).detail


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+avro", b"application/cloudeventsx"]
)
def test_structured_mode_in_another_format_is_undecodable(content_type: bytes) -> None:
    assert violation(record(b"{}", {"content-type": content_type})).reason == "undecodable"


def test_structured_mode_leaves_as_binary_mode() -> None:
    found = event(
        structured(
            {"subject": "order-17", "sequence": "3", "flag": True, "count": -5, "unset": None}
            | {"data": {"a": 1}}
        )
    )

    assert found.extensions == (("ce_sequence", b"3"), ("ce_flag", b"true"), ("ce_count", b"-5"))
    assert (found.position, found.content_type, found.data) == (3, "application/json", b'{"a": 1}')


def test_structured_mode_is_recognised_in_any_case_and_with_parameters() -> None:
    value = json.dumps(MEMBERS).encode()
    found = record(value, {"content-type": b"Application/CloudEvents+JSON; charset=UTF-8"})

    assert event(found).data is None


def test_structured_event_beats_the_headers_that_repeat_it_and_keeps_the_users_own() -> None:
    value = json.dumps(MEMBERS).encode()
    found = event(record(value, STRUCTURED | {"ce_id": b"other", "tenant": b"x"}))

    assert (found.id, found.extensions) == ("a-1", (("tenant", b"x"),))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"data": None}, (b"null", "application/json")),
        ({"data": "x"}, (b'"x"', "application/json")),
        ({"data": "<é/>", "datacontenttype": "text/xml"}, ("<é/>".encode(), "text/xml")),
        ({"data": 1.50, "datacontenttype": "a/b+json"}, (b"1.5", "a/b+json")),
        ({"data_base64": "eyB9"}, (b"{ }", None)),
        ({"data_base64": "AP8=", "datacontenttype": "image/png"}, (b"\x00\xff", "image/png")),
        ({"data_base64": None}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_structured_data_becomes_bytes_by_its_content_type(
    members: dict[str, Any], expected: tuple[bytes | None, str | None]
) -> None:
    found = event(structured(members))

    assert expected == (found.data, found.content_type)


@pytest.mark.parametrize(
    "members",
    [
        {"data": {}, "data_base64": "eyB9"},
        {"data_base64": "not base64!"},
        {"data_base64": 5},
        {"data": {}, "datacontenttype": "text/plain"},
        {"id": 5},
        {"id": None},
        {"subject": {}},
        {"extension": []},
        {"extension": 1.5},
        {"Upper": "x"},
        {"datacontenttype": 5},
        {"time": "never"},
        {"specversion": "0.3"},
    ],
)
def test_structured_event_that_breaks_a_rule_is_a_violation(members: dict[str, Any]) -> None:
    assert isinstance(decoder(CONTRACT)(structured(members)), Violation)


@pytest.mark.parametrize("value", [b"", b"[]", b"5", b"{", b'{"id":"\xff"}', b'{"a":' * 5_000])
def test_structured_value_that_is_no_json_object_is_undecodable(value: bytes) -> None:
    assert violation(structured(value)).reason == "undecodable"


def test_structured_mode_has_no_tombstones() -> None:
    assert "tombstone" in violation(record(None, STRUCTURED)).detail


def test_violation_in_structured_mode_carries_key_and_position_where_they_are_readable() -> None:
    found = violation(structured({"time": "never", "sequence": "4"}), SEQUENCE)

    assert (found.key, found.position) == (b"order-17", 4)


def test_ids_in_the_metadata_of_the_data_are_read_when_the_extensions_are_absent() -> None:
    data = b'{"metadata":{"correlationId":"c-9","causationId":"b-9"}}'
    found = event(record(data))

    assert (found.correlation_id, found.causation_id) == ("c-9", "b-9")


def test_extensions_come_before_the_metadata_of_the_data() -> None:
    data = b'{"metadata":{"correlationId":"c-9","causationId":"b-9"}}'
    found = event(record(data, {"ce_correlationid": b"c-1"}))

    assert (found.correlation_id, found.causation_id) == ("c-1", "b-9")


@pytest.mark.parametrize(
    "metadata", [b"5", b"[]", b"null", b'{"correlationId":5}', b'{"correlationId":""}', b'"\\n"']
)
def test_metadata_of_another_kind_is_nobodys_mistake(metadata: bytes) -> None:
    assert event(record(b'{"metadata":%b}' % metadata)).correlation_id is None


def test_metadata_is_read_without_a_content_type_as_well() -> None:
    data = b'{"metadata":{"correlationId":"c-9"}}'

    assert event(record(data, without="content-type")).correlation_id == "c-9"


def test_null_key_gives_way_to_the_subject() -> None:
    assert event(record(key=None, headers={"ce_subject": b"order-18"})).key == b"order-18"


def test_record_without_key_and_subject_is_invalid_where_order_matters() -> None:
    assert "no key" in violation(record(key=None)).detail


def test_record_without_key_is_an_event_where_order_does_not_matter() -> None:
    assert event(record(key=None), UNORDERED).key == b""


def test_subject_may_be_the_key() -> None:
    contract = replace(CONTRACT, order_key="subject")

    assert event(record(headers={"ce_subject": b"s"}), contract).key == b"s"
    assert "subject" in violation(record(), contract).detail


@pytest.mark.parametrize(
    ("data", "expected"), [(b'{"o":{"id":"x"}}', b"x"), (b'{"o":{"id":17}}', b"17")]
)
def test_key_may_be_in_the_data(data: bytes, expected: bytes) -> None:
    assert expected == event(record(data), replace(CONTRACT, order_key="/o/id")).key


@pytest.mark.parametrize("data", [b"{}", b"[]", b'{"o":{"id":null}}', b'{"o":{"id":true}}', None])
def test_data_without_the_key_is_invalid(data: bytes | None) -> None:
    assert "/o/id" in violation(record(data), replace(CONTRACT, order_key="/o/id")).detail


@pytest.mark.parametrize("text", [b"", b"-1", b"1.5", b"one", b"1_000", b" 1", b"9" * 40])
def test_position_that_is_no_whole_number_is_invalid_and_keeps_the_key(text: bytes) -> None:
    found = violation(record(headers={"ce_sequence": text}), SEQUENCE)

    assert (found.reason, found.key, found.position) == ("invalid", b"order-17", None)


def test_missing_position_is_invalid_where_the_policy_needs_one() -> None:
    assert "sequence is missing" in violation(record(), SEQUENCE).detail


def test_unreadable_position_does_not_matter_where_no_policy_needs_one() -> None:
    assert event(record(headers={"ce_sequence": b"one"})).position is None


def test_padded_position_is_a_number() -> None:
    assert event(record(headers={"ce_sequence": b"000017"}), SEQUENCE).position == 17


@pytest.mark.parametrize("data", [b'{"order":{"number":17}}', b'{"order":{"number":"017"}}'])
def test_position_may_be_in_the_data(data: bytes) -> None:
    assert event(record(data), replace(SEQUENCE, position="/order/number")).position == 17


def test_time_may_be_the_position() -> None:
    contract = replace(CONTRACT, ordering=MonotonicOrder(), position="time")

    assert event(record(headers={"ce_time": b"1970-01-01T00:00:01Z"}), contract).position == 1_000
    assert "time" in violation(record(), contract).detail


def test_invalid_event_still_tells_which_slot_it_fills() -> None:
    found = violation(record(headers={"ce_sequence": b"5", "ce_time": b"never"}), SEQUENCE)

    assert (found.key, found.position) == (b"order-17", 5)


def test_malformed_data_still_tells_which_slot_it_fills() -> None:
    found = violation(record(b"{", {"ce_sequence": b"5"}), SEQUENCE)

    assert (found.key, found.position) == (b"order-17", 5)


def test_details_hold_no_payload() -> None:
    secret = b'{"password":"hunter2",}'

    assert "hunter2" not in violation(record(secret)).detail
