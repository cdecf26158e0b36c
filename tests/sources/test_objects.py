"""Objects created in S3, MinIO, Cloud Storage and Blob Storage: as the stores notify of them."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from edo_stream.core.contract import Codec, Contract, MonotonicOrder
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import Headers, StoredRecord
from edo_stream.sources.kinds import KINDS, reader
from edo_stream.sources.refused import MappingError

Read = Sequence[Event] | Violation | Ignored


def contract_of(kind: str, mapping: dict[str, Any] | None = None) -> Contract:
    return Contract(
        topic="files.invoice.arrived",
        owner="team-files",
        group="files",
        partitions=4,
        codec=Codec(kind),
        emit="files.invoice.accepted",
        emit_partitions=4,
        dead_letters="edo.dead-letters.files.invoice.arrived",
        ordering=MonotonicOrder(),
        mapping=mapping or {},
    )


def read(kind: str, value: Any, headers: Headers = ()) -> Read:
    data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    record = StoredRecord("files.invoice.arrived", 0, 7, 0, None, data, tuple(headers))
    return reader(KINDS[kind], contract_of(kind))(record)


def one(kind: str, value: Any, headers: Headers = ()) -> Event:
    found = read(kind, value, headers)
    assert isinstance(found, Sequence), found
    assert 1 == len(found)
    return found[0]


def data_of(event: Event) -> dict[str, Any]:
    assert event.data is not None
    found = json.loads(event.data)
    assert isinstance(found, dict)
    return found


def s3_record(**changes: Any) -> dict[str, Any]:
    """Record of the notification in the S3 user guide, version 2.1."""
    item = {
        "key": "HappyFace.jpg",
        "size": 1024,
        "eTag": "d41d8cd98f00b204e9800998ecf8427e",
        "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
        "sequencer": "0055AED6DCD90281E5",
    }
    names = {"eventName", "eventVersion", "eventSource"}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-west-2",
        "eventTime": "1970-01-01T00:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "172.16.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/Ig"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "testConfigRule",
            "bucket": {
                "name": "amzn-s3-demo-bucket",
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": "arn:aws:s3:::amzn-s3-demo-bucket",
            },
            "object": item | {key: new for key, new in changes.items() if key not in names},
        },
    }
    return record | {name: new for name, new in changes.items() if name in names}


def s3(**changes: Any) -> dict[str, Any]:
    return {"Records": [s3_record(**changes)]}


def envelope(**changes: Any) -> dict[str, Any]:
    """The same object, as EventBridge tells of it."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2021-11-12T00:00:00Z",
        "region": "ca-central-1",
        "resources": ["arn:aws:s3:::amzn-s3-demo-bucket"],
        "detail": {
            "version": "0",
            "bucket": {"name": "amzn-s3-demo-bucket"},
            "object": {
                "key": "HappyFace.jpg",
                "size": 1024,
                "etag": "d41d8cd98f00b204e9800998ecf8427e",
                "version-id": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": "0055AED6DCD90281E5",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    } | changes


def test_an_object_of_s3() -> None:
    event = one("s3", s3())
    name = "amzn-s3-demo-bucket/HappyFace.jpg"
    assert f"{name}#096fKKXTRTtl3on89fVO.nfljtsv6qko#0055AED6DCD90281E5" == event.id
    assert ("arn:aws:s3:::amzn-s3-demo-bucket", "object.created") == (event.source, event.type)
    assert (name, name.encode()) == (event.subject, event.key)
    assert (0, 0x55AED6DCD90281E5) == (event.time_ms, event.position)
    data = data_of(event)
    assert s3_record() == data.pop("notification")
    assert {
        "store": "s3",
        "bucket": "amzn-s3-demo-bucket",
        "key": "HappyFace.jpg",
        "size": 1024,
        "etag": "d41d8cd98f00b204e9800998ecf8427e",
        "version": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
        "sequencer": "0055AED6DCD90281E5",
        "time": "1970-01-01T00:00:00.000Z",
        "reason": "ObjectCreated:Put",
    } == data


def sns(message: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message),
        "Timestamp": "2012-05-02T00:54:06.655Z",
    }


@pytest.mark.parametrize(
    "wrapped",
    [
        sns(s3()),
        {"MessageId": "1", "ReceiptHandle": "x", "Body": json.dumps(s3())},
        {"MessageId": "1", "ReceiptHandle": "x", "Body": json.dumps(sns(s3()))},
        {"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": json.dumps(s3())}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(s3())}}]},
    ],
)
def test_what_wraps_a_notification_changes_nothing(wrapped: dict[str, Any]) -> None:
    assert one("s3", s3()) == one("s3", wrapped)


