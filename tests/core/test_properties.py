"""Laws that hold for any order of arrival, any gaps, any doubles and any split into batches."""

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.core.contract import (
    DedupePolicy,
    MonotonicOrder,
    OnFull,
    OnLate,
    OnTimeout,
    SequenceOrder,
)
from edo_stream.core.dedupe import spread
from edo_stream.core.record import Record
from tests.core.bench import CONTROL, NOW_MS, TOPIC, Bench, contract, operation, record, short
from tests.core.model import Model

PAGES = "crm.page.changed"

POLICIES = st.builds(
    SequenceOrder,
    start=st.sampled_from([None, 0, 1, 2]),
    gap_timeout_ms=st.just(1_000),
    on_timeout=st.sampled_from(OnTimeout),
    held_per_key_max=st.sampled_from([1, 2, 3, 100]),
    held_per_partition_max=st.sampled_from([1, 3, 100]),
    on_full=st.sampled_from(OnFull),
    on_late=st.sampled_from(OnLate),
)
ARRIVALS = st.tuples(
    st.sampled_from(["event", "event", "event", "event", "bad"]),
    st.sampled_from("ab"),
    st.integers(0, 9),
    st.sampled_from(["", "", "", "", "again"]),
)
RELEASES = st.tuples(st.just("release"), st.sampled_from("ab"), st.just(0), st.just(""))
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 400, 1_000]),
        st.lists(ARRIVALS, max_size=8) | st.lists(RELEASES, max_size=1),
    ),
    max_size=12,
)
Arrival = tuple[str, str, int, str]
Steps = list[tuple[int, list[Arrival]]]


def records_of(arrivals: list[Arrival], offsets: Counter[str]) -> list[Record]:
    """Records at the next offsets; arrivals of one key and number are doubles of one id."""
    records: list[Record] = []
    for kind, key, number, again in arrivals:
        topic = CONTROL if kind == "release" else TOPIC
        offset = offsets[topic]
        offsets[topic] += 1
        if kind == "release":
            records.append(operation(offset, op="gap.release", topic=TOPIC, key=key))
        elif kind == "bad":
            records.append(record(offset, key.encode(), n=number, bad="broken"))
        else:
            records.append(record(offset, key.encode(), id=f"{key}{number}{again}", n=number))
    return records


def timeline(steps: Steps) -> list[tuple[int, list[Record]]]:
    offsets: Counter[str] = Counter()
    now_ms = NOW_MS
    line = []
    for wait_ms, arrivals in steps:
        now_ms += wait_ms
        line.append((now_ms, records_of(arrivals, offsets)))
    return line


@settings(max_examples=300, deadline=None)
@given(POLICIES, STEPS)
def test_the_pipeline_does_what_the_model_says(policy: SequenceOrder, steps: Steps) -> None:
    task, model = Bench([contract(policy)]), Model(policy)
    offset = 0
    for (now_ms, records), (_, arrivals) in zip(timeline(steps), steps, strict=True):
        for kind, key, number, again in arrivals:
            if kind == "release":
                model.release(key)
                continue
            if kind == "bad":
                model.spoil(offset, key, number)
            else:
                model.arrive(offset, key, number, f"{key}{number}{again}", now_ms)
            offset += 1
        model.tick(now_ms)
        task.feed(*records, now_ms=now_ms)
    assert model.outputs == [each for each in task.outputs() if each[0] not in ("done", "refused")]
    assert model.fates == task.fates()
    due = [at_ms for state in model.keys.values() if (at_ms := model.due(state)) is not None]
    assert min(due, default=None) == task.pipeline.next_due_ms()


@settings(max_examples=150, deadline=None)
@given(POLICIES, STEPS)
def test_each_record_has_one_fate_and_each_key_ascends(policy: SequenceOrder, steps: Steps) -> None:
    task = Bench([contract(policy)])
    read = {}
    for now_ms, records in timeline(steps):
        read.update({each.offset: each for each in records if each.topic == TOPIC})
        task.feed(*records, now_ms=now_ms)
    # The bench fails on an offset with two fates.
    assert read.keys() == task.fates().keys()
    outputs = Counter(each[1] for each in task.outputs() if each[0] in ("emit", "late", "dead"))
    assert set(outputs.values()) <= {1}
    assert {o for o, fate in task.fates().items() if fate in "ex"} == outputs.keys()
    events = {each.offset: each for each in read.values()}
    for key in (b"a", b"b"):
        of_key = [o for kind, o, *_ in task.outputs() if kind == "emit" and events[o].key == key]
        numbers = [number_of(events[o]) for o in of_key]
        assert numbers == sorted(set(numbers))
    held = sum(fate == "h" for fate in task.fates().values())
    assert held == sum(key[:1] == b"h" for key in task.state_rows.rows)
    ids = [events[each[1]].value for each in task.outputs() if each[0] in ("emit", "late")]
    assert len(ids) == len(set(ids))


def number_of(each: Record) -> int:
    return int((each.value or b"").split(b'"n":')[1].split(b"}")[0])


