"""Whether every value of one JSON Schema (the writer's) is a value of another (the reader's).

The question is jsonschema-rs's: its canonical form answers *covers* with yes, no or unknown, and
only yes counts. What it does not answer is recursion, so that is taken out before it is asked:

- Definitions of both documents that say the same, whatever their names, become one (the coarsest
  partition in which equal classes have equal bodies).
- Every other recursive definition is replaced by a symbol of which nothing is known but its
  types. For each pair (writer's r, reader's s) it is *assumed* that r lies within s: a reference
  to r reads as the product of the symbols of all such s. Pairs whose bodies do not hold under the
  assumptions are dropped until the rest supports itself. By induction over the depth of a value
  it then holds: bodies refer to smaller values only (:func:`.json_document.document` refuses
  others).

The induction needs the writer's body to grow with its symbols. Under ``not``, in an ``if``, in a
``oneOf`` whose branches overlap and beside ``maxContains`` it does not, and no pair is assumed.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from itertools import combinations
from typing import Any, Final

import jsonschema_rs

from edo_stream.schemas.json_document import Document, Schema, places

TYPES: Final[tuple[str, ...]] = ("null", "boolean", "number", "string", "array", "object")
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NESTED_ONE: Final = ("not", "if", "then", "else", "contains", "propertyNames")
#: More pairs than any schema that people write; the check of each costs about a millisecond.
_PAIRS_MAX: Final = 900


class Containment:
    """Two documents in normal form, and the answers about parts of them."""

    def __init__(self, writer: Document, reader: Document) -> None:
        self._bodies: dict[str, Schema] = {}
        for side, found in (("w", writer), ("r", reader)):
            for pointer, schema in found.definitions.items():
                self._bodies[f"{side}{pointer}"] = _renamed(schema, side)
        self._classes = _partition(self._bodies)
        self._recursive = _recursive(self._bodies, self._classes)
        self._assumed: set[tuple[int, int]] = set()
        self._assumed = self._supported()

    def body(self, reference: str) -> Schema:
        """What a reference of :meth:`written` or :meth:`read` leads to."""
        return self._bodies[reference]

    def written(self, schema: Schema) -> Schema:
        """A schema of the writer's document, as this class wants it."""
        return _renamed(schema, "w")

    def read(self, schema: Schema) -> Schema:
        """A schema of the reader's document, as this class wants it."""
        return _renamed(schema, "r")

    def holds(self, writer: Schema, reader: Schema) -> bool:
        """Whether it is proven that all that is written can be read."""
        if reader is True or reader == {} or writer is False:
            return True
        try:
            wide, narrow = self._canonical(reader), self._canonical(writer)
            return bool(wide.covers(narrow) == jsonschema_rs.canonical.Containment.YES)
        except (ValueError, RecursionError):
            return False

    def is_disjoint(self, one: Schema, other: Schema) -> bool:
        """Whether it is proven that no value is of both."""
        return self.is_empty({"allOf": [one, other]})

    def is_empty(self, schema: Schema) -> bool:
        """Whether it is proven that there is no value."""
        try:
            found = self._canonical(schema).satisfiability()
        except (ValueError, RecursionError):
            return False
        return bool(found == jsonschema_rs.canonical.Satisfiability.NO)

    def _canonical(self, schema: Schema) -> Any:
        return jsonschema_rs.canonicalize(self._encoded(schema))

    def _encoded(self, schema: Schema) -> dict[str, Any]:
        """A whole document of 2020-12 about one schema: symbols for what is recursive."""
        definitions: dict[str, Any] = {}
        body = self._encode(schema, definitions)
        return {"$schema": _DIALECT, "allOf": [body], "$defs": definitions}

    def _encode(self, schema: Schema, definitions: dict[str, Any]) -> Any:
        if isinstance(schema, bool):
            return schema
        found = _mapped(schema, lambda part: self._encode(part, definitions))
        found.pop("default", None)
        # The library sees for itself that branches are disjoint, unless symbols are in them.
        is_opaque = "oneOf" in found and self._is_recursive(schema)
        if is_opaque and self._are_disjoint(schema["oneOf"]):
            branches = [{"anyOf": found.pop("oneOf")}]
            found["allOf"] = found.get("allOf", []) + branches
        if "$ref" in found:
            target = self._encode_reference(found.pop("$ref"), definitions)
            found["allOf"] = [*found.get("allOf", []), target]
        return found

    def _encode_reference(self, reference: str, definitions: dict[str, Any]) -> Any:
        kind = self._classes[reference]
        if kind not in self._recursive:
            name = f"d{kind}"
            if name not in definitions:
                definitions[name] = True
                definitions[name] = self._encode(self._bodies[reference], definitions)
            return {"$ref": f"#/$defs/{name}"}
        above = {kind} | {upper for lower, upper in self._assumed if lower == kind}
        for symbol in above:
            # Of a schema that says what its own arrays do not contain, nothing can be concluded.
            within = {"$ref": f"#/$defs/s{symbol}"}
            definitions[f"s{symbol}"] = {"not": {"type": "array", "contains": within}}
        symbols = [{"$ref": f"#/$defs/s{symbol}"} for symbol in sorted(above)]
        return {"allOf": [*symbols, {"type": list(self._types[kind])}]}

    def _are_disjoint(self, branches: list[Schema]) -> bool:
        return all(
            not set(self._types_of(one)) & set(self._types_of(other))
            or self.is_disjoint(self._without_references(one), self._without_references(other))
            for one, other in combinations(branches, 2)
        )

    def _without_references(self, schema: Schema) -> Schema:
        """A schema of which recursive parts are forgotten: all its values, and more."""
        if isinstance(schema, bool):
            return schema
        wider: dict[str, Any] = {
            name: value
            for name, value in schema.items()
            if name in ("type", "enum", "const", "required")
        }
        for name in ("properties", "allOf"):
            if name in schema:
                wider[name] = _mapped({name: schema[name]}, self._without_references)[name]
        if "$ref" in schema:
            kind = self._classes[schema["$ref"]]
            target: Schema = {"type": list(self._types[kind])}
            if kind not in self._recursive:
                target = self._without_references(self._bodies[schema["$ref"]])
            wider["allOf"] = [*wider.get("allOf", []), target]
        return wider

    @cached_property
    def _types(self) -> dict[int, tuple[str, ...]]:
        """Types of each class of definitions, wider rather than narrower."""
        found = dict.fromkeys(self._classes.values(), TYPES)
        for _ in range(len(found)):
            before = dict(found)
            for reference, kind in self._classes.items():
                types = _types(self._bodies[reference], found, self._classes)
                found[kind] = tuple(name for name in TYPES if name in types)
            if before == found:
                break
        return found

    def _types_of(self, schema: Schema) -> set[str]:
        return _types(schema, self._types, self._classes)

    def _supported(self) -> set[tuple[int, int]]:
        """The largest set of pairs that supports itself."""
        lower = {c: r for r, c in self._classes.items() if r[0] == "w" and c in self._recursive}
        upper = {c: r for r, c in self._classes.items() if r[0] == "r" and c in self._recursive}
        pairs = {
            (low, high)
            for low in lower
            for high in upper
            if low != high and set(self._types[low]) <= set(self._types[high])
        }
        grows = all(self._grows(self._bodies[reference]) for reference in lower.values())
        if not pairs or not grows or len(pairs) > _PAIRS_MAX:
            return set()
        while True:
            self._assumed = pairs
            kept = {
                (low, high)
                for low, high in pairs
                if self.holds(self._bodies[lower[low]], self._bodies[upper[high]])
            }
            if kept == pairs:
                return kept
            pairs = kept

    def _grows(self, schema: Schema) -> bool:
        """Whether a schema has more values when its recursive definitions have."""
        if isinstance(schema, bool):
            return True
        for name, part in places(schema):
            is_limited = name == "contains" and "maxContains" in schema
            is_turned = name in ("not", "if") or is_limited
            if is_turned and self._is_recursive(part):
                return False
            overlaps = name == "oneOf" and self._is_recursive(part)
            if overlaps and not self._are_disjoint(schema["oneOf"]):
                return False
            if not self._grows(part):
                return False
        return True

    def _is_recursive(self, schema: Schema) -> bool:
        return any(
            self._classes[near] in self._recursive or self._is_recursive(self._bodies[near])
            for near in references(schema)
        )


