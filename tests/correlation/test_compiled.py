"""Waits by the compiled half and by Python alone: the same records, state and accounts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edo_stream.core.correlation.joined import Joined, encode_joined
from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.correlation.spec import (
    Bounds,
    Clock,
    Correlation,
    Counted,
    Fire,
    JoinSpec,
    Keep,
    Kind,
    Members,
    Named,
    OnLate,
    OnTimeout,
    Ordered,
    Target,
)
from edo_stream.core.headers import time_text
from edo_stream.core.record import Batch, PlainRecord
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from tests.core.memory import Memory
from tests.core.produced import produced

native = pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")

TOPIC: Final = "edo.joins.g"
NOW_MS: Final = 1_700_000_000_000
DAY_MS: Final = 86_400_000
INTERNAL: Final = InternalTopics("edo.accounts", 3, "edo.gaps", 3, "edo.control.g")


def mostly(usual: Sequence[Any], *odd: Any) -> st.SearchStrategy[Any]:
    """One of the usual, and now and then what only Python knows."""
    return st.sampled_from([*usual] * (1 + 6 // len(usual)) + [*odd])


CORRELATIONS: Final = st.builds(
    Correlation,
    flow=st.just("x"),
    owner=st.just("t"),
    kind=mostly([Named(2), Ordered(), Named(3), Counted(2), Counted(3)], Named(1), Counted()),
    inputs=mostly([("a", "b"), ("deadline", "a"), ("b", "deadline", "a")], ("b", "a", 'c"')),
    target=mostly([Target("out", 5, "out.type")], Target("out", 1, "tÿpe", True)),
    outcomes=st.just("outcomes"),
    dead_letters=st.just("letters"),
    partitions=st.just(3),
    within_ms=mostly([1_000, DAY_MS], 0, 10**13),
    grace_ms=st.sampled_from([0, 500]),
    clock=st.sampled_from(Clock),
    on_timeout=st.sampled_from(OnTimeout),
    late=st.sampled_from(OnLate),
    fire=st.sampled_from(Fire),
    keep=st.sampled_from(Keep),
    remember_ms=st.sampled_from([0, 160, DAY_MS]),
    opens=mostly([frozenset()], frozenset({"a"})),
    fallback=mostly([""], "b"),
    history=mostly([""], "edo.history.x"),
    bounds=mostly([Bounds()], Bounds(open_max=1), Bounds(events_max=1), Bounds(bytes_max=192)),
)
TEXTS: Final = st.sampled_from(["e-1", "", 'q"', "back\\", "é", "x" * 300, "\n", "\x7f"])
#: As long as producers like: the compiled half writes the last one of a wait twice.
IDS: Final = st.sampled_from(["e-1", "e-2", "x" * 1_100, "x" * 7_000])
DATA: Final = st.sampled_from(
    [(b"{}", True), (b'{"n": [1, 2]}', True), (b" 7 ", True), (None, False), (b"\xff", False),
     (b"x" * 700, False), (b'"' + b"x" * 70_000 + b'"', True)]
)  # fmt: skip
WHOLE: Final = st.none() | st.sampled_from(
    [0, 1, 127, 128, 256, 65_536, NOW_MS - 1_500, NOW_MS, NOW_MS + DAY_MS, 2**62, -1]
)
TIMES: Final = mostly([None, NOW_MS - 1_500, NOW_MS - 700, NOW_MS], 0, 127, 65_536, -1, 2**62)


@st.composite
def values(draw: st.DrawFn) -> bytes | None:
    if draw(st.integers(0, 39)) == 0:
        return draw(st.sampled_from([None, b"", b"\xc1", b"\x90", b"\xdc\x00\x10", b"\x9f\xa1x"]))
    is_odd = draw(st.integers(0, 11)) == 0
    text = TEXTS if is_odd else st.sampled_from(["e-1", "order/7"])
    data, is_json = draw(DATA if is_odd else st.just((b'{"n": 1}', True)))
    value = encode_joined(
        Joined(
            flow=draw(mostly(["x", "x", "y"], "gone")),
            input=draw(mostly(["a", "b", "deadline"], 'c"')),
            id=draw(IDS | text),
            source=draw(text),
            type=draw(text),
            position=draw(text),
            data=data,
            is_json=is_json,
            time_ms=draw(TIMES),
            subject=draw(st.none() | text),
            correlation_id=draw(st.none() | text),
            content_type=draw(st.none() | text),
            member=draw(mostly([None, None, "m", "n"], 'm"')),
            expect=draw(WHOLE) if is_odd else None,
            is_failed=is_odd and draw(st.booleans()),
        )
    )
    if is_odd and draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(value) - 1))
        value = value[:at] + draw(st.binary(max_size=1)) + value[at + 1 :]
    return value


@st.composite
def records(draw: st.DrawFn) -> list[PlainRecord]:
    keys = mostly([b"k", b"k", b"l"], b"key 3", b"", None, b'"', b"\xff", b"z" * 300)
    ago_ms = mostly([0, 0, 1, 10, 170, 171, -900, -2_000], 400_000, -NOW_MS)
    found, offset = [], 7
    for _ in range(draw(st.integers(1, 30))):
        offset += draw(st.integers(1, 3))
        at_ms = NOW_MS + draw(ago_ms)
        found.append(PlainRecord(TOPIC, 2, offset, at_ms, draw(keys), draw(values()), ()))
    return found


class Half:
    """A task, with the compiled half or without; what it has decided is in ``told``."""

    def __init__(self, spec: JoinSpec, is_compiled: bool, as_sent: bool = False) -> None:
        self.memory = Memory()
        self.table = Table(self.memory)
        self.told: list[Any] = []
        self._spec = spec
        self._is_compiled = is_compiled
        self._as_sent = as_sent
        self.pipeline = self._made()
        self._write(self.pipeline.start(TOPIC, 0, NOW_MS))

    def _made(self) -> JoinPipeline:
        pipeline = JoinPipeline(
            TaskIdentity("app", "g", 2), self._spec, "lost", self.table, INTERNAL
        )
        if self._as_sent:
            pipeline.write_as_sent()
        if not self._is_compiled:
            pipeline._plain = None
        return pipeline

    def restart(self, spec: JoinSpec | None = None) -> None:
        self._spec = spec or self._spec
        self.pipeline = self._made()

    def step(self, batch: Sequence[PlainRecord], now_ms: int, has_caught_up: bool) -> None:
        batches = [Batch(TOPIC, 2, batch)] if batch else []
        self._write(self.pipeline.step(batches, now_ms, now_ms if has_caught_up else 0))

    def _write(self, effects: Any) -> None:
        self.told.append(produced(effects, self._as_sent))
        self.told.append(list(self.table.changelog.items()))
        self.memory.write(self.table.local)
        self.table.settle()


def fetched(record: PlainRecord) -> Any:
    """The same as the compiled half reads it."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 7, 0, 0, 1 << 30)
    builder.append(0, record.timestamp, record.key, record.value, [])
    [found] = native.read_records(
        TOPIC, 2, bytes(builder.build())[61:], 1, record.offset, record.timestamp, -1, 0
    )
    return found


