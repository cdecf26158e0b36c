"""Compatibility of JSON Schemas: Confluent's changes, and what must follow from a yes."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.schemas.compatibility import Mode, SchemaFormat, compatible
from edo_stream.schemas.defaults import filler
from edo_stream.schemas.errors import SchemaError
from edo_stream.schemas.json_breaks import json_breaks
from edo_stream.schemas.json_document import document

STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
NULL = {"type": "null"}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"


def closed(**properties: Any) -> dict[str, Any]:
    return {"properties": properties, "additionalProperties": False}


def rules(old: Any, new: Any, mode: Mode = Mode.BACKWARD) -> list[tuple[str, str]]:
    found = compatible(SchemaFormat.JSON, mode, old, new)
    return [(item.pointer, item.rule) for item in found]


# Confluent's catalogue of differences, one line for each kind of change.
COMPATIBLE = [
    ({"properties": {}}, {}),
    ({"title": "a", "description": "b"}, {"title": "c"}),
    ({**STRING, "minLength": 11}, {**STRING, "minLength": 10}),
    ({**STRING, "maxLength": 10}, {**STRING, "maxLength": 12}),
    ({**STRING, "pattern": "uuid"}, STRING),
    ({**NUMBER, "maximum": 10}, {**NUMBER, "maximum": 11}),
    ({**NUMBER, "minimum": 10}, NUMBER),
    ({**NUMBER, "multipleOf": 10}, {**NUMBER, "multipleOf": 2}),
    ({**NUMBER, "multipleOf": 0.3}, {**NUMBER, "multipleOf": 0.1}),
    (INTEGER, NUMBER),
    ({"not": NUMBER}, {"not": INTEGER}),
    ({**STRING, "enum": ["red"]}, STRING),
    ({"enum": ["red"]}, {"enum": ["red", "blue"]}),
    ({"const": "red"}, {"enum": ["red", "blue"]}),
    ({"type": ["object"]}, {"type": ["object", "array"]}),
    ({"oneOf": [STRING]}, {"oneOf": [NUMBER, STRING]}),
    ({"oneOf": [STRING]}, {"anyOf": [NUMBER, STRING]}),
    ({"allOf": [STRING]}, {"oneOf": [NUMBER, STRING]}),
    ({"anyOf": [STRING]}, {"allOf": [STRING]}),
    ({"allOf": [STRING, {"maxLength": 5}]}, {"allOf": [{"maxLength": 5}, STRING]}),
    ({"allOf": [STRING, {"enum": ["one"]}]}, {"allOf": [STRING]}),
    ({**STRING, "maxLength": 3}, {"oneOf": [NUMBER, STRING]}),
    (closed(foo=STRING), closed(foo=STRING, bar=NUMBER)),
    (
        {**closed(foo=STRING), "patternProperties": {"^I_": INTEGER}},
        {**closed(foo=STRING, I_1=NUMBER), "patternProperties": {"^I_": INTEGER}},
    ),
    (
        {"properties": {"foo": STRING}, "additionalProperties": STRING},
        {"properties": {"foo": STRING, "bar": STRING}, "additionalProperties": STRING},
    ),
    (closed(foo=STRING, I_1=INTEGER), {**closed(foo=STRING), "patternProperties": {"^I": NUMBER}}),
    (closed(foo=STRING, bar=STRING), {"additionalProperties": {"oneOf": [NULL, STRING]}}),
    ({"patternProperties": {"^S_": STRING}, "additionalProperties": False}, closed() | {
        "patternProperties": {"^S_A": STRING, "^S_": True}}),
    ({}, {"properties": {"foo": True}}),
    ({"properties": {"foo": STRING}}, {}),
    (closed(foo=False), closed()),
    ({"required": ["foo"]}, {}),
    ({"properties": {"foo": STRING}}, {
        "properties": {"foo": {**STRING, "default": ""}}, "required": ["foo"]}),
    (closed(), closed(foo={**STRING, "default": "none"}) | {"required": ["foo"]}),
    ({"maxProperties": 1}, {"maxProperties": 2}),
    ({"minProperties": 2}, {"minProperties": 1}),
    ({"dependentRequired": {"a": ["b", "c"]}}, {"dependentRequired": {"a": ["b"]}}),
    ({"dependencies": {"a": {"required": ["b"]}}}, {"dependencies": {}}),
    ({"propertyNames": {"maxLength": 3}}, {"propertyNames": {"maxLength": 4}}),
    ({"type": "array", "items": STRING}, {"type": "array"}),
    ({"items": [STRING, NUMBER]}, {"items": [STRING]}),
    ({"items": [STRING], "additionalItems": False}, {"items": [STRING, NUMBER]}),
    ({"items": [STRING, NUMBER], "additionalItems": False}, {
        "items": [STRING], "additionalItems": NUMBER}),
    ({"prefixItems": [STRING], "items": NUMBER}, {"prefixItems": [STRING, NUMBER]}),
    ({"contains": INTEGER, "minContains": 2}, {"contains": NUMBER}),
    ({"maxItems": 1}, {"maxItems": 2}),
    ({"minItems": 2}, {"minItems": 1}),
    ({"uniqueItems": True}, {}),
    (STRING, {"$ref": "#/definitions/x", "definitions": {"x": STRING}}),
    ({"$ref": "#/$defs/x", "$defs": {"x": STRING}}, STRING),
    ({"if": STRING, "then": {"minLength": 3}, "else": INTEGER}, {"type": ["string", "integer"]}),
    ({**STRING, "format": "date"}, {**STRING, "format": "date-time"}),
    # Stricter nowhere than a value that could break it.
    ({"enum": ["red"]}, STRING),
    ({"type": "integer", "minimum": 1, "maximum": 3}, {"enum": [1, 2, 3, 4]}),
    ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"minProperties": 1}),
]  # fmt: skip
BREAKING = [
    ({"type": "object"}, {"type": "array"}, ("/type", "type-changed")),
    (NUMBER, INTEGER, ("/type", "type-narrowed")),
    ({"minLength": 1}, {"minLength": 2}, ("/minLength", "min-length-increased")),
    ({"maxLength": 12}, {"maxLength": 9}, ("/maxLength", "max-length-decreased")),
    (STRING, {**STRING, "maxLength": 9}, ("/maxLength", "max-length-added")),
    ({**STRING, "pattern": "a"}, {**STRING, "pattern": "b"}, ("/pattern", "pattern-changed")),
    ({**NUMBER, "maximum": 11}, {**NUMBER, "maximum": 10}, ("/maximum", "maximum-decreased")),
    (
        {**NUMBER, "multipleOf": 10},
        {**NUMBER, "multipleOf": 11},
        ("/multipleOf", "multiple-of-increased"),
    ),
    ({"not": INTEGER}, {"not": NUMBER}, ("/not", "not-extended")),
    ({"enum": ["red"]}, {"enum": ["blue"]}, ("/enum", "enum-narrowed")),
    (STRING, {**STRING, "enum": ["red"]}, ("/enum", "enum-added")),
    ({"oneOf": [NUMBER, STRING]}, {"oneOf": [STRING, NULL]}, ("/oneOf", "union-narrowed")),
    ({"oneOf": [INTEGER]}, {"oneOf": [INTEGER, NUMBER]}, ("/oneOf", "branches-overlap")),
    ({"anyOf": [STRING]}, {"allOf": [NUMBER, STRING]}, ("/allOf/0/type", "type-changed")),
    (
        {"properties": {"foo": STRING}},
        {"properties": {"foo": STRING, "bar": NUMBER}},
        ("/properties/bar", "property-added-to-open-content-model"),
    ),
    (
        {"properties": {"foo": STRING}},
        {"properties": {"foo": NUMBER}},
        ("/properties/foo/type", "type-changed"),
    ),
    (
        closed(foo=STRING, bar=STRING),
        closed(foo=STRING),
        ("/properties/bar", "property-removed-from-closed-content-model"),
    ),
    (
        {"properties": {"foo": STRING}, "additionalProperties": STRING},
        {"properties": {"foo": STRING, "bar": NUMBER}, "additionalProperties": STRING},
        ("/properties/bar/type", "type-changed"),
    ),
    (closed(), closed(foo=STRING) | {"required": ["foo"]}, ("/required", "required-added")),
    ({"required": ["foo"]}, {"required": ["bar"]}, ("/required", "required-added")),
    (
        {"properties": {"a": STRING}},
        {"properties": {"a": {"default": 1, **STRING}}, "required": ["a"]},
        ("/required", "required-added"),
    ),
    ({"maxProperties": 2}, {"maxProperties": 1}, ("/maxProperties", "max-properties-decreased")),
    (
        {"dependentRequired": {"a": ["b"]}},
        {"dependentRequired": {"a": ["b", "c"]}},
        ("/dependentRequired/a", "dependency-added"),
    ),
    (
        {"additionalProperties": True},
        {"additionalProperties": False},
        ("/additionalProperties", "additional-properties-removed"),
    ),
    (
        {"additionalProperties": True},
        {"additionalProperties": NUMBER},
        ("/additionalProperties", "additional-properties-narrowed"),
    ),
    (
        {"additionalProperties": STRING},
        {"additionalProperties": NUMBER},
        ("/additionalProperties/type", "type-changed"),
    ),
    (
        {"propertyNames": {"maxLength": 4}},
        {"propertyNames": {"maxLength": 3}},
        ("/propertyNames", "property-names-narrowed"),
    ),
    ({"type": "array"}, {"type": "array", "items": STRING}, ("/items", "items-narrowed")),
    (
        {"items": [STRING]},
        {"items": [STRING, NUMBER]},
        ("/items/1", "item-added-to-open-content-model"),
    ),
    (
        {"items": [STRING, NUMBER], "additionalItems": False},
        {"items": [STRING], "additionalItems": False},
        ("/additionalItems", "item-removed-from-closed-content-model"),
    ),
    (
        {"prefixItems": [STRING]},
        {"prefixItems": [NUMBER]},
        ("/prefixItems/0/type", "type-changed"),
    ),
    ({"contains": NUMBER}, {"contains": INTEGER}, ("/contains", "contains-narrowed")),
    ({}, {"uniqueItems": True}, ("/uniqueItems", "unique-items-added")),
    (
        {"if": STRING, "then": {"minLength": 1}},
        {"if": STRING, "then": {"minLength": 2}},
        ("/then/minLength", "min-length-added"),
    ),
    (
        {"allOf": [{"properties": {"a": {}, "b": {}}}], "unevaluatedProperties": False},
        {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
        ("/unevaluatedProperties", "unevaluated-properties-narrowed"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), COMPATIBLE)
def test_a_change_that_takes_all_that_was_written_is_compatible(old: Any, new: Any) -> None:
    assert [] == rules(old, new)


@pytest.mark.parametrize(("old", "new", "expected"), BREAKING)
def test_a_break_says_where_and_which_rule(old: Any, new: Any, expected: tuple[str, str]) -> None:
    assert [expected] == rules(old, new)


@pytest.mark.parametrize(("old", "new", "expected"), BREAKING)
def test_forward_is_backward_with_the_sides_changed(old: Any, new: Any, expected: Any) -> None:
    assert [expected] == rules(new, old, Mode.FORWARD)


LIST_NODE = {
    "type": "object",
    "properties": {"value": INTEGER, "next": {"oneOf": [NULL, {"$ref": "#"}]}},
    "additionalProperties": False,
}
TREE_OLD = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {**STRING, "maxLength": 5},
                "left": {"$ref": "#/$defs/node"},
                "others": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
}


def test_a_recursive_schema_is_compared_with_one_of_other_names() -> None:
    new = json.loads(json.dumps(TREE_OLD).replace("node", "branch").replace("5", "7"))
    assert [] == rules(TREE_OLD, new)
    assert [("/properties/name/maxLength", "max-length-decreased")] == rules(new, TREE_OLD)


def test_a_recursive_schema_may_widen_where_it_refers_to_itself() -> None:
    new = json.loads(json.dumps(LIST_NODE).replace("integer", "number"))
    assert [] == rules(LIST_NODE, new)
    assert [("/properties/value/type", "type-narrowed")] == rules(new, LIST_NODE)


def test_recursion_under_not_is_never_taken_for_growth() -> None:
    old = {"properties": {"a": {"not": {"$ref": "#"}}, "b": STRING}, "required": ["b"]}
    new = {"properties": {"a": {"not": {"$ref": "#"}}, "b": STRING}}
    # {"a": {}, "b": ""}: {} is no value of the old one, and one of the new.
    assert [] != rules(old, new)


def test_many_kinds_told_apart_by_a_constant_may_become_more() -> None:
    def kinds(count: int) -> dict[str, Any]:
        each = [{"const": f"kind-{number}"} for number in range(count)]
        some = {"type": "object", "required": ["k"]}
        return {"oneOf": [{**some, "properties": {"k": k, "n": INTEGER}} for k in each]}

    assert [] == rules(kinds(150), kinds(151))
    assert [("/oneOf", "union-narrowed")] == rules(kinds(151), kinds(150))


def test_a_constant_tells_objects_apart_and_nothing_else() -> None:
    def kinds(count: int) -> dict[str, Any]:
        each = [{"properties": {"k": {"const": n}}, "required": ["k"]} for n in range(count)]
        return {"oneOf": each}

    # 5 is no object, so it was of the one branch that there was, and is of two.
    assert [("/oneOf", "branches-overlap")] == rules(kinds(1), kinds(2))
    assert [] != rules(kinds(1), kinds(150))


def test_a_product_of_many_unions_is_compared_in_parts() -> None:
    def product(count: int) -> dict[str, Any]:
        pairs = [({"required": [f"a{n}"]}, {"required": [f"b{n}"]}) for n in range(count)]
        return {"allOf": [{"anyOf": [*pair]} for pair in pairs]}

    assert [] == rules(product(16), product(15))
    assert [] != rules(product(15), product(16))


def test_definitions_that_refer_to_each_other_are_compared_where_they_meet() -> None:
    def ring(kind: str) -> dict[str, Any]:
        def one(number: int) -> dict[str, Any]:
            ahead = {f"r{step}": {"$ref": f"#/$defs/d{(number + step) % 12}"} for step in (1, 2)}
            return {"properties": {f"v{number}": {"type": kind}, **ahead}}

        return {"$ref": "#/$defs/d0", "$defs": {f"d{number}": one(number) for number in range(12)}}

    assert [] == rules(ring("integer"), ring("number"))
    assert 12 == len(rules(ring("number"), ring("integer")))


def test_dialects_are_compared_with_each_other() -> None:
    old = {"$schema": DRAFT_7, "items": [STRING], "additionalItems": False}
    new = {"$schema": DRAFT_2020, "prefixItems": [STRING, INTEGER], "items": False}
    assert [] == rules(old, new)
    assert [] != rules(new, old)


def test_beside_a_reference_draft_7_reads_nothing() -> None:
    old = {"$ref": "#/definitions/x", "definitions": {"x": STRING}}
    new = {**old, "maxLength": 3}
    assert [] == rules({**old, "$schema": DRAFT_7}, {**new, "$schema": DRAFT_7})
    assert [] != rules({**old, "$schema": DRAFT_2020}, {**new, "$schema": DRAFT_2020})


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.BACKWARD, []),
        (Mode.BACKWARD_TRANSITIVE, [0]),
        (Mode.FORWARD, [None]),
        (Mode.FORWARD_TRANSITIVE, [1]),
        (Mode.FULL, [None]),
        (Mode.FULL_TRANSITIVE, [0, 1]),
        (Mode.NONE, []),
    ],
)
def test_transitive_modes_ask_every_old_version(mode: Mode, expected: list[int | None]) -> None:
    versions = [{"type": ["string", "null"]}, {**STRING, "maxLength": 5}]
    found = compatible(SchemaFormat.JSON, mode, versions, STRING)
    assert expected == [item.against for item in found]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strin"}, "/type"),
        ({"$ref": "#/nowhere"}, "leads nowhere"),
        ({"$ref": "https://example.com/other.json"}, "leads out of the file"),
        ({"$ref": "#"}, "without going into the data"),
        ({"$schema": "http://example.com/dialect"}, "is not known"),
        ([], "an array"),
        ("{", "not JSON"),
    ],
)
def test_what_is_no_schema_is_refused_with_a_reason(schema: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        compatible(SchemaFormat.JSON, Mode.BACKWARD, {}, schema)


NAMES = ["a", "b", "ab"]
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 2, 1.5, -1, "", "a", "ab", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([True, False, STRING, INTEGER, NUMBER, NULL, {"const": 1}]),
    st.fixed_dictionaries({"enum": st.lists(st.sampled_from(["a", 1, None]), min_size=1)}),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "number", "integer"]),
            "minimum": st.integers(0, 2),
            "maximum": st.integers(0, 3),
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 3),
            "pattern": st.sampled_from(["^a", "b$"]),
        },
    ),
)


@st.composite
def schemas(draw: st.DrawFn, depth: int = 0) -> Any:
    """A schema of a few keywords: small enough that two of them meet, and that values fit."""
    if depth > 2 or draw(st.integers(0, 3)) == 0:
        return draw(LEAVES)
    inner = schemas(depth + 1)
    names = st.lists(st.sampled_from(NAMES), unique=True, max_size=2)
    some = st.lists(inner, min_size=1, max_size=2)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(["object", "array", ["object", "null"]]),
        "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
        "required": names,
        "additionalProperties": inner,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=1),
        "dependentRequired": st.dictionaries(st.sampled_from(NAMES), names, max_size=1),
        "propertyNames": st.sampled_from([{"maxLength": 1}, {"enum": ["a", "b"]}]),
        "prefixItems": some,
        "items": inner,
        "maxItems": st.integers(0, 2),
        "contains": inner,
        "anyOf": some,
        "oneOf": some,
        "allOf": some,
        "not": inner,
        "if": inner,
        "then": inner,
        "default": st.sampled_from([1, "a"]),
    }
    chosen = draw(st.lists(st.sampled_from(list(keywords)), unique=True, max_size=3))
    return {name: draw(keywords[name]) for name in chosen}


@settings(max_examples=150, deadline=None)
@given(schemas(), schemas(), st.lists(VALUES, min_size=10, max_size=10))
def test_what_is_compatible_takes_every_value_of_the_old_schema(
    one: Any, other: Any, values: list[Any]
) -> None:
    # Two unrelated schemas are rarely compatible; one and its union or product with another are.
    for old, new in ((one, other), (one, {"anyOf": [other, one]}), ({"allOf": [one, other]}, one)):
        reader = document(new)
        if json_breaks(document(old), reader):
            continue
        fill = filler(reader)
        before, after = jsonschema_rs.validator_for(old), jsonschema_rs.validator_for(new)
        for value in values:
            if before.is_valid(value):
                read = json.loads(json.dumps(value))
                if fill is not None:
                    fill(read)
                assert after.is_valid(read)


@settings(max_examples=60, deadline=None)
@given(schemas())
def test_every_schema_is_compatible_with_itself(schema: Any) -> None:
    assert [] == json_breaks(document(schema), document(json.loads(json.dumps(schema))))
