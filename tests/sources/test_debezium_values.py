"""Values of columns: exact, and in forms that need no schema beside them."""

import base64
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edo_stream.core.event import Event, Violation
from edo_stream.sources import decoder
from edo_stream.sources.debezium_values import PARSE, converter
from edo_stream.sources.refused import MappingError
from tests.sources.cdc import KEY, UNORDERED, data, decode, envelope, event, record, with_schema

DECIMAL = "org.apache.kafka.connect.data.Decimal"
VARIABLE = "io.debezium.data.VariableScaleDecimal"
PLACEHOLDER = "__debezium_unavailable_value"
IN_BASE64 = base64.b64encode(PLACEHOLDER.encode()).decode()


def after(column: dict[str, Any], value: Any) -> Any:
    """The value of one column of the row after the change."""
    found = data(record(with_schema([{"field": "c", **column}], {"c": value})))
    assert found["before"] == found["after"]
    return found["after"]["c"]


def unscaled(number: int) -> str:
    size = (number.bit_length() + 8) // 8
    return base64.b64encode(number.to_bytes(size, "big", signed=True)).decode()


def decimal_type(scale: int) -> dict[str, Any]:
    parameters = {"scale": str(scale), "connect.decimal.precision": "10"}
    return {"type": "bytes", "name": DECIMAL, "version": 1, "parameters": parameters}


@pytest.mark.parametrize(
    ("number", "scale", "text"),
    [
        (1999, 2, "19.99"),
        (-1250, 2, "-12.50"),
        (5, 3, "0.005"),
        (0, 2, "0.00"),
        (123, 0, "123"),
        (12, -3, "12000"),
        (10**40 + 1, 40, "1.0000000000000000000000000000000000000001"),
        pytest.param(10**5_000, 1, "1" + "0" * 4_999 + ".0", id="more digits than an int shows"),
    ],
)
def test_precise_decimal_is_exact_text(number: int, scale: int, text: str) -> None:
    assert text == after(decimal_type(scale), unscaled(number))


def test_decimal_of_variable_scale_is_exact_text() -> None:
    column = {"type": "struct", "name": VARIABLE, "fields": []}

    assert "-0.1250" == after(column, {"scale": 4, "value": unscaled(-1250)})


def test_decimal_that_the_converter_wrote_as_a_number_keeps_its_digits() -> None:
    raw = b'{"schema":{"type":"struct","fields":[{"type":"struct","field":"after","fields":[%b]}]},'
    field = (
        b'{"field":"c","type":"bytes","name":"%b","parameters":{"scale":"2"}}' % DECIMAL.encode()
    )
    value = raw % field + b'"payload":%b}'
    source = b'{"op":"c","source":{"connector":"x","name":"s","table":"t"},'
    row = source + b'"after":{"c":1234567890123456789.10}}'

    assert b'"1234567890123456789.10"' in (event(record(value % row)).data or b"")


@pytest.mark.parametrize(("mode", "value"), [("string", "19.99"), ("double", 19.99)])
def test_decimal_of_the_other_modes_stays_as_it_is(mode: str, value: Any) -> None:
    assert value == after({"type": mode}, value)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**60), 10**60), st.integers(-20, 60))
