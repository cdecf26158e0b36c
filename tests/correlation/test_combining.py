"""Debounce and batch: laws by a model, and what a task writes, remembers and refuses."""

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.core.correlation.joined import Joined, decode_joined, size_of
from edo_stream.core.correlation.rows import stranded
from edo_stream.core.correlation.spec import (
    Batched,
    Bounds,
    Correlation,
    Counted,
    Debounced,
    Fire,
    OnLate,
    Target,
)
from edo_stream.core.facts import Facts, UnmadeError
from edo_stream.core.headers import time_text
from edo_stream.core.record import Record
from edo_stream.registry.quantity import time_ms
from tests.correlation.bench import NOW_MS, RESULTS, Bench, correlation, event, request
from tests.correlation.combine_model import BatchModel, DebounceModel, Item, Said
from tests.correlation.rough import assert_nothing_shows

START_MS = NOW_MS - 1_000_000
BURSTS_MAX = 3


def combines(kind: Debounced | Batched, **rest: Any) -> Correlation:
    """A flow as its declaration makes it, with bounds that a test can reach."""
    parts: dict[str, Any] = {
        "fire": Fire.EACH,
        "late": OnLate.NEW_RUN,
        "bounds": Bounds(events_max=BURSTS_MAX),
        "remember_ms": 3_600_000,
    }
    return correlation(kind, ["event"], **{**parts, **rest})


def came(offset: int, at_ms: int, key: str = "k", note: str = "") -> Record:
    return event(offset, "event", START_MS + at_ms, key, data={"n": offset, "note": note})


def size(record: Record) -> int:
    joined = decode_joined(record.value)
    assert isinstance(joined, Joined)
    return size_of(joined)


def said(bench: Bench) -> list[Said]:
    return [
        (
            one["key"],
            one["reason"],
            one["count"],
            one["first"],
            one["event"]["id"] if "event" in one else [each["id"] for each in one["events"]],
        )
        for one in bench.results()
    ]


def text(at_ms: int) -> str:
    return (time_text(at_ms) or b"").decode()


DEBOUNCES = st.builds(Debounced, st.just(10), st.sampled_from([10, 25, 1_000]))
BATCHES = st.builds(
    Batched, st.sampled_from([2, 3, 100]), st.sampled_from([300, 700, 1 << 20]), st.just(20)
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 6, 9, 10, 25, 61]),
        st.lists(
            st.tuples(st.sampled_from("kkq"), st.sampled_from([0, 0, 0, 2, 12, 40]), st.booleans()),
            max_size=6,
        ),
        st.booleans(),
    ),
    max_size=12,
)
Steps = list[tuple[int, list[tuple[str, int, bool]], bool]]
Timeline = list[tuple[int, list[Record], bool]]


def timeline(steps: Steps) -> Timeline:
    """Moments, with what comes then, and whether the task has read to the end."""
    line, offset, now_ms = [], 0, 0
    for wait_ms, arrivals, is_caught_up in steps:
        now_ms += wait_ms
        records: list[Record] = []
        for key, back_ms, is_large in arrivals:
            note = "x" * 300 if is_large else ""
            records.append(came(offset, now_ms - back_ms, key, note))
            offset += 1
        line.append((START_MS + now_ms, records, is_caught_up))
    line.append((START_MS + now_ms + 10_000, [], True))
    return line


def item_of(record: Record) -> Item:
    return Item(record.offset, record.timestamp, size(record))


def in_words(outputs: list[Said]) -> list[Said]:
    """As results say it, in an order that does not say which key came first."""
    told = [(key, reason, n, text(int(first)), ids) for key, reason, n, first, ids in outputs]
    return sorted(told, key=lambda output: output[0])


