"""Events of Amazon EventBridge, of any source: the envelope that a rule hands to its target.

The envelope's id, source, detail-type and time are the event's, its detail is the data, and the
first resource is the subject. What S3 says there of its objects is read as an object that was
created, like its notifications (:mod:`.s3`), under the same id.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Contract
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.pointer import parse_pointer, resolve
from edo_stream.core.record import Record
from edo_stream.sources import objects, s3
from edo_stream.sources.attributes import text, time_ms, whole_number
from edo_stream.sources.objects import extensions_of, optional, required
from edo_stream.sources.order import key_is_in_data, key_reader, needs_position
from edo_stream.sources.refused import INVALID, RefusedError

_VERSION: Final = "0"
_CONTENT_TYPE: Final = "application/json"

Read = Callable[[Record], Sequence[Event] | Violation | Ignored]


def reader(contract: Contract) -> Read:
    """Compile what reads the event of an envelope."""
    read_object = objects.reader(contract, s3.find)
    event_of = _event_reader(contract)

    def read(record: Record) -> Sequence[Event] | Violation | Ignored:
        if record.value is None:
            return Ignored("tombstone")
        try:
            envelope = objects.object_of(record.value)
            if _is_of_an_object(envelope):
                return read_object(record)
            return [event_of(record, envelope, objects.members_of(record.value))]
        except RefusedError as refused:
            return Violation(refused.reason, refused.detail, record.key)

    return read


def _is_of_an_object(envelope: dict[str, Any]) -> bool:
    kind = envelope.get("detail-type")
    return (
        envelope.get("source") == "aws.s3" and isinstance(kind, str) and kind.startswith("Object ")
    )


def _event_reader(
    contract: Contract,
) -> Callable[[Record, dict[str, Any], dict[str, msgspec.Raw]], Event]:
    read_key = key_reader(contract)
    is_parsed = key_is_in_data(contract)
    position_of = _position_reader(contract)

    def read(record: Record, envelope: dict[str, Any], raws: dict[str, msgspec.Raw]) -> Event:
        version = required(envelope, "version", "")
        if version != _VERSION:
            raise RefusedError(INVALID, f"version is {version[:20]!r}: {_VERSION} is read")
        if not isinstance(envelope.get("detail"), dict):
            raise RefusedError(INVALID, "detail is missing or not an object")
        subject = _subject(envelope)
        event_ms = time_ms("time", required(envelope, "time", "").encode())
        detail = envelope["detail"]
        return Event(
            id=text("id", required(envelope, "id", "").encode()),
            source=text("source", required(envelope, "source", "").encode()),
            type=text("detail-type", required(envelope, "detail-type", "").encode()),
            key=read_key(record.key, subject, detail if is_parsed else None),
            data=bytes(raws["detail"]),
            content_type=_CONTENT_TYPE,
            subject=subject,
            time_ms=event_ms,
            position=position_of(detail, event_ms),
            extensions=(*extensions_of(record), *_extensions(envelope)),
        )

    return read


def _subject(envelope: dict[str, Any]) -> str | None:
    resources = envelope.get("resources")
    first = resources[0] if isinstance(resources, list) and resources else None
    return text("resources", first.encode()) if isinstance(first, str) and first else None


def _extensions(envelope: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Account and region, as CloudEvents attributes."""
    found = ((name, optional(envelope, name, "")) for name in ("account", "region"))
    return [
        ("ce_aws" + name, text(name, value.encode()).encode()) for name, value in found if value
    ]


def _position_reader(contract: Contract) -> Callable[[dict[str, Any], int], int | None]:
    if not needs_position(contract):
        return lambda detail, event_ms: None
    if not contract.position.startswith("/"):
        # Nothing in an envelope counts; its time is all that grows.
        return lambda detail, event_ms: event_ms
    tokens = parse_pointer(contract.position)

    def read(detail: dict[str, Any], event_ms: int) -> int:
        position = whole_number(resolve(detail, tokens))
        if position is None:
            raise RefusedError(
                INVALID, f"no position: detail has no whole number at {contract.position}"
            )
        return position

    return read