def test_any_decimal_is_the_number_that_it_was(number: int, scale: int) -> None:
    convert = converter(decimal_type(scale))

    assert convert is not None
    text = convert(unscaled(number))
    assert Decimal((number < 0, Decimal(abs(number)).as_tuple().digits, -scale)) == Decimal(text)
    assert "E" not in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("io.debezium.time.Date", 20_484, "2026-01-31"),
        ("io.debezium.time.Date", -719_528, "0000-01-01"),
        ("io.debezium.time.Date", 2_932_897, "+10000-01-01"),
        ("io.debezium.time.Time", 86_399_001, "23:59:59.001"),
        ("io.debezium.time.MicroTime", 86_399_000_001, "23:59:59.000001"),
        ("io.debezium.time.MicroTime", -3_020_399_000_000, "-838:59:59.000000"),
        ("io.debezium.time.NanoTime", 1, "00:00:00.000000001"),
        ("io.debezium.time.Timestamp", 1_769_860_800_123, "2026-01-31T12:00:00.123"),
        ("io.debezium.time.MicroTimestamp", -1, "1969-12-31T23:59:59.999999"),
        ("io.debezium.time.NanoTimestamp", 86_400 * 10**9 + 1, "1970-01-02T00:00:00.000000001"),
        ("io.debezium.time.MicroDuration", -1_500_000, "PT-1.5S"),
        ("io.debezium.time.NanoDuration", 60 * 10**9, "PT60S"),
        ("org.apache.kafka.connect.data.Date", 0, "1970-01-01"),
        ("org.apache.kafka.connect.data.Time", 0, "00:00:00.000"),
        ("org.apache.kafka.connect.data.Timestamp", 0, "1970-01-01T00:00:00.000"),
        ("io.debezium.time.ZonedTimestamp", "2026-01-31T12:00:00.1Z", "2026-01-31T12:00:00.1Z"),
        ("io.debezium.time.ZonedTime", "12:00:00Z", "12:00:00Z"),
        ("io.debezium.time.Interval", "P1Y2M3DT4H5M6.78S", "P1Y2M3DT4H5M6.78S"),
        ("io.debezium.time.IsoDate", "2026-01-31Z", "2026-01-31Z"),
        ("io.debezium.time.Year", 2026, 2026),
        ("io.debezium.data.Json", '{"a": 1}', '{"a": 1}'),
        ("io.debezium.data.Uuid", "018f", "018f"),
        ("io.debezium.data.Bits", "AQ==", "AQ=="),
    ],
)  # fmt: skip
def test_type_of_each_precision_has_its_form(name: str, value: Any, text: Any) -> None:
    assert text == after({"type": "int64", "name": name, "version": 1}, value)


@settings(max_examples=200, deadline=None)
@given(st.dates())
@example(date.min)
@example(date.max)
def test_any_date_is_the_calendars(day: date) -> None:
    convert = converter({"type": "int32", "name": "io.debezium.time.Date"})

    assert convert is not None
    assert day.isoformat() == convert((day - date(1970, 1, 1)) // timedelta(days=1))


def test_types_within_arrays_structs_and_maps_are_converted_too() -> None:
    day = {"type": "int32", "name": "io.debezium.time.Date"}
    struct = {
        "type": "struct",
        "fields": [{"field": "day", **day}, {"field": "n", "type": "int32"}],
    }

    assert ["1970-01-01", None] == after({"type": "array", "items": day}, [0, None])
    assert {"day": "1970-01-02", "n": 1} == after(struct, {"day": 1, "n": 1})
    assert {"a": "1970-01-03"} == after({"type": "map", "values": day, "keys": {}}, {"a": 2})
    pairs = {"type": "map", "values": day, "keys": {"type": "int32"}}
    assert [[7, "1970-01-03"]] == after(pairs, [[7, 2]])


def test_null_stays_null_and_other_columns_keep_their_bytes() -> None:
    day = {"field": "c", "type": "int32", "name": "io.debezium.time.Date", "optional": True}
    value = record(with_schema([day], {"c": None, "x": 1}))
    exact = msgspec.structs.replace(
        value, value=(value.value or b"").replace(b'"x": 1', b'"x": 1.10e2')
    )

    assert b'{"c":null,"x":1.10e2}' in (event(exact).data or b"")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (decimal_type(2), "not base64!"),
        (decimal_type(2), ""),
        (decimal_type(2), True),
        (decimal_type(2), {"scale": 1}),
        (decimal_type(900_000), unscaled(1)),
        ({"type": "bytes", "name": DECIMAL}, unscaled(1)),
        ({"type": "struct", "name": VARIABLE}, {"scale": "1", "value": "AQ=="}),
        ({"type": "int32", "name": "io.debezium.time.Date"}, "2026-01-31"),
        ({"type": "int32", "name": "io.debezium.time.Date"}, 2**63),
        ({"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, 1.5),
        ({"type": "array", "items": {"type": "int32", "name": "io.debezium.time.Date"}}, 5),
        ({"type": "array", "items": 5}, []),
    ],
)
def test_value_that_is_not_of_its_type_is_a_violation_that_names_it(
    column: dict[str, Any], value: Any
) -> None:
    found = decode(record(with_schema([{"field": "c", **column}], {"c": value})))

    assert isinstance(found, Violation)
    assert "/before/c" in found.detail or "schema" in found.detail


def test_huge_exponent_is_refused_and_not_written_out() -> None:
    text = PARSE.decode(b"1e999999999")
    convert = converter(decimal_type(2))

    assert convert is not None
    with pytest.raises(Exception, match="digits"):
        convert(text)


def test_columns_may_be_declared_where_the_records_have_no_schema() -> None:
    columns = {"price": "decimal(2)", "at": "timestamp-us", "day": "date"}
    contract = replace(UNORDERED, mapping={"columns": columns})
    row = {"price": unscaled(1999), "at": 0, "day": None, "id": 1}

    found = data(record(envelope(after=row)), contract)["after"]

    assert {"price": "19.99", "at": "1970-01-01T00:00:00.000000", "day": None, "id": 1} == found


@pytest.mark.parametrize(
    "mapping",
    [{"columns": {"price": "money"}}, {"columns": 5}, {"column": {}}, {"placeholder": ""}],
)
def test_mapping_that_cannot_be_used_is_refused_at_the_start(mapping: dict[str, Any]) -> None:
    with pytest.raises(MappingError, match="mapping"):
        decoder(replace(UNORDERED, mapping=mapping))


@pytest.mark.parametrize(
    "value",
    [
        PLACEHOLDER,
        IN_BASE64,
        PLACEHOLDER.encode().hex(),
        [PLACEHOLDER],
        [IN_BASE64],
        list(PLACEHOLDER.encode()),
        ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],
        {PLACEHOLDER: PLACEHOLDER},
        f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}',
        {"x": 0.0, "y": 0.0, "wkb": IN_BASE64, "srid": None},
    ],
)
def test_value_that_was_not_logged_is_no_value(value: Any) -> None:
    found = data(record(envelope(before={"id": 1}, after={"id": 1, "a/b": value})))

    assert {"id": 1} == found["after"]
    assert ["/after/a~1b"] == found["unavailable"]


