"""A JSON Schema of a newer draft in the words of draft 7, for tools that know no other.

Nothing is made stricter: a keyword without a counterpart (``unevaluatedProperties``) is left out.
"""

from typing import Any, Final

_RENAMED: Final = {"$defs": "definitions"}
_LEFT_OUT: Final = frozenset(
    {
        "$id",
        "$anchor",
        "$schema",
        "$vocabulary",
        "$dynamicAnchor",
        "unevaluatedProperties",
        "unevaluatedItems",
        "minContains",
        "maxContains",
        "dependentRequired",
        "dependentSchemas",
        "prefixItems",
    }
)
_NAMED: Final = frozenset({"properties", "patternProperties", "definitions", "$defs"})
#: What is data, not a schema.
_VALUES: Final = frozenset({"const", "enum", "default", "examples", "required", "type"})
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"


def draft_07(schema: Any, base: str = "#") -> Any:
    """Translate a schema; its references lead below ``base``, where it will stand."""
    found = _translated(schema, base)
    return {"$schema": _DIALECT, **found} if isinstance(found, dict) else found


def _translated(schema: Any, base: str) -> Any:
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    name: str
    for name, value in schema.items():
        if name == "$ref":
            found["$ref"] = _reference(value, base)
        elif name in _NAMED and isinstance(value, dict):
            found[_RENAMED.get(name, name)] = {
                key: _translated(inner, base) for key, inner in value.items()
            }
        elif name not in _LEFT_OUT:
            found[name] = value if name in _VALUES else _inner(value, base)
    _tuples(schema, found, base)
    _dependencies(schema, found, base)
    if "$ref" in found and len(found) > 1:
        # Draft 7 reads nothing beside a reference.
        reference = {"$ref": found.pop("$ref")}
        definitions = found.pop("definitions", None)
        found = {"allOf": [reference, found]}
        if definitions is not None:
            found["definitions"] = definitions
    return found


def _inner(value: Any, base: str) -> Any:
    if isinstance(value, list):
        return [_translated(one, base) for one in value]
    return _translated(value, base)


def _tuples(schema: dict[str, Any], found: dict[str, Any], base: str) -> None:
    places = schema.get("prefixItems")
    if isinstance(places, list):
        if "items" in schema:
            found["additionalItems"] = _translated(schema["items"], base)
        found["items"] = [_translated(place, base) for place in places]


def _dependencies(schema: dict[str, Any], found: dict[str, Any], base: str) -> None:
    required = schema.get("dependentRequired", {})
    schemas = schema.get("dependentSchemas", {})
    if not required and not schemas:
        return
    found["dependencies"] = {
        **{name: list(names) for name, names in required.items()},
        **{name: _translated(inner, base) for name, inner in schemas.items()},
    }


def _reference(reference: Any, base: str) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return reference
    tokens = [_RENAMED.get(token, token) for token in reference[1:].split("/")[1:]]
    return "/".join([base, *tokens])
