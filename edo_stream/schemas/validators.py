"""Schemas compiled once, asked for every event: which place breaks which rule, if any.

jsonschema-rs is asked *whether* first, which is what nearly every event costs; only one that is
not valid is asked *where* (``docs/contracts-validation.md`` compares it with others). Faults name
places and rules and never values: dead letters travel to people who may not see the data.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs

from edo_stream.schemas.errors import SchemaError
from edo_stream.schemas.json_document import checked, dialect_uri

_MASK: Final = "the value"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why data is not of its schema."""

    pointer: str
    """JSON pointer into the data; ``""`` is all of it."""
    rule: str
    """The keyword of the schema that is broken, such as ``required``; for Avro ``type``."""
    message: str
    """For a person; no value of the data."""


class JsonCheck:
    """A compiled JSON Schema."""

    def __init__(self, schema: Any) -> None:
        """Compile it.

        Raises:
            SchemaError: it is none.
        """
        dialect = dialect_uri(checked(schema))
        declared = {**schema, "$schema": dialect} if isinstance(schema, dict) else schema
        try:
            self._validator = jsonschema_rs.validator_for(
                declared, mask=_MASK, validate_formats=False
            )
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"not a JSON Schema: {error}") from None
        self.is_valid: Callable[[Any], bool] = self._validator.is_valid

    def fault(self, document: Any) -> Fault | None:
        """The fault that leads farthest into the data: a union's own says nothing."""
        if self.is_valid(document):
            return None
        faults = [_fault(error) for error in self._validator.iter_errors(document)]
        return max(faults, key=lambda fault: fault.pointer.count("/"))


def _fault(error: Any) -> Fault:
    path = [str(part) for part in error.schema_path]
    named = [part for part in path if not part.isdigit()]
    rule = named[-1] if named else "false"
    pointer = "".join(f"/{_escaped(str(part))}" for part in error.instance_path)
    return Fault(pointer, rule, error.message)


class AvroCodec:
    """Avro's binary encoding of one version, read as any other."""

    def __init__(self, schema: Any) -> None:
        """Compile a schema.

        Raises:
            SchemaError: it is none.
        """
        # Loaded by those who have such a schema only: it takes as long as all other modules here.
        import fastavro  # noqa: PLC0415

        self._fastavro: Any = fastavro
        try:
            self.schema = fastavro.parse_schema(schema, named_schemas={})
        except (ValueError, TypeError, KeyError) as error:
            raise SchemaError(f"not an Avro schema: {error}") from None

    def decode(self, data: bytes, reader: "AvroCodec | None" = None) -> Any:
        """Read data of this version, resolved to another's schema if one is given.

        Raises:
            ValueError: the bytes are not data of this version, or do not resolve.
        """
        source = io.BytesIO(data)
        wanted = None if reader is None else reader.schema
        try:
            value = self._fastavro.schemaless_reader(source, self.schema, wanted)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001
            # fastavro has no type of its own for data that is not what it should be.
            raise ValueError(f"not Avro data of this schema: {type(error).__name__}") from None
        if source.tell() != len(data):
            raise ValueError(f"{len(data) - source.tell()} bytes are left over")
        return value

    def encode(self, value: Any) -> bytes:
        """Write data of this version.

        Raises:
            ValueError: the value is not of the schema.
        """
        target = io.BytesIO()
        try:
            self._fastavro.schemaless_writer(target, self.schema, value, strict=True)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ValueError(f"not of the Avro schema: {error}") from None
        return target.getvalue()


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
