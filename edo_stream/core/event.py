"""An event: a record whose contract holds, in the words of CloudEvents."""

import hashlib
from typing import Final

import msgspec

#: Namespace of every id that this project derives (RFC 9562 §5.5): never changes, or ids would.
NAMESPACE: Final = bytes.fromhex("6f1b5d2e7a0c5c3f9d42a1e08b77c364")


class Event(msgspec.Struct, gc=False):
    """One decoded record. ``data`` keeps the producer's bytes; nothing is re-encoded on the way.

    ``position`` orders events of one key: a contiguous number for ordering ``sequence``, any
    growing integer (a log sequence number, an S3 sequencer) for ``monotonic``.
    """

    id: str
    source: str
    type: str
    key: bytes
    """The ordering key, never null: the record's key unless the contract names another."""
    data: bytes | None
    content_type: str | None = None
    subject: str | None = None
    time_ms: int | None = None
    position: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    extensions: tuple[tuple[str, bytes], ...] = ()
    """Headers that travel on unchanged: CloudEvents extensions (``ce_…``) and the user's own."""
    time_text: bytes | None = None
    """``time_ms`` as results have it, where the source has it so already: not written anew."""


class Violation(msgspec.Struct, frozen=True, gc=False):
    """Why a record is not an event.

    ``key`` and ``position`` are given where they could be read all the same: the dead letter
    then fills its slot in the order of its key, and one bad record does not stall the key.
    """

    reason: str
    """A code of lower-case words joined by ``-``: ``undecodable``, ``invalid``, ``too-large`` …"""
    detail: str
    """What was found where, and what was expected, for a person; no payload data."""
    key: bytes | None = None
    position: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    """What the dead letter says besides, for programs: the contract, version, place and rule."""


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A record that carries no fact: a CDC tombstone after its delete, a heartbeat."""

    reason: str


Decoded = Event | Violation | Ignored


def id_start(*parts: str) -> bytes:
    """What is hashed of an id whose last part is still to come; see :func:`derive_id`."""
    return NAMESPACE + "\x1f".join(parts).encode() + b"\x1f"


def derive_id(*parts: str) -> str:
    """Name-based UUID (version 5) of its cause: the same parts give the same id, for ever.

    The parts are joined by U+001F, which no topic name and no CloudEvents string may contain.
    """
    digest = bytearray(hashlib.sha1(NAMESPACE + "\x1f".join(parts).encode()).digest()[:16])  # noqa: S324 - RFC 9562 asks for SHA-1
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
