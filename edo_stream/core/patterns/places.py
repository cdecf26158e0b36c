"""What is filed under what a value has in common with others, and found again by the value.

Each answers for a value what was filed under an anchor that fits it: no more, but for the ends of
a range, and at a cost that does not grow with what does not fit.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterator
from decimal import Decimal
from ipaddress import ip_address
from typing import Generic, TypeVar

from edo_stream.core.patterns.conditions import Anchor, Begins, Between, Ends, Folded, Within
from edo_stream.core.patterns.leaves import Leaf

T = TypeVar("T", bound=Hashable)


class Places(Generic[T]):
    """Entries of one path, by anchor."""

    def __init__(self) -> None:
        self._begins = _Lengths[T]()
        self._ends = _Lengths[T]()
        self._folded: dict[str, list[T]] = {}
        self._networks: dict[tuple[int, int], dict[int, list[T]]] = {}
        self._ranges: list[tuple[Between, T]] = []
        self._tree: _Ranges[T] | None = None

    def add(self, anchor: Anchor, entry: T) -> None:
        """File an entry."""
        match anchor:
            case Begins(text):
                self._begins.add(text, entry)
            case Ends(text):
                self._ends.add(text[::-1], entry)
            case Folded(text):
                self._folded.setdefault(text, []).append(entry)
            case Within(network):
                size = network.max_prefixlen - network.prefixlen
                by_start = self._networks.setdefault((network.version, size), {})
                by_start.setdefault(int(network.network_address) >> size, []).append(entry)
            case Between():
                self._ranges.append((anchor, entry))
                self._tree = None

    def of(self, leaf: Leaf) -> Iterator[T]:
        """What a leaf may pass."""
        value = leaf.value
        if isinstance(value, str):
            yield from self._begins.of(value)
            if self._ends:
                yield from self._ends.of(value[::-1])
            if self._folded:
                yield from self._folded.get(value.casefold(), ())
            if self._networks:
                yield from self._of_address(value)
        elif self._ranges and isinstance(leaf.compared, tuple) and leaf.compared[0] == "number":
            if self._tree is None:
                self._tree = _Ranges(self._ranges)
            yield from self._tree.of(leaf.compared[1])

    def _of_address(self, text: str) -> Iterator[T]:
        try:
            address = ip_address(text)
        except ValueError:
            return
        for (version, size), by_start in self._networks.items():
            if version == address.version:
                yield from by_start.get(int(address) >> size, ())


class _Lengths(Generic[T]):
    """Entries by a text that a value begins with; a look costs one lookup a length in use."""

    def __init__(self) -> None:
        self._entries: dict[str, list[T]] = {}
        self._lengths: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, prefix: str, entry: T) -> None:
        self._entries.setdefault(prefix, []).append(entry)
        if len(prefix) not in self._lengths:
            self._lengths.append(len(prefix))

    def of(self, value: str) -> Iterator[T]:
        for length in self._lengths:
            if length <= len(value):
                yield from self._entries.get(value[:length], ())


class _Ranges(Generic[T]):
    """A tree of ranges: each node has those that hold its middle, sorted by both of their ends."""

    def __init__(self, ranges: list[tuple[Between, T]]) -> None:
        ends = sorted(end for between, _ in ranges for end in between if end.is_finite()) or [
            Decimal(0)
        ]
        self._middle = ends[len(ends) // 2]
        here = [one for one in ranges if one[0].low <= self._middle <= one[0].high]
        below = [one for one in ranges if one[0].high < self._middle]
        above = [one for one in ranges if one[0].low > self._middle]
        by_low = sorted(here, key=lambda one: one[0].low)
        by_high = sorted(here, key=lambda one: one[0].high)
        self._lows = [one[0].low for one in by_low]
        self._by_low = [one[1] for one in by_low]
        self._highs = [one[0].high for one in by_high]
        self._by_high = [one[1] for one in by_high]
        self._below = _Ranges(below) if below else None
        self._above = _Ranges(above) if above else None

    def of(self, number: Decimal) -> Iterator[T]:
        """Entries whose range has the number."""
        if number <= self._middle:
            yield from self._by_low[: bisect_right(self._lows, number)]
            if self._below is not None:
                yield from self._below.of(number)
        else:
            yield from self._by_high[bisect_left(self._highs, number) :]
            if self._above is not None:
                yield from self._above.of(number)
