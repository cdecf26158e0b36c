"""Secrets by reference: ``env:NAME`` or ``file:PATH``; a file is read again when it has changed.

One reference may hold several secrets, one a line: while a secret is rotated, both count. A key
or key set (PEM, JSON) is one secret, whatever its lines.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_BYTES_MAX: Final = 1 << 20
_WHOLE: Final = ("-----BEGIN", "{")


class SecretUnreadError(Exception):
    """A reference leads to no secret; says which, never what it holds."""


def is_reference(text: str) -> bool:
    """Whether a text says where a secret is."""
    kind, _, place = text.partition(":")
    return kind in ("env", "file") and bool(place)


def read_secret(reference: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Secrets of a reference, one or more.

    Raises:
        SecretUnreadError: the variable or file is not there, empty or not text.
    """
    kind, _, place = reference.partition(":")
    if kind == "env":
        text = environ.get(place, "")
        if not text.strip():
            raise SecretUnreadError(f"{reference}: the variable is not set or empty")
    else:
        text = _read_file(reference, Path(place))
    if text.lstrip().startswith(_WHOLE):
        return [text.strip()]
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_file(reference: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_MAX).decode()
    except OSError as error:
        raise SecretUnreadError(f"{reference}: {error.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise SecretUnreadError(f"{reference}: not UTF-8") from None
    if not text.strip():
        raise SecretUnreadError(f"{reference}: the file is empty")
    return text
