"""Compatibility of Avro schemas: the specification's resolution rules, and fastavro as a judge."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edo_stream.schemas.avro_schema import avro_type
from edo_stream.schemas.compatibility import Mode, SchemaFormat, compatible
from edo_stream.schemas.errors import SchemaError


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any = "int", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def fixed(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "F", "size": size, **more}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def logical(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "logicalType": name}


def linked(kind: str) -> dict[str, Any]:
    return record(field("head", kind), field("tail", ["null", "List"], default=None), name="List")


# Writer (the old version), reader (the new one).
READABLE = [
    ("int", "long"),
    ("int", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
    ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}),
    ({"type": "map", "values": "int"}, {"type": "map", "values": "double"}),
    (enum("A", "B"), enum("A", "B", "C")),
    (enum("A", "B"), enum("A", default="A")),
    (fixed(4), fixed(4)),
    ([], ["int"]),
    (["int"], ["double"]),
    (["int", "string"], ["string", "int"]),
    (["int", "float"], "double"),
    (["int"], "int"),
    ("int", ["null", "int"]),
    (["int", "string"], ["string", "long"]),
    (record(field("a")), record()),
    (record(), record(field("a", default=0))),
    (record(field("a")), record(field("a", "long"), field("b", ["null", "int"], default=None))),
    (record(field("old")), record(field("new", aliases=["old"]))),
    (record(name="a.Old"), record(name="a.New", aliases=["Old"])),
    (record(name="a.Old"), record(name="b.New", aliases=["a.Old"])),
    (record(name="a.R"), record(name="b.R")),
    (linked("int"), linked("long")),
    (decimal(4, 2), decimal(4, 2)),
    ("bytes", decimal(4, 2)),
    (logical("long", "timestamp-millis"), "long"),
    (logical("string", "uuid"), "string"),
    ("int", logical("int", "date")),
]
UNREADABLE = [
    ("long", "int", ("", "type-mismatch")),
    ("double", "float", ("", "type-mismatch")),
    ("int", "string", ("", "type-mismatch")),
    ("null", "int", ("", "type-mismatch")),
    (enum("A"), "string", ("", "type-mismatch")),
    ({"type": "array", "items": "int"}, {"type": "map", "values": "int"}, ("", "type-mismatch")),
    ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, (
        "/items", "type-mismatch")),
    (enum("A", "B"), enum("A"), ("/symbols", "missing-enum-symbols")),
    (fixed(4), fixed(8), ("/size", "fixed-size-mismatch")),
    (fixed(4), fixed(4) | {"name": "G"}, ("/name", "name-mismatch")),
    (["int", "string", "long"], ["int", "string"], ("", "missing-union-branch")),
    (["int", "string"], "int", ("", "type-mismatch")),
    ("string", ["null", "int"], ("", "missing-union-branch")),
    (["null", record(field("a", "string"))], ["null", record(field("a", "int"))], (
        "/1/fields/0/type", "type-mismatch")),
    (record(), record(field("a")), ("/fields/0", "reader-field-missing-default")),
    (record(field("a")), record(field("a"), field("b", "int")), (
        "/fields/1", "reader-field-missing-default")),
    (record(field("a")), record(field("a", "string")), ("/fields/0/type", "type-mismatch")),
    (record(), record(name="S"), ("/name", "name-mismatch")),
    (record(field("x"), field("y")), record(field("z", aliases=["x", "y"])), (
        "/fields/0", "ambiguous-alias")),
    (linked("long"), linked("int"), ("/fields/0/type", "type-mismatch")),
    (decimal(4, 2), decimal(4, 3), ("", "decimal-mismatch")),
    (decimal(4, 2), decimal(5, 2), ("", "decimal-mismatch")),
    (logical("long", "timestamp-millis"), logical("long", "timestamp-micros"), (
        "/logicalType", "time-unit-changed")),
    (logical("int", "time-millis"), logical("long", "time-micros"), (
        "/logicalType", "time-unit-changed")),
]  # fmt: skip


def rules(old: Any, new: Any, mode: Mode) -> list[tuple[str, str]]:
    found = compatible(SchemaFormat.AVRO, mode, old, new)
    return [(item.pointer, item.rule) for item in found]


@pytest.mark.parametrize(("writer", "reader"), READABLE)
def test_what_resolves_is_compatible(writer: Any, reader: Any) -> None:
    assert [] == rules(writer, reader, Mode.BACKWARD)
    assert [] == rules(reader, writer, Mode.FORWARD)


@pytest.mark.parametrize(("writer", "reader", "expected"), UNREADABLE)
def test_what_does_not_resolve_says_where_and_why(
    writer: Any, reader: Any, expected: tuple[str, str]
) -> None:
    assert [expected] == rules(writer, reader, Mode.BACKWARD)
    assert [expected] == rules(reader, writer, Mode.FORWARD)


def test_in_a_transitive_mode_the_old_ones_are_a_list_of_schemas() -> None:
    versions = [["null", "string"], ["null", "string", "int"]]
    assert [] == rules(versions[1], ["int", "null", "string"], Mode.FULL)
    found = compatible(SchemaFormat.AVRO, Mode.FORWARD_TRANSITIVE, versions, versions[1])
    assert [(0, "missing-union-branch")] == [(item.against, item.rule) for item in found]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("strin", "is not a type"),
        ({"type": "array"}, "items is missing"),
        ({"type": "record", "name": "R"}, "fields is missing"),
        (["int", "int"], "twice in the union"),
        (["null", ["int"]], "directly within a union"),
        (record(field("a"), field("a")), "twice in the record"),
        (record(field("a", default="x")), "default 'x' is not of type int"),
        (record(field("1a")), "is not a name"),
        (enum("A", "A"), "there twice"),
        (enum("A", default="B"), "is not a symbol"),
        (fixed(-1), "not a whole number"),
        (5, "is not an Avro schema"),
        ("{", "not JSON"),
    ],
)
def test_what_is_no_schema_is_refused_with_a_reason(schema: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        avro_type(schema)


PLAIN = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "string"])


@st.composite
def types(draw: st.DrawFn, depth: int = 0) -> Any:
    kind = draw(st.sampled_from(["plain", "plain", "array", "map", "union", "record", "enum"]))
    inner = types(depth + 1)
    if depth > 2 or kind == "plain":
        return draw(PLAIN)
    if kind in ("array", "map"):
        return {"type": kind, "items" if kind == "array" else "values": draw(inner)}
    if kind == "union":
        return draw(st.lists(PLAIN, min_size=1, max_size=3, unique=True))
    if kind == "enum":
        return {"type": "enum", "name": f"E{depth}", "symbols": draw(
            st.lists(st.sampled_from("ABC"), min_size=1, unique=True))}  # fmt: skip
    names = draw(st.lists(st.sampled_from("xyz"), unique=True, max_size=2))
    return {
        "type": "record",
        "name": f"R{depth}",
        "fields": [{"name": name, "type": draw(inner)} for name in names],
    }


def parsed(schema: Any) -> Any:
    assume(str(schema).count("'name': 'R1'") < 2 and str(schema).count("'name': 'E") < 2)
    assume(str(schema).count("'name': 'R2'") < 2 and str(schema).count("'name': 'R3'") < 2)
    return fastavro.parse_schema(schema, named_schemas={})


@settings(max_examples=150, deadline=None)
@given(types(), types(), st.data())
def test_what_is_compatible_is_read_by_fastavro(old: Any, new: Any, data: st.DataObject) -> None:
    for reader in (new, [*old, "bytes"] if isinstance(old, list) else old):
        written_as, read_as = parsed(old), parsed(reader)
        if compatible(SchemaFormat.AVRO, Mode.BACKWARD, old, reader):
            continue
        value = data.draw(values(old))
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, written_as, value)
        fastavro.schemaless_reader(io.BytesIO(buffer.getvalue()), written_as, read_as)


def values(schema: Any) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.one_of([values(branch) for branch in schema])
    if isinstance(schema, dict):
        match schema["type"]:
            case "array":
                return st.lists(values(schema["items"]), max_size=2)
            case "map":
                return st.dictionaries(st.sampled_from("ab"), values(schema["values"]), max_size=2)
            case "enum":
                return st.sampled_from(schema["symbols"])
            case _:
                fields = {item["name"]: values(item["type"]) for item in schema["fields"]}
                return st.fixed_dictionaries(fields)
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": st.integers(-5, 5),
        "long": st.integers(-5, 5),
        "float": st.just(0.5),
        "double": st.just(0.5),
        "string": st.sampled_from(["", "a"]),
    }[schema]