@pytest.mark.parametrize("kind", ["s3", "eventbridge"])
def test_an_object_has_the_same_id_whichever_way_it_is_told(kind: str) -> None:
    told = one(kind, envelope())
    expected = one("s3", s3())
    assert (expected.id, expected.source) == (told.id, told.source)
    assert (expected.key, expected.position) == (told.key, told.position)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("my+folder/my+file.txt", "my folder/my file.txt"),
        ("a%2Bb%20c%26d", "a+b c&d"),
        ("caf%C3%A9/%E6%97%A5%E6%9C%AC.csv", "café/日本.csv"),
        ("%F0%9F%98%80.png", "😀.png"),
        ("100%25+sure", "100% sure"),
        ("a%252Fb", "a%2Fb"),
        ("year=2026/month=11/part-0", "year=2026/month=11/part-0"),
    ],
)
@pytest.mark.parametrize("kind", ["s3", "minio"])
def test_keys_of_notifications_are_decoded_as_forms_are(kind: str, key: str, expected: str) -> None:
    event = one(kind, s3(key=key))
    assert expected == data_of(event)["key"]
    assert f"amzn-s3-demo-bucket/{expected}" == event.subject


def test_keys_of_eventbridge_are_not_encoded() -> None:
    detail = envelope()["detail"]
    detail["object"]["key"] = "a+b %20c.txt"
    assert "a+b %20c.txt" == data_of(one("eventbridge", envelope(detail=detail)))["key"]


def test_a_key_with_control_characters_is_escaped_where_attributes_cannot_have_it() -> None:
    event = one("s3", s3(key="line%0Abreak"))
    assert "line\nbreak" == data_of(event)["key"]
    assert "amzn-s3-demo-bucket/line%0Abreak" == event.subject
    # A key that has these very characters is another object.
    assert event.id != one("s3", s3(key="line%250Abreak")).id


@pytest.mark.parametrize(
    "name",
    [
        *("ObjectCreated:Put", "ObjectCreated:Post", "ObjectCreated:Copy"),
        *("ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Put"),
    ],
)
def test_every_way_to_create_an_object_counts(name: str) -> None:
    assert name.removeprefix("s3:") == data_of(one("s3", s3(eventName=name)))["reason"]


@pytest.mark.parametrize(
    "name",
    [
        *("ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "ObjectTagging:Put"),
        *("ObjectAcl:Put", "ObjectRestore:Post", "ReducedRedundancyLostObject"),
        *("s3:ObjectCreated:PutTagging", "s3:ObjectCreated:DeleteTagging"),
        *("s3:ObjectCreated:PutRetention", "s3:ObjectCreated:PutLegalHold"),
        *("s3:ObjectAccessed:Get", "LifecycleExpiration:Delete"),
    ],
)
def test_what_creates_nothing_is_ignored(name: str) -> None:
    assert isinstance(read("minio", s3(eventName=name)), Ignored)


@pytest.mark.parametrize("detail_type", ["Object Deleted", "Object Restore Completed"])
@pytest.mark.parametrize("kind", ["s3", "eventbridge"])
def test_envelopes_of_what_creates_nothing_are_ignored(kind: str, detail_type: str) -> None:
    assert isinstance(read(kind, envelope(**{"detail-type": detail_type})), Ignored)


def test_the_test_message_and_confirmations_are_ignored() -> None:
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "amzn-s3-demo-bucket"}
    assert isinstance(read("s3", test), Ignored)
    assert isinstance(read("s3", sns(test)), Ignored)
    assert isinstance(read("s3", {"Type": "SubscriptionConfirmation", "Token": "x"}), Ignored)
    assert isinstance(read("s3", None), Ignored)


