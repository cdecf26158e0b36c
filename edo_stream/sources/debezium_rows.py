"""Rows of a Debezium record: their values in forms that need no schema, and only values that are.

A record whose rows need nothing of this keeps its bytes. One that does is put together anew from
the parts that were there: columns that are not converted keep theirs, digit for digit.

What is not there. PostgreSQL does not log a large value (TOAST) that an update left alone; Debezium
writes a placeholder, in the form of the column's type. It is no value: the column is left out,
and ``unavailable`` lists it, as JSON pointers.
"""

import base64
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import md5
from typing import Any, Final

import msgspec
import orjson

from edo_stream.core.contract import Contract
from edo_stream.sources.debezium_values import (
    NAMES,
    PARSE,
    WRITE,
    Convert,
    ExpectedError,
    columns_of,
    named,
)
from edo_stream.sources.refused import INVALID, UNDECODABLE, MappingError, RefusedError

Members = dict[str, msgspec.Raw]
Columns = Mapping[str, Convert]
MEMBERS: Final = msgspec.json.Decoder(Members)
_ENCODE: Final = msgspec.json.encode
_ROWS: Final = ("before", "after")
_NOTHING: Final[Columns] = {}
#: Schemas are compiled once; a longer one, of some thousand columns, each time.
_SCHEMA_BYTES_MAX: Final = 65_536
_PLACEHOLDER: Final = "__debezium_unavailable_value"
_DEPTH_MAX: Final = 4
_MAPPING: Final = ("columns", "placeholder", "collections")


class Rows:
    """Turns the rows of one topic's records into what leaves it."""

    def __init__(self, contract: Contract) -> None:
        mapping = contract.mapping
        for name in mapping:
            if name not in _MAPPING:
                raise MappingError(f"mapping.{name} is not known: there are {', '.join(_MAPPING)}")
        self._declared = _declared(mapping.get("columns", {}))
        placeholder = mapping.get("placeholder", _PLACEHOLDER)
        if not isinstance(placeholder, str) or not placeholder:
            raise MappingError("mapping.placeholder is no text: write what stands for a value")
        self._placeholder = Placeholder(placeholder)

    def of_envelope(self, schema: bytes, payload: bytes) -> bytes:
        """The envelope, its rows converted; ``schema`` is empty where the record has none."""
        columns = envelope_columns(schema) if schema else {}
        is_needed = bool(columns or self._declared) or self._placeholder.is_in(payload)
        if not is_needed:
            return payload
        members = MEMBERS.decode(payload)
        unavailable: list[str] = []
        for name in _ROWS:
            row = members.get(name)
            if row is not None and bytes(row) != b"null":
                converted, missing = self._row(bytes(row), columns.get(name, _NOTHING), name)
                members[name] = msgspec.Raw(converted)
                unavailable += [_pointer(name, column) for column in missing]
        if unavailable:
            members["unavailable"] = msgspec.Raw(_ENCODE(unavailable))
        return _ENCODE(members)

    def of_document(self, payload: bytes) -> bytes:
        """MongoDB's envelope: documents are JSON in strings, and become the JSON they are."""
        members = MEMBERS.decode(payload)
        for name in (*_ROWS, "patch", "filter"):
            raw = members.get(name)
            if raw is not None and bytes(raw).startswith(b'"'):
                members[name] = _document(name, raw)
        return _ENCODE(members)

    def of_flat(self, schema: bytes, payload: bytes) -> bytes:
        """A row that stands alone (``ExtractNewRecordState``), converted."""
        columns = flat_columns(schema) if schema else {}
        is_needed = bool(columns or self._declared) or self._placeholder.is_in(payload)
        if not is_needed:
            return payload
        converted, missing = self._row(payload, columns, "")
        if not missing:
            return converted
        members = MEMBERS.decode(converted)
        members["__unavailable"] = msgspec.Raw(_ENCODE([_pointer("", name) for name in missing]))
        return _ENCODE(members)

    def _row(self, raw: bytes, columns: Columns, path: str) -> tuple[bytes, list[str]]:
        """The row converted, and the names of columns whose values are not there."""
        try:
            row = MEMBERS.decode(raw)
        except msgspec.ValidationError:
            raise RefusedError(INVALID, f"{path or 'value'} is not a row: no object") from None
        if self._declared:
            columns = {**self._declared, **columns}
        missing = []
        if self._placeholder.is_in(raw):
            missing = [name for name, value in row.items() if self._placeholder.is_value(value)]
            for name in missing:
                del row[name]
        for name, convert in columns.items():
            value = row.get(name)
            if value is not None:
                row[name] = _converted(value, convert, _pointer(path, name))
        return _ENCODE(row), missing


