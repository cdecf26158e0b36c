"""The HTTP binding of CloudEvents against cases that others wrote: the project's, its SDK's.

They are never part of this repository; without them these tests skip.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edo_stream.gateway.content import Outgoing, records_reader
from edo_stream.gateway.declaration import Source
from edo_stream.webhooks.request import Headers, Request
from edo_stream.webhooks.verdict import Accepted

BESIDE = Path(__file__).parents[3] / "shared" / "conformance"
FOLDER = Path(os.environ.get("EDO_CONFORMANCE", BESIDE)) / "cloudevents"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"no third-party cases in {FOLDER}: set EDO_CONFORMANCE to the folder that has them",
)
READ = records_reader(
    "c",
    Source.model_validate(
        {
            "topic": "conformance.cloudevents.any",
            "verify": {"scheme": "bearer", "secrets": ["env:TOKEN"]},
            "body": "cloudevents",
        }
    ),
)
#: What the gateway adds.
OURS = ("ce_recordedtime", "ce_verifiedscheme")


def cases(file: str, part: str) -> list[dict[str, Any]]:
    path = FOLDER / file
    return json.loads(path.read_text(encoding="utf-8"))[part] if path.is_file() else []


def read(headers: dict[str, str], body: bytes) -> Outgoing:
    fields = Headers([(name.encode(), value.encode()) for name, value in headers.items()])
    found = READ(Request(fields, body), Accepted(), 1_700_000_000_000)
    assert isinstance(found, list), found
    return found[0]


def attributes(record: Outgoing) -> dict[str, str]:
    found = {}
    for name, value in record.headers:
        assert isinstance(value, bytes)
        if name == "content-type":
            found["datacontenttype"] = value.decode()
        elif name not in OURS:
            found[name.removeprefix("ce_")] = value.decode()
    return found


@pytest.mark.parametrize(
    "case", cases("conformance_cases.json", "http"), ids=lambda case: case["id"]
)
def test_the_projects_cases(case: dict[str, Any]) -> None:
    record = read(case["headers"], case["body"].encode())
    assert case["expect_attributes"] == attributes(record)
    assert case["expect_data"] == json.loads(record.value or b"")


def is_whole(case: dict[str, Any]) -> bool:
    """Whether it is text, and no attribute is one that the SDK makes up."""
    headers = case["output"].get("headers", {})
    return all("str" in value for value in headers.values()) and "utf8" in case["output"]["body"]


@pytest.mark.parametrize(
    "case",
    [
        case
        for part in ("http.to_binary", "http.to_structured")
        for case in cases("sdk_python_recorded.json", part)
        if is_whole(case)
    ],
    ids=lambda case: case["test"],
)
def test_what_the_sdk_writes_is_read_as_it_was_meant(case: dict[str, Any]) -> None:
    headers = {name: value["str"] for name, value in case["output"]["headers"].items()}
    record = read(headers, case["output"]["body"]["utf8"].encode())
    found = attributes(record)
    for name, value in case["input"]["attributes"].items():
        if isinstance(value, str):
            assert value == found[name]
        elif isinstance(value, dict) and "__datetime__" in value:
            assert value["__datetime__"].replace("+00:00", "Z") == found[name]
