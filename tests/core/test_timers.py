"""Timers over a table: in order, durable, and silent when nothing is due."""

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.state import Table
from edo_stream.core.timers import Timers
from tests.core.memory import Memory


def opened(memory: Memory) -> tuple[Timers, Table]:
    table = Table(memory)
    timers = Timers(table)
    timers.restore()
    return timers, table


def test_timers_fire_in_the_order_of_their_time() -> None:
    timers, _ = opened(Memory())
    for due_ms in (30, 10, 20):
        timers.set(due_ms, b"x%d" % due_ms)
    assert timers.due(25, 10) == [(10, b"x10"), (20, b"x20")]


def test_at_most_so_many_fire_at_once() -> None:
    timers, _ = opened(Memory())
    timers.set(1, b"a")
    timers.set(1, b"b")
    assert timers.due(1, 1) == [(1, b"a")]


def test_a_timer_set_and_cleared_in_one_step_is_never_written() -> None:
    timers, table = opened(Memory())
    timers.set(1, b"a")
    timers.clear(1, b"a")
    timers.flush()
    assert not table.changelog
    assert timers.next_due_ms is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_the_next_due_time_is_always_that_of_the_rows(
    changes: list[tuple[bool, int, int]],
) -> None:
    memory = Memory()
    timers, table = opened(memory)
    expected: set[int] = set()
    for is_end, due_ms, _ in changes:
        if due_ms in expected:
            timers.clear(due_ms, b"n")
            expected.remove(due_ms)
        else:
            timers.set(due_ms, b"n")
            expected.add(due_ms)
        if is_end:
            timers.flush()
            memory.write(table.local)
            table.settle()
            assert min(expected, default=None) == timers.next_due_ms
            restored, _ = opened(memory)
            assert min(expected, default=None) == restored.next_due_ms
            assert sorted(expected) == [due for due, _ in restored.due(9, 99)]
