"""A request as a scheme sees it: header lines, body bytes, query, and documents fetched before."""

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from edo_stream.webhooks.verdict import HEADER_MISSING, HEADER_REPEATED, RefusedError

_BLANKS: Final = b" \t"


class Headers:
    """Header fields by lower-case name; a name given twice is remembered as ambiguous.

    Which of two signatures or timestamps is meant is anybody's guess, and two programs on the
    way may guess differently: a scheme that asks for such a header refuses the request.
    """

    __slots__ = ("_repeated", "_values")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        values: dict[bytes, bytes] = {}
        repeated: set[bytes] = set()
        for field, value in fields:
            name = field.lower()
            if name in values:
                repeated.add(name)
            values[name] = value.strip(_BLANKS)
        self._values = values
        self._repeated = repeated

    def get(self, name: bytes) -> bytes | None:
        """Value of a header; ``None`` without it.

        Raises:
            RefusedError: the header is there more than once.
        """
        if name in self._repeated:
            raise RefusedError(HEADER_REPEATED, f"header {shown(name)} is there more than once")
        return self._values.get(name)

    def required(self, name: bytes, cause: str = HEADER_MISSING) -> bytes:
        """Value of a header that must be there and not be empty."""
        value = self.get(name)
        if not value:
            found = "missing" if value is None else "empty"
            raise RefusedError(cause, f"header {shown(name)} is {found}")
        return value

    def is_repeated(self, name: bytes) -> bool:
        """Whether a header is there more than once."""
        return name in self._repeated

    def first(self, name: bytes) -> bytes | None:
        """Value of a header that proves nothing: the last one given."""
        return self._values.get(name)

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Names and values, one of each name."""
        return self._values.items()


class Request(msgspec.Struct, frozen=True):
    """What came in. ``fetched`` has the documents, by address, that an earlier answer asked for."""

    headers: Headers
    body: bytes
    query: bytes = b""
    fetched: Mapping[str, str] = {}

    def parameter(self, name: str) -> bytes | None:
        """Value of a query parameter; ``None`` without it or if it is there more than once."""
        if not self.query:
            return None
        pairs = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        values = [value for key, value in pairs if key == name]
        return values[0].encode("latin-1") if len(values) == 1 else None


def shown(name: bytes) -> str:
    """A header's name for a message."""
    return repr(name.decode("latin-1")[:80])[1:-1]
