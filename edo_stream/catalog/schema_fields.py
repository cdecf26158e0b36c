"""Which fields a schema speaks of, as JSON pointers: for roles, keys and documentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_DEPTH_MAX: Final = 32
_COMBINED: Final = ("allOf", "anyOf", "oneOf", "then", "else")


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One field of the data."""

    pointer: str
    type: str
    """As the schema says it, in a word or two."""
    is_required: bool
    is_leaf: bool
    """Nothing is said of what is in it."""
    description: str = ""


def fields_of(schema_format: str, schema: Any) -> dict[str, SchemaField]:
    """All fields by pointer, in the order of the schema; arrays are not entered."""
    walk = _avro(schema) if schema_format == "avro" else _json(schema)
    found: dict[str, SchemaField] = {}
    for field in walk:
        known = found.get(field.pointer)
        if known is None or (known.is_leaf and not field.is_leaf):
            found[field.pointer] = field
    return found


def is_known(pointer: str, fields: dict[str, SchemaField]) -> bool:
    """Whether a pointer is a field, or leads into one of which nothing is said."""
    if pointer in fields:
        return True
    while "/" in pointer[1:]:
        pointer = pointer.rpartition("/")[0]
        if pointer in fields:
            return fields[pointer].is_leaf
    return not fields


def _json(root: Any) -> Iterator[SchemaField]:
    yield from _object(root, root, "", 0)


def _object(root: Any, schema: Any, path: str, depth: int) -> Iterator[SchemaField]:
    schema = _resolved(root, schema)
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return
    required = schema.get("required", [])
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        pointer = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        target = _resolved(root, inner)
        below = list(_object(root, inner, pointer, depth + 1))
        description = target.get("description", "") if isinstance(target, dict) else ""
        is_required = isinstance(required, list) and name in required
        yield SchemaField(pointer, _type(target), is_required, not below, str(description))
        yield from below
    for keyword in _COMBINED:
        branches = schema.get(keyword)
        for branch in branches if isinstance(branches, list) else (branches,):
            yield from _object(root, branch, path, depth + 1)


def _resolved(root: Any, schema: Any) -> Any:
    for _ in range(_DEPTH_MAX):
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        schema = root
        for token in reference[1:].split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            schema = schema.get(name) if isinstance(schema, dict) else None
    return None


def _type(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    declared = schema.get("type")
    if isinstance(declared, list):
        return " or ".join(str(one) for one in declared)
    if declared is not None:
        return str(declared)
    if "const" in schema:
        return "constant"
    return "enum" if "enum" in schema else "any"


def _avro(schema: Any) -> Iterator[SchemaField]:
    yield from _record(schema, "", {}, 0)


def _record(schema: Any, path: str, named: dict[str, Any], depth: int) -> Iterator[SchemaField]:
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        for branch in schema:
            yield from _record(branch, path, named, depth)
        return
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return
    if "name" in schema:
        named[str(schema["name"])] = schema
    if isinstance(schema.get("type"), (dict, list)):
        yield from _record(schema["type"], path, named, depth + 1)
    fields = schema.get("fields")
    for field in fields if isinstance(fields, list) else ():
        if not isinstance(field, dict) or "name" not in field:
            continue
        pointer = f"{path}/{field['name']}"
        below = list(_record(field.get("type"), pointer, named, depth + 1))
        is_required = "default" not in field
        description = str(field.get("doc", ""))
        yield SchemaField(
            pointer, _avro_type(field.get("type")), is_required, not below, description
        )
        yield from below


def _avro_type(schema: Any) -> str:
    if isinstance(schema, list):
        return " or ".join(_avro_type(branch) for branch in schema)
    if isinstance(schema, dict):
        return str(schema.get("logicalType") or _avro_type(schema.get("type")))
    return str(schema)