def references(schema: Schema) -> Iterator[str]:
    """Every reference within a schema."""
    if isinstance(schema, bool):
        return
    if "$ref" in schema:
        yield schema["$ref"]
    for _, part in places(schema):
        yield from references(part)


def _mapped(schema: dict[str, Any], change: Any) -> dict[str, Any]:
    """A schema with its direct parts changed."""
    found = dict(schema)
    for name, value in schema.items():
        if name in ("allOf", "anyOf", "oneOf", "prefixItems"):
            found[name] = [change(item) for item in value]
        elif name in ("properties", "patternProperties", "dependentSchemas"):
            found[name] = {key: change(item) for key, item in value.items()}
        elif name in _NESTED_ONE or name in (
            "items",
            "additionalProperties",
            "unevaluatedItems",
            "unevaluatedProperties",
        ):
            found[name] = change(value)
    return found


def _renamed(schema: Schema, side: str) -> Schema:
    if isinstance(schema, bool):
        return schema
    found = _mapped(schema, lambda part: _renamed(part, side))
    if "$ref" in found:
        found["$ref"] = f"{side}{found['$ref']}"
    return found


def _partition(bodies: dict[str, Schema]) -> dict[str, int]:
    """A number for each definition, the same for those that say the same."""
    classes = dict.fromkeys(bodies, 0)
    while True:
        texts = {name: _text(body, classes) for name, body in bodies.items()}
        numbers = {text: number for number, text in enumerate(sorted(set(texts.values())))}
        found = {name: numbers[text] for name, text in texts.items()}
        if len(numbers) == len(set(classes.values())):
            return found
        classes = found