def test_several_records_are_several_events_without_those_that_create_nothing() -> None:
    removed = s3_record(eventName="ObjectRemoved:Delete")
    found = read("s3", {"Records": [s3_record(key="a"), removed, s3_record(key="b")]})
    assert isinstance(found, Sequence)
    assert ["a", "b"] == [data_of(event)["key"] for event in found]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("0055AED6DCD90281E5", "617f08299329d189"),
        ("617f08299329d189", "00617f0837b476e463"),
        ("00617F0837B476E463", "00617f0837b476e464"),
    ],
)
def test_sequencers_are_numbers_without_a_fixed_width(earlier: str, later: str) -> None:
    first = one("s3", s3(sequencer=earlier)).position
    second = one("s3", s3(sequencer=later)).position
    assert first is not None
    assert second is not None
    assert first < second


def test_an_object_that_is_overwritten_is_another_event() -> None:
    assert one("s3", s3(sequencer="01")).id != one("s3", s3(sequencer="02")).id


def test_an_empty_object_of_minio_has_no_size_and_is_empty() -> None:
    record = s3_record(eventSource="minio:s3", eventVersion="2.0", eventName="s3:ObjectCreated:Put")
    del record["s3"]["object"]["size"]
    message = {"EventName": "s3:ObjectCreated:Put", "Key": "b/HappyFace.jpg", "Records": [record]}
    data = data_of(one("minio", message))
    assert ("minio", 0) == (data["store"], data["size"])


@pytest.mark.parametrize("version", ["2.0", "2.6", "2.99"])
def test_minor_versions_are_read(version: str) -> None:
    assert one("s3", s3(eventVersion=version)).id == one("s3", s3()).id


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ({}, "Records is missing"),
        ({"Records": 5}, "Records is not an array"),
        ({"Records": [5]}, "not a JSON object"),
        ({"Records": []}, ""),
        (s3(eventVersion="3.0"), "versions 2.x are read"),
        (s3(eventVersion=2.1), "eventVersion is not a text"),
        (s3(key=""), "key is missing or empty"),
        (s3(key=5), "key is not a text"),
        (s3(key="%FF"), "not percent-encoded UTF-8"),
        (s3(key="a" * 5_000), "4,096 at most"),
        (s3(size=-1), "not a number of bytes"),
        (s3(sequencer=None), "no position"),
        (s3(sequencer="xyz"), "no position"),
        (s3(eTag="\x00"), "control characters"),
        ({"Type": "Notification", "Message": "{"}, "not JSON"),
        (sns(sns(sns(sns(sns(s3()))))), "wrapped in too many"),
        (envelope(source="aws.ec2"), "not aws.s3"),
    ],
)
def test_what_is_no_notification_says_why(value: Any, said: str) -> None:
    found = read("s3", value)
    assert isinstance(found, Ignored if value == {"Records": []} else Violation)
    assert isinstance(found, Ignored) or said in found.detail


RESOURCE = {
    "kind": "storage#object",
    "id": "bucket/folder/My File+1.txt/1587627537231057",
    "name": "folder/My File+1.txt",
    "bucket": "example-bucket",
    "generation": "1587627537231057",
    "metageneration": "1",
    "contentType": "text/plain",
    "timeCreated": "2020-04-23T07:38:57.230Z",
    "size": "352",
    "etag": "CIHVzN6lkekCEAE=",
}


def gcs_attributes(**changes: str) -> dict[str, str]:
    return {
        "notificationConfig": "projects/_/buckets/example-bucket/notificationConfigs/3",
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": "example-bucket",
        "objectId": "folder/My File+1.txt",
        "objectGeneration": "1587627537231057",
        "eventTime": "2020-04-23T07:38:57.231123Z",
    } | changes


def gcs_headers(**changes: str) -> Headers:
    return [(name, text.encode()) for name, text in gcs_attributes(**changes).items()]


def gcs_push(message_id: str = "1", **changes: str) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(RESOURCE).encode()).decode()
    message = {"attributes": gcs_attributes(**changes), "data": data, "messageId": message_id}
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


