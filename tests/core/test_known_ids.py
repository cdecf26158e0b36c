"""Ids in memory and ids as rows of the disk: the same ids, wherever they are."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.contract import DedupePolicy, NoOrder
from edo_stream.core.dedupe import Ids, expand_ids, spread
from edo_stream.core.known_ids import IdsBudget, IdsInPython
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.record import Record
from edo_stream.core.state import Table
from tests.core.bench import NOW_MS, Bench, contract, record
from tests.core.memory import Memory

TTL_MS = 10_000
DIGESTS = [bytes([number]) * 16 for number in range(40)]


def a_record(expiry_s: int, numbers: list[int]) -> bytes:
    return expiry_s.to_bytes(4) + b"".join(DIGESTS[number] for number in numbers)


RECORDS = st.tuples(
    st.sampled_from(["add", "add", "remove"]),
    st.integers(1, 5),
    st.lists(st.integers(0, len(DIGESTS) - 1), max_size=20),
)


@pytest.mark.skipif(not IS_COMPILED, reason="there is no other half to compare with")
@given(st.lists(RECORDS, max_size=40))
def test_the_compiled_set_does_what_the_other_one_does(
    changes: list[tuple[str, int, list[int]]],
) -> None:
    from edo_stream.core._native import IdSet  # noqa: PLC0415 - there is none without a compiler

    ours, other = IdSet(), IdsInPython()
    for what, expiry_s, numbers in changes:
        for ids in (ours, other):
            getattr(ids, what)(a_record(expiry_s, numbers))
        assert ours.recall([*DIGESTS, b"", b"short"]) == other.recall([*DIGESTS, b"", b"short"])
        assert len(ours) == len(other)


@pytest.mark.skipif(not IS_COMPILED, reason="of the compiled set")
def test_a_set_grows_and_shrinks_and_loses_nothing() -> None:
    from edo_stream.core._native import IdSet  # noqa: PLC0415 - there is none without a compiler

    ids = IdSet()
    many = [number.to_bytes(16) for number in range(50_000)]
    records = [
        (1 + at // 1000).to_bytes(4) + b"".join(many[at : at + 1000])
        for at in range(0, len(many), 1000)
    ]
    for one in records:
        ids.add(one)
    assert len(ids) == len(many)
    assert ids.recall(many) == [(1 + at // 1000).to_bytes(4) for at in range(len(many))]
    for one in records[:-1]:
        ids.remove(one)
    assert len(ids) == 1000
    assert ids.recall(many) == [None] * 49_000 + [(50).to_bytes(4)] * 1000
    for broken in (b"", b"\0\0\0", b"\0\0\0\1short"):
        for change in (ids.add, ids.remove):
            with pytest.raises(ValueError, match="16 bytes"):
                change(broken)


class Task(Bench):
    """A task whose ids have a budget, and whose disk can be kept when it is opened again."""

    def __init__(self, ids_max: int) -> None:
        rules = contract(NoOrder(), DedupePolicy(("source", "id"), TTL_MS))
        super().__init__([rules], budget=IdsBudget(ids_max))

    def open(self, *, keeps_disk: bool = False) -> None:
        disk = self.ids_rows if keeps_disk else None
        # Another process has a budget of its own.
        self.budget = IdsBudget(self.budget.ids_max)
        super().open()
        if disk is not None:
            # The same task, on the disk that is there.
            self.ids_rows = self.ids.committed = disk
            self.pipeline.restore()

    def kinds(self) -> Counter[bytes]:
        return Counter(key[:1] for key in self.ids_rows.rows)


def test_ids_of_a_running_task_are_in_memory_and_no_rows() -> None:
    task = Task(1_000)
    task.feed(record(0), record(1), record(2, id="id-0"))
    assert task.fates() == {0: "e", 1: "e", 2: "d"}
    assert task.kinds() == {b"a": 1}
    assert task.budget.ids == 2


def test_a_task_reads_the_ids_of_its_disk_when_it_starts_again() -> None:
    task = Task(1_000)
    task.feed(record(0), record(1))
    task.open(keeps_disk=True)
    task.feed(record(2, id="id-0"), record(3, id="id-1"), record(4))
    assert task.fates() == {0: "e", 1: "e", 2: "d", 3: "d", 4: "e"}
    assert task.budget.ids == 3


def test_ids_that_come_when_the_budget_is_spent_are_rows() -> None:
    task = Task(5)
    for offset in range(20):
        at_ms = NOW_MS + 100 * offset
        task.feed(record(offset, timestamp=at_ms), now_ms=at_ms)
    assert task.budget.ids == 5
    assert task.kinds() == {b"a": 5, b"b": 15, b"d": 15}
    doubles = [record(20 + at, id=f"id-{at}", timestamp=NOW_MS + 2_000) for at in range(20)]
    task.feed(*doubles, now_ms=NOW_MS + 2_000)
    assert {task.fates()[20 + at] for at in range(20)} == {"d"}


def test_memory_is_bounded_while_a_task_catches_up_on_records_far_apart() -> None:
    """Each has an expiry, and so a record of ids, of its own: more than a step sweeps."""
    task = Task(100)
    for step in range(10):
        at_ms = [NOW_MS + 5_000 * (50 * step + each) for each in range(50)]
        records = [record(50 * step + at, timestamp=ms) for at, ms in enumerate(at_ms)]
        task.feed(*records, now_ms=at_ms[-1])
        assert task.budget.ids <= 100


def test_a_task_that_reads_more_than_the_budget_has_left_moves_the_oldest_to_rows() -> None:
    task = Task(1_000)
    for offset in range(20):
        at_ms = NOW_MS + 100 * offset
        task.feed(record(offset, timestamp=at_ms), now_ms=at_ms)
    task.budget.ids_max = 5
    task.open(keeps_disk=True)
    later_ms = NOW_MS + 2_000
    left = []
    for offset in range(20, 27):
        task.feed(record(offset, id="id-0", timestamp=later_ms), now_ms=later_ms)
        left.append(task.budget.ids)
    # Four records a step, and not one too many.
    assert left == [20, 16, 12, 8, 5, 5, 5]
    doubles = [record(30 + at, id=f"id-{at}", timestamp=later_ms) for at in range(20)]
    task.feed(*doubles, now_ms=later_ms)
    assert {task.fates()[30 + at] for at in range(20)} == {"d"}


def test_an_abort_takes_back_what_was_in_memory() -> None:
    task = Task(1_000)
    task.feed(record(0))
    task.step(record(1))
    task.pipeline.discard()
    assert task.budget.ids == 0
    task.feed(record(1), record(2, id="id-0"))
    assert task.fates() == {0: "e", 1: "e", 2: "d"}
    assert task.budget.ids == 2


@pytest.mark.parametrize("ids_max", [0, 1_000])
def test_nothing_is_left_of_ids_that_have_expired(ids_max: int) -> None:
    task = Task(ids_max)
    for offset in range(10):
        task.feed(record(offset))
    later_ms = NOW_MS + 2 * TTL_MS
    for offset in range(10, 20):
        task.feed(record(offset, id="last", timestamp=later_ms), now_ms=later_ms)
    assert task.budget.ids <= 1
    rows = spread(task.ids_rows.rows)
    assert Counter(key[:1] for key in rows) == {b"b": 1, b"d": 1}


def test_an_id_that_is_a_row_and_was_seen_again_counts_by_its_later_expiry() -> None:
    task = Task(1_000)
    task.feed(record(0, id=1))
    task.open()  # By a restore: a row.
    assert task.kinds() == {b"b": 1, b"d": 1}
    later_ms = NOW_MS + TTL_MS
    task.feed(record(1, timestamp=later_ms), now_ms=later_ms)
    task.feed(record(2, id=1, timestamp=later_ms), now_ms=later_ms)
    task.feed(record(3, id=1, timestamp=later_ms), now_ms=later_ms)
    task.open(keeps_disk=True)
    task.feed(record(4, id=1, timestamp=later_ms), now_ms=later_ms)
    assert task.fates() == {0: "e", 1: "e", 2: "e", 3: "d", 4: "d"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["feed", "feed", "feed", "abort", "restart", "restore"]),
        st.lists(st.integers(0, 12), max_size=4),
        st.integers(0, 6_000),
    ),
    max_size=25,
)


@given(STEPS, st.sampled_from([0, 1, 3, 1_000]))
def test_wherever_ids_are_the_same_events_are_doubles(
    steps: list[tuple[str, list[int], int]], ids_max: int
) -> None:
    """Against a dictionary: an id is a double until its expiry, through anything."""
    task, expiries, offset, now_ms = Task(ids_max), dict[int, int](), 0, NOW_MS
    for what, numbers, later_ms in steps:
        now_ms += later_ms
        if what in ("restart", "restore"):
            task.open(keeps_disk=what == "restart")
            continue
        records: list[Record] = []
        wanted: dict[int, str] = {}
        seen = dict(expiries)
        for number in numbers:
            is_double = seen.get(number, 0) > now_ms
            wanted[offset + len(records)] = "d" if is_double else "e"
            if not is_double:
                # To the second: see ``Expiry``.
                seen[number] = -(-(now_ms + TTL_MS) // 1000) * 1000
            records.append(record(offset + len(records), id=number, timestamp=now_ms))
        if not records:
            continue
        effects = task.step(*records, now_ms=now_ms)
        if what == "abort":
            task.pipeline.discard()
            continue
        task.commit(effects)
        expiries = seen
        offset += len(records)
        assert {at: task.fates()[at] for at in wanted} == wanted
        assert task.budget.ids == len(task.pipeline._ids._known())


def test_a_set_of_rows_is_what_a_restore_makes() -> None:
    disk, log = Memory(), dict[bytes, bytes | None]()
    table = Table(disk, expand_ids)
    ids = Ids(table, IdsBudget())
    for offset, digest in enumerate(DIGESTS):
        assert ids.admit(digest, None, offset, 0, 1 + offset // 10)
    ids.write("t")
    log.update(table.changelog)
    disk.write(table.local)
    restored = Memory()
    for key, value in log.items():
        restored.write(dict(expand_ids(key, value)))
    assert restored.rows != disk.rows
    assert restored.rows == spread(disk.rows)


@pytest.mark.parametrize(("in_memory_s", "as_row_s"), [(5, 9), (9, 5), (7, 7)])
def test_of_an_id_in_memory_and_a_row_the_later_expiry_counts(
    in_memory_s: int, as_row_s: int
) -> None:
    disk = Memory()
    disk.write({b"a" + b"one": a_record(in_memory_s, [0])})
    disk.write(dict(expand_ids(b"two", a_record(as_row_s, [0]))))
    expected = max(in_memory_s, as_row_s).to_bytes(4)
    assert Ids(Table(disk, expand_ids), IdsBudget()).recall(DIGESTS[:2]) == [expected, None]
    # And wherever it is moved to.
    budget = IdsBudget(0)
    table = Table(disk, expand_ids)
    ids = Ids(table, budget)
    ids.recall(DIGESTS[:1])
    ids.sweep(0, 10)
    assert budget.ids == 0
    assert ids.recall(DIGESTS[:1]) == [expected]
    ids.sweep(min(in_memory_s, as_row_s) * 1000, 10)
    assert ids.recall(DIGESTS[:1]) == [expected if in_memory_s != as_row_s else None]
