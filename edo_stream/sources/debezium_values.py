"""Values of columns, from the forms of Kafka Connect's JSON into forms that say what they mean.

A connector writes a decimal as Base64 of its unscaled bytes and a time as a count since the epoch;
only the schema beside them says which count. Here they become text that needs no schema:

=============  =====================================================================
decimal        exact decimal text, ``-12.50``; as many fraction digits as its scale
date           ``2026-01-31``
time           ``23:59:59.000001``: 3, 6 or 9 fraction digits, as the column's precision;
               MySQL's may be negative or beyond 24 hours
timestamp      ``2026-01-31T12:00:00.000001``, of a column without time zone and so without one
duration       ``PT-1.5S``: seconds, ISO 8601
=============  =====================================================================

Everything else has such a form already and keeps it: zoned times, intervals and ISO strings (text
of ISO 8601), bytes (Base64, or as ``binary.handling.mode`` says), years, and decimals in the modes
string and double.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from edo_stream.core.exact import exact
from edo_stream.sources.refused import INVALID, RefusedError

Convert = Callable[[Any], Any]
"""One value; raises :class:`ExpectedError` where it is not of its type."""

#: Bounds the text of one number; PostgreSQL's numeric ends at 131,072 digits before the point.
_DIGITS_MAX: Final = 200_000
_DEPTH_MAX: Final = 32
_DAY_S: Final = 86_400

PARSE: Final = msgspec.json.Decoder(float_hook=exact)
"""Parses a value whose number may have more digits than a float has."""
WRITE: Final = msgspec.json.Encoder(decimal_format="number")
"""Writes what :data:`PARSE` has read, digit for digit."""


class ExpectedError(Exception):
    """A value is not of the type that its schema gives it; says what was expected."""


def converter(schema: object, depth: int = 0) -> Convert | None:
    """Compile a Connect schema; ``None`` where values of it stay as they are.

    Raises:
        RefusedError: the schema is none.
    """
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        raise RefusedError(INVALID, "schema is not one of Kafka Connect: expected nested objects")
    name = schema.get("name")
    if isinstance(name, str) and name in _DECIMALS:
        return _decimal_converter(name, schema)
    found = _LOGICAL.get(name) if isinstance(name, str) else None
    if found is None:
        found = _composite(schema, depth + 1)
    return None if found is None else _optional(found)


def columns_of(schema: object, depth: int = 0) -> dict[str, Convert]:
    """Compile a struct's schema: converters by field, of those fields that need one."""
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if fields is None:
        return {}
    if not isinstance(fields, list):
        raise RefusedError(INVALID, "schema is not one of Kafka Connect: fields is not a list")
    columns = {}
    for field in fields:
        convert = converter(field, depth)
        if convert is not None:
            columns[str(field.get("field"))] = convert
    return columns


def named(type_name: str) -> Convert | None:
    """Converter of a type as a contract's mapping names it, such as ``decimal(2)``."""
    if type_name.startswith("decimal(") and type_name.endswith(")"):
        digits = type_name[8:-1].removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= 6:
            return _optional(_decimal(int(type_name[8:-1])))
        return None
    found = _NAMED.get(type_name)
    return None if found is None else _optional(found)


def _optional(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _composite(schema: Mapping[str, Any], depth: int) -> Convert | None:
    match schema.get("type"):
        case "struct":
            columns = columns_of(schema, depth)
            return _struct(columns) if columns else None
        case "array":
            each = converter(schema.get("items"), depth)
            return None if each is None else _list(each)
        case "map":
            each = converter(schema.get("values"), depth)
            return None if each is None else _map(each)
        case _:
            return None


def _struct(columns: Mapping[str, Convert]) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ExpectedError("an object")
        return {
            name: columns[name](item) if name in columns else item for name, item in value.items()
        }

    return convert


def _list(each: Convert) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            raise ExpectedError("a list")
        return [each(item) for item in value]

    return convert


def _map(each: Convert) -> Convert:
    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: each(item) for name, item in value.items()}
        if isinstance(value, list) and all(isinstance(pair, list) for pair in value):
            # Connect writes maps whose keys are no strings as lists of pairs.
            return [[*pair[:1], *(each(item) for item in pair[1:])] for pair in value]
        raise ExpectedError("an object")

    return convert


_CONNECT_DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"
_VARIABLE_DECIMAL: Final = "io.debezium.data.VariableScaleDecimal"
_DECIMALS: Final = frozenset({_CONNECT_DECIMAL, _VARIABLE_DECIMAL})


