"""A JSON Schema in one normal form: draft 4 to 2020-12, references resolved, annotations gone.

Comparing two schemas is hard enough in one dialect. A document becomes a set of definitions, keyed
by their JSON pointer (``""`` is the root), in the words of 2020-12:

- tuples are ``prefixItems`` and ``items``, whatever the dialect called them;
- ``dependencies`` are ``dependentRequired`` and ``dependentSchemas``;
- a draft-4 ``exclusiveMaximum: true`` is a number;
- what stands beside ``$ref`` counts only where the dialect says so (2019-09 on);
- a union or product of one branch is that branch;
- keywords that the dialect does not know, and annotations, are left out. ``default`` stays: a
  reader may fill it in (:mod:`.defaults`). ``format`` is an annotation in every dialect here.

Every ``$ref`` holds a key of the definitions. ``$dynamicRef`` and ``$recursiveRef`` are read as
``$ref``: a schema that is extended by another file is not one of ours.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

import jsonschema_rs

from edo_stream.schemas.errors import SchemaError

Json = Any
"""A JSON value; schemas are objects or booleans."""
Schema = dict[str, Any] | bool

_DIALECTS: Final = {
    "http://json-schema.org/draft-04/schema": 4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
_URIS: Final = {number: uri for uri, number in _DIALECTS.items()}
#: Keywords by the first dialect that knows them, and the last.
_SINCE: Final = {
    "const": 6,
    "contains": 6,
    "propertyNames": 6,
    "if": 7,
    "then": 7,
    "else": 7,
    "dependentRequired": 2019,
    "dependentSchemas": 2019,
    "unevaluatedProperties": 2019,
    "unevaluatedItems": 2019,
    "minContains": 2019,
    "maxContains": 2019,
    "prefixItems": 2020,
}
_UNTIL: Final = {"additionalItems": 2019, "dependencies": 7}
_ONE: Final = (
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_MANY: Final = ("allOf", "anyOf", "oneOf")
_NAMED: Final = ("properties", "patternProperties", "dependentSchemas")
_PLAIN: Final = (
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "minContains",
    "maxContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "default",
)
_SIBLINGS_COUNT: Final = 2019
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


@dataclass(frozen=True, slots=True)
class Document:
    """A schema in normal form."""

    dialect: int
    """4, 6, 7, 2019 or 2020."""
    definitions: dict[str, Schema] = field(default_factory=dict)
    """By JSON pointer into the file; the root is ``""``."""

    @property
    def root(self) -> Schema:
        return self.definitions[""]

    def spelled(self, keyword: str, is_tuple: bool = False) -> str:
        """How the file's own dialect calls a keyword of the normal form."""
        if self.dialect >= 2020:
            return keyword
        if keyword == "prefixItems":
            return "items"
        if keyword == "items" and is_tuple:
            return "additionalItems"
        is_old = self.dialect <= _UNTIL["dependencies"]
        return "dependencies" if is_old and keyword.startswith("dependent") else keyword


def dialect_of(schema: Json) -> int:
    """The dialect that a schema declares; one that declares none is judged by its keywords.

    Raises:
        SchemaError: the dialect is unknown.
    """
    declared = schema.get("$schema") if isinstance(schema, dict) else None
    if declared is None:
        return _undeclared(schema)
    found = _DIALECTS.get(str(declared).rstrip("#"))
    if found is None:
        raise SchemaError(f"$schema {declared} is not known: write {_URIS[2020]} or {_URIS[7]}#")
    return found


def dialect_uri(dialect: int) -> str:
    """The ``$schema`` of a dialect."""
    return _URIS[dialect]


