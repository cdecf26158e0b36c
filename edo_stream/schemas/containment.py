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

The canonical form spells unions out: a product of ten unions of two is a thousand cases. Beyond
:data:`CASES_MAX` a product is asked in parts: each of the reader's must be one of the writer's, or
follow from a few of them. And all questions of a comparison together have :data:`BUDGET_S`; what is
asked later is not proven.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from itertools import combinations
from time import perf_counter
from typing import Any, Final

import jsonschema_rs

from edo_stream.schemas.json_document import Document, Schema, places

TYPES: Final[tuple[str, ...]] = ("null", "boolean", "number", "string", "array", "object")
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NESTED_ONE: Final = ("not", "if", "then", "else", "contains", "propertyNames")
#: More pairs than any schema that people write; the check of each costs about a millisecond.
_PAIRS_MAX: Final = 900
CASES_MAX: Final = 96
BUDGET_S: Final = 10.0
_UNIONS: Final = ("anyOf", "oneOf", "if", "then", "else", "not")


class Containment:
    """Two documents in normal form, and the answers about parts of them."""

    def __init__(self, writer: Document, reader: Document) -> None:
        self._bodies: dict[str, Schema] = {}
        for side, found in (("w", writer), ("r", reader)):
            for pointer, schema in found.definitions.items():
                self._bodies[f"{side}{pointer}"] = _renamed(schema, side)
        self._classes = _partition(self._bodies)
        self._recursive = _recursive(self._bodies, self._classes)
        self._until_s = perf_counter() + BUDGET_S
        self._assumed: set[tuple[int, int]] = set()
        self._assumed = self._supported()

    @property
    def is_over(self) -> bool:
        """Whether the time for questions is over: all later answers are no."""
        return perf_counter() > self._until_s

    def body(self, reference: str) -> Schema:
        """What a reference of :meth:`written` or :meth:`read` leads to."""
        return self._bodies[reference]

    def is_recursive(self, schema: Schema) -> bool:
        """Whether a schema is a reference to what leads to itself."""
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        return reference is not None and self._classes[reference] in self._recursive

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
        if not self._is_small(writer, reader):
            return self._holds_in_parts(writer, reader)
        return self._is_covered(writer, reader)

    def _is_covered(self, writer: Schema, reader: Schema) -> bool:
        """Ask the library; no without an answer, in time."""
        if self.is_over:
            return False
        try:
            wide, narrow = self._canonical(reader), self._canonical(writer)
            return bool(wide.covers(narrow) == jsonschema_rs.canonical.Containment.YES)
        except (ValueError, RecursionError):
            return False

    def _holds_in_parts(self, writer: Schema, reader: Schema) -> bool:
        """The same of a product of many unions: less is proven, at bounded cost."""
        has = self._parts(writer)
        plains = [part for part in has if not _is_union(part)]
        plain: Schema = {"allOf": plains} if plains else {}
        for wanted in self._parts(reader):
            if wanted in has or any(self._is_widened(part, wanted) for part in has):
                continue
            # More than these at once would be the question that is too long.
            known: list[Schema] = [{"allOf": [plain, part]} for part in has if _is_union(part)]
            near = [part for part in (plain, *known) if self._is_small(part, wanted)]
            if not any(self._is_covered(part, wanted) for part in near):
                return False
        return True

    def _is_widened(self, writer: Schema, reader: Schema) -> bool:
        """Whether each branch of a union is, or lies within, the branch that is meant."""
        if isinstance(writer, bool) or isinstance(reader, bool):
            return False
        lower: list[Schema] = writer.get("anyOf") or writer.get("oneOf") or []
        upper: list[Schema] = reader.get("anyOf") or reader.get("oneOf") or []
        if not lower or not ("anyOf" in reader or _is_discriminated(upper)):
            return False
        return all(
            part in upper or any(self._is_within(part, other) for other in upper) for part in lower
        )

    def _is_within(self, writer: Schema, reader: Schema) -> bool:
        """One branch within another; those of different kinds are not asked about."""
        return not _is_discriminated([writer, reader]) and self._is_covered(writer, reader)

    def _is_small(self, writer: Schema, reader: Schema) -> bool:
        return self._cases(writer) + self._cases(reader) <= CASES_MAX

    def _parts(self, schema: Schema) -> list[Schema]:
        """What a schema is the product of: unions and conditions alone, all else together."""
        if isinstance(schema, bool):
            return [schema]
        found: list[Schema] = []
        if "$ref" in schema and self._classes[schema["$ref"]] in self._recursive:
            found.append({"$ref": schema["$ref"]})
        elif "$ref" in schema:
            found += self._parts(self._bodies[schema["$ref"]])
        for part in schema.get("allOf", ()):
            found += self._parts(part)
        for names in (("anyOf",), ("oneOf",), ("not",), ("if", "then", "else")):
            union = {name: schema[name] for name in names if name in schema}
            if union:
                found.append(union)
        rest = {n: v for n, v in schema.items() if n not in (*_UNIONS, "allOf", "$ref", "default")}
        return [*found, rest] if rest else found

    def _cases(self, schema: Schema) -> int:
        """How many cases a schema has when its unions are spelled out, roughly."""
        if isinstance(schema, bool):
            return 1
        found = 1
        if "$ref" in schema and self._classes[schema["$ref"]] not in self._recursive:
            found *= self._cases(self._bodies[schema["$ref"]])
        for part in schema.get("allOf", ()):
            found *= self._cases(part)
        for name in ("anyOf", "oneOf"):
            if name in schema:
                found *= sum(map(self._cases, schema[name]))
        if "oneOf" in schema and not _is_discriminated(schema["oneOf"]):
            # Each branch is one with all the others denied.
            found *= len(schema["oneOf"])
        if "if" in schema:
            found *= sum(self._cases(schema.get(name, True)) for name in ("then", "else"))
        if "not" in schema and isinstance(schema["not"], dict):
            found *= max(1, len(schema["not"]))
        return min(found, CASES_MAX + 1)

    def is_disjoint(self, one: Schema, other: Schema) -> bool:
        """Whether it is proven that no value is of both."""
        return self.is_empty({"allOf": [one, other]})

    def is_apart(self, part: Schema, whole: Schema, other: Schema) -> bool:
        """Whether ``whole``, of which ``part`` is one factor, has no value of the other."""
        return _is_discriminated([part, other]) or self.is_disjoint(whole, other)

    def is_empty(self, schema: Schema) -> bool:
        """Whether it is proven that there is no value."""
        if self._cases(schema) > CASES_MAX or self.is_over:
            return False
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
            for low, high in self._meeting("w", "r")
            if low in lower
            and high in upper
            and low != high
            and set(self._types[low]) <= set(self._types[high])
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

    def _meeting(self, writer: str, reader: str) -> set[tuple[int, int]]:
        """Recursive definitions that may be asked of the same value, from the roots on."""
        found: set[tuple[int, int]] = set()
        ahead = [([self._bodies[writer]], [self._bodies[reader]])]
        while ahead and len(found) <= _PAIRS_MAX:
            lower, upper = (self._in_place(schemas) for schemas in ahead.pop())
            for low in _references_of(lower):
                for high in _references_of(upper):
                    pair = (self._classes[low], self._classes[high])
                    if pair not in found and self._recursive >= {*pair}:
                        found.add(pair)
                        ahead.append(([self._bodies[low]], [self._bodies[high]]))
            ahead += (pair for pair in _below(lower, upper) if all(pair))
        return found

    def _in_place(self, schemas: list[Schema]) -> list[dict[str, Any]]:
        """Schemas, and all that they apply to the same value; recursive references stay."""
        found: list[dict[str, Any]] = []
        ahead = list(schemas)
        while ahead:
            schema = ahead.pop()
            if isinstance(schema, bool):
                continue
            found.append(schema)
            ahead += [p for n, p in places(schema) if n in (*_UNIONS, "allOf", "dependentSchemas")]
            reference = schema.get("$ref")
            if reference is not None and self._classes[reference] not in self._recursive:
                ahead.append(self._bodies[reference])
        return found

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


