"""What orders an event, as the contract names it: its key and its position."""

from collections.abc import Callable
from typing import Final

from edo_stream.core.contract import Contract, MonotonicOrder, NoOrder, SequenceOrder
from edo_stream.core.pointer import parse_pointer, resolve
from edo_stream.sources.refused import INVALID, RefusedError

ReadKey = Callable[[bytes | None, str | None, object], bytes]
"""Ordering key from the record's key, the subject and the parsed data."""

_SUBJECT: Final = "subject"


def needs_position(contract: Contract) -> bool:
    """Whether the contract's ordering policy compares positions."""
    return isinstance(contract.ordering, (MonotonicOrder, SequenceOrder))


def key_is_in_data(contract: Contract) -> bool:
    """Whether the data must be parsed to know the ordering key."""
    return contract.order_key is not None and contract.order_key != _SUBJECT


def key_reader(contract: Contract) -> ReadKey:
    """Compile the reader of the ordering key."""
    is_optional = isinstance(contract.ordering, NoOrder)
    if contract.order_key is None:
        return _record_key(is_optional)
    if contract.order_key == _SUBJECT:
        return _subject_key(is_optional)
    return _data_key(contract.order_key, is_optional)


def _record_key(is_optional: bool) -> ReadKey:
    def read(record_key: bytes | None, subject: str | None, document: object) -> bytes:
        if record_key is not None:
            return record_key
        if subject is not None:
            return subject.encode()
        return _absent(is_optional, "no key: the record has neither a key nor a subject")

    return read


def _subject_key(is_optional: bool) -> ReadKey:
    def read(record_key: bytes | None, subject: str | None, document: object) -> bytes:
        if subject is not None:
            return subject.encode()
        return _absent(is_optional, "no key: the contract's key is subject, and it is missing")

    return read


def _data_key(path: str, is_optional: bool) -> ReadKey:
    tokens = parse_pointer(path)

    def read(record_key: bytes | None, subject: str | None, document: object) -> bytes:
        value = resolve(document, tokens)
        if isinstance(value, str):
            # orjson accepts no lone surrogates, so this always encodes.
            return value.encode()
        if isinstance(value, int) and not isinstance(value, bool):
            return b"%d" % value
        return _absent(is_optional, f"no key: data has no string or whole number at {path}")

    return read


def _absent(is_optional: bool, detail: str) -> bytes:
    if is_optional:
        return b""
    raise RefusedError(INVALID, detail)
