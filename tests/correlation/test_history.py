"""What is told of waits adds up to their state, whatever the kind, and changes nothing of it."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from edo_stream.core.asked import Asker
from edo_stream.core.correlation.changes import WaitChange, WaitState, apply, decode_change
from edo_stream.core.correlation.history import SNAPSHOT_EVERY
from edo_stream.core.correlation.joined import Joined, decode_joined, encode_joined
from edo_stream.core.correlation.rows import (
    EVENT,
    WAIT,
    HeldEvent,
    WaitRow,
    decode_event,
    decode_wait,
    encode_wait,
    parse_event_key,
)
from edo_stream.core.correlation.spec import (
    Bounds,
    Correlation,
    Counted,
    Fire,
    Members,
    Named,
    OnLate,
    OnTimeout,
    Windowed,
)
from tests.correlation.bench import NOW_MS, Bench, correlation, event, request
from tests.correlation.test_combining import BATCHES, BURSTS_MAX, DEBOUNCES
from tests.correlation.test_properties import CORRELATIONS, STEPS, Steps, record_of, timeline

HISTORY = "edo.waits.f"
GOLDEN = Path(__file__).parent / "golden" / "history-1.jsonl"
T = NOW_MS - 1_000_000
COMBINED = st.builds(
    correlation,
    st.one_of(DEBOUNCES, BATCHES),
    st.just(("a", "b", "c")),
    fire=st.just(Fire.EACH),
    late=st.just(OnLate.NEW_RUN),
    bounds=st.just(Bounds(events_max=BURSTS_MAX)),
)
KINDS = st.one_of(CORRELATIONS, COMBINED)


def told(bench: Bench) -> list[WaitChange]:
    return [decode_change(one.value or b"") for one in bench.published if one.topic == HISTORY]


def folded(changes: list[WaitChange]) -> dict[str, WaitState]:
    states: dict[str, WaitState] = defaultdict(WaitState)
    for change in changes:
        assert isinstance(change.key, str)
        apply(states[change.key], change)
    return {key: state for key, state in states.items() if state.row is not None}


def kept(bench: Bench) -> dict[str, WaitState]:
    """The state as the table has it."""
    rows: dict[str, WaitRow] = {}
    events: dict[str, dict[bytes, HeldEvent]] = defaultdict(dict)
    for key, value in bench.rows.rows.items():
        if key[:1] == WAIT:
            rows[key[1:].partition(b"\0")[2].decode()] = decode_wait(value)
        elif key[:1] == EVENT:
            name, place = parse_event_key(key)
            events[name.partition(b"\0")[2].decode()][place] = decode_event(value)
    return {key: WaitState(row, events[key]) for key, row in rows.items()}


@settings(max_examples=400, deadline=None)
@given(KINDS, STEPS, st.integers())
def test_what_is_told_adds_up_to_the_state(wanted: Correlation, steps: Steps, seed: int) -> None:
    random, operated = Random(seed), 0
    bench = Bench([replace(wanted, history=HISTORY)])
    for now_ms, items, is_caught_up in timeline(wanted, steps):
        records: list[Any] = [record_of(*each) for each in items]
        if random.random() < 0.2:
            verb = random.choice(("wait.force", "wait.expire"))
            records.append(request(operated, verb, random.choice("kq")))
            operated += 1
        if random.random() < 0.2:
            bench.step(*records, now_ms=now_ms)
            bench.open()
        bench.feed(*records, now_ms=now_ms)
        assert kept(bench) == folded(told(bench))
        if is_caught_up:
            bench.tick(now_ms)
            assert kept(bench) == folded(told(bench))
    ids = [dict(one.headers)["ce_id"] for one in bench.published if one.topic == HISTORY]
    assert len(ids) == len(set(ids))
    last: dict[Any, int] = {}
    for change in told(bench):
        if change.number:
            assert last.get(change.key, 0) + 1 == change.number
            last[change.key] = 0 if change.is_forgotten else change.number


@settings(max_examples=200, deadline=None)
@given(KINDS, STEPS)
def test_whether_it_is_told_changes_nothing(wanted: Correlation, steps: Steps) -> None:
    silent, telling = Bench([wanted]), Bench([replace(wanted, history=HISTORY)])
    for now_ms, items, is_caught_up in timeline(wanted, steps):
        for bench in (silent, telling):
            bench.feed(*(record_of(*each) for each in items), now_ms=now_ms)
            if is_caught_up:
                bench.tick(now_ms)
    assert [] == told(silent)
    published = [one for one in telling.published if one.topic != HISTORY]
    assert silent.published == published
    assert silent.fates() == telling.fates()
    rows = {
        key: encode_wait(changed(decode_wait(value), changes=0)) if key[:1] == WAIT else value
        for key, value in telling.rows.rows.items()
    }
    assert silent.rows.rows == rows


def test_each_act_is_one_event_that_says_what_it_was() -> None:
    wanted = correlation(Named(2), ["order", "payment"], late=OnLate.DROP, history=HISTORY)
    bench = Bench([wanted])
    bench.feed(event(0, "order", T), event(1, "order", T + 5), event(2, "payment", T + 10_001))
    bench.feed(event(3, "payment", T + 7), event(4, "payment", T + 8))
    bench.feed(event(5, "order", T, key="other"), event(6, "order", T, key="third"))
    bench.feed(request(0, "wait.force", "other"), request(1, "wait.expire", "third"))
    bench.feed(request(2, "wait.expire", "k"))
    assert [
        ("k", 1, "opened", "e0"),
        ("k", 2, "input-came", "e1"),
        ("k", 3, "input-postponed", "e2"),
        ("k", 4, "completed", "e3"),
        ("k", 5, "late", "e4"),
        ("other", 1, "opened", "e5"),
        ("third", 1, "opened", "e6"),
        ("other", 2, "forced", ""),
        ("third", 2, "expired", ""),
        ("k", 6, "forgotten", ""),
    ] == [(one.key, one.number, one.change, one.cause.id) for one in told(bench)]


@pytest.mark.parametrize(
    ("rest", "change"),
    [
        ({"on_timeout": OnTimeout.PARTIAL}, "timed-out"),
        ({"on_timeout": OnTimeout.FALLBACK}, "fell-back"),
        ({"on_timeout": OnTimeout.DROP}, "timed-out"),
    ],
)
def test_a_deadline_is_told_with_its_time(rest: dict[str, Any], change: str) -> None:
    bench = Bench([correlation(Named(2), ["order", "payment"], history=HISTORY, **rest)])
    bench.feed(event(0, "order", T))
    bench.tick(T + 10_000)
    assert [("opened", None), (change, T + 10_000)] == [
        (one.change, one.cause.due_ms) for one in told(bench)
    ]


def test_a_key_that_is_forgotten_by_time_is_told_too() -> None:
    wanted = correlation(Named(1), ["a"], remember_ms=1_000, history=HISTORY)
    bench = Bench([wanted])
    bench.feed(event(0, "a", T))
    bench.feed(event(1, "a", T + 100_000, key="q"), now_ms=NOW_MS)
    bench.feed(event(2, "a", T + 200_000, key="z"), now_ms=NOW_MS)
    assert ("k", 2, "forgotten") in [(one.key, one.number, one.change) for one in told(bench)]
    assert kept(bench) == folded(told(bench))


def test_what_is_refused_of_a_key_that_is_as_good_as_forgotten_is_not_of_its_past() -> None:
    wanted = correlation(Named(1), ["a"], remember_ms=1_000, history=HISTORY)
    bench = Bench([wanted])
    bench.feed(event(0, "a", T))
    bench.feed(event(1, "a", T + 100_000, key="q"), event(2, "unknown", T + 100_000))
    assert [("k", 1, "completed"), ("q", 1, "completed"), ("k", 0, "refused")] == [
        (one.key, one.number, one.change) for one in told(bench)
    ]
    assert kept(bench) == folded(told(bench))


@pytest.mark.parametrize("kind", [Counted(200), Windowed(10_000, 10_000)])
def test_a_long_wait_can_be_read_from_its_last_snapshot(kind: Any) -> None:
    bench = Bench([correlation(kind, ["a"], history=HISTORY)])
    for number in range(150):
        bench.feed(event(number, "a", NOW_MS - 5_000 + number))
    changes = told(bench)
    snapshots = [index for index, one in enumerate(changes) if one.change == "snapshot"]
    assert [1 + SNAPSHOT_EVERY, 1 + 2 * SNAPSHOT_EVERY] == [changes[n].number for n in snapshots]
    assert kept(bench) == folded(changes[snapshots[-1] :])


def test_what_is_no_json_or_has_blanks_around_it_is_told_as_it_is() -> None:
    bench = Bench([correlation(Named(3), ["a", "b", "c"], history=HISTORY)])
    records = [event(number, name, T) for number, name in enumerate("abc")]
    for record, data, is_json in zip(
        records, (b' {"n": 1}\n', b"\xff\x00", None), (True, False, False), strict=True
    ):
        joined = msgspec.msgpack.decode(record.value or b"")
        joined[6:8] = [data, is_json]
        bench.feed(changed(record, value=msgspec.msgpack.encode(joined)))
        if data is not None:
            assert kept(bench) == folded(told(bench))


def test_every_field_of_an_event_is_told() -> None:
    every = Joined(
        "f", "a", "i", "s", "t", "p/0/1", b"{}", True, 1, "u", "c", "text/x", "m", 2, ("n",), True,
        Asker(1, "r", "c"),
    )  # fmt: skip
    assert len(every.__struct_fields__) == len(msgspec.structs.astuple(every))
    assert all(value for value in msgspec.structs.astuple(every))
    bench = Bench([correlation(Named(3), ["a", "b", "c"], history=HISTORY)])
    bench.feed(changed(event(0, "a", T), value=encode_joined(every)))
    (head,) = folded(told(bench))["k"].row.heads  # type: ignore[union-attr]
    assert every == decode_joined(head.payload)


def test_data_that_would_be_too_large_are_left_out_and_a_snapshot_is_not_written() -> None:
    wanted = correlation(Counted(200), ["a"], history=HISTORY, history_bytes_max=2_000)
    bench = Bench([wanted])
    bench.feed(event(0, "a", T, data={"text": "x" * 2_000}))
    for number in range(1, 70):
        bench.feed(event(number, "a", T))
    first, *rest = told(bench)
    assert first.came["rows"][0].is_left_out
    assert not any(one.came["rows"][0].is_left_out for one in rest)
    assert 70 == len(rest) + 1


def test_the_format_of_before_is_read_and_written() -> None:
    """A file of each version stays as it is; what is written today is the last of them."""
    bench = Bench(
        [
            correlation(
                Members(manifest="manifest"),
                ["a"],
                fire=Fire.EACH,
                late=OnLate.NEW_RUN,
                on_timeout=OnTimeout.PARTIAL,
                history=HISTORY,
            )
        ]
    )
    bench.feed(
        event(0, "a", T, member="x", time_ms=T, subject="s", correlation_id="c"),
        event(1, "manifest", T + 1, members=("x", "y")),
        event(2, "a", T + 20_000, member="y"),
        event(3, "a", T + 2, member="z"),
    )
    bench.tick(T + 10_000)
    bench.feed(request(0, "wait.force"))
    bench.feed(request(1, "wait.expire"))
    published = [one for one in bench.published if one.topic == HISTORY]
    lines = [
        {
            "headers": {name: (value or b"").decode() for name, value in one.headers},
            "value": json.loads(one.value or b""),
        }
        for one in published
    ]
    golden = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
    assert golden == lines
    assert kept(bench) == folded([decode_change(json.dumps(one["value"])) for one in golden])
