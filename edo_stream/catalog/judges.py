"""A schema file as a judge of data: compiled once, then every fault of a document is named.

This is for files and reports, where all faults matter; workers judge by their own, faster way and
stop at the first (:mod:`edo_stream.schemas`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from edo_stream.schemas.errors import SchemaError

FAULTS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why a document is refused."""

    pointer: str
    """JSON pointer into the data; ``""`` is all of it."""
    rule: str
    """The schema's keyword, or ``type`` for Avro."""
    message: str


Judge = Callable[[Any], list[Fault]]
"""Faults of a document, the first :data:`FAULTS_MAX`; none is a pass."""


class NotJsonError(SchemaError):
    """A schema file is not even JSON; ``line`` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parsed(content: bytes) -> Any:
    """Parse the bytes of a schema file.

    Raises:
        SchemaError: it is not JSON.
    """
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise NotJsonError(f"not JSON: {error.msg}", error.lineno) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"not JSON: {error}") from None


def judge(schema_format: str, schema: Any) -> Judge:
    """Compile a schema.

    Raises:
        SchemaError: it is not a schema of its format.
    """
    return _avro_judge(schema) if schema_format == "avro" else _json_judge(schema)


def _json_judge(schema: Any) -> Judge:
    import jsonschema_rs  # noqa: PLC0415 - only who has such a schema pays for it

    if not isinstance(schema, (dict, bool)):
        raise SchemaError("a JSON Schema is an object: write { … }")
    try:
        validator = jsonschema_rs.validator_for(schema)
    except jsonschema_rs.ValidationError as error:
        place = "".join(f"/{part}" for part in error.instance_path)
        raise SchemaError(f"not a JSON Schema: {place or 'its root'}: {error.message}") from None
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"not a JSON Schema: {error}") from None

    def faults(document: Any) -> list[Fault]:
        found = []
        for error in validator.iter_errors(document):
            rule = str(error.schema_path[-1]) if error.schema_path else "false"
            found.append(Fault(_pointer(error.instance_path), rule, error.message))
            if len(found) == FAULTS_MAX:
                break
        return found

    return faults


def _avro_judge(schema: Any) -> Judge:
    import fastavro  # noqa: PLC0415 - only who has such a schema pays for it
    from fastavro.schema import SchemaParseException, UnknownType  # noqa: PLC0415 - only who has such a schema pays for it
    from fastavro.validation import ValidationError, validate  # noqa: PLC0415 - only who has such a schema pays for it

    try:
        compiled = fastavro.parse_schema(schema, named_schemas={})
    except (SchemaParseException, UnknownType, TypeError, KeyError, ValueError) as error:
        raise SchemaError(f"not an Avro schema: {type(error).__name__}: {error}") from None

    def faults(document: Any) -> list[Fault]:
        try:
            validate(document, compiled, raise_errors=True, strict=True)
        except ValidationError as error:
            return [_avro_fault(item) for item in error.errors][:FAULTS_MAX]
        return []

    return faults


def _avro_fault(item: Any) -> Fault:
    # The field is named from the record's own name on: shop.Order.total, of a record shop.Order.
    place = str(item.field or "").rpartition(".")[2]
    return Fault(f"/{place}" if place else "", "type", str(item).strip())


def _pointer(path: list[Any]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
