"""A JSON Schema as an Avro schema, as far as Avro has words for it; and the other way round.

What Avro cannot say is left out where that takes more (a pattern, a range), and refused where
nothing is left (a union of objects by content). Optional properties get the default null.
"""

import re
from typing import Any, Final

_DEPTH_MAX: Final = 16
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIMITIVES: Final[dict[str, Any]] = {
    "string": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "null": "null",
}
_LOGICAL: Final[dict[str, Any]] = {
    "date": {"type": "int", "logicalType": "date"},
    "uuid": {"type": "string", "logicalType": "uuid"},
}
_TO_JSON: Final[dict[str, dict[str, Any]]] = {
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "int": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "long": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": "number"},
    "double": {"type": "number"},
    "string": {"type": "string"},
    "bytes": {"type": "string"},
}


class NoCounterpartError(ValueError):
    """A schema says what the other format has no word for; names the place."""


def avro_of(schema: Any, topic: str) -> Any:
    """Translate a JSON Schema into an Avro schema.

    Raises:
        NoCounterpartError: Avro has no word for a part of it.
    """
    words = re.split(r"[^A-Za-z0-9]+", topic)
    name = "".join(word.capitalize() for word in words if word)
    namespace = re.sub(r"[^A-Za-z0-9_]", "_", words[0])
    return {**_Avro(schema).record(schema, name, ""), "namespace": namespace}


class _Avro:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._names: set[str] = set()

    def record(self, schema: Any, name: str, place: str) -> dict[str, Any]:
        schema = self._resolved(schema, place)
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(properties, dict):
            raise NoCounterpartError(f"{place or '/'}: Avro wants an object with properties here")
        required = schema.get("required", [])
        fields = []
        unique = self._unique(name)
        for key, inner in properties.items():
            if not _NAME.fullmatch(key):
                raise NoCounterpartError(f"{place}/{key}: is no name in Avro")
            wanted = f"{unique}{key[:1].upper()}{key[1:]}"
            found = self._type(inner, wanted, f"{place}/{key}")
            field: dict[str, Any] = {"name": key, "type": found}
            if key not in required:
                options = found if isinstance(found, list) else [found]
                field["type"] = ["null", *(one for one in options if one != "null")]
                field["default"] = None
            if isinstance(inner, dict) and "description" in inner:
                field["doc"] = inner["description"]
            fields.append(field)
        return {"type": "record", "name": unique, "fields": fields}

    def _type(self, schema: Any, name: str, place: str) -> Any:
        schema = self._resolved(schema, place)
        if not isinstance(schema, dict):
            raise NoCounterpartError(f"{place}: Avro has no type for anything at all")
        branches = self._branches(schema)
        if branches is not None:
            return [self._type(branch, name, place) for branch in branches]
        if "enum" in schema:
            return self._enum(schema["enum"], name, place)
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            return self._object(schema, name, place)
        if kind == "array":
            items = self._type(schema.get("items"), f"{name}Item", f"{place}/0")
            return {"type": "array", "items": items}
        found = _LOGICAL.get(str(schema.get("format"))) if kind == "string" else None
        found = found or _PRIMITIVES.get(str(kind))
        if found is None:
            raise NoCounterpartError(f"{place}: Avro has no type for what is allowed here")
        return found

    def _branches(self, schema: dict[str, Any]) -> list[Any] | None:
        """Of a union, whichever way it is said."""
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return [{**schema, "type": kind} for kind in kinds]
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return list(schema[keyword])
        return None

    def _object(self, schema: dict[str, Any], name: str, place: str) -> Any:
        values = schema.get("additionalProperties")
        if "properties" not in schema and isinstance(values, dict):
            return {"type": "map", "values": self._type(values, f"{name}Value", place)}
        return self.record(schema, name, place)

    def _enum(self, values: Any, name: str, place: str) -> Any:
        texts = [value for value in values if value is not None]
        if not all(isinstance(value, str) for value in texts):
            raise NoCounterpartError(f"{place}: an enum of Avro has texts only")
        if not all(_NAME.fullmatch(value) for value in texts):
            return "string"
        found = {"type": "enum", "name": self._unique(name), "symbols": texts}
        return found if len(texts) == len(values) else ["null", found]

    def _unique(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self._names:
            candidate, number = f"{name}{number}", number + 1
        self._names.add(candidate)
        return candidate

    def _resolved(self, schema: Any, place: str) -> Any:
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if reference is None:
            return schema
        if not str(reference).startswith("#"):
            raise NoCounterpartError(f"{place}: {reference} cannot be followed")
        # A reference within itself comes to ever deeper places.
        if place.count("/") > _DEPTH_MAX:
            raise NoCounterpartError(f"{place}: refers to itself")
        target = self._root
        for token in str(reference)[1:].split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        return self._resolved(target, place)


def json_of(schema: Any, topic: str) -> dict[str, Any]:
    """Translate an Avro schema into a JSON Schema of its plain JSON form."""
    definitions: dict[str, Any] = {}
    body = _json(schema, definitions, "")
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": topic, **body}
    return {**found, "$defs": definitions} if definitions else found


def _json(schema: Any, definitions: dict[str, Any], namespace: str) -> dict[str, Any]:
    if isinstance(schema, list):
        return {"anyOf": [_json(branch, definitions, namespace) for branch in schema]}
    if isinstance(schema, str):
        full = schema if "." in schema or not namespace else f"{namespace}.{schema}"
        return dict(_TO_JSON.get(schema, {"$ref": f"#/$defs/{full}"}))
    kind = schema.get("type")
    if kind in ("record", "error", "enum", "fixed"):
        return _named(schema, definitions, namespace)
    inner = {"array": "items", "map": "values"}.get(str(kind))
    if inner is None:
        return _json(kind, definitions, namespace)
    found = _json(schema[inner], definitions, namespace)
    if kind == "array":
        return {"type": "array", "items": found}
    return {"type": "object", "additionalProperties": found}


def _named(schema: Any, definitions: dict[str, Any], namespace: str) -> dict[str, Any]:
    namespace = schema.get("namespace", namespace)
    name = schema["name"]
    full = name if "." in name or not namespace else f"{namespace}.{name}"
    definitions[full] = {}
    if schema["type"] == "enum":
        definitions[full] = {"enum": list(schema["symbols"])}
    elif schema["type"] == "fixed":
        definitions[full] = {"type": "string", "maxLength": schema["size"]}
    else:
        fields = {
            field["name"]: _json(field["type"], definitions, full.rpartition(".")[0])
            for field in schema["fields"]
        }
        required = [field["name"] for field in schema["fields"] if "default" not in field]
        definitions[full] = {
            "type": "object",
            "required": required,
            "additionalProperties": False,
            "properties": fields,
        }
    return {"$ref": f"#/$defs/{full}"}
