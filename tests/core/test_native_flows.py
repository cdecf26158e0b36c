"""What events trigger: the compiled half and the Python beside it do the same, event by event."""

import json
from typing import Any, Final

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from edo_stream.core.correlation.feed import JoinTrigger, ValueOf
from edo_stream.core.dedupe import expand_ids
from edo_stream.core.event import Event
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.patterns import parse_pattern
from edo_stream.core.pieces import Split
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.record import Batch, StoredRecord
from edo_stream.core.routing import Condition, Route, Router, Routes
from edo_stream.core.state import Table
from edo_stream.core.trigger import FlowTrigger
from edo_stream.sources import decoder
from tests.core.bench import IDENTITY, INTERNAL, NOW_MS, TOPIC, contract
from tests.core.memory import Memory

native = pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")

NAMES: Final = st.sampled_from(["a", "b", "order", "id", "a/b", "m~n", "metadata", "", "é", 'q"'])
LEAVES: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.just(-0.0),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.text(max_size=4),
    st.sampled_from(["k-1", 'q"', "back\\slash", "x" * 1_100]),
)
DOCUMENTS: Final = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=4),
    max_leaves=8,
)
#: Twice the same member, numbers as nobody writes them, spaces, and what is no JSON.
ODD: Final = st.sampled_from(
    [
        b'{"a": "one", "a": "two"}',
        b'{"a": {"b": 1}, "a": {"b": 2}}',
        b'{"order": {"id": 7, "id": 8}}',
        b' { "a" : -0 , "b" : 01 } ',
        b'\n{"a"\t: -12 ,"b":{"a":[1,{"a":2}] , "id" : "x" } }\n',
        b'{"a": "\\u0041"}',
        b'{"\\u0061": "x", "a": "y"}',
        b'{"a": "x", "b": "} , {"}',
        b'{"b": [1, 2', b'{"a": 1,}', b'["a"]', b'"a"', b"7", b"", b"\xff\xfe", b"{}",
    ]
)  # fmt: skip
DATA: Final = st.one_of(
    st.none(),
    ODD,
    DOCUMENTS.map(lambda one: json.dumps(one).encode()),
    DOCUMENTS.map(lambda one: json.dumps(one, ensure_ascii=False, indent=1).encode()),
    st.dictionaries(NAMES, DOCUMENTS, max_size=4).map(lambda one: json.dumps(one).encode()),
)
TEXTS: Final = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.just("x" * 40),
    st.just("y" * 300),
    st.just("z" * 70_000),
    st.just("\ud800"),
)
TYPES: Final = st.sampled_from(["order.placed", "order.paid", "x" * 40, ""])
EXTENSIONS: Final = st.lists(
    st.tuples(
        st.sampled_from(["ce_tenant", "edo-attempt", "ce_id", "content-type", "note", "é"]),
        st.binary(max_size=4),
    )
    | st.just(("note", None)),
    max_size=3,
).map(tuple)
TIMES: Final = st.one_of(
    st.just((None, None)),
    st.just((None, b"2026-01-31T12:00:00.000Z")),
    st.just((1_769_860_800_000, b"2026-01-31T12:00:00.000Z")),
    st.just((1_769_860_800_001, b"2026-01-31T12:00:00.000Z")),
    st.just((1_769_860_800_000, b"2026-01-31T13:00:00+01:00")),
    st.sampled_from([-1, 0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**62]).map(
        lambda at_ms: (at_ms, None)
    ),
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    time_ms, time_text = draw(TIMES)
    return Event(
        id=draw(TEXTS),
        source=draw(TEXTS),
        type=draw(TYPES),
        key=draw(st.binary(max_size=9) | st.just(b"k" * 1_100)),
        data=draw(DATA),
        content_type=draw(st.sampled_from([None, "application/json", "text/plain", ""])),
        subject=draw(st.none() | TEXTS),
        time_ms=time_ms,
        correlation_id=draw(st.none() | TEXTS),
        extensions=draw(EXTENSIONS),
        time_text=time_text,
    )


KEYS: Final = st.sampled_from([None, "record", "subject", "/a", "/order/id", "/a/b", "/a~1b", "/é"])
CONDITIONS: Final = st.sampled_from(
    [
        (),
        (Condition(parse_pattern({"type": ["order.placed"]})),),
        (Condition(parse_pattern({"type": [{"prefix": "order."}]})),),
        (Condition(parse_pattern({"type": [{"anything-but": "order.paid"}]})),),
        (Condition(parse_pattern({"type": [{"exists": False}]})),),
    ]
)
#: What needs more than the type, so that Python decides.
OTHERS: Final = st.sampled_from(
    [
        (Condition(parse_pattern({"data": {"a": [1, "one", "k-1"]}})),),
        (Condition(parse_pattern({"type": ["order.placed"], "subject": ["x"]})),),
        (Condition(None, lambda facts: facts.event.type == "order.placed"),),
    ]
)


@st.composite
def routes(draw: st.DrawFn, conditions: st.SearchStrategy[Any] = CONDITIONS) -> Routes:
    found = []
    for number in range(draw(st.integers(1, 4))):
        split = draw(st.sampled_from([None, None, None, Split("ends", ("a",))]))
        small = draw(st.sampled_from([2_000, 1_048_576]))
        trigger = FlowTrigger(
            flow=draw(st.sampled_from([f"flow-{number}", "lé", "long-" * 20])),
            commands=f"edo.commands.{number}",
            dead_letters="letters",
            partitions=draw(st.sampled_from([1, 3, 8])),
            key=draw(KEYS),
            make=draw(st.sampled_from([None, None, None, lambda facts: b"made"])),
            bytes_max=small,
            split=split,
        )
        feed = None
        if draw(st.booleans()):
            place = draw(KEYS)
            key = draw(st.sampled_from([ValueOf(place), ValueOf(place), ValueOf(place, days=1)]))
            where = draw(KEYS)
            member = draw(st.sampled_from([None, None, ValueOf(where), ValueOf(where, days=1)]))
            feed = JoinTrigger(
                f"flow-{number}", "in", "edo.joins.g", 5, "letters", 2, "t", key, member,
                bytes_max=small,
            )  # fmt: skip
        found.append(Route(trigger, draw(conditions), feed))
    return Routes(found)


RECORDS: Final = st.builds(
    StoredRecord,
    topic=st.just(TOPIC),
    partition=st.just(5),
    offset=st.integers(0, 2**62),
    timestamp=st.sampled_from([-1, 0, NOW_MS, NOW_MS + 1, NOW_MS + 10**9]),
    key=st.none() | st.binary(max_size=5),
    value=st.just(b"{}"),
)


def shown(found: Any) -> list[Any]:
    return [(one.topic, one.partition, one.key, one.value, list(one.headers), one.timestamp_ms)
            for one in found]  # fmt: skip


@given(routes(), RECORDS, events())
@example(
    Routes([Route(FlowTrigger("f", "c", "d", 8))]),
    StoredRecord(TOPIC, 5, 0, 0, b"k", b"{}"),
    Event("e", "/s", "order.placed", b"k", None, correlation_id=""),
)
def test_what_an_event_triggers_is_the_same(
    given_routes: Routes, record: StoredRecord, event: Event
) -> None:
    router = Router(IDENTITY, contract(), given_routes)
    assert isinstance(router.fastest, native.PlainRouter)
    try:
        in_python = router.commands(record, event, NOW_MS)
    except UnicodeEncodeError:
        return  # No decoder lets it through.
    for _ in range(2):  # The second time what depends on the type is known.
        assert shown(router.fastest.commands(record, event, NOW_MS)) == shown(in_python)


@given(routes(OTHERS))
def test_what_takes_more_than_the_type_is_asked_of_python(given_routes: Routes) -> None:
    router = Router(IDENTITY, contract(), given_routes)
    assert router.fastest is router


def _fetched(value: bytes) -> Any:
    builder = DefaultRecordBatchBuilder(2, 0, 1, 7, 0, 0, 1 << 20)
    headers = [
        ("ce_specversion", b"1.0"), ("ce_id", b"e-1"), ("ce_source", b"/s"),
        ("ce_type", b"placed"), ("ce_sequence", b"1"),
    ]  # fmt: skip
    builder.append(0, NOW_MS, b"key", value, headers)
    [found] = native.read_records(TOPIC, 5, bytes(builder.build())[61:], 1, 100, NOW_MS, -1, 0)
    return found


class _Unasked:
    """A trigger that must not be asked."""

    def commands(self, *_: object) -> None:
        raise AssertionError("the compiled half has left a plain event to Python")


PLAIN: Final = Event(
    "e-1", "/shop", "order.placed", b"key", b'{"order": {"id": "o-9", "n": -12}, "a": [1, {}]}',
    "application/json", "s", 1_769_860_800_000, 7, None, None, (("ce_tenant", b"t"),),
    b"2026-01-31T12:00:00.000Z",
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, b"key"),
        ("record", b"record"),
        ("subject", b"s"),
        ("/order/id", b"o-9"),
        ("/order/n", b"-12"),
    ],
)
@pytest.mark.parametrize("waits", ["not", "for one", "for many"])
def test_what_is_plain_is_made_by_the_compiled_half(
    key: str | None, expected: bytes, waits: str
) -> None:
    record = StoredRecord(TOPIC, 5, 7, NOW_MS, b"record", b"{}")
    member = ValueOf("/order/id") if waits == "for many" else None
    feed = JoinTrigger("f", "in", "edo.joins.g", 5, "d", 2, "t", ValueOf(key), member)
    condition = Condition(parse_pattern({"type": ["order.placed"]}))
    route = Route(
        FlowTrigger("f", "c", "d", 8, key), (condition,), None if waits == "not" else feed
    )
    router = Router(IDENTITY, contract(), Routes([route]))
    writers = [one.compiled() for one in router._triggers]
    router._triggers[:] = []
    fastest = native.PlainRouter([_Unasked()], writers, (), lambda facts: [0], lambda event: None)

    [command] = fastest.commands(record, PLAIN, NOW_MS)
    assert command.key == expected


