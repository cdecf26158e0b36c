"""The row of a numbered key: what comes next, and what became of the numbers around it."""

from bisect import bisect_right
from typing import Final

import msgspec

NUMBER_MAX: Final = 2**63 - 1

Range = tuple[int, int]
"""First and last number, both included."""

_SKIPPED_MAX: Final = 32
_FILLED_MAX: Final = 256


class SequenceRow(msgspec.Struct, array_like=True):
    """One key of one topic; fields are only ever appended."""

    next: int
    touched_ms: int
    """Stream time of the last change."""
    held: int = 0
    due_ms: int | None = None
    """When the wait for ``next`` ends; ``None`` while nothing waits, or for ever."""
    skipped: list[Range] = []
    """Numbers below ``next`` that were given up: an event with one is late, not reused."""
    filled: list[Range] = []
    """Numbers beyond ``next`` that dead letters have used up."""

    def skip_to(self, number: int) -> None:
        """Give up all from ``next`` to before ``number``; the oldest ranges are forgotten."""
        skipped = self.skipped
        if skipped and skipped[-1][1] == self.next - 1:
            skipped[-1] = (skipped[-1][0], number - 1)
        else:
            skipped.append((self.next, number - 1))
        del skipped[:-_SKIPPED_MAX]
        self.next = number

    def take_skipped(self, number: int) -> None:
        """Use up a number that had been given up."""
        at = find(self.skipped, number)
        assert at is not None, f"number {number} was not skipped"
        first, last = self.skipped[at]
        self.skipped[at : at + 1] = [
            (low, high) for low, high in ((first, number - 1), (number + 1, last)) if low <= high
        ]
        del self.skipped[:-_SKIPPED_MAX]

    def fill(self, number: int) -> None:
        """Note that a number beyond ``next`` is used up; the farthest ranges are forgotten."""
        filled = self.filled
        if find(filled, number) is not None:
            return
        at = bisect_right(filled, (number, number))
        first = last = number
        if at < len(filled) and filled[at][0] == number + 1:
            last = filled.pop(at)[1]
        if at > 0 and filled[at - 1][1] == number - 1:
            at -= 1
            first = filled.pop(at)[0]
        filled.insert(at, (first, last))
        del filled[_FILLED_MAX:]

    def pass_filled(self) -> bool:
        """Go on behind the first filled range, if it is the next; whether it was."""
        if not self.filled or self.filled[0][0] != self.next:
            return False
        self.next = self.filled.pop(0)[1] + 1
        return True


def find(ranges: list[Range], number: int) -> int | None:
    """Index of the range that a number lies in; the ranges ascend."""
    at = bisect_right(ranges, (number, NUMBER_MAX + 1)) - 1
    return at if at >= 0 and ranges[at][1] >= number else None


encode_sequence = msgspec.msgpack.Encoder().encode
decode_sequence = msgspec.msgpack.Decoder(SequenceRow).decode
