"""Whatever a believed body holds, it becomes records that Kafka takes, or a cause."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.gateway.content import MALFORMED, UNMAPPED, Unread, records_reader
from edo_stream.gateway.declaration import Body, Source
from edo_stream.webhooks.request import Headers, Request
from edo_stream.webhooks.verdict import Accepted

BODIES = list(get_args(Body))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))
NAMES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["id", "type", "source", "specversion", "data", "data_base64", "Records", "s3", "detail",
         "detail-type", "time", "eventType", "eventTime", "topic", "subject", "message"]
    ),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
BYTES = st.one_of(st.binary(max_size=80), VALUES.map(lambda value: json.dumps(value).encode()))
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"content-type", b"ce-id", b"ce-source", b"ce-type", b"ce-specversion", b"ce-x"]
        ),
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from(
                [b"application/json", b"application/cloudevents+json", b"1.0", b"%41", b'"a"',
                 b"application/cloudevents-batch+json", b"application/x-www-form-urlencoded"]
            ),
        ),
    ),
    max_size=8,
)  # fmt: skip


def source(body: str) -> Source:
    told: dict[str, Any] = {
        "topic": "a.b.c",
        "verify": {"scheme": "api-key", "secrets": ["env:A"]},
        "body": body,
    }
    if body in ("json", "form", "raw"):
        told |= {"id": "/id", "type": "a.{header:x-a}", "time": "/time", "source": "/source"}
    return Source.model_validate(told)


@pytest.mark.parametrize("kind", BODIES)
def test_every_body_becomes_records_or_a_cause(kind: str) -> None:
    read = records_reader("a", source(kind))

    @settings(max_examples=60, deadline=None)
    @given(HEADERS, BYTES)
    def check(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        found = read(Request(Headers(fields), body), Accepted(), 1_700_000_000_000)
        if isinstance(found, Unread):
            assert found.cause in (MALFORMED, UNMAPPED)
            return
        for record in found:
            names = [name for name, _ in record.headers]
            assert {"ce_id", "ce_source", "ce_type", "ce_specversion"} <= {*names}
            for name, value in record.headers:
                assert name.isascii()
                assert isinstance(value, bytes)
            assert record.key is None or isinstance(record.key, bytes)

    check()
