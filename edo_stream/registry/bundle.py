"""A contract with its schemas as one text: what is published, compared and kept in state."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edo_stream.registry.contracts import FILE_NAME, declaration_of
from edo_stream.registry.declaration import Declaration
from edo_stream.registry.document import read

_BESIDE: Final = re.compile(r"v[0-9]+\.(schema\.json|avsc)|v[0-9]+-to-v[0-9]+\.yaml")
_REVISION_DIGITS: Final = 16
#: Requests travel on the control topic, whose records have Kafka's usual limit.
BUNDLE_BYTES_MAX: Final = 700_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """A contract's files."""

    topic: str
    version: int
    """Newest version of its schema; 0 without one."""
    value: bytes
    """JSON: ``{"topic", "version", "files": {name: text}}``."""

    @property
    def revision(self) -> str:
        """What tells it from any other."""
        return hashlib.sha256(self.value).hexdigest()[:_REVISION_DIGITS]


def bundle_of(declaration: Declaration, file: Path) -> Bundle:
    """Read the files of a contract; ``file`` is its ``contract.yaml``."""
    names = sorted(path.name for path in file.parent.iterdir() if _BESIDE.fullmatch(path.name))
    files = {name: (file.parent / name).read_text(encoding="utf-8") for name in names}
    files[FILE_NAME] = file.read_text(encoding="utf-8")
    version = max(declaration.versions, default=0)
    content = {"topic": declaration.name, "version": version, "files": files}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return Bundle(declaration.name, version, text.encode())


def opened(value: bytes) -> tuple[Declaration, Mapping[str, bytes]]:
    """What a bundle declares, and its files.

    Raises:
        ValueError: it is none, or its contract has mistakes.
    """
    try:
        content = json.loads(value)
        files = {str(name): str(text).encode() for name, text in content["files"].items()}
        file = Path(str(content["topic"])) / FILE_NAME
        document = read(file, files[FILE_NAME].decode())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a published contract: {type(error).__name__}") from None
    declaration = declaration_of(document)
    if declaration is None:
        raise ValueError("; ".join(str(finding) for finding in document.findings))
    return declaration, files
