"""Objects created in Azure Blob Storage: Event Grid's own schema, and its CloudEvents schema.

Both come one at a time or in an array. A blob is there when its write is committed: storage with
a hierarchy of folders also announces ``CreateFile``, before any content, and then
``FlushWithClose``, which is the one that counts.

The sequencer orders the events of one blob; Azure says to compare it as text. Of equal length,
text and number order alike; a longer one is a newer format and counts as later.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Contract
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources import objects
from edo_stream.sources.json_data import parse
from edo_stream.sources.objects import Created, Finding, optional, plain, required, within
from edo_stream.sources.refused import INVALID, UNDECODABLE, RefusedError

_CREATED: Final = "Microsoft.Storage.BlobCreated"
#: Announced before there is content.
_NOT_COMMITTED: Final = frozenset({"CreateFile", "SftpCreate", "CreatePath", "CreatePathFile"})
_SUBJECT: Final = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_SEQUENCER: Final = re.compile(r"[0-9A-Fa-f]{1,64}")
_DIGIT_BITS: Final = 4

Read = Callable[[Record], Sequence[Event] | Violation | Ignored]


def reader(contract: Contract) -> Read:
    """Compile what reads all creations of a delivery of Event Grid."""
    return objects.reader(contract, _find)


def _find(record: Record) -> Sequence[Finding] | Ignored:
    value = record.value
    if value is None:
        return Ignored("tombstone")
    attributes = _attributes(record)
    if attributes is not None:
        return objects.created_of([_in_event(attributes, msgspec.Raw(value))], "")
    if value.lstrip()[:1] == b"[":
        raws = objects.objects_of(value, "value")
        return objects.created_of([_in_one(raw) for raw in raws], "no events")
    return objects.created_of([_in_one(msgspec.Raw(value))], "")


def _attributes(record: Record) -> dict[str, Any] | None:
    """CloudEvents in binary mode as one object; ``None`` if the record is not in it."""
    headers = dict(record.headers)
    if "ce_type" not in headers:
        return None
    try:
        event: dict[str, Any] = {
            name.removeprefix("ce_"): (value or b"").decode()
            for name, value in headers.items()
            if name.startswith("ce_")
        }
    except UnicodeDecodeError:
        raise RefusedError(UNDECODABLE, "a ce_ header is not UTF-8") from None
    event["data"] = parse(record.value or b"")
    return event


def _in_one(raw: msgspec.Raw) -> Finding | Ignored:
    return _in_event(objects.object_of(raw), raw)


def _in_event(event: dict[str, Any], raw: msgspec.Raw) -> Finding | Ignored:
    is_cloud_event = "specversion" in event
    if is_cloud_event and event["specversion"] != "1.0":
        raise RefusedError(INVALID, "specversion is unknown: 1.0 is read")
    event_type = required(event, "type" if is_cloud_event else "eventType", "")
    if event_type != _CREATED:
        return Ignored(f"{event_type[:60]} creates nothing")
    data = within(event, "data", "")
    api = plain(data, "api", "data.")
    if api in _NOT_COMMITTED:
        return Ignored(f"{api} is not committed yet")
    container, blob = _names(required(event, "subject", ""))
    sequencer = plain(data, "sequencer", "data.")
    created = Created(
        store="azure-blob",
        bucket=container,
        key=blob,
        size=objects.size_of(data, "contentLength", "data."),
        etag=(plain(data, "eTag", "data.") or "").strip('"') or None,
        sequencer=sequencer,
        content_type=optional(data, "contentType", "data."),
        time=optional(event, "time" if is_cloud_event else "eventTime", ""),
        reason=api,
        url=optional(data, "url", "data."),
        notification=raw,
    )
    source = plain(event, "source" if is_cloud_event else "topic", "")
    if not source:
        raise RefusedError(INVALID, f"{'source' if is_cloud_event else 'topic'} is missing")
    # Without a sequencer, the delivery's own id is all that is left.
    identity = sequencer or plain(event, "id", "") or created.time or ""
    return Finding(source, created, _position(sequencer), identity)


def _names(subject: str) -> tuple[str, str]:
    """Container and blob."""
    match = _SUBJECT.fullmatch(subject)
    if match is None:
        raise RefusedError(
            INVALID, "subject is not /blobServices/default/containers/<container>/blobs/<blob>"
        )
    return match[1], match[2]


def _position(sequencer: str | None) -> int | None:
    if sequencer is None or _SEQUENCER.fullmatch(sequencer) is None:
        return None
    # One more digit than the sequencer has, so that its length counts first.
    return 1 << (_DIGIT_BITS * len(sequencer)) | int(sequencer, 16)
