"""The example events beside the contracts are events by those contracts."""

import json
from pathlib import Path

import pytest

from edo_stream.core.contract import Codec
from edo_stream.core.event import Event
from edo_stream.core.record import StoredRecord
from edo_stream.registry import load
from edo_stream.sources import decoder

TOPICS = Path(__file__).parents[2] / "topics"
EXAMPLES = sorted(TOPICS.glob("*/examples/*.json"))


def example_record(file: Path) -> StoredRecord:
    """The record that a producer would write: a CloudEvent in structured mode, or a row change."""
    topic = file.parent.parent.name
    value = file.read_bytes()
    if load(TOPICS).contracts[topic].codec is Codec.DEBEZIUM:
        return StoredRecord(topic, 0, 0, 0, b'{"id":1004}', value)
    key = json.loads(value)["subject"].encode()
    headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
    return StoredRecord(topic, 0, 0, 0, key, value, headers)


def test_every_topic_has_an_example() -> None:
    assert sorted(load(TOPICS).contracts) == sorted({file.parent.parent.name for file in EXAMPLES})


@pytest.mark.parametrize("file", EXAMPLES, ids=[f"{f.parts[-3]}-{f.stem}" for f in EXAMPLES])
def test_example_is_an_event_by_its_contract(file: Path) -> None:
    record = example_record(file)

    assert isinstance(decoder(load(TOPICS).contracts[record.topic])(record), Event)