def _converted(value: msgspec.Raw, convert: Convert, path: str) -> msgspec.Raw:
    try:
        return msgspec.Raw(WRITE.encode(convert(PARSE.decode(value))))
    except ExpectedError as expected:
        raise RefusedError(INVALID, f"{path[:200]} is not {expected}, as its type says") from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise RefusedError(UNDECODABLE, f"{path[:200]} cannot be read") from None


def _document(name: str, raw: msgspec.Raw) -> msgspec.Raw:
    try:
        text = orjson.loads(bytes(raw))
        MEMBERS.decode(text)
        return msgspec.Raw(text.encode())
    except (ValueError, RecursionError):
        raise RefusedError(
            UNDECODABLE, f"{name} is not a document: no JSON in the string"
        ) from None


def _pointer(path: str, name: str) -> str:
    """JSON pointer (RFC 6901) of a column."""
    escaped = name.replace("~", "~0").replace("/", "~1")
    return f"/{path}/{escaped}" if path else f"/{escaped}"


def _declared(columns: object) -> dict[str, Convert]:
    if not isinstance(columns, Mapping):
        raise MappingError("mapping.columns has no names: write {<column>: <type>}")
    declared = {}
    for name, type_name in columns.items():
        convert = named(str(type_name))
        if convert is None:
            raise MappingError(
                f"mapping.columns.{name} is {type_name}: write one of {', '.join(NAMES)}"
            )
        declared[str(name)] = convert
    return declared


def _cached(compiled: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    remembered = lru_cache(maxsize=256)(compiled)
    return lambda raw: remembered(raw) if len(raw) <= _SCHEMA_BYTES_MAX else compiled(raw)


@_cached
def envelope_columns(schema: bytes) -> dict[str, Columns]:
    """Converters of an envelope's two rows, by ``before`` and ``after``; only where there are any.

    Raises:
        RefusedError: the schema is none.
    """
    parsed = _schema(schema)
    found: dict[str, Columns] = {}
    for field in parsed.get("fields") or ():
        if isinstance(field, dict) and field.get("field") in _ROWS:
            columns = columns_of(field)
            if columns:
                found[str(field["field"])] = columns
    return found


@_cached
def flat_columns(schema: bytes) -> Columns:
    """Converters of a row's columns."""
    return columns_of(_schema(schema))


def _schema(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise RefusedError(UNDECODABLE, "schema is not well-formed JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("fields") or [], list):
        raise RefusedError(INVALID, "schema is not one of Kafka Connect: fields is not a list")
    return found


class Placeholder:
    """What stands for a value that the database did not log, in the forms that it takes.

    Debezium writes it as text, in the bytes of a binary column (Base64 or hex), as the one element
    of an array, as the codes of its characters in an array of numbers, as a UUID that derives from
    it, and as key and value of an hstore.
    """

    def __init__(self, text: str) -> None:
        raw = text.encode()
        digest = bytearray(md5(raw, usedforsecurity=False).digest())
        digest[6] = digest[6] & 0x0F | 0x30
        digest[8] = digest[8] & 0x3F | 0x80
        name = digest.hex()
        uuid = "-".join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))
        coded = base64.b64encode(raw).decode()
        self._codes = list(raw)
        self._texts = {
            text,
            coded,
            base64.urlsafe_b64encode(raw).decode(),
            raw.hex(),
            uuid,
            orjson.dumps({text: text}).decode(),
        }
        first = tuple(raw[:2])
        texts = [orjson.dumps(form)[1:-1] for form in (text, coded, raw.hex(), uuid)]
        codes = [comma.join(b"%d" % code for code in first) for comma in (b",", b", ")]
        self._needles = tuple(texts + codes)

    def is_in(self, raw: bytes) -> bool:
        """Whether it may be somewhere in the bytes; quick, and never wrong when it says no."""
        return any(needle in raw for needle in self._needles)

    def is_value(self, raw: msgspec.Raw) -> bool:
        """Whether a column's value is the placeholder."""
        if not self.is_in(bytes(raw)):
            return False
        try:
            return self._is(orjson.loads(bytes(raw)), 0)
        except orjson.JSONDecodeError:
            return False

    def _is(self, value: object, depth: int) -> bool:
        if isinstance(value, str):
            return value in self._texts
        if depth > _DEPTH_MAX:
            return False
        if isinstance(value, list):
            is_each = bool(value) and all(self._is(item, depth + 1) for item in value)
            return is_each or value == self._codes
        if isinstance(value, dict):
            # A geometry, a decimal of variable scale, or an hstore.
            held = [value[name] for name in ("wkb", "value") if name in value]
            return any(self._is(item, depth + 1) for item in held or value.values())
        return False