def test_the_plain_way_writes_an_event_and_what_it_triggers_together() -> None:
    flows = Routes(
        [
            Route(FlowTrigger("f", "c", "d", 8)),
            Route(FlowTrigger("g", "c", "d", 8), (Condition(parse_pattern({"type": ["paid"]})),)),
        ]
    )
    rules = contract()
    source = Source(rules, decoder(rules), flows)
    tables = Table(Memory()), Table(Memory(), expand_ids)
    pipeline = Pipeline(IDENTITY, {TOPIC: source}, *tables, INTERNAL, IdsBudget())
    records = [
        StoredRecord(TOPIC, 5, n, NOW_MS, b"key", b"{}", (
            ("ce_specversion", b"1.0"), ("ce_id", b"%d" % n), ("ce_source", b"/s"),
            ("ce_type", b"paid" if n % 2 else b"placed"), ("ce_sequence", b"%d" % (n + 1)),
        ))
        for n in range(6)
    ]  # fmt: skip
    effects = pipeline.step([Batch(TOPIC, 5, records)], NOW_MS, 0)

    told = [(one.topic, dict(one.headers).get("edo-flow")) for one in effects.publish[:-1]]
    even, odd = [(rules.emit, None), ("c", b"f")], [(rules.emit, None), ("c", b"f"), ("c", b"g")]
    assert told == [*even, *odd] * 3
    assert {one.value for one in effects.publish[:-1]} == {b"{}"}


