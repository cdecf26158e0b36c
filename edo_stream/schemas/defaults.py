"""Defaults that a reader fills in: which of its schema's requirements they meet.

A property that the reader requires and the writer may leave out breaks nothing if the reader's
schema has a ``default`` for it, because :func:`filler` puts it there before anything is checked. So
says Confluent, and so does Avro. Only where a value's own schema is beyond doubt: under
``properties``, ``items``, ``prefixItems``, ``allOf`` and their references; never in a branch of a
union, in a condition or under ``not``, where filling in could change which branch is meant.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from edo_stream.schemas.containment import Containment, references
from edo_stream.schemas.json_document import Document, Schema, places

_MISSING: Final = object()


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


Fill = Callable[[Any], None]
"""Changes a value in place."""


def filler(document: Document) -> Fill | None:
    """Compile what puts defaults where required properties are missing, if there are any."""
    return _Compiler(document).fill(document.root)


class _Compiler:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._compiled: dict[str, Fill | None] = {}

    def fill(self, schema: Schema) -> Fill | None:
        """What a schema fills in; ``None`` for nothing."""
        if isinstance(schema, bool):
            return None
        parts = [self._reference(schema["$ref"])] if "$ref" in schema else []
        parts += [self.fill(part) for part in schema.get("allOf", ())]
        parts += [self._object(schema), self._array(schema)]
        found = [part for part in parts if part is not None]
        if len(found) <= 1:
            return found[0] if found else None

        def fill(value: Any) -> None:
            for part in found:
                part(value)

        return fill

    def _reference(self, pointer: str) -> Fill | None:
        if pointer not in self._compiled:
            # While it is compiled, a reference to itself is looked up when it is used.
            self._compiled[pointer] = lambda value: self._later(pointer, value)
            self._compiled[pointer] = self.fill(self._document.definitions[pointer])
        return self._compiled[pointer]

    def _later(self, pointer: str, value: Any) -> None:
        fill = self._compiled[pointer]
        if fill is not None:
            fill(value)

    def _object(self, schema: dict[str, Any]) -> Fill | None:
        properties = schema.get("properties", {})
        met = {
            name: _default(properties[name], self._document)
            for name in _met(schema, self._document)
        }
        inner = {name: self.fill(part) for name, part in properties.items()}
        inner = {name: fill for name, fill in inner.items() if fill is not None}
        if not met and not inner:
            return None

        def fill(value: Any) -> None:
            if isinstance(value, dict):
                for name, default in met.items():
                    if name not in value:
                        value[name] = deepcopy(default)
                for name, part in inner.items():
                    if part is not None and name in value:
                        part(value[name])

        return fill

    def _array(self, schema: dict[str, Any]) -> Fill | None:
        leading = [self.fill(part) for part in schema.get("prefixItems", ())]
        rest = self.fill(schema.get("items", True))
        if rest is None and not any(leading):
            return None

        def fill(value: Any) -> None:
            if isinstance(value, list):
                for index, item in enumerate(value):
                    part = leading[index] if index < len(leading) else rest
                    if part is not None:
                        part(item)

        return fill


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