@settings(max_examples=150, deadline=None)
@given(POLICIES, st.lists(ARRIVALS, max_size=30), st.sets(st.integers(1, 29)))
def test_the_split_into_batches_never_shows(
    policy: SequenceOrder, arrivals: list[Arrival], cuts: set[int]
) -> None:
    records = records_of(arrivals, Counter())
    whole, split = Bench([contract(policy)]), Bench([contract(policy)])
    whole.feed(*records)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    for low, high in pairwise(bounds):
        split.feed(*records[low:high])
    assert whole.outputs() == split.outputs()
    assert whole.fates() == split.fates()
    assert rows_of(whole) == rows_of(split)


def rows_of(task: Bench) -> dict[bytes, bytes]:
    """State but the task's row, and the ids: how many records listed them may differ."""
    rows = spread(task.ids_rows.rows)
    ids = {key: value for key, value in rows.items() if key[:1] == b"d"}
    return {key: value for key, value in task.state_rows.rows.items() if key != b"o"} | ids


def mixed(policy: SequenceOrder) -> Bench:
    """Two topics in one task, with short times to live."""
    pages = contract(
        MonotonicOrder(idle_ttl_ms=3_000), DedupePolicy(("id",), ttl_ms=2_000), topic=PAGES
    )
    return Bench([contract(policy, DedupePolicy(ttl_ms=1_000)), pages])


def mixed_timeline(steps: Steps) -> list[tuple[int, list[Record]]]:
    """Each event of the first topic comes on the second one as well; time goes on with it."""
    line = []
    for now_ms, records in timeline(steps):
        parts: list[Record] = []
        for each in records:
            if each.topic == CONTROL:
                parts.append(each)
                continue
            value = each.value or b""
            parts += [
                record(each.offset, each.key, topic=topic, timestamp=now_ms, raw=value)
                for topic in (TOPIC, PAGES)
            ]
        line.append((now_ms, parts))
    return line


@settings(max_examples=150, deadline=None)
@given(POLICIES, STEPS)
def test_a_step_that_was_aborted_is_done_again_the_same(
    policy: SequenceOrder, steps: Steps
) -> None:
    once, twice = mixed(policy), mixed(policy)
    for now_ms, records in mixed_timeline(steps):
        expected = once.step(*records, now_ms=now_ms)
        aborted = twice.step(*records, now_ms=now_ms)
        assert expected == aborted
        twice.pipeline.discard()
        redone = twice.step(*records, now_ms=now_ms)
        assert expected == redone
        assert once.state.changelog == twice.state.changelog
        assert once.state.local == twice.state.local
        assert once.ids.changelog == twice.ids.changelog
        assert once.ids.local == twice.ids.local
        once.commit(expected)
        twice.commit(redone)
        assert once.pipeline.next_due_ms() == twice.pipeline.next_due_ms()


@settings(max_examples=150, deadline=None)
@given(POLICIES, STEPS, st.sets(st.integers(0, 11)))
def test_a_task_restored_from_its_changelogs_goes_on_as_if_nothing_had_happened(
    policy: SequenceOrder, steps: Steps, crashes: set[int]
) -> None:
    steady, crashed = mixed(policy), mixed(policy)
    for index, (now_ms, records) in enumerate(mixed_timeline(steps)):
        if index in crashes:
            crashed.open()
            assert steady.state_rows.rows == crashed.state_rows.rows
            assert steady.pipeline.positions() == crashed.pipeline.positions()
            assert steady.pipeline.next_due_ms() == crashed.pipeline.next_due_ms()
        expected = steady.step(*records, now_ms=now_ms)
        assert expected == crashed.step(*records, now_ms=now_ms)
        assert steady.state.changelog == crashed.state.changelog
        assert steady.ids.changelog == crashed.ids.changelog
        steady.commit(expected)
        crashed.commit(expected)


@settings(max_examples=100, deadline=None)
@given(POLICIES, STEPS)
def test_state_returns_to_its_base_when_all_is_released(
    policy: SequenceOrder, steps: Steps
) -> None:
    task = Bench([contract(policy)])
    now_ms = NOW_MS
    offsets: Counter[str] = Counter()
    for now_ms, records in timeline(steps):
        for each in records:
            offsets[each.topic] += 1
        task.feed(*records, now_ms=now_ms)
    task.feed(
        *(
            operation(offsets[CONTROL] + index, op="gap.release", topic=TOPIC, key=key)
            for index, key in enumerate("ab")
        ),
        now_ms=now_ms,
    )
    assert {key[:1] for key in task.state_rows.rows} <= {b"o", b"s"}
    assert task.pipeline.next_due_ms() is None
    assert "h" not in task.fates().values()
    tables: list[Any] = [task.pipeline._held._numbers, task.pipeline._held._fresh]
    assert tables == [{}, {}]


@settings(max_examples=100, deadline=None)
@given(POLICIES, STEPS)
def test_no_step_without_input_or_due_timers_does_anything(
    policy: SequenceOrder, steps: Steps
) -> None:
    task = Bench([contract(policy)])
    for now_ms, records in timeline(steps):
        task.feed(*records, now_ms=now_ms)
        effects = task.step(now_ms=now_ms, caught_up_ms=0)
        assert (effects.publish, effects.accounts, effects.counts) == ([], [], {})
        assert not task.state.local
        assert not task.ids.local
    assert [short(each) for each in task.step(now_ms=NOW_MS, caught_up_ms=0).publish] == []
