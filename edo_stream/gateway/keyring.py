"""Keys of a source's secrets, read again when their files have changed.

While a file cannot be read, the keys of before count: a rotation that goes wrong half-way must
not turn everybody away.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edo_stream.gateway.secrets import SecretUnreadError, read_secret
from edo_stream.webhooks.verifier import Keys, Verifier

log = logging.getLogger(__name__)

_FILE: Final = "file:"


class Keyring:
    """Keys of one source; ``names`` says for each where it comes from, never what it is."""

    def __init__(
        self, source: str, verifier: Verifier, references: Sequence[str], environ: Mapping[str, str]
    ) -> None:
        self._source = source
        self._verifier = verifier
        self._references = references
        self._environ = environ
        self._seen: dict[str, object] = {}
        self.keys: Keys = []
        self.names: list[bytes] = []
        self._load()

    def refresh(self) -> None:
        """Read again what has changed."""
        if any(self._stamp(one) != self._seen[one] for one in self._references):
            self._load()

    def _load(self) -> None:
        keys: list[tuple[int, Any]] = []
        names: list[bytes] = []
        seen = {reference: self._stamp(reference) for reference in self._references}
        self._seen = seen
        try:
            for reference in self._references:
                secrets = read_secret(reference, self._environ)
                for number, secret in enumerate(secrets, 1):
                    keys.append((len(keys), self._verifier.read_key(secret)))
                    names.append(
                        (f"{reference}#{number}" if len(secrets) > 1 else reference).encode()
                    )
        except (SecretUnreadError, ValueError) as error:
            log.error("secrets of source %s: %s; those of before count", self._source, error)
            return
        if self.keys:
            log.info("secrets of source %s read again", self._source)
        self.keys, self.names = keys, names

    def _stamp(self, reference: str) -> object:
        if not reference.startswith(_FILE):
            return None
        try:
            found = os.stat(reference.removeprefix(_FILE))
        except OSError:
            return "unread"
        return found.st_mtime_ns, found.st_ino, found.st_size