def _text(schema: Schema, classes: dict[str, int]) -> str:
    def plain(part: Schema) -> Any:
        if isinstance(part, bool):
            return part
        found = _mapped(part, plain)
        if "$ref" in found:
            found["$ref"] = classes[found["$ref"]]
        return found

    return json.dumps(plain(schema), sort_keys=True)


def _recursive(bodies: dict[str, Schema], classes: dict[str, int]) -> set[int]:
    """Classes of definitions that lead to themselves."""
    ahead: dict[int, set[int]] = {}
    for name, body in bodies.items():
        ahead.setdefault(classes[name], set()).update(classes[r] for r in references(body))
    found = set()
    for start, direct in ahead.items():
        seen: set[int] = set()
        near = set(direct)
        while near:
            seen |= near
            near = {far for item in near for far in ahead[item]} - seen
        if start in seen:
            found.add(start)
    return found


def _types(schema: Schema, known: dict[int, tuple[str, ...]], classes: dict[str, int]) -> set[str]:
    """Types that values of a schema may have, wider rather than narrower."""
    if isinstance(schema, bool):
        return set(TYPES) if schema else set()
    found = set(TYPES)
    if "type" in schema:
        declared = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        found &= {"number" if name == "integer" else name for name in declared}
    if "$ref" in schema:
        found &= set(known[classes[schema["$ref"]]])
    for part in schema.get("allOf", ()):
        found &= _types(part, known, classes)
    for name in ("anyOf", "oneOf"):
        if name in schema:
            branches = [_types(part, known, classes) for part in schema[name]]
            found &= set().union(*branches)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        found &= {_type_of(value) for value in values}
    return found


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
