"""A folder as a store: files count once they have settled, each version once."""

import json

import pytest

from edo_stream.core.contract import Codec, Contract, MonotonicOrder
from edo_stream.core.event import Event
from edo_stream.core.record import StoredRecord
from edo_stream.sources import decoder
from edo_stream.sources.objects_folder import Folder, Stamp, is_finished, record_of

SMALL, LARGE = Stamp(1_000_000_000, 10), Stamp(2_000_000_000, 20)


def test_a_file_counts_once_it_has_not_changed_for_a_while() -> None:
    folder = Folder({}, settle_ms=1_000)
    assert [] == folder.look({"a": SMALL}, 0)
    assert [] == folder.look({"a": LARGE}, 900)
    assert [] == folder.look({"a": LARGE}, 1_800)
    assert [("a", LARGE)] == folder.look({"a": LARGE}, 1_900)


def test_what_was_told_is_not_told_again_until_it_is_written_anew() -> None:
    folder = Folder({"a": SMALL}, settle_ms=0)
    assert [] == folder.look({"a": SMALL}, 0)
    assert folder.is_settled
    assert [("a", LARGE)] == folder.look({"a": LARGE}, 1)
    assert not folder.is_settled


def test_a_file_that_is_gone_is_forgotten() -> None:
    folder = Folder({"a": SMALL}, settle_ms=0)
    folder.look({}, 0)
    assert {} == folder.told


def test_the_oldest_comes_first() -> None:
    folder = Folder({}, settle_ms=0)
    files = {"b": LARGE, "a": LARGE, "z": SMALL}
    assert ["z", "a", "b"] == [path for path, _ in folder.look(files, 0)]


@pytest.mark.parametrize("name", [".hidden", "a.tmp", "a.PART", "a~", "x.csv.crdownload"])
def test_unfinished_files_have_such_names(name: str) -> None:
    assert not is_finished(name)


def test_a_file_is_an_object_that_was_created() -> None:
    key, value, headers = record_of("file:///data/in", "in", "a b/ü.csv", LARGE)
    contract = Contract(
        topic="files.invoice.arrived",
        owner="team-files",
        group="files",
        partitions=1,
        codec=Codec.CLOUDEVENTS,
        emit="files.invoice.accepted",
        emit_partitions=1,
        dead_letters="edo.dead-letters.files.invoice.arrived",
        ordering=MonotonicOrder(),
    )
    record = StoredRecord(contract.topic, 0, 0, 0, key, value, tuple(headers))
    event = decoder(contract)(record)
    assert isinstance(event, Event)
    assert ("in/a b/ü.csv#2000000000#20", "object.created") == (event.id, event.type)
    assert ("in/a b/ü.csv", "in/a b/ü.csv".encode(), 2_000_000_000) == (
        event.subject,
        event.key,
        event.position,
    )
    assert event.data is not None
    assert {
        "store": "folder",
        "bucket": "in",
        "key": "a b/ü.csv",
        "size": 20,
        "sequencer": "2000000000",
        "time": "1970-01-01T00:00:02.000Z",
        "reason": "settled",
    } == json.loads(event.data)