def test_flows_with_a_key_at_the_same_place_get_that_of_each_event() -> None:
    same = [Route(FlowTrigger(name, name, "d", 8, "/order/id")) for name in "fg"]
    other = Route(FlowTrigger("h", "h", "d", 8, "/order/n"))
    router = Router(IDENTITY, contract(), Routes([*same, other]))
    record = StoredRecord(TOPIC, 5, 7, NOW_MS, b"record", b"{}")
    events_of_two = [
        replace(PLAIN, data=b'{"order": {"id": "o-%d", "n": %d}}' % (n, n)) for n in (1, 2, 1)
    ]
    found = [router.fastest.commands(record, event, NOW_MS) for event in events_of_two]
    assert [[one.key for one in commands] for commands in found] == [
        [b"o-1", b"o-1", b"1"],
        [b"o-2", b"o-2", b"2"],
        [b"o-1", b"o-1", b"1"],
    ]


def test_commands_of_one_event_have_ids_and_flows_of_their_own() -> None:
    names = ["f", "long-" * 20, "lé", "g"]
    routes_of = Routes([Route(FlowTrigger(name, name, "d", 8)) for name in names])
    router = Router(IDENTITY, contract(), routes_of)
    for offset in (7, 8):
        record = StoredRecord(TOPIC, 5, offset, NOW_MS, b"record", b"{}")
        found = router.fastest.commands(record, PLAIN, NOW_MS)
        assert [type(one.headers) for one in found] == [native.WireHeaders] * 4
        assert shown(found) == shown(router.commands(record, PLAIN, NOW_MS))
        sizes = [sum(len(n) + len(v) + 8 for n, v in one.headers) for one in found]
        assert [one.headers.size_bytes for one in found] == sizes


@pytest.mark.parametrize("data", [b'["a"]', b'{"order": {"id"', None])
def test_data_that_was_cast_is_looked_at_again(data: bytes | None) -> None:
    rules = contract()
    fetched = _fetched(b'{"order": {"id": "o-9"}}')
    event = decoder(rules)(fetched)
    assert isinstance(event, Event)
    route = Route(FlowTrigger("f", "c", "d", 8, "/order/id"))
    for feed in (None, JoinTrigger("f", "in", "j", 5, "d", 2, "t", ValueOf("/order/id"))):
        router = Router(IDENTITY, rules, Routes([Route(route.trigger, (), feed)]))
        for one in (event, replace(event, data=data)):
            expected = router.commands(fetched, one, NOW_MS)
            assert shown(router.fastest.commands(fetched, one, NOW_MS)) == shown(expected)
