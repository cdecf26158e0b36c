"""A declared topic as its file has it: what it says, and on which lines."""

from dataclasses import dataclass
from pathlib import Path

from edo_stream.registry.declaration import Declaration
from edo_stream.registry.document import Document


@dataclass(frozen=True, slots=True)
class Entry:
    """One topic of the catalog, whether workers read it or not."""

    declaration: Declaration
    document: Document

    @property
    def name(self) -> str:
        """The topic."""
        return self.declaration.name

    @property
    def file(self) -> Path:
        """Its contract."""
        return self.document.file