def test_placeholder_may_be_another() -> None:
    contract = replace(UNORDERED, mapping={"placeholder": "n/a"})

    assert {"id": 1} == data(record(envelope(after={"id": 1, "n": "n/a"})), contract)["after"]


def test_text_that_only_mentions_the_placeholder_is_a_value() -> None:
    row = {"id": 1, "note": f"see {PLACEHOLDER}", "codes": [95, 95, 100]}

    found = data(record(envelope(after=row)))

    assert row == found["after"]
    assert "unavailable" not in found


def test_change_without_such_values_keeps_its_bytes() -> None:
    value = b'{"op":"u", "source":{"connector":"x","name":"s","table":"t"}, "after":{"n":1.0e0}}'

    assert value == event(record(value, KEY)).data


deep: Any = {"type": "int32"}
for _ in range(500):
    deep = {"type": "array", "items": deep}


@pytest.mark.parametrize(
    "schema", [deep, {"type": "struct", "fields": 5}, {"type": "struct", "fields": [5]}, "int32"]
)
def test_schema_that_is_none_is_a_violation(schema: Any) -> None:
    found = decode(
        record(with_schema([{"field": "c", "type": "array", "items": schema}], {"c": []}))
    )

    assert isinstance(found, Violation)
    assert "schema" in found.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(PLACEHOLDER),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
schemas = st.fixed_dictionaries(
    {"type": st.sampled_from(["int32", "bytes", "struct", "array", "map"]) | json_values},
    optional={
        "name": st.sampled_from([DECIMAL, VARIABLE, "io.debezium.time.Date"]) | json_values,
        "parameters": st.dictionaries(st.just("scale"), json_values),
        "fields": json_values,
        "items": json_values,
        "values": json_values,
        "field": json_values,
    },
)


@settings(max_examples=300, deadline=None)
@given(schemas, json_values, st.booleans())
def test_any_value_under_any_schema_is_judged_without_an_exception(
    schema: Any, value: Any, is_flat: bool
) -> None:
    written = with_schema([{**schema, "field": "c"}], {"c": value})
    if is_flat:
        payload = {"c": value, "__op": "u"}
        written = {"schema": {"type": "struct", "fields": [schema]}, "payload": payload}

    assert isinstance(decode(record(written)), Event | Violation)
