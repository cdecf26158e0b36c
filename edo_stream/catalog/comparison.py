"""Two versions of a schema against each other: in one mode, and who can still read what."""

from typing import Any, Final

from edo_stream.schemas.breaks import Break
from edo_stream.schemas.compatibility import Mode, SchemaFormat, compatible
from edo_stream.schemas.errors import SchemaError

MODES: Final = tuple(mode.value for mode in Mode)


def breaks_between(schema_format: str, mode: str, old: Any, new: Any) -> list[Break]:
    """Breaks of one version towards one older; what cannot be compared is one break."""
    try:
        return compatible(SchemaFormat(schema_format), _of_one(mode), old, new)
    except SchemaError as error:
        return [Break("", "not-comparable", str(error))]


def can_read(schema_format: str, reader: Any, writer: Any) -> bool:
    """Whether all that one version writes is read by another."""
    return not breaks_between(schema_format, "BACKWARD", writer, reader)


def _of_one(mode: str) -> Mode:
    """The mode towards a single version: an Avro union is a list and must not be taken for many."""
    return Mode(mode.removesuffix("_TRANSITIVE"))