def _references_of(schemas: list[dict[str, Any]]) -> list[str]:
    return [schema["$ref"] for schema in schemas if "$ref" in schema]


def _below(
    lower: list[dict[str, Any]], upper: list[dict[str, Any]]
) -> Iterator[tuple[list[Schema], list[Schema]]]:
    """Schemas of values within a value: by the name of a property, and all items together."""
    names = {name for schema in (*lower, *upper) for name in schema.get("properties", ())}
    for name in names:
        yield _of_property(lower, name), _of_property(upper, name)
    yield _of_property(lower, None), _of_property(upper, None)
    yield _of_items(lower), _of_items(upper)


def _of_property(schemas: list[dict[str, Any]], name: str | None) -> list[Schema]:
    found: list[Schema] = []
    for schema in schemas:
        found += [schema["properties"][name]] if name in schema.get("properties", {}) else []
        found += schema.get("patternProperties", {}).values()
        others = ("additionalProperties", "unevaluatedProperties")
        found += [schema[other] for other in others if other in schema]
    return found


def _of_items(schemas: list[dict[str, Any]]) -> list[Schema]:
    found: list[Schema] = []
    for schema in schemas:
        found += schema.get("prefixItems", [])
        others = ("items", "contains", "unevaluatedItems")
        found += [schema[other] for other in others if other in schema]
    return found


def _is_discriminated(branches: list[Schema]) -> bool:
    """Whether branches can be seen to be disjoint: by their types, or by a property's constants."""
    objects = [part for part in branches if isinstance(part, dict)]
    if len(objects) < len(branches):
        return False
    types = [part.get("type") for part in objects]
    if all(isinstance(name, str) for name in types) and len(set(map(str, types))) == len(types):
        return not {"integer", "number"} <= {*types}
    first = objects[0].get("properties", {})
    return any(_tells_apart(name, objects) for name in first)


def _tells_apart(name: str, branches: list[dict[str, Any]]) -> bool:
    values = []
    for part in branches:
        said = part.get("properties", {}).get(name)
        is_constant = isinstance(said, dict) and "const" in said
        # Of what is no object, properties say nothing.
        is_there = part.get("type") == "object" and name in part.get("required", ())
        if not is_constant or not is_there:
            return False
        values.append(json.dumps(said["const"], sort_keys=True))
    return len(set(values)) == len(values)


def _is_union(schema: Schema) -> bool:
    return isinstance(schema, dict) and any(name in schema for name in _UNIONS)


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
