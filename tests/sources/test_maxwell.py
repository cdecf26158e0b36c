"""Row changes by Maxwell, from the samples of its documentation."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edo_stream.core.contract import Codec, MonotonicOrder
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.sources import decoder
from tests.sources.cdc import CONTRACT, record

KEY = b'{"database":"test","table":"e","pk.id":1}'
UPDATE: dict[str, Any] = {
    "database": "test",
    "table": "e",
    "type": "update",
    "ts": 1_477_053_217,
    "xid": 23_396,
    "commit": True,
    "position": "master.000006:800911",
    "server_id": 23_042,
    "data": {"id": 1, "m": 4.2341},
    "old": {"m": 5.1},
}


def decode(value: Any, key: bytes | None = KEY) -> Decoded:
    contract = replace(CONTRACT, codec=Codec.MAXWELL, ordering=MonotonicOrder())
    return decoder(contract)(record(value, key))


def event(**changes: Any) -> Event:
    found = decode(UPDATE | changes)
    assert isinstance(found, Event), found
    return found


def test_change_of_a_row_is_an_event_named_by_its_place() -> None:
    found = event()

    assert ("test.e.updated", "/maxwell/test", KEY) == (found.type, found.source, found.key)
    assert f"maxwell:test.e:master.000006:800911:0:updated:{KEY.decode()}" == found.id
    assert 1_477_053_217_000 == found.time_ms
    assert UPDATE == json.loads(found.data or b"")


def test_changes_are_ordered_by_file_position_and_row() -> None:
    places = [
        {"position": "master.000006:900000"},
        {"position": "master.000010:4"},
        {"position": "master.000010:4", "xoffset": 1},
    ]
    found = [event(**place).position or 0 for place in places]

    assert sorted(set(found)) == found


@pytest.mark.parametrize("kind", ["bootstrap-start", "bootstrap-complete"])
def test_what_frames_a_bootstrap_is_ignored(kind: str) -> None:
    assert Ignored("bootstrap") == decode(UPDATE | {"type": kind})


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"[]",
        UPDATE | {"type": "table-create"},
        UPDATE | {"type": []},
        UPDATE | {"database": ""},
        UPDATE | {"position": None},
        UPDATE | {"position": "master"},
        UPDATE | {"position": 5},
        UPDATE | {"ts": "now"},
        UPDATE | {"ts": 10**30},
        UPDATE | {"xoffset": 1.5},
    ],
)
def test_record_that_is_no_change_is_a_violation(value: Any) -> None:
    found = decode(value)

    assert isinstance(found, Violation)
    assert KEY == found.key
