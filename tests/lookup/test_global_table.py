"""Rows of a table that is read in full: which record of a key holds, whenever it is read."""

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.lookup.arrivals import Arrivals
from edo_stream.core.lookup.global_table import DELETED, GlobalTable
from edo_stream.core.record import Record, StoredRecord
from tests.core.bench import decode
from tests.core.memory import Memory
from tests.lookup.bench import NOW_MS, TABLE, WAIT_MS, Bench, lookup

WRITES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 6), st.sampled_from("ab"),
              st.one_of(st.none(), st.just("bad"), st.integers(0, 99))),
    max_size=16,
)  # fmt: skip
"""Records in the order of their writing: partition, time, key, and row."""


def records_of(writes: list[tuple[int, int, str, Any]]) -> dict[int, list[Record]]:
    logs: dict[int, list[Record]] = {0: [], 1: [], 2: []}
    for partition, at_ms, key, row in writes:
        value = {"id": "r", "bad": "bad"} if row == "bad" else {"id": "r", "v": row}
        raw = None if row is None else msgspec.json.encode(value)
        log = logs[partition]
        log.append(StoredRecord("t", partition, len(log), at_ms, key.encode(), raw))
    return logs


def model_of(writes: list[tuple[int, int, str, Any]]) -> dict[str, int]:
    """The rows as anybody would have them: the last of each partition, then the latest of those."""
    lasts: dict[tuple[str, int], tuple[int, int, Any]] = {}
    for partition, at_ms, key, row in writes:
        if row != "bad":
            before_ms = lasts.get((key, partition), (0, 0, None))[0]
            lasts[key, partition] = (max(at_ms, before_ms), partition, row)
    rows = {key: max(last for (name, _), last in lasts.items() if name == key)[2]
            for key in {name for name, _ in lasts}}  # fmt: skip
    return {key: row for key, row in rows.items() if row is not None}


def rows_of(table: GlobalTable) -> dict[str, int]:
    found = {key: table.get(key.encode()) for key in "ab"}
    return {key: msgspec.json.decode(row)["v"] for key, row in found.items() if row is not None}


@given(writes=WRITES, order=st.randoms(use_true_random=False), crash_after=st.integers(0, 16))
def test_a_load_comes_to_the_same_rows_in_whatever_order_partitions_are_read(
    writes: list[tuple[int, int, str, Any]], order: Any, crash_after: int
) -> None:
    logs, memory = records_of(writes), Memory()
    table = GlobalTable(memory, decode)
    count = 0
    while left := [one for one, log in logs.items() if table.positions.get(one, 0) < len(log)]:
        number = order.choice(left)
        at = table.positions.get(number, 0)
        some = logs[number][at : at + order.randint(1, 3)]
        changes, _ = table.changes(some, {number: at + len(some)})
        memory.write(changes)
        count += 1
        if count == crash_after:
            table = GlobalTable(memory, decode)
    place: bytes | None = DELETED
    while place is not None:
        changes, place = table.forgotten(7, place, 1)
        memory.write(changes)
    expected = model_of(writes)
    assert expected == rows_of(table)
    assert len(expected) == table.rows == GlobalTable(memory, decode).rows
    assert not any(key.startswith(DELETED) for key in memory.rows)


def test_a_deletion_is_remembered_as_long_as_what_was_before_may_come() -> None:
    memory = Memory()
    table = GlobalTable(memory, decode)
    before, after = (0, 3, "a", 1), (1, 5, "a", None)
    for write in (after, before):
        (record,) = records_of([write])[write[0]]
        memory.write(table.forgotten(5, DELETED, 9)[0])
        memory.write(table.changes([record], {write[0]: 1})[0])
        assert {} == rows_of(table)
    memory.write(table.forgotten(6, DELETED, 9)[0])
    memory.write(table.changes([record], {0: 1})[0])
    assert {"a": 1} == rows_of(table)


@given(writes=WRITES)
def test_once_loaded_the_rows_are_those_of_the_order_of_writing(
    writes: list[tuple[int, int, str, Any]],
) -> None:
    # Written in the order of their times, as producers with right clocks do.
    in_time = [(p, at, key, row) for at, (p, _, key, row) in enumerate(writes)]
    memory = Memory()
    table = GlobalTable(memory, decode)
    last: dict[str, Any] = {}
    offsets = {0: 0, 1: 0, 2: 0}
    for partition, at_ms, key, row in in_time:
        (record,) = records_of([(partition, at_ms, key, row)])[partition]
        offsets[partition] += 1
        changes, arrived = table.changes([record], {partition: offsets[partition]})
        memory.write(changes)
        if row != "bad":
            last[key] = row
            assert arrived == ([] if row is None else [key.encode()])
        assert {one: row for one, row in last.items() if row is not None} == rows_of(table)
    assert offsets == {0: 0, 1: 0, 2: 0} | table.positions


def test_a_row_that_has_come_is_found_by_the_deadline_although_nobody_told() -> None:
    bench = Bench(lookup(global_partitions=1))
    bench.feed(bench.event(0, "k", NOW_MS))
    bench.global_rows.write(bench.global_table.changes([bench.row("k", 7)], {0: 1})[0])
    bench.tick(NOW_MS + WAIT_MS)
    assert [("command", (0, 7))] == bench.ends()


@pytest.mark.parametrize("told_max", [1, 1_000])
def test_rows_that_come_in_masses_let_go_all_that_waits(told_max: int) -> None:
    bench = Bench(lookup(global_partitions=1, wait_ms=10**9))
    bench.pipeline._arrivals = Arrivals(told_max)
    bench.pipeline._arrivals.looked(None)
    count = 2_500
    bench.feed(*(bench.event(number, f"k{number}", NOW_MS) for number in range(count)))
    bench.arrive(*(bench.row(f"k{number}", number) for number in range(count)))
    steps = 0
    while bench.pipeline.has_arrivals:
        bench.feed()
        steps += 1
    assert {("command", (number, number)) for number in range(count)} == set(bench.ends())
    # In parts, so that nothing else has to wait for it.
    assert 3 == steps
    assert 0 == next(iter(bench.pipeline.held().values()))[0]


def test_rows_that_nothing_waits_for_cost_nothing() -> None:
    bench = Bench(lookup(global_partitions=1))
    bench.arrive(bench.row("k", 7))
    assert not bench.pipeline.has_arrivals
    assert not bench.step().publish


def test_what_came_before_a_crash_is_let_go_after_it() -> None:
    bench = Bench(lookup(global_partitions=1, wait_ms=10**9))
    bench.feed(bench.event(0, "k", NOW_MS))
    bench.arrive(bench.row("k", 7))
    bench.step()
    bench.open()
    assert bench.pipeline.has_arrivals
    bench.feed()
    assert [("command", (0, 7))] == bench.ends()
    assert not bench.pipeline.has_arrivals


def test_a_table_of_which_the_task_kept_no_rows_is_read_anew_when_it_is_to_keep_them() -> None:
    bench = Bench(lookup(global_partitions=1))
    bench.spec = dataclasses.replace(bench.spec, judged=frozenset({TABLE}))
    bench.open()
    bench.commit(bench.pipeline.start(TABLE, 0, NOW_MS))
    bench.feed(bench.row("k", 7))
    assert bench.fates(TABLE) == {0: "a"}
    assert [] == [key for key in bench.rows.rows if key[:1] == b"r"]
    bench.spec = dataclasses.replace(bench.spec, judged=frozenset())
    bench.open()
    assert [TABLE] == bench.pipeline.returning