def test_an_object_of_cloud_storage() -> None:
    event = one("gcs", RESOURCE, gcs_headers())
    name = "example-bucket/folder/My File+1.txt"
    assert f"{name}#1587627537231057:OBJECT_FINALIZE" == event.id
    assert "//storage.googleapis.com/projects/_/buckets/example-bucket" == event.source
    assert (name, 1587627537231057) == (event.subject, event.position)
    data = data_of(event)
    assert RESOURCE == data["notification"]
    assert ("folder/My File+1.txt", 352) == (data["key"], data["size"])


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (gcs_push("1"), ()),
        (gcs_push("2"), ()),
        (gcs_push()["message"], ()),
        (RESOURCE, [("ce_type", b"google.cloud.storage.object.v1.finalized"), ("ce_id", b"1")]),
        (
            {
                "specversion": "1.0",
                "type": "google.cloud.storage.object.v1.finalized",
                "source": "//storage.googleapis.com/projects/_/buckets/example-bucket",
                "id": "1096434104173400",
                "data": RESOURCE,
            },
            (),
        ),
        (RESOURCE | {"generation": 1587627537231057, "size": 352}, gcs_headers()),
    ],
)
def test_an_object_of_cloud_storage_is_one_event_whichever_way_it_is_told(
    value: Any, headers: Headers
) -> None:
    expected, found = one("gcs", RESOURCE, gcs_headers()), one("gcs", value, headers)
    assert (expected.id, expected.source) == (found.id, found.source)
    assert (expected.key, expected.position) == (found.key, found.position)


def test_an_object_of_cloud_storage_without_a_payload() -> None:
    event = one("gcs", b"", gcs_headers(payloadFormat="NONE"))
    assert one("gcs", RESOURCE, gcs_headers()).id == event.id
    assert "size" not in data_of(event)


@pytest.mark.parametrize(
    "event_type", ["OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"]
)
def test_other_changes_in_cloud_storage_are_ignored(event_type: str) -> None:
    assert isinstance(read("gcs", gcs_push(eventType=event_type)), Ignored)


@pytest.mark.parametrize(
    ("value", "headers", "said"),
    [
        (RESOURCE, (), "attributes is missing"),
        (gcs_push(eventType="OBJECT_FOO"), (), "is not known"),
        (gcs_push(objectGeneration="x"), (), "generation is not a whole number"),
        ({"attributes": gcs_attributes(), "data": "%"}, (), "not base64"),
        (b"", gcs_headers(objectGeneration=""), "generation is not a whole number"),
        (RESOURCE, [("ce_type", b"com.example.other")], "not one of Cloud Storage"),
        (RESOURCE, [("eventType", b"\xff")], "not UTF-8"),
    ],
)
def test_what_is_no_notification_of_cloud_storage_says_why(
    value: Any, headers: Headers, said: str
) -> None:
    found = read("gcs", value, headers)
    assert isinstance(found, Violation)
    assert said in found.detail


ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/my-account"


def azure(**changes: Any) -> dict[str, Any]:
    """The sample of the Event Grid documentation."""
    data = {
        "api": "PutBlockList",
        "clientRequestId": "4c5dd7fb-2c48-4a27-bb30-5361b5de920a",
        "requestId": "9aeb0fdf-c01e-0131-0922-9eb549000000",
        "eTag": "0x8D76C39E4407333",
        "contentType": "image/png",
        "contentLength": 30699,
        "blobType": "BlockBlob",
        "url": "https://my-account.blob.core.windows.net/testcontainer/new-file.txt",
        "sequencer": "000000000000000000000000000099240000000000c41c18",
        "storageDiagnostics": {"batchId": "681fe319-3006-00a8-0022-9e7cde000000"},
    }
    data |= {name: new for name, new in changes.items() if name in data}
    return {
        "topic": ACCOUNT,
        "subject": "/blobServices/default/containers/testcontainer/blobs/a b/new-file.txt",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2019-11-18T22:08:29.1234567Z",
        "id": "9aeb0fdf-c01e-0131-0922-9eb54906e209",
        "data": data,
        "dataVersion": "",
        "metadataVersion": "1",
    } | {name: new for name, new in changes.items() if name not in data}


def azure_cloud_event() -> dict[str, Any]:
    event = azure()
    return {
        "source": event["topic"],
        "subject": event["subject"],
        "type": event["eventType"],
        "time": event["eventTime"],
        "id": event["id"],
        "data": event["data"],
        "specversion": "1.0",
    }


def test_an_object_of_blob_storage() -> None:
    event = one("azure-blob", [azure()])
    name = "testcontainer/a b/new-file.txt"
    assert f"{name}#000000000000000000000000000099240000000000c41c18" == event.id
    assert (ACCOUNT, name) == (event.source, event.subject)
    assert 1574114909123 == event.time_ms
    assert ("a b/new-file.txt", 30699) == (data_of(event)["key"], data_of(event)["size"])