@settings(max_examples=500, deadline=None)
@given(st.one_of(DEBOUNCES, BATCHES), STEPS)
def test_a_task_does_what_the_model_says(kind: Debounced | Batched, steps: Steps) -> None:
    bench = Bench([combines(kind)])
    model: DebounceModel | BatchModel = (
        DebounceModel(kind, BURSTS_MAX) if isinstance(kind, Debounced) else BatchModel(kind)
    )
    for now_ms, records, is_caught_up in timeline(steps):
        for record in records:
            model.arrive((record.key or b"").decode(), item_of(record))
        bench.feed(*records, now_ms=now_ms)
        if is_caught_up:
            model.tick(now_ms)
            bench.tick(now_ms)
    assert in_words(model.outputs) == sorted(said(bench), key=lambda output: output[0])
    fates = list(bench.fates().values())
    assert set(fates) <= {"e", "s"}
    ids = [dict(one.headers)["ce_id"] for one in bench.published if one.topic == RESULTS]
    assert len(ids) == len(set(ids))
    if isinstance(kind, Batched):
        assert "s" not in fates
    else:
        assert fates.count("e") == len(ids)
    assert sum(one[2] for one in said(bench)) == len(fates)
    assert [] == [row for row in bench.rows.rows if row[:1] in (b"e", b"t")]
    counters, since_ms = bench.pipeline.open_waits()["f"]
    assert (0, 0, None) == (counters.open, counters.held, since_ms)
    assert len(ids) == counters.fired


@settings(max_examples=300, deadline=None)
@given(st.one_of(DEBOUNCES, BATCHES), STEPS, st.integers())
def test_neither_batches_nor_crashes_nor_repetitions_show(
    kind: Debounced | Batched, steps: Steps, seed: int
) -> None:
    assert_nothing_shows(combines(kind), timeline(steps), Random(seed))


TIMES = st.lists(st.integers(0, 100), min_size=1, max_size=BURSTS_MAX)


@settings(max_examples=300, deadline=None)
@given(TIMES, st.integers())
def test_no_outage_and_no_order_of_reading_makes_a_key_look_quiet(
    times: list[int], seed: int
) -> None:
    """Whatever is read first, bursts are those of the times."""
    times.sort()
    bench = Bench([combines(Debounced(10, 1_000_000))])
    shuffled = Random(seed).sample(times, len(times))
    for offset, at_ms in enumerate(shuffled):
        bench.feed(came(offset, at_ms))
    bench.tick(NOW_MS)
    counts = [1]
    for before, after in pairwise(times):
        if after - before < 10:
            counts[-1] += 1
        else:
            counts.append(1)
    assert counts == [one[2] for one in said(bench)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(10, 40))
def test_a_command_comes_within_the_cap_however_many_events_come(
    gaps: list[int], max_ms: int
) -> None:
    bench, at_ms = Bench([combines(Debounced(10, max_ms))]), 0
    for offset, gap in enumerate(gaps):
        at_ms += gap
        bench.feed(came(offset, at_ms), now_ms=START_MS + at_ms)
        bench.tick(START_MS + at_ms)
        due_ms = bench.pipeline.next_due_ms()
        assert due_ms is not None
        assert due_ms <= START_MS + at_ms + max_ms
    bench.tick(NOW_MS)
    for one in bench.results():
        lasts_ms = time_ms(one["deadline"]) - time_ms(one["first"])
        assert 0 < lasts_ms <= max_ms
    assert len(gaps) == sum(one[2] for one in said(bench))


def test_a_key_that_stays_quiet_fires_its_last_event_and_tells_of_all() -> None:
    bench = Bench([combines(Debounced(10, 100))])
    bench.feed(*(came(n, n) for n in range(3)))
    bench.tick(START_MS + 11)
    assert [] == bench.results()
    bench.tick(START_MS + 12)
    (one,) = bench.results()
    assert ("quiet", True, "deadline", 3) == (
        one["reason"],
        one["complete"],
        one["completed_by"],
        one["count"],
    )
    assert {"n": 2, "note": ""} == one["event"]["data"]
    assert ["e0", "e1", "e2"] == one["ids"]
    assert [text(START_MS), text(START_MS + 2), text(START_MS + 12)] == [
        one["first"],
        one["last"],
        one["deadline"],
    ]
    (command,) = [each for each in bench.published if each.topic == RESULTS]
    headers = dict(command.headers)
    assert (b"e2", b"e2") == (headers["ce_causationid"], headers["ce_correlationid"])


def test_a_timer_waits_until_all_is_read_that_there_was() -> None:
    bench = Bench([combines(Debounced(10, 100))])
    bench.feed(came(0, 0))
    bench.commit(bench.step(now_ms=NOW_MS, caught_up_ms=START_MS + 9))
    assert [] == bench.results()
    bench.feed(came(1, 5), came(2, 14))
    bench.commit(bench.step(now_ms=NOW_MS, caught_up_ms=START_MS + 24))
    assert [("k", "quiet", 3, text(START_MS), "e2")] == said(bench)


