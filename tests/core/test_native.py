"""The compiled half against the Python beside it: the same for every record, or left to Python."""

import hashlib
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import msgspec
import pytest
from aiokafka.record.util import calc_crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edo_stream.core.accounts import Fate, Run, runs_of
from edo_stream.core.contract import (
    KeyOrder,
    MonotonicOrder,
    SequenceOrder,
    TransactionOrder,
)
from edo_stream.core.dead_letter import bytes_of
from edo_stream.core.dedupe import _rows_in_python, digest_of, digests_of
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Violation
from edo_stream.core.headers import size_of, time_text
from edo_stream.core.ledger import Ledger
from edo_stream.core.outlet import Outlet
from edo_stream.core.record import StoredRecord
from edo_stream.core.redrive import redrive_of
from edo_stream.core.task import Step, TaskIdentity, TaskRow
from edo_stream.sources.attributes import time_and_text
from edo_stream.sources.cloudevents import decoder
from edo_stream.sources.json_data import check
from edo_stream.sources.refused import RefusedError
from tests.core.bench import TOPIC, contract

native = pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")
aiokafka = pytest.importorskip("aiokafka.record.default_records")

_HEADER_BYTES: Final = 61
Pair = tuple[str, bytes | None]


def batch(
    rows: Sequence[tuple[int, bytes | None, bytes | None, Sequence[Pair]]],
) -> bytes:
    """Bytes of a batch as the client writes them: time, key, value and headers of each record."""
    builder = aiokafka.DefaultRecordBatchBuilder(2, 0, 1, 7, 0, 0, 1 << 30)
    for offset, (timestamp, key, value, headers) in enumerate(rows):
        assert builder.append(offset, timestamp, key, value, list(headers)) is not None
    return bytes(builder.build())


def read(data: bytes, count: int, from_offset: int = 0, first_ms: int = 0) -> list[Any]:
    return native.read_records(  # type: ignore[no-any-return]
        TOPIC, 5, data[_HEADER_BYTES:], count, 100, first_ms, -1, from_offset
    )


def fetched(key: bytes | None, value: bytes | None, headers: Sequence[Pair]) -> Any:
    [record] = read(batch([(1_000, key, value, headers)]), 1)
    return record


NAMES = st.one_of(
    st.sampled_from(
        [
            "ce_id",
            "ce_source",
            "ce_type",
            "ce_specversion",
            "ce_time",
            "ce_subject",
            "ce_sequence",
            "ce_datacontenttype",
            "ce_correlationid",
            "ce_causationid",
            "ce_data",
            "ce_",
            "ce_Bad",
            "ce_ok9",
            "content-type",
            "Content-Type",
            "own",
            "edo-flow",
            "a\0b",
            "ce_edoposition",
            "ce_edolate",
            "",
        ]
    ),
    st.text(max_size=6),
)
TIMES = st.one_of(
    st.sampled_from(
        [
            b"2026-01-31T12:00:00.000Z",
            b"2026-01-31T12:00:00Z",
            b"2026-01-31T12:00:00.123456Z",
            b"2026-01-31T12:00:00.123+02:00",
            b"2026-02-29T12:00:00.000Z",
            b"2024-02-29T23:59:59.999Z",
            b"2016-12-31T23:59:60.000Z",
            b"0001-01-01T00:00:00.000Z",
            b"0000-01-01T00:00:00.000Z",
            b"2026-01-31t12:00:00.000z",
            b"2026-01-31 12:00:00.000Z",
            b"2026-13-31T12:00:00.000Z",
            b"2026-01-31T24:00:00.000Z",
            b"never",
        ]
    ),
    st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds").encode() + b"Z"),
)
VALUES = st.one_of(
    st.none(),
    st.sampled_from(
        [
            b"",
            b"1.0",
            b"0.3",
            b"a",
            b"/shop",
            b"7",
            b"007",
            b"-1",
            b"123456789012345678",
            b"1234567890123456789",
            b"application/json",
            b"application/json; charset=utf-8",
            b"application/cloudevents+json",
            b"text/plain",
            "ü".encode(),
            b"\xff",
            b"\x00",
            b"\x7f",
            b"a\nb",
        ]
    ),
    TIMES,
    st.binary(max_size=8),
)
JSON_TEXTS = [
    b'{"a": 1, "b": [true, false, null], "c": {"d": "e"}}',
    b'{"metadata": {"correlationId": "c"}}',
    b'{"a": {"metadata": 1}}',
    b'{"meta\\u0064ata": {"correlationId": "c"}}',
    b"{}",
    b"[]",
    b"7",
    b'{"a": "\\u00e9"}',
    b'{"a": "\\ud800"}',
    b'{"a": 1e5}',
    b'{"a": 01}',
    b'{"a": 1,}',
    b'{"a" 1}',
    b'{"a": "\x01"}',
    b'{"a": 12345678901234567890}',
    b'{"a": -0.5, "b": -}',
    '{"ü": "ü"}'.encode(),
    b'{"a": "\xff"}',
    b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
    b'{"a": 1} x',
    b'{"a": 1',
    b'{"a": tru}',
    b" {}",
    b'{"a": "\\x"}',
    b'{"a": "b\\"}',
]


