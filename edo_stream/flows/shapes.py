"""What is known of the events of a topic before any has come: their fields, by the schemas.

Events of any version of the schema may come, so a field is known if one version has it, and may
hold what one version lets it hold. Nothing is known of topics without a schema, of those whose
codec makes the data itself, and of what is below an array, or below what no schema speaks of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from edo_stream.catalog.case import compiled
from edo_stream.catalog.folder import folder_of
from edo_stream.catalog.schema_fields import SchemaField, fields_of, is_known
from edo_stream.catalog.tree import read_files
from edo_stream.registry import Registry
from edo_stream.registry.mistakes import nearest

TEXT: Final = "a text"
NUMBER: Final = "a number"
TRUTH: Final = "true or false"
NOTHING: Final = "null"
_KINDS: Final[Mapping[str, str]] = {
    "string": TEXT,
    "integer": NUMBER,
    "number": NUMBER,
    "int": NUMBER,
    "long": NUMBER,
    "float": NUMBER,
    "double": NUMBER,
    "boolean": TRUTH,
    "null": NOTHING,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Fields of a topic's data, of each version of its schema."""

    versions: Sequence[tuple[str, Mapping[str, SchemaField]]]
    """By the file's name, ascending."""

    def unknown(self, pointer: str) -> str | None:
        """Why a field cannot be there, if so."""
        if any(is_known(pointer, dict(fields)) for _, fields in self.versions):
            return None
        name, fields = self.versions[-1]
        return f"{pointer} is not in {name}: {nearest(pointer, list(fields))}"

    def kinds(self, pointer: str) -> frozenset[str] | None:
        """What a field may hold; ``None`` where nothing is known of it."""
        found: set[str] = set()
        for _, fields in self.versions:
            field = fields.get(pointer)
            if field is None:
                if is_known(pointer, dict(fields)):
                    return None
                continue
            names = field.type.split(" or ")
            if not all(name in _KINDS for name in names):
                return None
            found |= {_KINDS[name] for name in names}
        return frozenset(found)

    def is_always_there(self, pointer: str) -> bool:
        """Whether every version requires a field, and all that it is in."""
        parts = pointer.split("/")
        ways = ["/".join(parts[:end]) for end in range(2, len(parts) + 1)]
        return all(
            way in fields and fields[way].is_required for _, fields in self.versions for way in ways
        )


class Shapes:
    """Shapes of topics, each read when it is asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.of = cache(self._of)

    def _of(self, topic: str) -> Shape | None:
        entry = self._registry.entries.get(topic)
        if entry is None or entry.declaration.codec != "cloudevents":
            return None
        declared = entry.declaration.schema_
        if declared is None:
            return None
        versions: list[tuple[str, Mapping[str, SchemaField]]] = []
        for file in folder_of(read_files(Path(entry.file).parent)).schemas:
            version = compiled(file)
            if file.format != declared.format or version.schema is None:
                continue
            fields = fields_of(file.format, version.schema)
            if not fields:
                return None
            versions.append((file.name, fields))
        return Shape(versions) if versions else None


def kind_of(value: Any) -> str:
    """What a value of a pattern is."""
    match value:
        case None:
            return NOTHING
        case bool():
            return TRUTH
        case str():
            return TEXT
        case _:
            return NUMBER
