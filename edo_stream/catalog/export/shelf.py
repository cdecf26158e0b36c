"""What the formats are written from: contracts with their schemas and examples, parsed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edo_stream.catalog.describe import described
from edo_stream.catalog.folder import folder_of
from edo_stream.catalog.payloads import data_of
from edo_stream.catalog.tree import read_files
from edo_stream.registry import Registry
from edo_stream.registry.declaration import Declaration
from edo_stream.registry.entry import Entry


@dataclass(frozen=True, slots=True)
class Shelved:
    """One topic with its files."""

    entry: Entry
    values: Mapping[str, Any]
    """What the contract says, with all defaults, in the words of its file."""
    schemas: Mapping[int, Any]
    """By version, ascending; of the declared format."""
    examples: Mapping[int, list[tuple[str, Any]]]
    """Name and data, by version."""

    @property
    def name(self) -> str:
        """The topic."""
        return self.entry.name

    @property
    def declaration(self) -> Declaration:
        """What the contract says, typed."""
        return self.entry.declaration

    @property
    def is_avro(self) -> bool:
        """Whether its schemas are Avro's."""
        schema = self.declaration.schema_
        return schema is not None and schema.format == "avro"

    @property
    def newest(self) -> int | None:
        """The newest version."""
        return max(self.schemas, default=None)


def shelve(registry: Registry, topics: list[str]) -> list[Shelved]:
    """Read the files of some topics, or of all; what cannot be parsed is left out."""
    names = topics or list(registry.entries)
    return [_shelved(registry.entries[name]) for name in names]


def _shelved(entry: Entry) -> Shelved:
    folder = folder_of(read_files(entry.file.parent))
    declared = entry.declaration.schema_
    schemas: dict[int, Any] = {}
    for file in folder.schemas:
        if declared is not None and file.format == declared.format:
            schema = _parsed(file.content)
            if schema is not None:
                schemas[file.version] = schema
    examples: dict[int, list[tuple[str, Any]]] = {}
    newest = max(schemas, default=0)
    for example in folder.examples:
        document = _parsed(example.content) if example.is_valid else None
        if document is not None:
            _, data = data_of(document, entry.declaration.codec)
            name = example.name.rpartition("/")[2].removesuffix(".json")
            examples.setdefault(example.version or newest, []).append((name, data))
    return Shelved(entry, described(entry), schemas, examples)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
