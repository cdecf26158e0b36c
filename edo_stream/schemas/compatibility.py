"""Whether a new version of a schema is compatible with old ones, in the modes that Confluent named.

``BACKWARD``: the new version reads what the last one wrote, so consumers change first.
``FORWARD``: the last version reads what the new one writes, so producers change first.
``FULL``: both. The ``…_TRANSITIVE`` modes ask for all old versions instead of the last one.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from edo_stream.schemas.avro_breaks import avro_breaks
from edo_stream.schemas.avro_schema import avro_type
from edo_stream.schemas.breaks import Break
from edo_stream.schemas.errors import SchemaError
from edo_stream.schemas.json_breaks import json_breaks
from edo_stream.schemas.json_document import document


class SchemaFormat(Enum):
    """How a schema is written."""

    JSON = "json"
    AVRO = "avro"


class Mode(Enum):
    """What a change of a schema may do."""

    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"
    NONE = "NONE"

    @property
    def is_transitive(self) -> bool:
        """Whether all old versions count, not the last one only."""
        return self.value.endswith("_TRANSITIVE")

    @property
    def directions(self) -> tuple[str, ...]:
        """Who must read whom: ``backward``, ``forward``."""
        name = self.value.removesuffix("_TRANSITIVE")
        both = {"NONE": (), "FULL": ("backward", "forward")}
        return both.get(name, (name.lower(),))


def compatible(format: SchemaFormat, mode: Mode, old: Any, new: Any) -> list[Break]:
    """Compare a schema with its old version, or in a transitive mode with a list of them.

    A schema is its JSON value, or its JSON text. Old versions are given oldest first. Of a list
    given in a mode that is not transitive the last one counts (an Avro union is a list as well: in
    these modes it is the schema).

    Raises:
        SchemaError: one of the schemas is none; says which.
    """
    try:
        return _compared(format, mode, old, new)
    except RecursionError:
        raise SchemaError("nested too deeply") from None


def _compared(format: SchemaFormat, mode: Mode, old: Any, new: Any) -> list[Break]:
    versions = _versions(format, mode, old)
    read = _read_json if format is SchemaFormat.JSON else avro_type
    find = json_breaks if format is SchemaFormat.JSON else avro_breaks
    newest = _named("the new schema", read, new)
    found: list[Break] = []
    for index, version in enumerate(versions):
        earlier = _named(
            "the old schema" if len(versions) == 1 else f"old schema {index + 1}", read, version
        )
        for direction in mode.directions:
            is_backward = direction == "backward"
            pair = (earlier, newest) if is_backward else (newest, earlier)
            against = index if mode.is_transitive else None
            found += [replace(item, direction=direction, against=against) for item in find(*pair)]
    return found


def _versions(format: SchemaFormat, mode: Mode, old: Any) -> Sequence[Any]:
    if mode.is_transitive:
        return old if isinstance(old, list) else [old]
    if format is SchemaFormat.JSON and isinstance(old, list):
        return old[-1:]
    return [old]


def _named(name: str, read: Any, schema: Any) -> Any:
    try:
        return read(schema)
    except SchemaError as error:
        raise SchemaError(f"{name}: {error}") from None


def _read_json(schema: Any) -> Any:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise SchemaError(f"not JSON: {error}") from None
    return document(schema)