def test_both_schemas_of_event_grid_one_or_many_tell_of_the_same_event() -> None:
    event = azure_cloud_event()
    data = event["data"]
    headers = [(f"ce_{name}", text.encode()) for name, text in event.items() if name != "data"]
    ways = [
        one("azure-blob", azure()),
        one("azure-blob", event),
        one("azure-blob", [event]),
        one("azure-blob", data, headers),
    ]
    expected = one("azure-blob", [azure()])
    assert [expected.id] * 4 == [way.id for way in ways]
    assert [expected.position] * 4 == [way.position for way in ways]
    assert [expected.source] * 4 == [way.source for way in ways]


@pytest.mark.parametrize(
    "change",
    [
        {"api": "CreateFile"},
        {"api": "SftpCreate"},
        {"eventType": "Microsoft.Storage.BlobDeleted"},
        {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent"},
    ],
)
def test_what_is_not_committed_in_blob_storage_is_ignored(change: dict[str, Any]) -> None:
    assert isinstance(read("azure-blob", [azure(**change)]), Ignored)


@pytest.mark.parametrize("api", ["PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose"])
def test_committed_writes_of_blob_storage_count(api: str) -> None:
    assert api == data_of(one("azure-blob", azure(api=api)))["reason"]


def test_the_etag_of_blob_storage_may_have_quotes() -> None:
    assert "0x8D76" == data_of(one("azure-blob", azure(eTag='"0x8D76"')))["etag"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("00000000000004420000000000028963", "00000000000004420000000000028964"),
        ("00000000000004420000000000028963", "000000000000000000000000000099240000000000c41c18"),
    ],
)
def test_sequencers_of_blob_storage_of_the_same_length_are_ordered(
    earlier: str, later: str
) -> None:
    first = one("azure-blob", azure(sequencer=earlier)).position
    second = one("azure-blob", azure(sequencer=later)).position
    assert first is not None
    assert second is not None
    assert first < second


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], ""),
        (5, "not a JSON object"),
        (b"[", "not an array"),
        ([5], "not a JSON object"),
        (azure(subject="/x"), "subject is not"),
        (azure(topic=None), "topic is missing"),
        (azure(data=None), "data is missing"),
        (azure_cloud_event() | {"specversion": "0.3"}, "specversion is unknown"),
    ],
)
def test_what_is_no_event_of_event_grid_says_why(value: Any, said: str) -> None:
    found = read("azure-blob", value)
    assert isinstance(found, Ignored if value == [] else Violation)
    assert isinstance(found, Ignored) or said in found.detail


def test_an_envelope_of_another_service_is_an_event() -> None:
    detail = {"instance-id": "i-1234567890abcdef0", "state": "terminated"}
    event = one(
        "eventbridge",
        envelope(source="aws.ec2", detail=detail, **{"detail-type": "EC2 Instance State-change"}),
        [("traceparent", b"00-x")],
    )
    assert "17793124-05d4-b198-2fde-7ededc63b103" == event.id
    assert ("aws.ec2", "EC2 Instance State-change") == (event.source, event.type)
    assert "arn:aws:s3:::amzn-s3-demo-bucket" == event.subject
    assert detail == data_of(event)
    assert 1636675200000 == event.time_ms == event.position
    assert (
        ("traceparent", b"00-x"),
        ("ce_awsaccount", b"111122223333"),
        ("ce_awsregion", b"ca-central-1"),
    ) == event.extensions


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "1"}, "0 is read"),
        ({"id": ""}, "id is missing"),
        ({"time": "yesterday"}, "time is not"),
        ({"detail": 5}, "detail is missing"),
        ({"detail-type": None}, "detail-type is missing"),
    ],
)
def test_what_is_no_envelope_says_why(change: dict[str, Any], said: str) -> None:
    found = read("eventbridge", envelope(source="my.app") | change)
    assert isinstance(found, Violation)
    assert said in found.detail


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure-blob", "eventbridge"])
def test_there_is_nothing_to_map(kind: str) -> None:
    with pytest.raises(MappingError, match="remove it"):
        KINDS[kind].decoder(contract_of(kind, {"id": "/x"}))