STEPS: Final = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from([0, 0, 200, 1_000, DAY_MS]),
        st.booleans(),
        st.integers(0, 5).map(lambda chance: chance == 0),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300)
@given(CORRELATIONS, CORRELATIONS, records(), STEPS, st.booleans())
def test_both_halves_decide_alike(
    one: Correlation, two: Correlation, given_records: list[PlainRecord], steps: Any, as_sent: bool
) -> None:
    spec = JoinSpec(TOPIC, 8, {"x": one, "y": replace(two, flow="y")})
    decide_alike(spec, given_records, steps, as_sent)


@settings(max_examples=300)
@given(
    kinds=st.lists(
        mostly([Named(2), Named(2), Counted(2), Counted(3)], Ordered(), Members(("a", "b"))),
        min_size=2,
        max_size=2,
    ),
    withins=st.lists(st.sampled_from([1_000, DAY_MS]), min_size=2, max_size=2),
    keys=st.lists(st.sampled_from([b"k", b"l", b"m"]), min_size=10, max_size=40),
    data=st.data(),
    steps=STEPS,
)
def test_both_halves_decide_alike_on_what_a_flow_s_edit_has_left(
    kinds: list[Kind], withins: list[int], keys: list[bytes], data: st.DataObject, steps: Any
) -> None:
    found = [
        arriving(
            7 + number,
            name := data.draw(st.sampled_from("ab")),
            NOW_MS + 100 * number - 4_000,
            key=key,
            member=name,
        )
        for number, key in enumerate(keys)
    ]
    steps = [
        (count, later_ms, False, number > 0) for number, (count, later_ms, *_) in enumerate(steps)
    ]
    one, two = (
        spec_of(kind, fire=Fire.EACH, within_ms=within_ms)
        for kind, within_ms in zip(kinds, withins, strict=True)
    )
    decide_alike(one, found, steps, edited=two)


