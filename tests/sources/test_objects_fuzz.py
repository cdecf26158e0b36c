"""No notification stops a partition: samples of every store, changed at any place."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.contract import Codec, Contract, KeyOrder, MonotonicOrder, NoOrder
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.record import StoredRecord
from edo_stream.sources import decoder
from edo_stream.sources.kinds import KINDS, reader
from tests.sources.test_objects import (
    RESOURCE,
    azure,
    azure_cloud_event,
    envelope,
    gcs_push,
    s3,
    sns,
)

SAMPLES: list[Any] = [
    s3(),
    s3(eventSource="minio:s3"),
    sns(s3()),
    {"Body": json.dumps(sns(s3()))},
    envelope(),
    envelope(source="my.app"),
    gcs_push(),
    RESOURCE,
    [azure()],
    azure_cloud_event(),
]
OBJECTS = ("s3", "minio", "gcs", "azure-blob", "eventbridge")
ODD: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["%FF", "%00", "a" * 5_000, "😀", "\u0000", "[" * 2_000, "{}", "1" * 300])
    | st.sampled_from([[], {}, [[]], {"key": {}}])
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [path, *(place for name, one in inner for place in places(one, (*path, name)))]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    sample = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(sample)))
        if not path:
            continue
        inner = sample
        for part in path[:-1]:
            inner = inner[part]
        if draw(st.booleans()):
            # A copy: it may be changed in turn.
            inner[path[-1]] = copy.deepcopy(draw(ODD))
        else:
            del inner[path[-1]]
    whole = json.dumps(sample).encode()
    cut = draw(st.none() | st.integers(0, len(whole)))
    return whole if cut is None else whole[:cut]


@given(
    kind=st.sampled_from(OBJECTS),
    value=changed(),
    ordering=st.sampled_from([NoOrder(), KeyOrder(), MonotonicOrder()]),
    order_key=st.sampled_from([None, "subject", "/key", "/notification/x"]),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["eventType", "bucketId", "ce_type", "ce_specversion", "ce_subject"]),
            st.none() | st.binary(max_size=8) | st.just(b"OBJECT_FINALIZE"),
        ),
        max_size=3,
    ),
)
def test_no_notification_stops_a_partition(
    kind: str, value: bytes, ordering: Any, order_key: str | None, headers: Any
) -> None:
    contract = Contract(
        topic="files.invoice.arrived",
        owner="team-files",
        group="files",
        partitions=4,
        codec=Codec(kind),
        emit="files.invoice.accepted",
        emit_partitions=4,
        dead_letters="edo.dead-letters.files.invoice.arrived",
        ordering=ordering,
        order_key=order_key,
    )
    record = StoredRecord(contract.topic, 0, 7, 0, None, value, tuple(headers))
    assert isinstance(decoder(contract)(record), Event | Violation | Ignored)
    found = reader(KINDS[kind], contract)(record)
    if isinstance(found, Violation | Ignored):
        assert found.reason
        return
    for event in found:
        assert event.id
        assert event.source
        event.id.encode()
        (event.subject or "").encode()