def mutated(chance: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(chance.randrange(3)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(3):
            case 0 if at < len(out):
                out[at] = chance.choice(b'{}[]",:\\ \n0123456789.eE+-tfn\x01\x7f\x80\xff')
            case 1 if at < len(out):
                del out[at]
            case _:
                out.insert(at, chance.choice(b'{}[]",:\\ 0e.-'))
    return bytes(out)


DATA = st.one_of(
    st.none(),
    st.sampled_from([b"", *JSON_TEXTS]),
    st.tuples(st.integers(0, 2**32), st.sampled_from(JSON_TEXTS)).map(
        lambda drawn: mutated(random.Random(drawn[0]), drawn[1])
    ),
)
#: Most records are nearly plain, or nearly all would be refused for the same few reasons.
PLAIN: Final[dict[str, bytes]] = {
    "ce_specversion": b"1.0",
    "ce_id": b"id-1",
    "ce_source": b"/shop",
    "ce_type": b"shop.order.placed",
    "ce_time": b"2026-01-31T12:00:00.000Z",
    "ce_sequence": b"7",
    "content-type": b"application/json",
}


@st.composite
def headers_of_events(draw: st.DrawFn) -> list[Pair]:
    pairs: list[Pair] = [
        (name, value) for name, value in PLAIN.items() if draw(st.integers(0, 9)) > 0
    ]
    for _ in range(draw(st.integers(0, 3))):
        pairs.insert(draw(st.integers(0, len(pairs))), (draw(NAMES), draw(VALUES)))
    return pairs


CONTRACTS: Final[list[Any]] = [
    contract(ordering=ordering, order_key=key, position=position)
    for ordering in (KeyOrder(), SequenceOrder(), MonotonicOrder(), TransactionOrder())
    for key in (None, "subject")
    for position in ("sequence", "time", "id", "/n")
]


# How long it takes is the machine's matter.
@settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(CONTRACTS),
    st.none() | st.binary(max_size=3),
    DATA,
    headers_of_events(),
)
def test_a_record_is_judged_alike_by_both_halves(
    rules: Any, key: bytes | None, value: bytes | None, headers: list[Pair]
) -> None:
    decode = decoder(rules)
    compiled = decode(fetched(key, value, headers))
    in_python = decode(StoredRecord(TOPIC, 5, 100, 1_000, key, value, tuple(headers)))
    assert compiled == in_python
    assert type(compiled) is type(in_python)


@st.composite
def headers_like_each_other(draw: st.DrawFn) -> list[list[Pair]]:
    """Headers of records of one topic: most have the names of the last, with other values."""
    found = [draw(headers_of_events())]
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 4)) == 0:
            found.append(draw(headers_of_events()))
            continue
        pairs = [
            (name, draw(VALUES) if draw(st.integers(0, 5)) == 0 else value)
            for name, value in found[-1]
        ]
        if pairs and draw(st.integers(0, 3)) == 0:
            at, to = (draw(st.integers(0, len(pairs) - 1)) for _ in range(2))
            pairs[at] = (draw(st.sampled_from([pairs[to][0], "ce_source", "ce_new"])), pairs[at][1])
        found.append(pairs)
    return found


