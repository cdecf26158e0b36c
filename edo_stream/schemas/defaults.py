"""Defaults that a reader fills in: which of its schema's requirements they meet.

A property that the reader requires and the writer may leave out breaks nothing if the reader's
schema has a ``default`` for it, because :func:`fill` puts it there before anything is checked. So
says Confluent, and so does Avro. Only where a value's own schema is beyond doubt: under
``properties``, ``items``, ``prefixItems``, ``allOf`` and their references; never in a branch of a
union, in a condition or under ``not``, where filling in could change which branch is meant.
"""

from itertools import zip_longest
from typing import Any, Final

from edo_stream.schemas.containment import Containment, references
from edo_stream.schemas.json_document import Document, Schema, places

_MISSING: Final = object()
_DEPTH_MAX: Final = 64


def forgiving(document: Document) -> Document:
    """The document without the requirements that its own defaults meet."""
    doubtful = _doubtful(document)
    return Document(
        document.dialect,
        {
            pointer: schema if pointer in doubtful else _relaxed(schema, document)
            for pointer, schema in document.definitions.items()
        },
    )


def has_defaults(document: Document) -> bool:
    """Whether :func:`fill` would ever change anything."""
    return forgiving(document).definitions != document.definitions


def fill(document: Document, value: Any) -> Any:
    """Put the defaults of required properties where they are missing, in place."""
    _fill(document, document.root, value, 0)
    return value


def _fill(document: Document, schema: Schema, value: Any, depth: int) -> None:
    if isinstance(schema, bool) or depth > _DEPTH_MAX:
        return
    if "$ref" in schema:
        _fill(document, document.definitions[schema["$ref"]], value, depth + 1)
    for part in schema.get("allOf", ()):
        _fill(document, part, value, depth + 1)
    if isinstance(value, dict):
        for name in _met(schema, document):
            value.setdefault(name, _copy(_default(schema["properties"][name], document)))
        for name, part in schema.get("properties", {}).items():
            if name in value:
                _fill(document, part, value[name], depth + 1)
    elif isinstance(value, list):
        rest = schema.get("items", True)
        for part, item in zip_longest(schema.get("prefixItems", [])[: len(value)], value):
            _fill(document, rest if part is None else part, item, depth + 1)


def _met(schema: dict[str, Any], document: Document) -> list[str]:
    """Required properties of an object that have a default which may be filled in."""
    properties = schema.get("properties", {})
    has_side_effects = {"maxProperties", "propertyNames"} & schema.keys()
    triggers = {*schema.get("dependentRequired", {}), *schema.get("dependentSchemas", {})}
    if has_side_effects:
        return []
    return [
        name
        for name in schema.get("required", ())
        if name in properties
        and name not in triggers
        and _is_valid_default(properties[name], document)
    ]


def _is_valid_default(schema: Schema, document: Document) -> bool:
    value = _default(schema, document)
    if value is _MISSING:
        return False
    known = Containment(document, document)
    return known.holds({"const": value}, known.read(schema))


def _default(schema: Schema, document: Document) -> Any:
    if isinstance(schema, bool):
        return _MISSING
    if "default" in schema:
        return schema["default"]
    if "$ref" in schema:
        return _default(document.definitions[schema["$ref"]], document)
    return _MISSING


def _relaxed(schema: Schema, document: Document) -> Schema:
    if isinstance(schema, bool):
        return schema
    found = dict(schema)
    met = _met(schema, document)
    if met:
        found["required"] = [name for name in schema["required"] if name not in met]
    for name in ("allOf", "prefixItems"):
        if name in found:
            found[name] = [_relaxed(part, document) for part in found[name]]
    if "properties" in found:
        found["properties"] = {
            name: _relaxed(part, document) for name, part in found["properties"].items()
        }
    if "items" in found:
        found["items"] = _relaxed(found["items"], document)
    return found


def _doubtful(document: Document) -> set[str]:
    """Definitions that are also used where nothing may be filled in."""
    found: set[str] = set()
    for schema in document.definitions.values():
        found |= _used_doubtfully(schema)
    ahead = set(found)
    while ahead:
        ahead = {r for name in ahead for r in references(document.definitions[name])} - found
        found |= ahead
    return found


def _used_doubtfully(schema: Schema) -> set[str]:
    if isinstance(schema, bool):
        return set()
    found: set[str] = set()
    for name, part in places(schema):
        if name in ("properties", "items", "prefixItems", "allOf"):
            found |= _used_doubtfully(part)
        else:
            found |= set(references(part))
    return found


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
