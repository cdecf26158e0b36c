"""JSON data: checked without being parsed, parsed where the contract names fields in it."""

from typing import Final

import msgspec
import orjson

from edo_stream.sources.attributes import has_forbidden_characters
from edo_stream.sources.refused import UNDECODABLE, RefusedError


class _Data(msgspec.Struct, gc=False):
    """JSON object of which only ``metadata`` is looked at: the rest is skipped, not built."""

    metadata: msgspec.Raw = msgspec.Raw(b"")


_DATA: Final = msgspec.json.Decoder(_Data)
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_NO_METADATA: Final = msgspec.Raw(b"")


def parse(data: bytes | msgspec.Raw) -> object:
    """Parse JSON data; the detail of a refusal says where, not what."""
    try:
        return orjson.loads(bytes(data))
    except orjson.JSONDecodeError as error:
        raise RefusedError(
            UNDECODABLE, f"data is not JSON: {error.msg} at byte {error.pos}"
        ) from None


def check(data: bytes) -> msgspec.Raw:
    """Check that the data is well-formed JSON; return its member ``metadata``, maybe empty.

    A quarter of the cost of parsing: msgspec skips through the text. Two things it leaves open
    are closed here: strings that are not UTF-8, and a bound of the nesting that depends on the
    caller's stack (a record must be judged alike everywhere, so orjson's 1,024 levels decide).
    """
    try:
        metadata = _DATA.decode(data).metadata
    except msgspec.ValidationError:
        metadata = _NO_METADATA
        _check_not_an_object(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parse(data)
        metadata = _NO_METADATA
    if not data.isascii():
        _check_utf8(data)
    return metadata


def _check_not_an_object(data: bytes) -> None:
    try:
        _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parse(data)


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(
            UNDECODABLE, f"data is not JSON: not UTF-8 at byte {error.start}"
        ) from None


def metadata_ids(metadata: object) -> tuple[str | None, str | None]:
    """Correlation and causation id of the house style ``{"metadata": {"correlationId": …}}``.

    What does not look like an id is left out: the data is the producer's, and no contract
    says that its metadata means this.
    """
    if not isinstance(metadata, dict):
        return None, None
    return _id(metadata.get("correlationId")), _id(metadata.get("causationId"))


def _id(value: object) -> str | None:
    if isinstance(value, str) and value and not has_forbidden_characters(value):
        return value
    return None