@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(CONTRACTS), headers_like_each_other())
def test_what_was_learned_of_a_record_misleads_about_no_other(
    rules: Any, records: list[list[Pair]]
) -> None:
    decode = decoder(rules)
    for headers in records:
        in_python = decode(StoredRecord(TOPIC, 5, 100, 1_000, b"k", b"{}", tuple(headers)))
        assert decode(fetched(b"k", b"{}", headers)) == in_python


def test_what_is_plain_is_decoded_by_the_compiled_half() -> None:
    # Else the test above would compare Python with itself.
    [first] = read(batch([(1_000, b"k", JSON_TEXTS[0], list(PLAIN.items()))]), 1)
    plain = native.PlainDecoder(
        1, 3, True, b"ce_sequence", lambda media: (str(media), True), lambda value: None
    )
    event = plain.decode(first)
    assert isinstance(event, Event)
    assert (event.id, event.position, event.time_ms) == ("id-1", 7, 1_769_860_800_000)


@given(st.datetimes())
def test_a_time_as_results_have_it_is_read_alike(at: Any) -> None:
    value = at.isoformat(timespec="milliseconds").encode() + b"Z"
    headers = [*PLAIN.items(), ("ce_time", value)][-1:] + [
        pair for pair in PLAIN.items() if pair[0] != "ce_time"
    ]
    event = decoder(contract(ordering=KeyOrder()))(fetched(b"k", None, headers))
    assert isinstance(event, Event)
    assert (event.time_ms, event.time_text) == time_and_text("ce_time", value)
    assert event.time_ms is not None
    assert time_text(event.time_ms) == value


def test_what_is_called_plain_json_is_what_python_finds_right() -> None:
    chance = random.Random(5)
    plain = 0
    for _ in range(60_000):
        data = mutated(chance, chance.choice(JSON_TEXTS))
        if native.is_plain_object(data):
            plain += 1
            assert not check(data), data
            assert isinstance(msgspec.json.decode(data), dict), data
        else:
            # Nothing is said about it; Python must be able to say something.
            try:
                check(data)
            except RefusedError:
                continue
    assert plain > 3_000


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**40), 2**45),
            st.none() | st.binary(max_size=40),
            st.none() | st.binary(max_size=300),
            st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5))),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(98, 106),
)
def test_records_are_read_as_the_client_reads_them(rows: list[Any], from_offset: int) -> None:
    data = batch(rows)
    theirs = list(aiokafka.DefaultRecordBatch(data))
    first_ms = rows[0][0]
    ours = read(data, len(rows), from_offset, first_ms)
    assert [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in ours] == [
        (100 + r.offset, r.timestamp, r.key, r.value, list(r.headers))
        for r in theirs
        if 100 + r.offset >= from_offset
    ]


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """The same with some bytes changed, inserted or removed, or cut off."""
    data = bytearray(whole)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data.insert(at, chance.randrange(256))
            case 1:
                del data[at]
            case 2:
                data[at] ^= 1 << chance.randrange(8)
            case _:
                data[at] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data)


def judge_damaged(chance: random.Random, rounds: int) -> Counter[str]:
    """Read batches that are damaged; what is read both halves judge alike."""
    rows = [
        (1_000 + n, b"k%d" % n, JSON_TEXTS[n] + b" " * 40 * n, list(PLAIN.items()))
        for n in range(6)
    ]
    whole, found = batch(rows)[_HEADER_BYTES:], Counter[str]()
    decoders = [decoder(rules) for rules in CONTRACTS]
    for _ in range(rounds):
        data = damaged(chance, whole)
        try:
            records = native.read_records(TOPIC, 5, data, len(rows), 0, 0, -1, 0)
        except native.Corrupt:
            found["refused"] += 1
            continue
        decode = chance.choice(decoders)
        for one in records:
            found["read"] += 1
            headers = tuple(one.headers)
            same = StoredRecord(TOPIC, 5, one.offset, one.timestamp, one.key, one.value, headers)
            assert decode(one) == decode(same), data
    return found


def test_a_batch_that_is_damaged_is_refused_or_read_within_its_bounds() -> None:
    found = judge_damaged(random.Random(11), 15_000)
    assert found["refused"] > 3_000
    assert found["read"] > 3_000


