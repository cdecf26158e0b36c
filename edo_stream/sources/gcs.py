"""Objects created in Google Cloud Storage: Pub/Sub notifications, and Eventarc's CloudEvents.

A notification is attributes and a payload. The attributes come as headers of the record (as
Kafka connectors for Pub/Sub write them), or with the payload in one JSON message (as Pub/Sub
pushes and pulls it). ``objectId`` is the name itself, not encoded.

Two notifications of one change may have different message ids; bucket, name, generation and type
name the change. Generations of an object grow: the position is the generation.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Contract
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources import objects
from edo_stream.sources.attributes import has_forbidden_characters, whole_number
from edo_stream.sources.objects import Created, Finding, optional, plain, required
from edo_stream.sources.refused import INVALID, UNDECODABLE, RefusedError

_FINALIZE: Final = "OBJECT_FINALIZE"
_OTHERS: Final = frozenset({"OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"})
_EVENTARC: Final = "google.cloud.storage.object.v1."
_TYPES: Final = {
    "finalized": _FINALIZE,
    "deleted": "OBJECT_DELETE",
    "archived": "OBJECT_ARCHIVE",
    "metadataUpdated": "OBJECT_METADATA_UPDATE",
}
#: A generation is microseconds since 1970.
_DIGITS_MAX: Final = 20

Read = Callable[[Record], Sequence[Event] | Violation | Ignored]


def reader(contract: Contract) -> Read:
    """Compile what reads the creation of a notification."""
    return objects.reader(contract, _find)


def _find(record: Record) -> Sequence[Finding] | Ignored:
    headers = _headers(record)
    if "eventType" in headers:
        return _found(headers, record.value or None)
    if "ce_type" in headers:
        return _found(_of_eventarc(headers["ce_type"]), record.value)
    if record.value is None:
        return Ignored("tombstone")
    document = objects.object_of(record.value)
    if "type" in document and "specversion" in document:
        data = objects.members_of(record.value).get("data")
        return _found(_of_eventarc(required(document, "type", "")), data)
    message = document.get("message", document)
    if not isinstance(message, dict) or not isinstance(message.get("attributes"), dict):
        raise RefusedError(
            INVALID, "attributes is missing: this is no notification of Cloud Storage"
        )
    return _found(message["attributes"], _payload(message))


def _headers(record: Record) -> dict[str, str]:
    """Headers that are text, by name."""
    found = {}
    for name, value in record.headers:
        try:
            found[name] = (value or b"").decode()
        except UnicodeDecodeError:
            raise RefusedError(UNDECODABLE, f"header {name[:60]!r} is not UTF-8") from None
    return found


def _of_eventarc(event_type: str) -> dict[str, str]:
    verb = event_type.removeprefix(_EVENTARC)
    if event_type.startswith(_EVENTARC) and verb in _TYPES:
        return {"eventType": _TYPES[verb]}
    raise RefusedError(INVALID, f"type {event_type[:60]!r} is not one of Cloud Storage")


def _payload(message: dict[str, Any]) -> bytes | None:
    data = message.get("data")
    if data is None or data == "":
        return None
    if not isinstance(data, str):
        raise RefusedError(INVALID, "data is not a text in base64")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(UNDECODABLE, "data is not base64") from None


def _found(
    attributes: Mapping[str, Any], payload: bytes | msgspec.Raw | None
) -> Sequence[Finding] | Ignored:
    told = dict(attributes)
    event_type = required(told, "eventType", "attributes.")
    if event_type in _OTHERS:
        return Ignored(f"{event_type} creates nothing")
    if event_type != _FINALIZE:
        raise RefusedError(INVALID, f"eventType {event_type[:60]!r} is not known")
    resource = objects.object_of(payload) if payload else {}
    bucket = optional(told, "bucketId", "attributes.") or required(resource, "bucket", "")
    key = optional(told, "objectId", "attributes.") or required(resource, "name", "")
    if has_forbidden_characters(bucket):
        raise RefusedError(INVALID, "name of the bucket contains control characters")
    generation = _generation(told, resource)
    created = Created(
        store="gcs",
        bucket=bucket,
        key=key,
        size=objects.size_of(resource, "size", ""),
        etag=plain(resource, "etag", ""),
        version=str(generation),
        sequencer=str(generation),
        content_type=optional(resource, "contentType", ""),
        time=optional(resource, "timeCreated", "") or optional(told, "eventTime", "attributes."),
        reason=event_type,
        notification=msgspec.Raw(payload) if payload else msgspec.Raw(b"{}"),
    )
    source = f"//storage.googleapis.com/projects/_/buckets/{bucket}"
    return [Finding(source, created, generation, f"{generation}:{event_type}")]


def _generation(attributes: dict[str, Any], resource: dict[str, Any]) -> int:
    for value in (attributes.get("objectGeneration"), resource.get("generation")):
        if value is None:
            continue
        number = whole_number(value)
        if number is not None and number < 10**_DIGITS_MAX:
            return number
        raise RefusedError(INVALID, "generation is not a whole number")
    raise RefusedError(INVALID, "generation is missing")
