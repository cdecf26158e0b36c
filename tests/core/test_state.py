"""Rows of a task: what a step sees of its own writes, and what is left of them."""

import pytest

from edo_stream.core.state import Expand, RowCache, Table, as_is
from tests.core.memory import Memory


def table() -> Table:
    memory = Memory()
    memory.write({b"a": b"1", b"b": b"2", b"d": b"4"})
    return Table(memory)


def test_a_step_sees_its_own_writes_over_the_committed_rows() -> None:
    rows = table()
    rows.write(b"a", b"9")
    rows.write(b"b", None)
    rows.write(b"c", b"3")
    assert [rows.get(key) for key in (b"a", b"b", b"c", b"d", b"e")] == [
        b"9",
        None,
        b"3",
        b"4",
        None,
    ]
    assert rows.get_many([b"a", b"b", b"d"]) == [b"9", None, b"4"]
    assert list(rows.scan(b"a", b"d")) == [(b"a", b"9"), (b"c", b"3")]


@pytest.mark.parametrize(
    "expand", [as_is, lambda key, value: ((key + b"-1", value), (b"last", key))]
)
def test_rows_written_at_once_are_those_written_one_by_one(expand: Expand) -> None:
    rows = {b"b": b"1", b"a": None, b"c": b"3"}
    one, other = Table(Memory(), expand), Table(Memory(), expand)
    for table in (one, other):
        table.write(b"c", b"2")
    for key, value in rows.items():
        one.write(key, value)
    other.write_all(rows)
    assert [*one.changelog.items()] == [*other.changelog.items()]
    assert [*one.local.items()] == [*other.local.items()]


def test_a_row_forgotten_is_gone_without_a_record() -> None:
    rows = table()
    rows.forget(b"a")
    assert rows.get(b"a") is None
    assert rows.changelog == {}


def test_a_discard_brings_the_committed_rows_back() -> None:
    rows = table()
    rows.write(b"a", None)
    rows.discard()
    assert rows.get(b"a") == b"1"
    assert list(rows.scan(b"a", b"z")) == [(b"a", b"1"), (b"b", b"2"), (b"d", b"4")]


def test_a_full_cache_starts_anew_and_reads_what_it_had_written() -> None:
    rows = table()
    cache: RowCache[bytes] = RowCache(rows, b"", bytes, bytes, rows_max=1)
    cache.put(b"x", b"5")
    cache.put(b"y", b"6")
    cache.delete(b"a")
    cache.flush()
    assert rows.changelog == {b"x": b"5", b"y": b"6", b"a": None}
    assert cache._rows == {}
    assert [cache.get(key) for key in (b"x", b"y", b"a")] == [b"5", b"6", None]


def test_a_discarded_cache_reads_the_committed_rows_again() -> None:
    rows = table()
    cache: RowCache[bytes] = RowCache(rows, b"", bytes, bytes)
    cache.put(b"a", b"9")
    cache.flush()
    rows.discard()
    cache.discard()
    assert cache.get(b"a") == b"1"