@pytest.mark.parametrize(
    "wire",
    [
        b"\x06ab",  # A name beyond the end.
        b"\x02a\x06bc",  # A value beyond the end.
        b"\x02a",  # No value.
        b"\x01\x02a",  # A name that is null.
        b"\x02a\x02bc",  # More than is told of.
        b"\xff" * 11,
    ],
)
def test_headers_that_are_damaged_are_refused_when_the_batch_is_read(wire: bytes) -> None:
    record = b"\0\0\0\x02k\x01\x02" + wire
    data = bytes([2 * len(record)]) + record
    with pytest.raises(native.Corrupt):
        native.read_records(TOPIC, 5, data, 1, 0, 0, -1, 0)


def test_what_comes_from_outside_is_kept_for_the_next_record_only_if_it_is_short() -> None:
    tracemalloc.start()
    try:
        decode = decoder(contract(ordering=KeyOrder()))
        base = tracemalloc.get_traced_memory()[0]
        for number in range(3_000):
            long = b"%d" % number + b"x" * 3_000
            headers = dict(PLAIN) | {"ce_source": long, "ce_type": long, "content-type": long}
            headers["h" + long.decode()] = b""
            decode(fetched(b"k", None, list(headers.items())))
        assert tracemalloc.get_traced_memory()[0] - base < 4 << 20
    finally:
        tracemalloc.stop()


def test_buffers_are_guarded_under_o_as_well() -> None:
    code = (
        "from edo_stream.core import _native as n\n"
        "for make in (\n"
        "    lambda: n.SourceIdDigest(bytes(2_000), None),\n"
        "    lambda: n.ResultHeaders(b'', b'', bytes(2_000), ()),\n"
        "    lambda: n.PlainFeed(n.PlainKey(0, []), None, 't', 1, 1, bytes(2_000), b'', b''),\n"
        "    lambda: n.time_text_of(-1),\n"
        "):\n"
        "    try:\n"
        "        make()\n"
        "    except ValueError:\n"
        "        print('refused')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["refused"] * 4


TEXTS = st.one_of(st.text(max_size=20), st.text(min_size=90, max_size=260), st.just("\ud800"))


@given(st.text(min_size=1, max_size=40), st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
def test_digests_are_the_same(topic: str, pairs: list[tuple[str, str]]) -> None:
    topic = topic.encode("utf-8", "replace").decode()
    digest = digest_of(topic, ("source", "id"))
    judged: list[Any] = [Event(id_, source, "t", b"k", None) for id_, source in pairs]
    judged.insert(len(judged) // 2, Violation("invalid", "…"))
    in_python = [digest(each) if isinstance(each, Event) else b"" for each in judged]
    assert digests_of(topic, ("source", "id"))(judged) == in_python


EVENTS = st.builds(
    Event,
    id=TEXTS,
    source=TEXTS,
    type=TEXTS,
    key=st.binary(max_size=5),
    data=st.none() | st.binary(max_size=9),
    content_type=st.none() | TEXTS,
    subject=st.none() | TEXTS,
    time_ms=st.none() | st.integers(0, 2**41),
    correlation_id=st.none() | TEXTS,
    extensions=st.lists(
        st.tuples(NAMES, st.none() | st.binary(max_size=4)) | st.just(("big", b"x" * 5_000)),
        max_size=4,
    ).map(tuple),
    time_text=st.none() | st.just(b"2026-01-31T12:00:00.000Z"),
)


@given(st.binary(max_size=300))
def test_sha_1_is_the_same_with_and_without_the_processor_s_instructions(data: bytes) -> None:
    for is_by_processor in (False, True):
        assert native.sha1(data, is_by_processor) == hashlib.sha1(data).digest()


@given(st.lists(st.tuples(st.integers(1, 2), st.sampled_from(Fate)), max_size=12))
def test_fates_are_told_in_the_same_runs(steps: list[tuple[int, Fate]]) -> None:
    offsets = list(accumulate(step for step, _ in steps))
    fates = [fate for _, fate in steps]
    assert native.runs_of(offsets, fates, Run) == runs_of(offsets, fates)


def test_a_header_whose_name_is_no_text_stops_nothing() -> None:
    content = batch([(1_000, b"k", b"{}", [("caf!", b"1")])]).replace(b"caf!", b"caf\xe9")
    [record] = read(content, 1)
    assert [("caf\ufffd", b"1")] == list(record.headers)


@given(st.integers(0, 2**62), EVENTS, st.booleans(), st.text(max_size=70))
def test_results_have_the_same_headers(offset: int, event: Event, is_late: bool, app: str) -> None:
    app = app.encode("utf-8", "replace").decode()
    rules = contract()
    ledger = Ledger(TOPIC)
    outlet = Outlet(TaskIdentity(app, "shop", 5), rules, Step(TaskRow()), ledger)
    in_python = outlet._headers_in_python(offset, event, is_late)
    compiled = outlet._headers_of(offset, event, is_late)
    assert list(compiled) == list(in_python)
    assert size_of(compiled) == size_of(in_python)
    if isinstance(compiled, native.WireHeaders):
        assert list(compiled) == [compiled[at] for at in range(len(compiled))]


@given(st.binary(min_size=13, max_size=40), st.none() | st.binary(max_size=100))
def test_ids_have_the_same_rows(key: bytes, value: bytes | None) -> None:
    assert native.ids_rows(key, value) == list(_rows_in_python(key, value))


@given(st.lists(st.binary(max_size=20)))
def test_ids_have_the_same_names(digests: list[bytes]) -> None:
    assert native.ids_names(digests) == [b"d" + digest for digest in digests]


@given(headers_of_events(), st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=9))
def test_a_record_has_the_same_size_fetched_or_not(
    headers: list[Pair], key: bytes | None, value: bytes | None
) -> None:
    stored = StoredRecord(TOPIC, 5, 100, 1_000, key, value, tuple(headers))
    assert bytes_of(fetched(key, value, headers)) == bytes_of(stored)


ITEMS = st.lists(
    st.builds(
        Publish,
        topic=st.just("t"),
        partition=st.just(0),
        key=st.none() | st.binary(max_size=30),
        value=st.none() | st.binary(max_size=200),
        headers=st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
                st.none() | st.binary(max_size=5),
            )
        ),
        timestamp_ms=st.integers(0, 2**45),
    ),
    min_size=1,
    max_size=6,
)


