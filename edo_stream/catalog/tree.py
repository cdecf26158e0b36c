"""A folder of topics as bytes: from the disk, or as it was at a commit of git."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from edo_stream.registry.contracts import FILE_NAME
from edo_stream.registry.document import Document, read
from edo_stream.registry.finding import Finding, RegistryError

#: A file beside a contract that is larger is no schema and no example.
FILE_BYTES_MAX: Final = 8 << 20


@dataclass(frozen=True)
class Tree:
    """Files of all topics; ``root`` is how findings name the folder."""

    root: Path
    files: Mapping[str, Mapping[str, bytes]]
    """By topic, then by path within the topic's folder, with ``/``."""

    @cached_property
    def documents(self) -> list[Document]:
        """The contracts of all topics, in their order."""
        return [self._document(topic, folder) for topic, folder in sorted(self.files.items())]

    def _document(self, topic: str, folder: Mapping[str, bytes]) -> Document:
        file = self.root / topic / FILE_NAME
        content = folder.get(FILE_NAME)
        if content is None:
            return Document(file, findings=[Finding(file, 1, f"no such file: write {FILE_NAME}")])
        try:
            return read(file, content.decode())
        except UnicodeDecodeError as error:
            message = f"cannot be read: not UTF-8 at byte {error.start}"
            return Document(file, findings=[Finding(file, 1, message)])


def read_tree(root: Path) -> Tree:
    """Read a folder of topics from the disk.

    Raises:
        RegistryError: there is no such folder, or nothing in it.
    """
    if not root.is_dir():
        raise RegistryError(
            [Finding(root, 1, "no such folder: write topics/<topic>/contract.yaml")]
        )
    files: dict[str, dict[str, bytes]] = {}
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for topic in names:
        if is_topic(topic):
            files[topic] = read_files(root / topic)
    if not files:
        raise RegistryError([Finding(root, 1, f"no topics: write <topic>/{FILE_NAME} in here")])
    return Tree(root, files)


def is_topic(folder: str) -> bool:
    """Whether a folder is meant to be a topic's."""
    return not folder.startswith((".", "_"))


def read_files(folder: Path) -> dict[str, bytes]:
    """Read the files of one topic, by their paths in its folder."""
    found: dict[str, bytes] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if is_topic(name))
        relative = "" if place == str(folder) else os.path.relpath(place, folder) + "/"
        for name in names:
            if name.startswith("."):
                continue
            path = Path(place) / name
            if path.is_file() and path.stat().st_size <= FILE_BYTES_MAX:
                found[relative.replace(os.sep, "/") + name] = path.read_bytes()
    return found
