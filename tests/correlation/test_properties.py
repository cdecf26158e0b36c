"""Laws of correlation: what the model says, whatever the batches, crashes and repetitions."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from edo_stream.core.correlation.joined import Joined, shown, size_of
from edo_stream.core.correlation.outlet import OF
from edo_stream.core.correlation.spec import (
    Absent,
    Correlation,
    Counted,
    Fire,
    Keep,
    Members,
    Named,
    OnLate,
    OnTimeout,
    Ordered,
    Windowed,
)
from edo_stream.core.record import Record
from edo_stream.observe.audit.waits import places_of
from tests.correlation.bench import NOW_MS, RESULTS, Bench, correlation, event, short
from tests.correlation.model import MANIFEST, Item, Model
from tests.correlation.rough import assert_nothing_shows

START_MS = NOW_MS - 1_000_000
NAMES = "abc"

_POLICIES: dict[str, Any] = {
    "within_ms": st.sampled_from([0, 10, 40]),
    "grace_ms": st.sampled_from([0, 5]),
    "on_timeout": st.sampled_from(OnTimeout),
    "fire": st.sampled_from(Fire),
    "keep": st.sampled_from(Keep),
    "late": st.sampled_from(OnLate),
}


def _made(kind: Any, inputs: str = NAMES, **policies: Any) -> st.SearchStrategy[Correlation]:
    return st.builds(correlation, kind, st.just(tuple(inputs)), **{**_POLICIES, **policies})


_OPENS: dict[str, Any] = {
    "opens": st.sampled_from([frozenset[str](), frozenset("a"), frozenset("ab")]),
    "look_back_ms": st.sampled_from([0, 15]),
    "fallback": st.sampled_from(["", "z"]),
}
CORRELATIONS = st.one_of(
    _made(st.builds(Named, st.integers(1, 3)), **_OPENS),
    _made(
        st.sampled_from([Counted(3), Counted(manifest=MANIFEST)]),
        fallback=st.sampled_from(["", "z"]),
    ),
    _made(
        st.sampled_from([Members(("x", "y")), Members(manifest=MANIFEST)]),
        fallback=st.sampled_from(["", "z"]),
    ),
    _made(
        st.just(Absent("a", "b")), "ab", look_back_ms=st.sampled_from([0, 15]), fallback=st.just("")
    ),
    _made(st.just(Ordered())),
    _made(
        st.sampled_from(
            [
                Windowed(20, 20),
                Windowed(30, 10),
                Windowed(gap_ms=12),
                Windowed(gap_ms=12, session_max_ms=30),
            ]
        ),
        late=st.sampled_from([OnLate.DROP, OnLate.APPEND, OnLate.DEAD_LETTER]),
    ),
)
WINDOWS_OF_LATE = _made(st.just(Windowed(20, 20)), late=st.just(OnLate.NEW_RUN))
ARRIVALS = st.tuples(
    st.sampled_from("abcabcabz!"),
    st.sampled_from("kq"),
    st.sampled_from([0, 0, 1, 7, 25]),
    st.sampled_from("xyw"),
    st.booleans(),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 6, 20, 61_000]), st.lists(ARRIVALS, max_size=6), st.booleans()
    ),
    max_size=10,
)
Steps = list[tuple[int, list[tuple[str, str, int, str, bool]], bool]]
Timeline = list[tuple[int, list[tuple[str, Item]], bool]]


def timeline(wanted: Correlation, steps: Steps) -> Timeline:
    """Moments, with what comes then, and whether the task has read to the end."""
    kind, line, offset, now_ms = wanted.kind, [], 0, START_MS
    has_manifest = isinstance(kind, Counted | Members) and kind.manifest
    for wait_ms, arrivals, is_caught_up in steps:
        now_ms += wait_ms
        items: list[tuple[str, Item]] = []
        for letter, key, back_ms, member, is_member in arrivals:
            name = MANIFEST if letter == "!" else letter
            if name not in (*wanted.inputs, wanted.fallback or "-", has_manifest or "-"):
                continue
            is_told = isinstance(kind, Members) or (isinstance(kind, Counted) and is_member)
            item = Item(
                offset,
                name,
                now_ms - back_ms,
                member if is_told and name in NAMES else None,
                2 if name == MANIFEST and isinstance(kind, Counted) else None,
                ("x", member) if name == MANIFEST and isinstance(kind, Members) else None,
            )
            items.append((key, item))
            offset += 1
        line.append((now_ms, items, is_caught_up))
    line.append((now_ms + 10_000_000, [], True))
    return line


def record_of(key: str, item: Item) -> Record:
    parts = {name: part for name, part in zip(item._fields[3:], item[3:], strict=True) if part}
    return event(item.offset, item.input, item.at_ms, key, **parts)


def said(bench: Bench) -> list[tuple[Any, ...]]:
    return [short(each) for each in bench.results()]


def by_key(outputs: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(outputs, key=lambda output: output[0])


@settings(max_examples=400, deadline=None)
@given(CORRELATIONS, STEPS)
def test_a_task_does_what_the_model_says(wanted: Correlation, steps: Steps) -> None:
    bench, model = Bench([wanted]), Model(wanted)
    for now_ms, items, is_caught_up in timeline(wanted, steps):
        for key, item in items:
            model.arrive(key, item)
        bench.feed(*(record_of(*each) for each in items), now_ms=now_ms)
        if is_caught_up:
            model.tick(now_ms)
            bench.tick(now_ms)
    assert by_key(model.outputs) == by_key(said(bench))
    assert model.fates == bench.fates()
    assert "h" not in bench.fates().values()
    left = [row for row in bench.rows.rows if row[:1] in (b"e", b"t")]
    assert [] == left
    counters, since_ms = bench.pipeline.open_waits()["f"]
    assert (0, 0, None) == (counters.open, counters.held, since_ms)


@settings(max_examples=400, deadline=None)
@given(st.one_of(CORRELATIONS, WINDOWS_OF_LATE), STEPS)
def test_what_was_emitted_is_in_a_result_and_nothing_else_is(
    wanted: Correlation, steps: Steps
) -> None:
    bench = Bench([wanted])
    for now_ms, items, is_caught_up in timeline(wanted, steps):
        bench.feed(*(record_of(*each) for each in items), now_ms=now_ms)
        if is_caught_up:
            bench.tick(now_ms)
    named = [
        (topic_of, place.offset)
        for topic_of, headers in (
            (one.topic, dict(one.headers)) for one in bench.published if one.topic != "edo.accounts"
        )
        if OF in headers
        for place in places_of(headers[OF]) or ()
    ]
    results = [offset for topic, offset in named if topic == RESULTS]
    failures = [offset for topic, offset in named if topic == "edo.outcomes.f"]
    fates = bench.fates()
    assert {offset for offset, fate in fates.items() if fate == "e"} == set(results)
    assert sorted(offset for offset, fate in fates.items() if fate == "f") == sorted(failures)
    if not isinstance(wanted.kind, Windowed) or wanted.kind.size_ms == wanted.kind.every_ms:
        assert len(results) == len(set(results))


@settings(max_examples=250, deadline=None)
@given(CORRELATIONS, STEPS, st.integers())
def test_neither_batches_nor_crashes_nor_repetitions_show(
    wanted: Correlation, steps: Steps, seed: int
) -> None:
    rounds = (
        (now_ms, [record_of(*each) for each in items], is_caught_up)
        for now_ms, items, is_caught_up in timeline(wanted, steps)
    )
    assert_nothing_shows(wanted, rounds, Random(seed))


@settings(max_examples=200, deadline=None)
@given(st.permutations(range(5)), st.lists(st.integers(0, 60), min_size=5, max_size=5))
def test_which_partition_is_read_first_does_not_show(order: list[int], times: list[int]) -> None:
    wanted = correlation(
        Named(5), "abcde", within_ms=40, on_timeout=OnTimeout.PARTIAL, late=OnLate.NEW_RUN
    )
    found = []
    for numbers in (range(5), order):
        bench = Bench([wanted])
        items = [(n, "abcde"[n], START_MS + times[n]) for n in numbers]
        bench.feed(
            *(
                event(offset, name, at_ms, position=f"t/0/{n}")
                for offset, (n, name, at_ms) in enumerate(items)
            )
        )
        bench.tick(NOW_MS)
        found.append([sorted(each["inputs"]) for each in bench.results()])
    assert found[0] == found[1]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_dead_letter(value: bytes) -> None:
    bench = Bench([correlation(Named(1), "a")])
    record = event(0, "a", START_MS)
    bench.feed(type(record)(record.topic, 0, 0, START_MS, b"k", value))
    assert bench.fates()[0] in "xei"


@given(st.text(max_size=20), st.binary(max_size=50), st.text(max_size=5))
def test_an_events_size_is_not_less_than_what_a_result_has(
    text: str, data: bytes, member: str
) -> None:
    joined = Joined("f", "a", text, text, text, text, data, subject=text, member=member)
    assert size_of(joined) >= len(json.encode(shown(joined)))
