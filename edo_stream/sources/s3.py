"""Objects created in S3 and MinIO: bare notifications, wrapped by SNS or SQS, by EventBridge.

Kind ``s3`` reads them all, ``minio`` is the same: MinIO writes S3's format with small differences
(``s3:`` before the event's name, no size for an empty object). Keys of notifications are encoded
as forms are (``+`` is a space, the rest is percent-encoded UTF-8), those of EventBridge are not.

The sequencer is a hexadecimal number of no fixed width: the position is that number.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from edo_stream.core.contract import Contract
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources import objects
from edo_stream.sources.attributes import has_forbidden_characters
from edo_stream.sources.objects import Created, Finding, optional, plain, required, within
from edo_stream.sources.refused import INVALID, UNDECODABLE, RefusedError

_CREATED: Final = "ObjectCreated:"
#: MinIO files these under creations; the object was there before.
_NOT_CREATED: Final = frozenset({"PutTagging", "DeleteTagging", "PutRetention", "PutLegalHold"})
_MAJOR: Final = "2"
_SEQUENCER: Final = re.compile(r"[0-9A-Fa-f]{1,64}")
#: SQS around SNS around the notification; more is no delivery of AWS's.
_WRAPPERS_MAX: Final = 4

Read = Callable[[Record], Sequence[Event] | Violation | Ignored]


def reader(contract: Contract) -> Read:
    """Compile what reads all creations of a notification of S3 or MinIO."""
    return objects.reader(contract, find)


def find(record: Record) -> Sequence[Finding] | Ignored:
    """Find the creations of a message; see :data:`objects.Find`."""
    if record.value is None:
        return Ignored("tombstone")
    return objects.created_of(_in_message(record.value, _WRAPPERS_MAX), "no records")


def _in_message(raw: bytes, wrappers_max: int) -> list[Finding | Ignored]:
    document = objects.object_of(raw)
    inner = _wrapped(document)
    if inner is not None:
        if wrappers_max == 0:
            raise RefusedError(INVALID, "message is wrapped in too many others")
        return [one for body in inner for one in _in_message(body, wrappers_max - 1)]
    if "detail-type" in document:
        return [in_envelope(raw, document)]
    if document.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        return [Ignored("confirmation of a subscription")]
    if document.get("Event") == "s3:TestEvent":
        return [Ignored("test message")]
    records = objects.members_of(raw).get("Records")
    if records is None:
        raise RefusedError(INVALID, "Records is missing: this is no notification of S3")
    return [_in_record(one) for one in objects.objects_of(records, "Records")]


def _wrapped(document: dict[str, Any]) -> list[bytes] | None:
    """The messages within a delivery of SNS or SQS; ``None`` if it is neither."""
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        return [document["Message"].encode()]
    for name in ("Body", "body"):
        if isinstance(document.get(name), str):
            return [document[name].encode()]
    records = document.get("Records")
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        return None
    bodies = [_body(one) for one in records]
    found = [body.encode() for body in bodies if body is not None]
    if not found:
        return None
    if len(found) < len(records):
        raise RefusedError(INVALID, "Records are of several services")
    return found


def _body(record: dict[str, Any]) -> str | None:
    """Message of a record as SQS and SNS hand it to functions."""
    if record.get("eventSource") == "aws:sqs" and isinstance(record.get("body"), str):
        return str(record["body"])
    sns = record.get("Sns")
    if isinstance(sns, dict) and isinstance(sns.get("Message"), str):
        return str(sns["Message"])
    return None


def _in_record(raw: msgspec.Raw) -> Finding | Ignored:
    record = objects.object_of(raw)
    version = required(record, "eventVersion", "")
    if version.split(".")[0] != _MAJOR:
        raise RefusedError(
            INVALID, f"eventVersion is {version[:20]!r}: versions {_MAJOR}.x are read"
        )
    name = required(record, "eventName", "").removeprefix("s3:")
    service = required(record, "eventSource", "")
    if not name.startswith(_CREATED) or name.removeprefix(_CREATED) in _NOT_CREATED:
        return Ignored(f"{name[:60]} creates nothing")
    s3 = within(record, "s3", "")
    bucket, item = within(s3, "bucket", "s3."), within(s3, "object", "s3.")
    is_minio = service.startswith("minio")
    size = objects.size_of(item, "size", "s3.object.")
    return _finding(
        Created(
            store="minio" if is_minio else "s3",
            bucket=required(bucket, "name", "s3.bucket."),
            key=_decoded(required(item, "key", "s3.object.")),
            size=0 if size is None and is_minio else size,
            etag=_plain_etag(plain(item, "eTag", "s3.object.")),
            version=plain(item, "versionId", "s3.object."),
            sequencer=plain(item, "sequencer", "s3.object."),
            content_type=optional(item, "contentType", "s3.object."),
            time=optional(record, "eventTime", ""),
            reason=name,
            notification=raw,
        )
    )


def in_envelope(raw: bytes, document: dict[str, Any]) -> Finding | Ignored:
    """What an envelope of EventBridge says of an object."""
    detail_type = required(document, "detail-type", "")
    if required(document, "source", "") != "aws.s3":
        raise RefusedError(INVALID, "source is not aws.s3: read such events by kind eventbridge")
    if detail_type != "Object Created":
        return Ignored(f"{detail_type[:60]} creates nothing")
    detail = within(document, "detail", "")
    bucket, item = within(detail, "bucket", "detail."), within(detail, "object", "detail.")
    return _finding(
        Created(
            store="s3",
            bucket=required(bucket, "name", "detail.bucket."),
            key=required(item, "key", "detail.object."),
            size=objects.size_of(item, "size", "detail.object."),
            etag=_plain_etag(plain(item, "etag", "detail.object.")),
            version=plain(item, "version-id", "detail.object."),
            sequencer=plain(item, "sequencer", "detail.object."),
            time=optional(document, "time", ""),
            reason=optional(detail, "reason", "detail."),
            notification=msgspec.Raw(raw),
        )
    )


def _finding(created: Created) -> Finding:
    if has_forbidden_characters(created.bucket):
        raise RefusedError(INVALID, "name of the bucket contains control characters")
    sequencer = created.sequencer
    is_number = sequencer is not None and _SEQUENCER.fullmatch(sequencer) is not None
    # Without one, the content and the time are all that tells two creations apart.
    last = sequencer or f"{created.etag or ''}@{created.time or ''}"
    return Finding(
        source=f"arn:aws:s3:::{created.bucket}",
        created=created,
        position=int(sequencer, 16) if sequencer is not None and is_number else None,
        identity=f"{created.version or ''}#{last}",
    )


def _decoded(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise RefusedError(UNDECODABLE, "s3.object.key is not percent-encoded UTF-8") from None


def _plain_etag(etag: str | None) -> str | None:
    return None if etag is None else etag.strip('"')