def test_a_debounced_key_is_one_small_row_however_many_events_it_has() -> None:
    bench = Bench([combines(Debounced(10, 1_000_000))])
    bench.feed(*(came(n, n // 100) for n in range(10_000)))
    rows = {row: value for row, value in bench.rows.rows.items() if row[:1] in (b"w", b"e")}
    assert 1 == len(rows)
    assert max(map(len, rows.values())) < 2_000
    assert 1 == bench.pipeline.held()["edo.joins.g"][0]
    bench.tick(NOW_MS)
    (one,) = bench.results()
    assert (10_000, 100, "e9999") == (one["count"], len(one["ids"]), one["ids"][-1])


def test_a_batch_ends_at_its_count_in_the_step_of_the_last_event() -> None:
    bench = Bench([combines(Batched(3, 1 << 20, 100))])
    bench.feed(*(came(n, n) for n in range(7)))
    assert [("k", "count", 3, text(START_MS), ["e0", "e1", "e2"])] == said(bench)[:1]
    assert [3, 3] == [one[2] for one in said(bench)]
    first = bench.results()[0]
    assert ("event", "e2") == (first["completed_by"], first["completed_by_id"])
    bench.tick(START_MS + 105)
    assert [3, 3] == [one[2] for one in said(bench)]
    bench.tick(START_MS + 106)
    assert ("k", "time", 1, text(START_MS + 6), ["e6"]) == said(bench)[-1]


def test_what_is_too_large_for_a_batch_begins_the_next_or_goes_alone() -> None:
    small, large = came(0, 0), came(1, 1, note="x" * 4_000)
    bench = Bench([combines(Batched(100, 2 * size(small) + 10, 100))])
    bench.feed(small, large, came(2, 2), came(3, 3), came(4, 4))
    assert [
        ("bytes", ["e0"]),
        ("bytes", ["e1"]),
        ("bytes", ["e2", "e3"]),
    ] == [(one[1], one[4]) for one in said(bench)]


def test_what_an_outage_has_left_is_batched_by_its_times() -> None:
    bench = Bench([combines(Batched(100, 1 << 20, 10))])
    bench.feed(came(0, 0), came(1, 9), came(2, 10), came(3, 500))
    assert [("time", ["e0", "e1"]), ("time", ["e2"])] == [(one[1], one[4]) for one in said(bench)]


@pytest.mark.parametrize("kind", [Debounced(10, 100), Batched(5, 1 << 20, 100)])
def test_an_operator_forces_or_expires_what_waits(kind: Debounced | Batched) -> None:
    bench = Bench([combines(kind)])
    bench.feed(came(0, 0), came(1, 1))
    bench.feed(request(0, "wait.force"))
    (one,) = bench.results()
    assert ("forced", "operator", False, 2) == (
        one["reason"],
        one["completed_by"],
        one["complete"],
        one["count"],
    )
    bench.feed(came(2, 2))
    bench.feed(request(1, "wait.expire"))
    assert said(bench)[-1][1] in ("quiet", "time")
    assert {0: "s" if isinstance(kind, Debounced) else "e", 1: "e", 2: "e"} == bench.fates()


@pytest.mark.parametrize("kind", [Debounced(10, 100), Batched(2, 1 << 20, 100)])
def test_of_what_no_command_can_be_made_each_event_is_a_letter(kind: Debounced | Batched) -> None:
    def refuse(facts: Facts) -> bytes:
        raise UnmadeError(f"input: of {facts.whole['data']['count']} events none")

    target = Target(RESULTS, 1, RESULTS, make=refuse)
    bench = Bench([combines(kind, target=target)])
    bench.feed(came(0, 0), came(1, 1))
    bench.tick(NOW_MS)
    assert [] == bench.results()
    letters = ["e1"] if isinstance(kind, Debounced) else ["e0", "e1"]
    assert [(one, "input") for one in letters] == bench.letters()
    assert 0 == bench.pipeline.open_waits()["f"][0].held


def test_a_command_that_no_topic_takes_is_no_command() -> None:
    target = Target(RESULTS, 1, RESULTS, bytes_max=3_000)
    bench = Bench([combines(Batched(2, 1 << 20, 100), target=target)])
    bench.feed(came(0, 0, note="x" * 4_000), came(1, 1))
    bench.feed(came(2, 2), came(3, 3))
    assert [("e0", "too-large"), ("e1", "too-large")] == bench.letters()
    assert [["e2", "e3"]] == [one[4] for one in said(bench)]
    assert {0: "x", 1: "x", 2: "e", 3: "e"} == bench.fates()


def test_what_an_input_makes_of_a_batch_is_the_command() -> None:
    def make(facts: Facts) -> bytes:
        whole = facts.whole
        assert ("edo.f.ready", "k") == (whole["type"], whole["subject"])
        return b"%d" % len(whole["data"]["events"])

    target = Target(RESULTS, 1, "edo.f.ready", make=make)
    bench = Bench([combines(Batched(2, 1 << 20, 100), target=target)])
    bench.feed(came(0, 0), came(1, 1))
    assert [2] == bench.results()


def test_a_key_too_many_is_a_letter_and_those_that_wait_go_on() -> None:
    for kind in (Debounced(10, 100), Batched(5, 1 << 20, 100)):
        bench = Bench([combines(kind, bounds=Bounds(open_max=1, events_max=BURSTS_MAX))])
        bench.feed(came(0, 0), came(1, 1, "q"), came(2, 2))
        bench.tick(NOW_MS)
        assert [("e1", "correlations-full")] == bench.letters()
        assert [("k", 2)] == [(one[0], one[2]) for one in said(bench)]


def test_of_more_bursts_than_may_wait_the_earliest_fires_as_they_are_read() -> None:
    bench = Bench([combines(Debounced(10, 100))])
    bench.feed(*(came(n, 20 * n) for n in range(BURSTS_MAX + 2)))
    assert ["e0", "e1"] == [one[4] for one in said(bench)]
    bench.open()
    bench.tick(NOW_MS)
    assert [f"e{n}" for n in range(BURSTS_MAX + 2)] == [one[4] for one in said(bench)]


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        (Debounced(10, 100), Batched(100, 1 << 20, 100), 2),
        (Batched(100, 1 << 20, 100), Debounced(10, 100), 3),
        (Counted(9), Debounced(10, 100), 3),
        (Counted(9), Batched(100, 1 << 20, 100), 3),
    ],
)
def test_what_waits_when_a_flow_is_declared_otherwise_is_not_lost(
    before: Any, after: Any, count: int
) -> None:
    wanted = replace(combines(Debounced(1, 1)), kind=before, inputs=("event",))
    bench = Bench([wanted])
    bench.feed(came(0, 0), came(1, 1))
    bench.spec = replace(bench.spec, correlations={"f": combines(after)})
    bench.open()
    bench.feed(came(2, 2))
    bench.tick(NOW_MS)
    assert [count] == [one[2] for one in said(bench)]
    assert "h" not in bench.fates().values()
    assert 0 == bench.pipeline.open_waits()["f"][0].held


@pytest.mark.parametrize("kind", [Debounced(10, 100), Batched(5, 1 << 20, 100)])
def test_events_that_are_to_be_in_commands_are_not_left_behind(kind: Debounced | Batched) -> None:
    bench = Bench([combines(kind)])
    bench.feed(came(0, 0), came(1, 50), came(2, 1, "q"))
    assert {"f": 3} == stranded(bench.state, {"g": None})
    assert {} == stranded(bench.state, {"f": None})
    bench.tick(NOW_MS)
    assert {} == stranded(bench.state, {})
    waiting = Bench([correlation(Counted(9), ["event"])])
    waiting.feed(came(0, 0))
    assert {} == stranded(waiting.state, {})


def test_a_flow_that_waits_for_other_things_by_the_same_name_leaves_events_behind() -> None:
    bench = Bench([combines(Batched(5, 1 << 20, 100))])
    bench.feed(came(0, 0))
    assert {} == stranded(bench.state, bench.spec.combining)
    otherwise = replace(bench.spec, correlations={"f": correlation(Counted(9), ["event"])})
    assert {"f": 1} == stranded(bench.state, otherwise.combining)


def test_the_next_command_of_a_key_has_another_id_also_after_the_key_was_forgotten() -> None:
    bench = Bench([combines(Batched(2, 1 << 20, 100), remember_ms=1_000)])
    for offset in range(0, 9, 3):
        at_ms = offset * 5_000
        bench.feed(came(offset, at_ms), came(offset + 1, at_ms))
        bench.feed(came(offset + 2, at_ms + 2_000, "other"))
    firsts = [one for one in bench.results() if one["key"] == "k"]
    assert [1, 1, 1] == [one["firing"] for one in firsts]
    ids = [dict(one.headers)["ce_id"] for one in bench.published if one.topic == RESULTS]
    assert len(ids) == len(set(ids))
