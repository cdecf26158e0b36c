"""What lies beside a contract: schema versions and examples, told by their names.

| Name | What it is |
|---|---|
| ``v1.schema.json``, ``v2.avsc`` | a schema version |
| ``examples/v1.small.json``, ``examples/1.small.json`` | data, or an event, of version 1 |
| ``examples/small.json`` | the same, of the newest version |
| ``examples/invalid/v1.no-total.json`` | what version 1 must refuse |
| ``v1-to-v2.yaml`` | how data of one version becomes data of the next |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edo_stream.registry.contracts import FILE_NAME

SCHEMA_SUFFIXES: Final = {"json": ".schema.json", "avro": ".avsc"}
_SCHEMA: Final = re.compile(r"v([1-9][0-9]{0,5})(\.schema\.json|\.avsc)")
_LIKE_A_SCHEMA: Final = re.compile(r".*(schema.*\.json|\.avsc|\.schema\.ya?ml)", re.IGNORECASE)
_EXAMPLE: Final = re.compile(r"examples/(invalid/)?(?:v?([0-9]{1,6})\.)?([^/]+)\.json")
_FORMAT_OF: Final = {suffix: name for name, suffix in SCHEMA_SUFFIXES.items()}


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """One schema version."""

    name: str
    version: int
    format: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Example:
    """Data, or an event, that a version takes, or must refuse."""

    name: str
    version: int | None
    """``None`` is the newest."""
    is_valid: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class Folder:
    """A topic's folder without its contract."""

    schemas: list[SchemaFile] = field(default_factory=list)
    """By version, ascending."""
    examples: list[Example] = field(default_factory=list)
    """By name."""
    misnamed: list[str] = field(default_factory=list)
    """What looks like a schema or an example, and is not called like one."""
    others: list[str] = field(default_factory=list)
    """All else."""


def folder_of(files: Mapping[str, bytes]) -> Folder:
    """Tell the files of a topic apart by their names."""
    folder = Folder()
    for name, content in sorted(files.items()):
        if name == FILE_NAME:
            continue
        if schema := _SCHEMA.fullmatch(name):
            version, suffix = int(schema[1]), schema[2]
            folder.schemas.append(SchemaFile(name, version, _FORMAT_OF[suffix], content))
        elif example := _EXAMPLE.fullmatch(name):
            version_text = example[2]
            folder.examples.append(
                Example(name, int(version_text) if version_text else None, not example[1], content)
            )
        elif _LIKE_A_SCHEMA.fullmatch(name) or name.startswith("examples/"):
            folder.misnamed.append(name)
        else:
            folder.others.append(name)
    folder.schemas.sort(key=lambda schema: schema.version)
    return folder