#: An input, how much later than the one before, and which event of its topic it is.
LINKS: Final = st.tuples(
    mostly(["a", "b", "c"]), mostly([0, 1, 300, 600], -1, 1_100), st.integers(0, 2)
)


@settings(max_examples=300)
@given(
    inputs=st.sampled_from([("a", "b"), ("a", "b", "c")]),
    fire=mostly([Fire.EACH, Fire.EACH], Fire.ONCE),
    links=st.lists(LINKS, min_size=4, max_size=40),
    steps=STEPS,
)
def test_both_halves_decide_alike_on_sequences(
    inputs: tuple[str, ...], fire: Fire, links: list[tuple[str, int, int]], steps: Any
) -> None:
    """What the compiled half takes of them is nearly all of it here."""
    at_ms, found = NOW_MS - 40_000, []
    for offset, (name, later_ms, number) in enumerate(links, 7):
        at_ms += later_ms
        found.append(arriving(offset, name, at_ms, position=f"t/0/{number}"))
    decide_alike(spec_of(Ordered(), inputs=inputs, fire=fire, within_ms=900), found, steps)


#: An input, how much later than the one before, and the member that it is of.
ONES: Final = st.tuples(
    st.sampled_from(["a", "b"]),
    mostly([0, 1, 300], -1, 2_000),
    mostly([None, "m-1", "m-2", "m-3"], "m-4"),
)


@settings(max_examples=300)
@given(
    kind=st.integers(2, 5).map(Counted) | st.just(Members(("m-1", "m-3", "m-2"))),
    fire=mostly([Fire.EACH, Fire.EACH], Fire.ONCE),
    keep=st.sampled_from(Keep),
    has_members=st.booleans(),
    ones=st.lists(ONES, min_size=4, max_size=40),
    steps=STEPS,
)
def test_both_halves_decide_alike_on_counts(
    kind: Kind, fire: Fire, keep: Keep, has_members: bool, ones: list[Any], steps: Any
) -> None:
    at_ms, found = NOW_MS - 40_000, []
    for offset, (name, later_ms, member) in enumerate(ones, 7):
        at_ms += later_ms
        found.append(arriving(offset, name, at_ms, member=member if has_members else None))
    decide_alike(spec_of(kind, fire=fire, keep=keep), found, steps)