def checked(schema: Json) -> int:
    """Check a schema against the schema of its dialect, and return the dialect.

    Raises:
        SchemaError: it is not a schema; names the place and the rule.
    """
    if not isinstance(schema, (dict, bool)):
        raise SchemaError(f"a JSON Schema is an object or a boolean, not {_kind(schema)}")
    dialect = dialect_of(schema)
    if isinstance(schema, dict):
        try:
            jsonschema_rs.meta.validate({**schema, "$schema": _URIS[dialect]})
        except jsonschema_rs.ValidationError as error:
            place = "/".join(str(part) for part in error.instance_path)
            raise SchemaError(f"not a JSON Schema: /{place}: {error.message}") from None
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"not a JSON Schema: {error}") from None
    return dialect


def document(schema: Json) -> Document:
    """Bring a schema into normal form.

    Raises:
        SchemaError: it is no schema, or refers to what is not in the file.
    """
    dialect = checked(schema)
    try:
        return _Normalizer(schema, dialect).document()
    except RecursionError:
        raise SchemaError("nested too deeply") from None


class _Normalizer:
    """Walks a schema from its root, and from every place that a reference leads to."""

    def __init__(self, schema: Schema, dialect: int) -> None:
        self._schema = schema
        self._dialect = dialect
        self._bases: dict[int, str] = {}
        self._places: dict[str, str] = {}
        self._index(schema, "", "")
        self._wanted: list[str] = [""]

    def document(self) -> Document:
        found = Document(self._dialect)
        while self._wanted:
            pointer = self._wanted.pop()
            if pointer not in found.definitions:
                found.definitions[pointer] = self._normal(self._at(pointer))
        _refuse_endless(found)
        return found

    def _index(self, value: Json, pointer: str, base: str) -> None:
        """Note where ids and anchors are, and which base each reference is relative to."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._index(item, f"{pointer}/{index}", base)
        if not isinstance(value, dict):
            return
        identity = value.get("id" if self._dialect == 4 else "$id")
        if isinstance(identity, str):
            base = urljoin(base, identity)
            self._places.setdefault(base.removesuffix("#"), pointer)
            base = urldefrag(base).url if "#" in identity and not identity.startswith("#") else base
        for name in ("$anchor", "$dynamicAnchor"):
            if isinstance(value.get(name), str):
                self._places.setdefault(f"{urldefrag(base).url}#{value[name]}", pointer)
        self._bases[id(value)] = base
        for name, item in value.items():
            if name not in ("enum", "const", "default", "examples"):
                self._index(item, f"{pointer}/{_escaped(name)}", base)

    def _target(self, reference: str, base: str) -> str:
        """The pointer that a reference leads to."""
        resolved = urljoin(base, reference) if base else reference
        if resolved.removesuffix("#") in self._places:
            return self._places[resolved.removesuffix("#")]
        address, fragment = urldefrag(resolved)
        start = self._places.get(address, "" if address in ("", urldefrag(base).url) else None)
        if start is not None and (not fragment or fragment.startswith("/")):
            return start + unquote(fragment)
        raise SchemaError(f"$ref {reference} leads out of the file: only local ones are read")

    def _at(self, pointer: str) -> Json:
        found: Json = self._schema
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise SchemaError(f"$ref #{pointer} leads nowhere") from None
        if not isinstance(found, (dict, bool)):
            raise SchemaError(f"$ref #{pointer} does not lead to a schema")
        return found

    def _normal(self, schema: Json) -> Schema:
        if not isinstance(schema, dict):
            return bool(schema)
        known = {name: value for name, value in schema.items() if self._is_known(name)}
        references = [name for name in _REFERENCES if name in known]
        normal: dict[str, Any] = {}
        targets = [
            self._target(str(known[name]), self._bases.get(id(schema), "")) for name in references
        ]
        self._wanted += targets
        if targets and (self._dialect < _SIBLINGS_COUNT):
            return {"$ref": targets[0]} | (
                {"default": schema["default"]} if "default" in schema else {}
            )
        normal |= {name: known[name] for name in _PLAIN if name in known}
        normal |= {name: self._normal(known[name]) for name in _ONE if name in known}
        for name in _NAMED:
            if name in known:
                normal[name] = {key: self._normal(value) for key, value in known[name].items()}
        products: list[Schema] = [{"$ref": target} for target in targets[1:]]
        for name in _MANY:
            branches = [self._normal(value) for value in known.get(name, ())]
            if name == "allOf" or len(branches) == 1:
                products += branches
            elif branches:
                normal[name] = branches
        if products:
            normal["allOf"] = products
        if targets:
            normal["$ref"] = targets[0]
        self._arrays(known, normal)
        self._dependencies(known, normal)
        _exclusive(normal)
        return normal

    def _is_known(self, name: str) -> bool:
        return _SINCE.get(name, 0) <= self._dialect <= _UNTIL.get(name, self._dialect)

    def _arrays(self, known: dict[str, Any], normal: dict[str, Any]) -> None:
        items = known.get("items")
        tuples = known.get("prefixItems", items if isinstance(items, list) else None)
        if tuples is not None:
            normal["prefixItems"] = [self._normal(value) for value in tuples]
            items = known.get("additionalItems") if isinstance(items, list) else items
        if items is not None:
            normal["items"] = self._normal(items)

    def _dependencies(self, known: dict[str, Any], normal: dict[str, Any]) -> None:
        for name, value in known.get("dependencies", {}).items():
            if isinstance(value, list):
                normal.setdefault("dependentRequired", {})[name] = value
            else:
                normal.setdefault("dependentSchemas", {})[name] = self._normal(value)


def places(schema: dict[str, Any]) -> list[tuple[str, Schema]]:
    """The schemas directly within a normal schema, each with the keyword that holds it."""
    found: list[tuple[str, Schema]] = [
        (name, schema[name]) for name in (*_ONE, "items") if name in schema
    ]
    for name in (*_MANY, "prefixItems"):
        found += [(name, item) for item in schema.get(name, ())]
    for name in _NAMED:
        found += [(name, item) for item in schema.get(name, {}).values()]
    return found


def _undeclared(schema: Json) -> int:
    """Draft 7 where only it knows what is said, else the newest."""
    if isinstance(schema, list):
        return min((_undeclared(item) for item in schema), default=2020)
    if not isinstance(schema, dict):
        return 2020
    if isinstance(schema.get("exclusiveMaximum", schema.get("exclusiveMinimum")), bool):
        return 4
    if isinstance(schema.get("items"), list) or {"additionalItems", "dependencies"} & schema.keys():
        return 7
    return min(
        (_undeclared(v) for name, v in schema.items() if name not in ("enum", "const", "default")),
        default=2020,
    )


def _exclusive(normal: dict[str, Any]) -> None:
    """Draft 4 said ``maximum: 5, exclusiveMaximum: true``; 2020-12 says ``exclusiveMaximum: 5``."""
    for limit, exclusive in (("maximum", "exclusiveMaximum"), ("minimum", "exclusiveMinimum")):
        if normal.get(exclusive) is True and limit in normal:
            normal[exclusive] = normal.pop(limit)
        elif isinstance(normal.get(exclusive), bool):
            del normal[exclusive]


def _refuse_endless(found: Document) -> None:
    """Refuse definitions that lead to themselves without going into the data: no value ends it."""
    inside = {pointer: set(_in_place(schema)) for pointer, schema in found.definitions.items()}
    for pointer, direct in inside.items():
        seen: set[str] = set()
        ahead = set(direct)
        while ahead:
            if pointer in ahead:
                raise SchemaError(f"#{pointer} refers to itself without going into the data")
            seen |= ahead
            ahead = {far for near in ahead for far in inside[near]} - seen


def _in_place(schema: Schema) -> list[str]:
    """References that apply to the same value as the schema itself."""
    if isinstance(schema, bool):
        return []
    found = [schema["$ref"]] if "$ref" in schema else []
    for name, item in places(schema):
        if name in (*_MANY, "not", "if", "then", "else", "dependentSchemas"):
            found += _in_place(item)
    return found


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _kind(value: Json) -> str:
    names = {list: "an array", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), "null")
