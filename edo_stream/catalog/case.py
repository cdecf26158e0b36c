"""What a rule of the lint looks at: one contract with its files, and all others around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from edo_stream.catalog.folder import Folder, SchemaFile
from edo_stream.catalog.judges import Judge, judge, parsed
from edo_stream.registry.declaration import Declaration
from edo_stream.registry.document import Place, read
from edo_stream.registry.entry import Entry
from edo_stream.registry.finding import Finding
from edo_stream.schemas.errors import SchemaError


@dataclass(frozen=True)
class Version:
    """One schema version, parsed and compiled, or why it cannot be."""

    file: SchemaFile
    schema: Any = None
    judge: Judge | None = None
    error: SchemaError | None = None


def compiled(file: SchemaFile) -> Version:
    """Parse and compile one schema file."""
    schema: Any = None
    try:
        schema = parsed(file.content)
        return Version(file, schema, judge(file.format, schema))
    except SchemaError as error:
        return Version(file, schema, None, error)


@dataclass
class Case:
    """One topic under review; rules add what they find."""

    entry: Entry
    folder: Folder
    entries: Mapping[str, Entry]
    """All declared topics."""
    names: frozenset[str]
    """Declared topics, and those that results are written to."""
    today: date
    is_whole: bool = True
    """Whether what the contract says of the files beside it can be read."""
    findings: list[Finding] = field(default_factory=list)
    """In files beside the contract; those of the contract are the document's."""

    @property
    def declaration(self) -> Declaration:
        """What the contract says."""
        return self.entry.declaration

    @property
    def place(self) -> Path:
        """The topic's folder, as findings name it."""
        return self.entry.file.parent

    @cached_property
    def versions(self) -> dict[int, Version]:
        """Schema versions of the declared format by number, ascending."""
        declared = self.declaration.schema_
        files = [] if declared is None else self.folder.schemas
        return {
            file.version: compiled(file)
            for file in files
            if declared is not None and file.format == declared.format
        }

    @property
    def newest(self) -> Version | None:
        """The newest version that can be used."""
        usable = [version for version in self.versions.values() if version.judge is not None]
        return usable[-1] if usable else None

    def find(self, path: Place, message: str) -> None:
        """Add a finding at a value of the contract."""
        self.entry.document.find(path, message)

    def find_in(self, name: str, message: str, line: int = 1) -> None:
        """Add a finding in a file beside the contract."""
        self.findings.append(Finding(self.place / name, line, message))


Rule = Callable[[Case], None]


def line_of(content: bytes, pointer: str) -> int:
    """Line of what a JSON pointer leads to in a JSON file; of its parent where it is missing."""
    try:
        document = read(Path(), content.decode())
    except UnicodeDecodeError:
        return 1
    path: list[str | int] = []
    value = document.value
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            path.append(int(name))
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            path.append(name)
            value = value[name]
        else:
            break
    return document.line(tuple(path))
