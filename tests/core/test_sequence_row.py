"""Ranges of a key's row: bounded, merged, and right about every number."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.sequence import SequenceRow, find


def row(number: int = 0) -> SequenceRow:
    return SequenceRow(next=number, touched_ms=0)


def spread(ranges: list[tuple[int, int]]) -> set[int]:
    numbers = [number for first, last in ranges for number in range(first, last + 1)]
    assert numbers == sorted(set(numbers))
    assert all(low[1] + 1 < high[0] for low, high in pairwise(ranges))
    return set(numbers)


@given(st.lists(st.integers(1, 30), max_size=40))
def test_filled_numbers_are_merged_ranges(numbers: list[int]) -> None:
    one = row()
    for number in numbers:
        one.fill(number)
    assert spread(one.filled) == set(numbers)
    assert [number for number in range(40) if find(one.filled, number) is not None] == sorted(
        set(numbers)
    )


@given(st.lists(st.integers(1, 3), max_size=15), st.sets(st.integers(0, 40)))
def test_skipped_numbers_are_ranges_less_what_was_taken(steps: list[int], taken: set[int]) -> None:
    one, expected = row(), set[int]()
    for index, step in enumerate(steps):
        if index % 3:
            expected |= set(range(one.next, one.next + step))
            one.skip_to(one.next + step)
        else:
            one.next += step
    assert spread(one.skipped) == expected
    for number in sorted(taken & expected)[:10]:
        one.take_skipped(number)
        expected.remove(number)
    assert spread(one.skipped) == expected


def test_the_oldest_skips_are_forgotten() -> None:
    one = row()
    for _ in range(40):
        one.next += 1
        one.skip_to(one.next + 3)
    assert len(one.skipped) == 32
    assert one.skipped[-1][1] == one.next - 1
    one.take_skipped(one.next - 2)
    assert len(one.skipped) == 32
    assert one.skipped[-1] == (one.next - 1, one.next - 1)


def test_the_farthest_filled_numbers_are_forgotten() -> None:
    one = row()
    for number in range(2, 1_000, 2):
        one.fill(number)
    assert (len(one.filled), one.filled[0], one.filled[-1]) == (256, (2, 2), (512, 512))