@pytest.mark.parametrize("count", [16, 63, 64, 65, 66])
@pytest.mark.parametrize("has_members", [False, True])
@pytest.mark.parametrize("bytes_max", [1_048_576, 12_000])
def test_both_halves_decide_alike_on_many(count: int, has_members: bool, bytes_max: int) -> None:
    """The compiled half has room for 64 events, and no topic gets more than it takes."""
    found = [
        arriving(
            7 + 2 * number,
            "ab"[number % 2],
            NOW_MS - 1,
            key=b"k" * 190,
            id=f"e-{number}" + "x" * 150,
            data=b'{"n": 1}',
            member=f"{number * 7 % count:03}" if has_members else None,
        )
        for number in range(3 * count)
    ]
    spec = spec_of(
        Counted(count),
        fire=Fire.EACH,
        target=Target("out", 5, "out", bytes_max=bytes_max),
        bounds=Bounds(bytes_max=100_000),
    )
    for size in (7, count, 3 * count):
        decide_alike(spec, found, [(size, 0, False, False)] * (3 * count // size + 1))


def decide_alike(
    spec: JoinSpec,
    given_records: Sequence[PlainRecord],
    steps: Any,
    as_sent: bool = False,
    edited: JoinSpec | None = None,
) -> None:
    """``edited`` is what the flows say after a restart, and ``spec`` after the next."""
    halves = [Half(spec, is_compiled, as_sent) for is_compiled in (True, False)]
    now_ms, left = NOW_MS, given_records
    for count, later_ms, has_caught_up, is_restarted in steps:
        now_ms += later_ms
        batch, left = left[:count], left[count:]
        if is_restarted:
            spec, edited = edited or spec, spec
        for half in halves:
            if is_restarted:
                half.restart(spec)
            is_compiled = half.pipeline._plain is not None
            half.step(
                [fetched(one) if is_compiled and one.offset % 2 else one for one in batch],
                now_ms,
                has_caught_up,
            )
        compiled, in_python = halves
        assert compiled.told == in_python.told
        assert compiled.memory.rows == in_python.memory.rows
        assert compiled.pipeline.open_waits() == in_python.pipeline.open_waits()


def spec_of(
    kind: Kind,
    inputs: tuple[str, ...] = ("a", "b"),
    target: Target = Target("out", 5, "out"),  # noqa: B008 - it is frozen
    **rest: Any,
) -> JoinSpec:
    correlation = Correlation("x", "t", kind, inputs, target, "outcomes", "letters", 3, **rest)
    return JoinSpec(TOPIC, 8, {"x": correlation})


def arriving(
    offset: int, name: str, at_ms: int = NOW_MS, key: bytes = b"k", **parts: Any
) -> PlainRecord:
    """An event of an input of ``x``; ``parts`` are what it has besides, or instead."""
    joined = Joined("x", name, f"e-{offset}", "/s", "t", f"t/0/{offset}", b"{}", True)
    value = encode_joined(structs.replace(joined, **parts))
    return PlainRecord(TOPIC, 2, offset, at_ms, key, value, ())


def pair(offset: int, key: bytes = b"k") -> list[PlainRecord]:
    return [
        arriving(offset + n, name, key=key, time_ms=NOW_MS, member=name)
        for n, name in enumerate("ab")
    ]


@pytest.mark.parametrize("kind", [Named(2), Ordered(), Counted(2), Members(("a", "b"))])
def test_plain_pairs_are_taken_by_the_compiled_half(kind: Kind) -> None:
    half = Half(spec_of(kind, fire=Fire.EACH), is_compiled=True)
    half.pipeline._place = None  # type: ignore[assignment, method-assign]
    half.step([*pair(10), *pair(20), *pair(30, b"l")], NOW_MS, has_caught_up=False)
    half.step(pair(40)[:1], NOW_MS, has_caught_up=False)
    half.restart()
    half.pipeline._place = None  # type: ignore[assignment, method-assign]
    half.step(pair(50)[1:], NOW_MS, has_caught_up=False)

    results = [one for told in half.told[::2] for one in told if one[0] == "out"]
    assert [b"k", b"k", b"l", b"k"] == [one[2] for one in results]
    assert b'"completed_by_id":"e-51"' in results[-1][3]


def test_pairs_go_the_compiled_way_while_others_wait_as_the_flow_was_declared_before() -> None:
    half = Half(spec_of(Named(2), fire=Fire.EACH, within_ms=DAY_MS), is_compiled=True)
    half.step(pair(10, b"old")[:1], NOW_MS, has_caught_up=False)
    half.restart(spec_of(Named(2), fire=Fire.EACH, within_ms=2 * DAY_MS))
    place = half.pipeline._place
    half.pipeline._place = None  # type: ignore[assignment, method-assign]
    half.step([*pair(20), pair(30, b"l")[0]], NOW_MS, has_caught_up=False)
    half.step(pair(40, b"l")[1:], NOW_MS, has_caught_up=False)
    half.pipeline._place = place  # type: ignore[method-assign]
    half.step(pair(50, b"old")[1:], NOW_MS, has_caught_up=False)

    results = [one for told in half.told[::2] for one in told if one[0] == "out"]
    assert [b"k", b"l", b"old"] == [one[2] for one in results]


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_written_alike(at_ms: int) -> None:
    assert native.time_text_of(at_ms) == time_text(at_ms)
