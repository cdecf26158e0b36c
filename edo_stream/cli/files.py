"""Files that commands read and write: a mistake is one line, and exit code 2."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from edo_stream.cli.environment import CommandError
from edo_stream.cli.screen import screen

_STANDARD_INPUT: Final = "-"


def read_input(file: str) -> bytes:
    """Content of a file that was named on the command line; ``-`` is standard input.

    Raises:
        CommandError: it cannot be read.
    """
    if file == _STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}", 2) from error


def write_file(file: Path, text: str) -> None:
    """Write a text, and the folders that lead to it.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}", 2) from error


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts by their paths within a folder.

    Raises:
        CommandError: one of them cannot be written; those before it are.
    """
    for name, text in files.items():
        write_file(folder / name, text)


def tell_written(folder: Path, files: Iterable[str]) -> None:
    """Name the files that were written, a line each."""
    for name in sorted(files):
        screen().print(f"wrote {folder / name}", markup=False, highlight=False, soft_wrap=True)
