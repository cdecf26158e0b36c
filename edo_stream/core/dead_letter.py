"""Dead letters: the original record, byte for byte, and why it went no further."""

from hashlib import sha256
from typing import Final

from edo_stream.core.contract import Contract
from edo_stream.core.effects import Publish
from edo_stream.core.event import Violation, derive_id
from edo_stream.core.headers import Header, publishable_ms, size_of, utf8
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.record import Record
from edo_stream.core.task import TaskIdentity

if IS_COMPILED:
    from edo_stream.core._native import FetchedRecord

_SLACK_BYTES: Final = 60 * 1024
"""Of the 64 KiB that a topic of dead letters allows beyond its source's limit."""
_KEY_BYTES_MAX: Final = 1024
_HEADERS_BYTES_MAX: Final = 32 * 1024
_DETAIL_CHARS_MAX: Final = 1_000


def dead_letter(
    identity: TaskIdentity, contract: Contract, record: Record, violation: Violation, now_ms: int
) -> Publish:
    """Build the dead letter of a record; by reference when it is too big to be copied."""
    topic, partition, offset = record.topic, record.partition, record.offset
    key, value, kept = record.key, record.value, list(record.headers)
    why: list[Header] = [
        (
            "edo-id",
            derive_id("dead-letter", identity.app, topic, str(partition), str(offset)).encode(),
        ),
        ("edo-reason", utf8(violation.reason)),
        ("edo-detail", utf8(violation.detail[:_DETAIL_CHARS_MAX])),
        ("edo-topic", topic.encode()),
        ("edo-partition", b"%d" % partition),
        ("edo-offset", b"%d" % offset),
        ("edo-timestamp", b"%d" % record.timestamp),
        ("edo-owner", utf8(contract.owner)),
        ("edo-app", utf8(identity.app)),
        ("edo-at", b"%d" % now_ms),
        *violation.headers,
    ]
    if bytes_of(record) + size_of(why) > contract.record_bytes_max + _SLACK_BYTES:
        why.append(("edo-reference", b"true"))
        if value is not None:
            why.append(("edo-sha256", sha256(value).hexdigest().encode()))
        key = key if key is None or len(key) <= _KEY_BYTES_MAX else None
        value = None
        kept = kept if size_of(kept) <= _HEADERS_BYTES_MAX else []
    timestamp_ms = publishable_ms(record.timestamp, now_ms)
    return Publish(contract.dead_letters, partition, key, value, kept + why, timestamp_ms)


def bytes_of(record: Record) -> int:
    """Size of a record, uncompressed: a topic's limit is on compressed batches."""
    if IS_COMPILED and type(record) is FetchedRecord and (known := record.size_bytes) >= 0:
        return known
    return len(record.key or b"") + len(record.value or b"") + size_of(record.headers)