def _decimal_converter(name: str, schema: Mapping[str, Any]) -> Convert:
    if name == _VARIABLE_DECIMAL:
        return _optional(_variable_decimal)
    parameters = schema.get("parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    try:
        return _optional(_decimal(int(str(scale))))
    except ValueError:
        raise RefusedError(INVALID, "schema of a decimal has no scale") from None


def _decimal(scale: int) -> Convert:
    def convert(value: Any) -> str:
        if isinstance(value, str):
            return _scaled(_unscaled(value), scale)
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            # The converter's decimal.format is NUMERIC.
            return _plain(Decimal(value))
        raise ExpectedError("a decimal in Base64")

    return convert


def _variable_decimal(value: Any) -> str:
    match value:
        case {"scale": int(scale), "value": str(unscaled)}:
            return _scaled(_unscaled(unscaled), scale)
        case _:
            raise ExpectedError("a decimal as scale and value")


def _unscaled(text: str) -> int:
    """The unscaled number: big-endian two's complement in Base64."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ExpectedError("a decimal in Base64") from None
    if not raw or len(raw) > _DIGITS_MAX // 2:
        raise ExpectedError(f"a decimal of 1 to {_DIGITS_MAX // 2} bytes")
    return int.from_bytes(raw, "big", signed=True)


def _scaled(unscaled: int, scale: int) -> str:
    if abs(scale) > _DIGITS_MAX:
        raise ExpectedError(f"a decimal of a scale within {_DIGITS_MAX}")
    # Of a decimal, not of an int: the text of a long int is refused by Python.
    sign, digits, _ = Decimal(unscaled).as_tuple()
    return _plain(Decimal((sign, digits, -scale)))


def _plain(value: Decimal) -> str:
    """Text without exponent; ``NaN`` and ``Infinity`` as such."""
    if value.is_finite() and abs(value.adjusted()) > 2 * _DIGITS_MAX:
        raise ExpectedError(f"a decimal of at most {_DIGITS_MAX} digits")
    try:
        return format(value, "f")
    except InvalidOperation:
        raise ExpectedError("a decimal") from None


def _count(value: Any) -> int:
    """A count since the epoch, or of a day; 64 bits, as Connect's."""
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    raise ExpectedError("a whole number of 64 bits")


def _date(value: Any) -> str:
    return _date_of(_count(value))


def _time(digits: int) -> Convert:
    def convert(value: Any) -> str:
        count = _count(value)
        sign = "-" if count < 0 else ""
        return sign + _clock(abs(count), digits)

    return convert


def _timestamp(digits: int) -> Convert:
    unit = 10**digits

    def convert(value: Any) -> str:
        days, rest = divmod(_count(value), _DAY_S * unit)
        return f"{_date_of(days)}T{_clock(rest, digits)}"

    return convert


def _duration(digits: int) -> Convert:
    unit = 10**digits

    def convert(value: Any) -> str:
        count = _count(value)
        seconds, rest = divmod(abs(count), unit)
        fraction = f".{rest:0{digits}d}".rstrip("0") if rest else ""
        return f"PT{'-' if count < 0 else ''}{seconds}{fraction}S"

    return convert


def _clock(count: int, digits: int) -> str:
    seconds, rest = divmod(count, 10**digits)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}.{rest:0{digits}d}"


def _date_of(days: int) -> str:
    """Date of days since 1970-01-01 in the proleptic Gregorian calendar, of any year.

    The count of days within eras of 400 years, which all have the same length. A year outside
    0 to 9999 has a sign and at least five digits (ISO 8601, expanded).
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    year = year_of_era + era * 400 + (month <= 2)
    shown = f"{year:04d}" if 0 <= year <= 9_999 else f"{year:+06d}"
    return f"{shown}-{month:02d}-{day:02d}"


_MS, _US, _NS = 3, 6, 9
_NAMED: Final[dict[str, Convert]] = {
    "decimal": _variable_decimal,
    "date": _date,
    "time-ms": _time(_MS),
    "time-us": _time(_US),
    "time-ns": _time(_NS),
    "timestamp-ms": _timestamp(_MS),
    "timestamp-us": _timestamp(_US),
    "timestamp-ns": _timestamp(_NS),
    "duration-us": _duration(_US),
    "duration-ns": _duration(_NS),
}
NAMES: Final = ("decimal(<scale>)", *_NAMED)
"""Types that a contract may name."""

_LOGICAL: Final[dict[str, Convert]] = {
    "io.debezium.time.Date": _date,
    "io.debezium.time.Time": _time(_MS),
    "io.debezium.time.MicroTime": _time(_US),
    "io.debezium.time.NanoTime": _time(_NS),
    "io.debezium.time.Timestamp": _timestamp(_MS),
    "io.debezium.time.MicroTimestamp": _timestamp(_US),
    "io.debezium.time.NanoTimestamp": _timestamp(_NS),
    "io.debezium.time.MicroDuration": _duration(_US),
    "io.debezium.time.NanoDuration": _duration(_NS),
    "org.apache.kafka.connect.data.Date": _date,
    "org.apache.kafka.connect.data.Time": _time(_MS),
    "org.apache.kafka.connect.data.Timestamp": _timestamp(_MS),
}