@given(ITEMS)
def test_records_are_written_as_the_client_writes_them(items: list[Publish]) -> None:
    writer = native.RecordsWriter()
    assert writer.fill(items, 0, 1 << 30) == len(items)
    rows = [(each.timestamp_ms, each.key, each.value, each.headers) for each in items]
    assert writer.view() == batch(rows)[_HEADER_BYTES:]
    times_ms = [each.timestamp_ms for each in items]
    assert (writer.first_ms, writer.max_ms) == (times_ms[0], max(times_ms))


def test_texts_that_json_has_as_they_are_end_where_they_end() -> None:
    odd = {*range(0x20), 0x22, 0x5C, *range(0x7F, 0x100)}
    for size in range(40):
        assert native.as_is_size(b"x" * size) == size
        for at in range(size):
            for byte in (
                0x00,
                0x1F,
                0x20,
                0x21,
                0x22,
                0x23,
                0x5B,
                0x5C,
                0x5D,
                0x7E,
                0x7F,
                0x80,
                0xFF,
            ):
                text = b"x" * at + bytes([byte]) + b"~" * (size - at - 1)
                assert native.as_is_size(text) == (at if byte in odd else size)
                # What is behind it changes nothing.
                assert native.as_is_size(text[: at + 1] + b'"' * 20) == at + (byte not in odd)
    assert [native.as_is_size(bytes([byte])) for byte in range(256)] == [
        byte not in odd for byte in range(256)
    ]


def test_a_batch_that_is_read_stays_as_it_is() -> None:
    item = Publish("t", 0, b"k", b"v" * 100_000, (), 0)
    writer = native.RecordsWriter()
    assert writer.fill([item] * 7, 0, 1 << 30) == 7
    view = writer.view()
    with pytest.raises(ValueError, match="takes no more"):
        writer.fill([item], 0, 1 << 30)
    before, writer = bytes(view), native.RecordsWriter()
    # Neither the writer's end nor what others write changes what is read.
    others = [native.RecordsWriter() for _ in range(20)]
    for other in [writer, *others]:
        other.fill([msgspec.structs.replace(item, value=b"w" * 900_000)], 0, 1 << 30)
    assert view == before
    del view


