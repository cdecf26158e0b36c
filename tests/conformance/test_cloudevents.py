"""The Kafka binding against cases that others wrote: the project's own, its SDK's, its texts'.

They are never part of this repository; without them these tests skip.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from edo_stream.core.contract import Codec, Contract, NoOrder
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.record import StoredRecord
from edo_stream.sources import decoder
from edo_stream.sources.attributes import time_ms

BESIDE = Path(__file__).parents[3] / "shared" / "conformance"
FOLDER = Path(os.environ.get("EDO_CONFORMANCE", BESIDE)) / "cloudevents"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"no third-party cases in {FOLDER}: set EDO_CONFORMANCE to the folder that has them",
)

CONTRACT = Contract(
    topic="conformance.cloudevents.any",
    owner="nobody",
    group="conformance",
    partitions=1,
    codec=Codec.CLOUDEVENTS,
    emit="conformance.cloudevents.decoded",
    emit_partitions=1,
    dead_letters="edo.dead-letters.conformance.cloudevents.any",
    ordering=NoOrder(),
)
STRUCTURED = {"content-type": b"application/cloudevents+json"}


def cases(file: str) -> Any:
    path = FOLDER / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def decode(value: bytes | None, headers: dict[str, bytes], key: bytes | None = None) -> Decoded:
    record = StoredRecord(CONTRACT.topic, 0, 0, -1, key, value, tuple(headers.items()))
    return decoder(CONTRACT)(record)


def attributes(event: Event) -> dict[str, Any]:
    """All attributes of an event, as a case lists them."""
    found: dict[str, Any] = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "specversion": "1.0",
        "subject": event.subject,
        "datacontenttype": event.content_type,
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
        "time": event.time_ms,
    }
    found |= {
        name[3:]: value.decode() for name, value in event.extensions if name.startswith("ce_")
    }
    return {name: value for name, value in found.items() if value is not None}


def as_attributes(case: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a case in the types of ours: texts, and the time in epoch ms."""
    return {
        name: time_ms("time", str(value).encode())
        if name == "time"
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
        for name, value in case.items()
        if value is not None and name not in ("data", "data_base64")
    }


PUBLISHED = cases("conformance_cases.json").get("kafka", [])


@pytest.mark.parametrize("case", PUBLISHED, ids=[case["id"] for case in PUBLISHED])
def test_conformance_feature_of_the_kafka_binding(case: dict[str, Any]) -> None:
    headers = {name: value.encode() for name, value in case["headers"].items()}

    event = decode(case["value"].encode(), headers)

    assert isinstance(event, Event)
    assert as_attributes(case["expect_attributes"]) == attributes(event)
    assert case["expect_data"] == json.loads(event.data or b"")


RECORDED = cases("sdk_python_recorded.json")

#: Where the SDK is more lenient than the specification, or reads more than 1.0.
STRICTER = {
    "test_from_binary_case_insensitive_headers": "Kafka's header names have a case",
    "test_from_kafka_case_insensitive_detection": "Kafka's header names have a case",
    "test_empty_headers": "without a content type this is binary mode without attributes",
    "test_from_structured_with_key_auto_detect_v03": "only 1.0 is read",
    "test_read_cloud_event_from_json_with_bytes_as_data": "its JSON data is not JSON",
    "test_write_cloud_event_to_json_with_data_as_bytes": "its JSON data is not JSON",
}


def recorded(kind: str) -> list[Any]:
    return [pytest.param(case, id=f"{kind}-{case['test']}") for case in RECORDED.get(kind, [])]


def bytes_of(value: dict[str, str] | None) -> bytes | None:
    if value is None:
        return None
    if "base64" in value:
        return base64.b64decode(value["base64"])
    return (value["utf8"] if "utf8" in value else value["str"]).encode()


def decode_recorded(message: dict[str, Any]) -> Decoded:
    headers = {name: bytes_of(value) or b"" for name, value in message["headers"].items()}
    return decode(bytes_of(message["value"]), headers, bytes_of(message["key"]))


def data_of(value: Any) -> Any:
    """Data of a recorded case: bytes are marked, everything else is JSON."""
    if isinstance(value, dict) and "__bytes__" in value:
        return bytes_of(value["__bytes__"])
    return value


def agree(expected: dict[str, Any], event: Event) -> None:
    wanted = dict(expected["attributes"])
    # Of the SDK, not of the message: the time of reading, the key as an attribute.
    time = wanted.pop("time", {}).get("__datetime__")
    wanted.pop("partitionkey", None)
    found = attributes(event)
    found.pop("partitionkey", None)
    found_time_ms = found.pop("time", None)
    if event.content_type == "application/json" and "datacontenttype" not in wanted:
        # The SDK leaves it out; the JSON format makes it explicit for other content modes.
        found.pop("datacontenttype")
    assert as_attributes(wanted) == found
    if found_time_ms is not None:
        assert time_ms("time", time.encode()) == found_time_ms
    data = data_of(expected["data"])
    # The SDK writes no bytes instead of null for "no data"; they stay what they are.
    assert (
        (event.data in (None, b"") and data is None)
        or data in (event.data, (event.data or b"").decode(errors="replace"))
        or data == json.loads(event.data or b"")
    )


@pytest.mark.parametrize(
    "case",
    recorded("kafka.from_binary")
    + recorded("kafka.from_structured")
    + recorded("kafka.from_kafka"),
)
def test_message_that_the_python_sdk_reads_is_read_alike(case: dict[str, Any]) -> None:
    decoded = decode_recorded(case["input"])

    if case["test"] in STRICTER:
        assert isinstance(decoded, Violation), STRICTER[case["test"]]
        return
    assert isinstance(decoded, Event)
    agree(case["output"], decoded)


