"""Operators' requests: JSON records on the control topic of a group.

``{"op": "gap.skip", "topic": …, "key": …, "to": 7}`` gives up the missing numbers of a key up to
and including 7; the next number is then 8 or later. ``{"op": "gap.release", "topic": …, "key": …}``
emits all that is held for a key, in order, and gives up every gap in it. A key that is no text is
written as ``{"base64": …}``.

``{"op": "contract.apply", "topic": …, "key": …, "revision": …, "version": 2, "bundle": …}`` judges
what is read of the topic from then on by another contract (:mod:`.published`).
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

import msgspec

from edo_stream.core.event import Violation
from edo_stream.core.published import Published


class SkipGap(msgspec.Struct, frozen=True):
    """Give up the missing numbers of a key up to and including ``to``."""

    topic: str
    key: bytes
    to: int


class ReleaseHeld(msgspec.Struct, frozen=True):
    """Emit all that is held for a key, giving up every gap in it."""

    topic: str
    key: bytes


class ApplyContract(msgspec.Struct, frozen=True):
    """Judge a topic's records by a contract that was published."""

    topic: str
    key: bytes
    contract: Published


Operation = SkipGap | ReleaseHeld | ApplyContract


class Base64(msgspec.Struct, forbid_unknown_fields=True):
    """A key that is no text."""

    base64: str


def key_of(written: str | Base64) -> bytes:
    """A key as requests write it; raises :class:`binascii.Error` where base64 is none."""
    if isinstance(written, str):
        return written.encode()
    return b64decode(written.base64, validate=True)


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    op: str
    topic: str
    key: str | Base64
    to: int | None = None
    revision: str | None = None
    version: int | None = None
    bundle: str | None = None
    id: str | None = None
    """Name that the operator's tool gives to the request, to find its outcome."""


_decode = msgspec.json.Decoder(_Request).decode


def parse_operation(value: bytes | None) -> tuple[Operation | Violation, Mapping[str, Any]]:
    """Read a request, and what of it its outcome repeats."""
    try:
        request = _decode(value or b"")
        repeated = {
            name: part
            for name, part in msgspec.to_builtins(request).items()
            # A contract is too long to be repeated; its revision names it.
            if part is not None and name != "bundle"
        }
        is_contract = request.op == "contract.apply"
        return _contract(request) if is_contract else _operation(request), repeated
    except (ValueError, RecursionError) as error:
        return Violation("invalid", str(error)[:200]), {}


def _operation(request: _Request) -> Operation | Violation:
    try:
        key = key_of(request.key)
    except Base64Error as error:
        return Violation("invalid", f"key: {error}")
    match request.op, request.to:
        case "gap.skip", int(to):
            return SkipGap(request.topic, key, to)
        case "gap.skip", None:
            return Violation("invalid", "to: expected a number")
        case "gap.release", None:
            return ReleaseHeld(request.topic, key)
        case "gap.release", _:
            return Violation("invalid", "to: expected none")
        case _:
            return Violation("invalid", f"op: unknown {request.op[:100]!r}")


def _contract(request: _Request) -> Operation | Violation:
    if request.revision is None or request.version is None or request.bundle is None:
        return Violation("invalid", "expected revision, version and bundle")
    contract = Published(request.revision, request.version, request.bundle.encode())
    return ApplyContract(request.topic, request.topic.encode(), contract)