def test_writers_that_are_done_with_leave_their_room_to_one_other_each() -> None:
    for _ in range(3):
        writers = [native.RecordsWriter() for _ in range(12)]
        for at, writer in enumerate(writers):
            value = b"%d" % at * 700_000
            assert writer.fill([Publish("t", 0, None, value, (), at)], 0, 1 << 30) == 1
        for at, writer in enumerate(writers):
            assert b"%d" % at * 700_000 in bytes(writer.view())
            assert writer.first_ms == at


@given(ITEMS, st.integers(1, 400))
def test_a_batch_is_no_larger_than_allowed_but_for_its_first_record(
    items: list[Publish], bytes_max: int
) -> None:
    cuts = [0]
    while cuts[-1] < len(items):
        writer = native.RecordsWriter()
        cuts.append(writer.fill(items, cuts[-1], bytes_max))
        assert writer.count == cuts[-1] - cuts[-2] > 0
        assert writer.size <= bytes_max or writer.count == 1
    assert all(start < end for start, end in pairwise(cuts))


@pytest.mark.parametrize(
    "wrong", [{"key": "text"}, {"value": 7}, {"headers": [("a", "text")]}, {"headers": [(7, b"")]}]
)
def test_what_is_no_bytes_is_refused(wrong: dict[str, Any]) -> None:
    item = Publish("t", 0, b"k", b"v", (), 0)
    writer = native.RecordsWriter()
    with pytest.raises(TypeError):
        writer.fill([msgspec.structs.replace(item, **wrong)], 0, 1_000)


@given(st.binary(max_size=200), st.integers(0, 20))
def test_a_checksum_is_the_client_s(data: bytes, start: int) -> None:
    if not native.HAS_CRC32C:
        pytest.skip("this processor has no instruction for it")
    assert native.crc32c(data) == calc_crc32c(data)
    assert native.crc32c(memoryview(data)[start:]) == calc_crc32c(data[start:])


@given(st.lists(st.tuples(st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=9))))
def test_records_have_the_same_size_fetched_or_not(rows: list[Any]) -> None:
    found: list[Any] = read(batch([(0, *row, ()) for row in rows]), len(rows))
    stored = [StoredRecord(TOPIC, 5, 0, 0, *row, ()) for row in rows]
    assert native.size_of(found, 64) == native.size_of(stored, 64)
    assert native.size_of(found, 64) == sum(
        len(part or b"") for row in rows for part in row
    ) + 64 * len(rows)


def test_a_record_mentions_what_is_in_its_headers() -> None:
    record = fetched(b"edo-key", b"edo-value", [("a", b"b"), ("edo-redrive", b"1")])
    assert record.mentions(b"edo-redrive")
    assert not record.mentions(b"edo-key")
    assert redrive_of(record) == b"1"
    assert redrive_of(fetched(b"k", None, [("edo-redrive", b"1"), ("a", b"b")])) is None
    assert redrive_of(fetched(b"k", None, [("a", b"edo-redrive")])) is None
    assert redrive_of(fetched(b"k", None, [])) is None


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "ab"]), st.sampled_from([*range(40), 1_000]))))
def test_records_are_grouped_in_the_order_of_their_places(places: list[tuple[str, int]]) -> None:
    # Equal names that are other objects are the same place all the same.
    publish = [
        Publish("".join(topic), int(str(partition)), None, b"%d" % at, (), 0)
        for at, (topic, partition) in enumerate(places)
    ]
    wanted: dict[tuple[str, int], list[Publish]] = {}
    for place, item in zip(places, publish, strict=True):
        wanted.setdefault(place, []).append(item)
    found = native.by_place(publish)
    assert found == wanted
    assert list(found) == list(wanted)


@pytest.mark.parametrize("call", [native.by_place, lambda a: native.RecordsWriter().fill(a, 0, 9)])
def test_what_is_nothing_to_publish_is_refused(call: Any) -> None:
    with pytest.raises(TypeError):
        call([StoredRecord(TOPIC, 5, 0, 0, b"k", b"v", ())])
