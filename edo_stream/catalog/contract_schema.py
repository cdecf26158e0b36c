"""The JSON Schema of ``contract.yaml``, made from the models that read it: for editors."""

from typing import Any, Final

from edo_stream.registry.declaration import Declaration
from edo_stream.registry.quantity import duration_text, size_text

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Keys for which ``off`` stands where others would have null.
_OFF: Final = ("dedupe", "retry")


def contract_schema() -> dict[str, Any]:
    """Build the schema; what it accepts the registry reads, apart from what needs other files."""
    schema = Declaration.model_json_schema(by_alias=True)
    properties = schema["properties"]
    for name in _OFF:
        options = properties[name]["anyOf"]
        properties[name]["anyOf"] = [
            {"const": "off"} if option == {"type": "null"} else option for option in options
        ]
    for model in (schema, *schema["$defs"].values()):
        for described in model["properties"].values():
            described.pop("title", None)
            if "patternProperties" in described:
                described["additionalProperties"] = False
            default = described.get("default", "")
            if default is None:
                del described["default"]
            elif isinstance(default, int) and described.get("type") == "string":
                text = size_text if "KiB" in described["pattern"] else duration_text
                described["default"] = text(default)
    producers, fields = properties["producers"], properties["fields"]
    producers["items"] = _or_text(producers["items"])
    fields["patternProperties"] = {
        pattern: _or_text(target) for pattern, target in fields["patternProperties"].items()
    }
    return {
        "$schema": _DIALECT,
        "title": "Contract of a topic",
        **{name: value for name, value in schema.items() if name != "title"},
    }


def _or_text(target: dict[str, Any]) -> dict[str, Any]:
    """An object with one necessary key may be written as the text of that key."""
    return {"anyOf": [{"type": "string"}, target]}