@pytest.mark.parametrize("case", recorded("json.write"))
def test_json_event_that_the_python_sdk_writes_is_read_as_the_event_it_was(
    case: dict[str, Any],
) -> None:
    decoded = decode(bytes_of(case["output"]), STRUCTURED)

    if case["test"] in STRICTER:
        assert isinstance(decoded, Violation), STRICTER[case["test"]]
        return
    assert isinstance(decoded, Event)
    agree(case["input"], decoded)


@pytest.mark.parametrize("case", recorded("kafka.to_binary") + recorded("kafka.to_structured"))
def test_message_that_the_python_sdk_writes_is_read_as_the_event_it_was(
    case: dict[str, Any],
) -> None:
    decoded = decode_recorded(case["output"])

    assert isinstance(decoded, Event)
    agree(case["input"], decoded)


@pytest.mark.parametrize("case", recorded("json.read"))
def test_json_event_that_the_python_sdk_reads_is_read_alike(case: dict[str, Any]) -> None:
    decoded = decode(bytes_of(case["input"]), STRUCTURED)

    # Here as JSON only: it has the content type that it lacks as a message.
    if case["test"] in STRICTER and case["test"] != "test_empty_headers":
        assert isinstance(decoded, Violation), STRICTER[case["test"]]
        return
    assert isinstance(decoded, Event)
    agree(case["output"], decoded)


#: What these cases find wrong cannot be seen in a message, or is accepted on purpose.
INVISIBLE = {
    "test_time_validation[2023-10-25T17:09:19.736166Z-expected_error0]": "a Python type",
    "test_subject_validation[1234-expected_error0]": "a Python type",
    "test_subject_validation[-expected_error1]": "an empty subject counts as absent",
    "test_datacontenttype_validation[1234-expected_error0]": "a Python type",
    "test_datacontenttype_validation[-expected_error1]": "an empty content type counts as absent",
    "test_dataschema_validation[1234-expected_error0]": "a Python type",
    "test_dataschema_validation[-expected_error1]": "passed on unread",
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{number}-{case['test']}")
        for number, case in enumerate(RECORDED.get("validate", []))
        # Defaults that the SDK fills in are no matter of a reader.
        if not case["valid"] and case["test"] not in INVISIBLE
    ],
)
def test_attributes_that_the_python_sdk_refuses_are_violations(case: dict[str, Any]) -> None:
    headers = {f"ce_{name}": str(value).encode() for name, value in case["input"].items()}

    assert isinstance(decode(None, headers), Violation)


EXAMPLES = [
    pytest.param(example["json"], id=f"{example['file']}:{example['line']}")
    for example in cases("spec_json_examples.json") or []
    if example["is_cloudevent"] and isinstance(example["json"], dict)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_json_example_of_the_specification_is_read(example: dict[str, Any]) -> None:
    decoded = decode(json.dumps(example).encode(), STRUCTURED)

    if "encoded string" in example.get("data_base64", ""):
        # Not Base64, but a note where Base64 would be.
        assert isinstance(decoded, Violation)
        return
    assert isinstance(decoded, Event)
    expected = {name: value for name, value in as_attributes(example).items() if value != ""}
    if "data" in example:
        expected.setdefault("datacontenttype", "application/json")
    assert expected == attributes(decoded)


def described(file: str) -> list[Any]:
    """Events of the conformance project, as it describes them in YAML."""
    path = FOLDER / "conformance_yaml" / file
    if not path.is_file():
        return []
    found = yaml.load_all(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    return [
        pytest.param(one, id=f"{file}-{number}")
        for number, one in enumerate(found)
        if one is not None
    ]


def described_attributes(one: dict[str, Any]) -> dict[str, str]:
    given = dict(one["ContextAttributes"])
    given |= given.pop("Extensions", {})
    return {name: value.strip() for name, value in given.items()}


@pytest.mark.parametrize("one", described("v1.yaml") + described("v1_minimum.yaml"))
@pytest.mark.parametrize("is_binary", [True, False])
def test_event_that_the_conformance_project_describes_is_read_in_both_modes(
    is_binary: bool, one: dict[str, Any]
) -> None:
    given = described_attributes(one)
    media = given.get("datacontenttype", "")
    data = one["Data"].strip().encode()
    headers = {f"ce_{name}": value.encode() for name, value in given.items()}
    headers.pop("ce_datacontenttype", None)
    if media:
        headers["content-type"] = media.encode()
    is_text = bool(media) and "json" not in media
    written = {**given, "data": data.decode() if is_text else json.loads(data)}

    decoded = (
        decode(data, headers) if is_binary else decode(json.dumps(written).encode(), STRUCTURED)
    )

    assert isinstance(decoded, Event)
    found = attributes(decoded)
    if not media:
        found.pop("datacontenttype", None)
    assert as_attributes(given) == found
    assert data == decoded.data or json.loads(data) == json.loads(decoded.data or b"")


@pytest.mark.parametrize("one", described("v03.yaml") + described("v03_minimum.yaml"))
def test_event_of_an_older_version_is_refused_with_the_version_that_is_read(
    one: dict[str, Any],
) -> None:
    headers = {f"ce_{name}": text.encode() for name, text in described_attributes(one).items()}

    decoded = decode(one["Data"].encode(), headers)

    assert isinstance(decoded, Violation)
    assert "1.0" in decoded.detail
