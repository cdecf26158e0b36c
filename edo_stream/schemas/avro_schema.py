"""An Avro schema as a graph of types: names resolved, every rule of the specification checked.

fastavro reads and writes the bytes; its parser lets pass what other implementations refuse (a
union in a union, a field twice), and what is compared has to be what everyone else reads.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from edo_stream.schemas.errors import SchemaError

PRIMITIVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
NAMED: Final = ("record", "error", "enum", "fixed")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BITS: Final = {"int": 31, "long": 63}


@dataclass(slots=True, eq=False)
class AvroType:
    """One type; records refer to themselves, so two are compared by identity."""

    kind: str
    """A primitive, ``record``, ``enum``, ``fixed``, ``array``, ``map`` or ``union``."""
    name: str = ""
    """Full name, of a named type."""
    aliases: tuple[str, ...] = ()
    """Full names."""
    logical: str | None = None
    precision: int = 0
    scale: int = 0
    size: int = 0
    symbols: tuple[str, ...] = ()
    default_symbol: str | None = None
    fields: tuple["AvroField", ...] = ()
    branches: tuple["AvroType", ...] = ()
    """Of a union; of an array or map the one type of its values."""

    def __str__(self) -> str:
        if self.kind == "union":
            return f"[{', '.join(str(branch) for branch in self.branches)}]"
        shown = f"{self.kind} {self.name}" if self.name else self.kind
        return f"{shown} ({self.logical})" if self.logical else shown


@dataclass(frozen=True, slots=True)
class AvroField:
    """One field of a record."""

    name: str
    type: AvroType
    aliases: tuple[str, ...] = ()
    has_default: bool = False


@dataclass(slots=True)
class _Names:
    known: dict[str, AvroType] = field(default_factory=dict)
    defaults: list[tuple[str, AvroType, Any]] = field(default_factory=list)


def avro_type(schema: Any) -> AvroType:
    """Read an Avro schema: an object, a union's array, a name, or the JSON text of one.

    Raises:
        SchemaError: names the place and the rule that is broken.
    """
    if isinstance(schema, str) and schema.lstrip()[:1] in ("{", "[", '"'):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise SchemaError(f"not JSON: {error}") from None
    names = _Names()
    try:
        found = _read(schema, "", names, "")
    except RecursionError:
        raise SchemaError("nested too deeply") from None
    # A default may be of a type that is declared further down.
    for at, kind, value in names.defaults:
        if not _is_default(value, kind):
            raise SchemaError(f"{at}: default {value!r:.60} is not of type {kind}")
    return found


def _read(schema: Any, namespace: str, names: _Names, at: str) -> AvroType:
    if isinstance(schema, str):
        return _named(schema, namespace, names, at)
    if isinstance(schema, list):
        return _union(schema, namespace, names, at)
    if not isinstance(schema, dict):
        raise SchemaError(f"{at or '/'}: {schema!r:.40} is not an Avro schema")
    if "type" not in schema:
        raise SchemaError(f"{at or '/'}: type is missing")
    kind = schema["type"]
    if kind in ("array", "map"):
        inner = "items" if kind == "array" else "values"
        if inner not in schema:
            raise SchemaError(f"{at or '/'}: {inner} is missing")
        return AvroType(kind, branches=(_read(schema[inner], namespace, names, f"{at}/{inner}"),))
    if kind in NAMED:
        return _declared(schema, namespace, names, at)
    if isinstance(kind, str) and kind in PRIMITIVES:
        return _with_logical(AvroType(kind), schema)
    return _read(kind, namespace, names, f"{at}/type")


def _named(name: str, namespace: str, names: _Names, at: str) -> AvroType:
    if name in PRIMITIVES:
        return AvroType(name)
    full = _full(name, namespace)
    found = names.known.get(full) or names.known.get(name)
    if found is None:
        raise SchemaError(f"{at or '/'}: {name} is not a type")
    return found


def _union(schema: list[Any], namespace: str, names: _Names, at: str) -> AvroType:
    branches = tuple(
        _read(branch, namespace, names, f"{at}/{index}") for index, branch in enumerate(schema)
    )
    seen: set[str] = set()
    for branch in branches:
        if branch.kind == "union":
            raise SchemaError(f"{at or '/'}: a union may not be directly within a union")
        label = branch.name or branch.kind
        if label in seen:
            raise SchemaError(f"{at or '/'}: {label} is twice in the union")
        seen.add(label)
    return AvroType("union", branches=branches)


def _declared(schema: dict[str, Any], namespace: str, names: _Names, at: str) -> AvroType:
    name = schema.get("name")
    if not isinstance(name, str):
        raise SchemaError(f"{at or '/'}: name is missing")
    space = schema.get("namespace", namespace) or ""
    full = _full(name, space)
    if not all(_NAME.fullmatch(part) for part in full.split(".")) or full in PRIMITIVES:
        raise SchemaError(f"{at or '/'}: {full} is not a name")
    if full in names.known:
        raise SchemaError(f"{at or '/'}: {full} is declared twice")
    kind = "record" if schema["type"] == "error" else schema["type"]
    own = full.rpartition(".")[0]
    aliases = tuple(_full(alias, own) for alias in _texts(schema, "aliases", at))
    found = AvroType(kind, full, aliases)
    names.known[full] = found
    if kind == "record":
        found.fields = _fields(schema, own, names, at)
    elif kind == "enum":
        _symbols(found, schema, at)
    else:
        found.size = _whole(schema, "size", at)
    return _with_logical(found, schema)


def _fields(
    schema: dict[str, Any], namespace: str, names: _Names, at: str
) -> tuple[AvroField, ...]:
    declared = schema.get("fields")
    if not isinstance(declared, list):
        raise SchemaError(f"{at or '/'}: fields is missing")
    found: list[AvroField] = []
    for index, item in enumerate(declared):
        place = f"{at}/fields/{index}"
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise SchemaError(f"{place}: name is missing")
        if "type" not in item:
            raise SchemaError(f"{place}: type is missing")
        name = item["name"]
        if not _NAME.fullmatch(name) or name in [other.name for other in found]:
            reason = "is twice in the record" if _NAME.fullmatch(name) else "is not a name"
            raise SchemaError(f"{place}: {name} {reason}")
        kind = _read(item["type"], namespace, names, f"{place}/type")
        if "default" in item:
            names.defaults.append((place, kind, item["default"]))
        found.append(AvroField(name, kind, _texts(item, "aliases", place), "default" in item))
    return tuple(found)


def _symbols(found: AvroType, schema: dict[str, Any], at: str) -> None:
    found.symbols = _texts(schema, "symbols", at)
    if not all(_NAME.fullmatch(symbol) for symbol in found.symbols):
        raise SchemaError(f"{at}/symbols: not all are names")
    if len(set(found.symbols)) < len(found.symbols):
        raise SchemaError(f"{at}/symbols: one is there twice")
    found.default_symbol = schema.get("default")
    if found.default_symbol is not None and found.default_symbol not in found.symbols:
        raise SchemaError(f"{at}/default: {found.default_symbol} is not a symbol")


def _with_logical(found: AvroType, schema: dict[str, Any]) -> AvroType:
    """Add the logical type; one that does not fit is ignored, as the specification asks."""
    logical = schema.get("logicalType")
    if not isinstance(logical, str):
        return found
    if logical == "decimal":
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        is_bytes = found.kind in ("bytes", "fixed")
        if not is_bytes or not isinstance(precision, int) or not isinstance(scale, int):
            return found
        if not 0 <= scale <= precision:
            return found
        found.precision, found.scale = precision, scale
    found.logical = logical
    return found


def _is_default(value: Any, kind: AvroType) -> bool:
    if kind.kind == "union":
        # Any branch since 1.12; before, the first one only, which is checked nowhere any more.
        return any(_is_default(value, branch) for branch in kind.branches)
    if kind.kind == "array":
        return isinstance(value, list) and all(_is_default(v, kind.branches[0]) for v in value)
    if kind.kind == "map":
        values = value.values() if isinstance(value, dict) else ()
        return isinstance(value, dict) and all(_is_default(v, kind.branches[0]) for v in values)
    if kind.kind == "record":
        return isinstance(value, dict) and all(
            _is_default(value[f.name], f.type) if f.name in value else f.has_default
            for f in kind.fields
        )
    return _is_plain_default(value, kind)


def _is_plain_default(value: Any, kind: AvroType) -> bool:
    match value:
        case None:
            return kind.kind == "null"
        case bool():
            return kind.kind == "boolean"
        case int():
            limit = 1 << _BITS.get(kind.kind, 0)
            return kind.kind in ("float", "double") or (
                kind.kind in _BITS and -limit <= value < limit
            )
        case float():
            return kind.kind in ("float", "double")
        case str():
            return _is_text_default(value, kind)
        case _:
            return False


def _is_text_default(value: str, kind: AvroType) -> bool:
    """Bytes are written as text, a letter for each; what JSON has no number for as its name."""
    is_bytes = all(ord(letter) < 256 for letter in value)
    accepted = {
        "string": True,
        "bytes": is_bytes,
        "fixed": is_bytes and len(value) == kind.size,
        "enum": value in kind.symbols,
    }
    is_number = kind.kind in ("float", "double") and value in ("NaN", "Infinity", "-Infinity")
    return accepted.get(kind.kind, is_number)


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _texts(schema: dict[str, Any], name: str, at: str) -> tuple[str, ...]:
    found = schema.get(name, ())
    is_missing = name == "symbols" and name not in schema
    if is_missing or not isinstance(found, (list, tuple)):
        raise SchemaError(f"{at or '/'}: {name} is {'missing' if is_missing else 'not a list'}")
    if not all(isinstance(item, str) for item in found):
        raise SchemaError(f"{at}/{name}: not all are texts")
    return tuple(found)


def _whole(schema: dict[str, Any], name: str, at: str) -> int:
    found = schema.get(name)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise SchemaError(f"{at or '/'}: {name} is not a whole number")
    return found
