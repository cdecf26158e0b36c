"""What a correlation should do, as plainly as it can be said: lists, no rows and no batches.

Sequences and windows are found by trying all there are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, NamedTuple

from edo_stream.core.correlation.spec import (
    Absent,
    Correlation,
    Counted,
    Fire,
    Keep,
    Members,
    Named,
    OnLate,
    OnTimeout,
    Ordered,
    Windowed,
)

MANIFEST = "manifest"
_ENDS = {
    OnTimeout.PARTIAL: ("timeout", "e"),
    OnTimeout.FALLBACK: ("fallback", "e"),
    OnTimeout.FAILURE: ("timeout", "f"),
    OnTimeout.DEAD_LETTER: (None, "x"),
    OnTimeout.DROP: (None, "s"),
}


class Item(NamedTuple):
    """An event, by what matters of it."""

    offset: int
    input: str
    at_ms: int
    member: str | None = None
    expect: int | None = None
    members: tuple[str, ...] | None = None


@dataclass
class Key:
    """One correlation key."""

    phase: str = "resting"
    items: list[Item] = field(default_factory=list)
    postponed: list[Item] = field(default_factory=list)
    first_ms: int = 0
    runs: int = 0
    settled_ms: int = 0


Inputs = dict[str, Any]


class Model:
    """One flow. ``outputs`` are as the bench's ``short`` has them, ``fates`` by offset."""

    def __init__(self, correlation: Correlation) -> None:
        self.c = correlation
        self.outputs: list[tuple[Any, ...]] = []
        self.fates: dict[int, str] = {}
        self.keys: dict[str, Key] = {}
        kind = correlation.kind
        self.opens = frozenset({kind.after}) if isinstance(kind, Absent) else correlation.opens
        self.early_ms = max(correlation.look_back_ms, 60_000)

    def arrive(self, key: str, item: Item) -> None:
        state = self.keys.setdefault(key, Key())
        if isinstance(self.c.kind, Ordered):
            self.follow(key, state, item)
        elif isinstance(self.c.kind, Windowed):
            self.pour(key, state, item)
        else:
            self.collect(key, state, item)

    def tick(self, limit_ms: int) -> None:
        """Fire all that is due, the earliest first."""
        while due := [
            (at_ms, key)
            for key, state in self.keys.items()
            if (at_ms := self.due(state)) is not None and at_ms <= limit_ms
        ]:
            at_ms, key = min(due)
            self.expire(key, self.keys[key], at_ms)

    def due(self, state: Key) -> int | None:
        kind, grace_ms = self.c.kind, self.c.grace_ms
        if state.phase in ("resting", "over"):
            return None
        first_ms = min((item.at_ms for item in state.items), default=0)
        if isinstance(kind, Windowed):
            return min(end for _, end in self.windows(state)) + grace_ms
        if state.phase == "early":
            return first_ms + self.early_ms + grace_ms
        opened_ms = first_ms if isinstance(kind, Ordered) else state.first_ms
        return opened_ms + self.c.within_ms + grace_ms

    def expire(self, key: str, state: Key, due_ms: int) -> None:
        if isinstance(self.c.kind, Ordered):
            self.give_up(key, state, due_ms)
        elif isinstance(self.c.kind, Windowed):
            self.close_window(key, state)
        elif state.phase == "early":
            old = [i for i in state.items if i.at_ms + self.early_ms + self.c.grace_ms <= due_ms]
            self.let_go(state, old, "s")
            if not state.items:
                self.end(key, state, "resting")
        elif isinstance(self.c.kind, Absent):
            self.fire(key, state, "absent", "deadline", None)
        else:
            self.time_out(key, state, state.items)
            self.end(key, state, "over")

    def time_out(self, key: str, state: Key, items: list[Item]) -> None:
        reason, fate = _ENDS[self.c.on_timeout]
        if reason is not None:
            state.runs += 1
            self.tell(key, state, reason, "deadline", None, items)
        self.let_go(state, list(items), fate)

    # Waits with one deadline.

    def collect(self, key: str, state: Key, item: Item) -> None:
        is_opener = not self.opens or item.input in self.opens
        if state.phase == "open":
            is_early = not is_opener and item.at_ms < state.first_ms - self.c.look_back_ms
            if is_early or item.at_ms > state.first_ms + self.c.within_ms:
                state.postponed.append(item)
                self.fates[item.offset] = "h"
                return
        if item.input == self.c.fallback:
            if state.phase == "over" or (state.phase == "resting" and state.runs):
                self.fates[item.offset] = "l"
            else:
                self.fates[item.offset] = "e"
                self.fire(key, state, "fallback", item.input, item)
        elif state.phase == "over" and self.c.late is not OnLate.NEW_RUN:
            self.be_late(key, state, item)
        else:
            self.add(key, state, item, is_opener)

    def be_late(self, key: str, state: Key, item: Item) -> None:
        self.fates[item.offset] = {"drop": "l", "dead-letter": "x", "append": "e"}[
            self.c.late.value
        ]
        if self.c.late is OnLate.APPEND:
            self.tell(key, state, "late", item.input, item, [item])

    def add(self, key: str, state: Key, item: Item, is_opener: bool) -> None:
        kind = self.c.kind
        if isinstance(kind, Absent) and state.phase == "open" and item.input == kind.without:
            self.fates[item.offset] = "s"
            self.let_go_of(state.postponed, self.others(state, item.at_ms), "s")
            state.postponed += [each for each in state.items if each.at_ms > item.at_ms]
            self.let_go(state, [i for i in state.items if i.at_ms <= item.at_ms], "s")
            state.items.clear()
            self.end(key, state, "resting")
            return
        if self.is_unlisted(state, item):
            self.fates[item.offset] = "x"
            return
        self.fates[item.offset] = "h"
        if isinstance(kind, Absent) and state.phase == "open":
            if item.at_ms >= state.first_ms:
                *covered, _ = sorted([*self.others(state), item], key=_at)
                state.postponed.append(item)
                self.let_go_of(state.postponed, covered, "s")
                return
            state.postponed += state.items
            state.items.clear()
        self.put(state, item)
        if state.phase != "open" and not is_opener:
            state.phase = "early"
            return
        has_moved = state.phase == "open" and item.at_ms < state.first_ms
        if state.phase != "open" or has_moved:
            self.open(state, item)
        if isinstance(kind, Absent) and any(i.input == kind.without for i in state.items):
            self.let_go(state, list(state.items), "s")
            self.end(key, state, "resting")
        elif self.is_complete(state):
            self.fire(key, state, "complete", item.input, item)
        elif has_moved:
            self.replay(key, state)

    def others(self, state: Key, before_ms: int | None = None) -> list[Item]:
        """What an absence waits behind when its wait has ended, from before its deadline."""
        assert isinstance(self.c.kind, Absent)
        until_ms = state.first_ms + self.c.within_ms if before_ms is None else before_ms
        after = self.c.kind.after
        return [i for i in state.postponed if i.input == after and i.at_ms <= until_ms]

    def put(self, state: Key, item: Item) -> None:
        """Of two events for one place, one is stale."""
        there = [each for each in state.items if self.place(each) == self.place(item)]
        state.items.append(item)
        if there and self.place(item) is not None:
            first = self.c.keep is Keep.FIRST
            both = [there[0], item]
            stays = min(both, key=_at) if first else max(reversed(both), key=_at)
            self.let_go(state, [each for each in both if each is not stays], "s")
        if item.members is not None and item in state.items:
            gone = [i for i in state.items if i.member and i.member not in item.members]
            self.let_go(state, gone, "x")

    def place(self, item: Item) -> Any:
        if isinstance(self.c.kind, Absent) and item.input == self.c.kind.without:
            return None
        if isinstance(self.c.kind, Named | Absent) or item.input == MANIFEST:
            return item.input
        return item.member

    def is_unlisted(self, state: Key, item: Item) -> bool:
        listed = self.listed(state)
        is_member = isinstance(self.c.kind, Members) and item.input != MANIFEST
        return is_member and listed is not None and item.member not in listed

    def listed(self, state: Key) -> tuple[str, ...] | None:
        assert isinstance(self.c.kind, Members) or self.c.kind is not None
        if isinstance(self.c.kind, Members) and self.c.kind.members is not None:
            return self.c.kind.members
        return next((i.members for i in state.items if i.input == MANIFEST), None)

    def is_complete(self, state: Key) -> bool:
        kind = self.c.kind
        there = [item for item in state.items if item.input != MANIFEST]
        if isinstance(kind, Named):
            return len({item.input for item in there}) >= kind.needed
        if isinstance(kind, Counted):
            manifest = next((i.expect for i in state.items if i.input == MANIFEST), None)
            expect = manifest if kind.expect is None else kind.expect
            return expect is not None and len(there) >= expect
        listed = self.listed(state) if isinstance(kind, Members) else None
        return listed is not None and {item.member for item in there} >= set(listed)

    def open(self, state: Key, item: Item) -> None:
        if state.phase == "early":
            first_ms = item.at_ms - self.c.look_back_ms
            self.let_go(state, [i for i in state.items if i.at_ms < first_ms], "s")
        state.phase, state.first_ms = "open", item.at_ms
        until_ms = item.at_ms + self.c.within_ms
        state.postponed += [i for i in state.items if i.at_ms > until_ms]
        state.items = [i for i in state.items if i.at_ms <= until_ms]

    def fire(self, key: str, state: Key, reason: str, by: str, item: Item | None) -> None:
        state.runs += 1
        self.tell(key, state, reason, by, item, state.items)
        self.let_go(state, list(state.items), "e")
        is_last = self.c.fire is Fire.ONCE or by == "deadline"
        self.end(key, state, "over" if is_last else "resting")

    def end(self, key: str, state: Key, phase: str) -> None:
        state.phase = phase
        self.replay(key, state)

    def replay(self, key: str, state: Key) -> None:
        postponed, state.postponed = state.postponed, []
        for item in sorted(postponed, key=_at):
            self.collect(key, state, item)

    def let_go(self, state: Key, items: list[Item], fate: str) -> None:
        self.let_go_of(state.items, items, fate)

    def let_go_of(self, held: list[Item], items: list[Item], fate: str) -> None:
        for item in items:
            held.remove(item)
            self.fates[item.offset] = fate

    def tell(
        self,
        key: str,
        state: Key,
        reason: str,
        by: str,
        item: Item | None,
        items: Iterable[Item],
    ) -> None:
        inputs: Inputs = {}
        kind = self.c.kind
        if isinstance(kind, Counted | Members):
            inputs = {name: [] for name in self.c.inputs}
        in_order = sorted(items, key=self.rank())
        for each in in_order:
            if isinstance(kind, Named | Absent | Ordered) or each.input == MANIFEST:
                inputs[each.input] = f"e{each.offset}"
            else:
                inputs.setdefault(each.input, []).append(f"e{each.offset}")
        self.outputs.append(
            (key, state.runs, reason, by, None if item is None else f"e{item.offset}", inputs)
        )

    def rank(self) -> Callable[[Item], Any]:
        """How a result orders its events."""
        if isinstance(self.c.kind, Windowed):
            return lambda item: (item.at_ms, item.offset)
        # By their places, and those without one as they came.
        return lambda item: (item.member or "", item.offset)

    # Sequences.

    def follow(self, key: str, state: Key, item: Item) -> None:
        if state.phase == "over" and self.c.late is not OnLate.NEW_RUN:
            self.be_late(key, state, item)
            return
        state.phase = "open"
        state.items.append(item)
        self.fates[item.offset] = "h"
        choices = [
            [item] if name == item.input else [i for i in state.items if i.input == name]
            for name in self.c.inputs
        ]
        chains = [
            chain
            for chain in product(*choices)
            if all(a.at_ms <= b.at_ms for a, b in pairwise(chain))
            and chain[-1].at_ms - chain[0].at_ms <= self.c.within_ms
        ]
        if not chains:
            return
        at = self.c.inputs.index(item.input)

        def span(chain: tuple[Item, ...]) -> Any:
            """As near to the event as can be: before it the latest read, after it the first."""
            before = [(item.at_ms - i.at_ms, -i.offset) for i in reversed(chain[:at])]
            return before, [(i.at_ms - item.at_ms, i.offset) for i in chain[at + 1 :]]

        best = list(min(chains, key=span))
        state.runs += 1
        self.tell(key, state, "complete", item.input, item, best)
        self.let_go(state, best, "e")
        self.settle(state)

    def settle(self, state: Key) -> None:
        if self.c.fire is Fire.ONCE:
            self.let_go(state, list(state.items), "s")
            state.phase = "over"
        elif not state.items:
            state.phase = "resting"

    def give_up(self, key: str, state: Key, due_ms: int) -> None:
        kept_ms = self.c.within_ms + self.c.grace_ms
        old = [item for item in state.items if item.at_ms + kept_ms <= due_ms]
        for item in sorted(old, key=_at):
            if item not in state.items:
                continue
            if item.input != self.c.inputs[0]:
                self.let_go(state, [item], "s")
            else:
                self.time_out(key, state, [item])
                if self.c.on_timeout is not OnTimeout.DROP:
                    self.settle(state)
        if state.phase == "open" and not state.items:
            state.phase = "resting"

    # Windows.

    def windows(self, state: Key) -> list[tuple[int, int]]:
        """All windows that have something in them and have not fired, from start to end."""
        kind = self.c.kind
        assert isinstance(kind, Windowed)
        times = sorted(item.at_ms for item in state.items)
        if kind.gap_ms:
            sessions = [[times[0]]]
            for at_ms in times[1:]:
                is_cut = kind.session_max_ms and at_ms - sessions[-1][0] >= kind.session_max_ms
                if at_ms - sessions[-1][-1] >= kind.gap_ms or is_cut:
                    sessions.append([])
                sessions[-1].append(at_ms)
            start, end = sessions[0][0], sessions[0][-1] + kind.gap_ms
            if kind.session_max_ms:
                end = min(end, start + kind.session_max_ms)
            return [(start, end)]
        lowest, highest = times[0] // kind.every_ms, times[-1] // kind.every_ms
        ends = range(
            lowest * kind.every_ms, (highest + 2) * kind.every_ms + kind.size_ms, kind.every_ms
        )
        return [
            (end - kind.size_ms, end)
            for end in ends
            if end > state.settled_ms and any(end - kind.size_ms <= at_ms < end for at_ms in times)
        ]

    def pour(self, key: str, state: Key, item: Item) -> None:
        kind = self.c.kind
        assert isinstance(kind, Windowed)
        last_ms = (item.at_ms + kind.size_ms) // max(kind.every_ms, 1) * kind.every_ms
        is_late = item.at_ms < state.settled_ms if kind.gap_ms else last_ms <= state.settled_ms
        if is_late:
            self.be_late(key, state, item)
            return
        state.phase = "open"
        state.items.append(item)
        self.fates[item.offset] = "h"

    def close_window(self, key: str, state: Key) -> None:
        kind = self.c.kind
        assert isinstance(kind, Windowed)
        start, end = min(self.windows(state), key=lambda window: window[1])
        inside = [item for item in state.items if start <= item.at_ms < end]
        state.runs += 1
        self.tell(key, state, "window", "deadline", None, inside)
        state.settled_ms = max(end, state.settled_ms)
        rest = [
            item
            for item in inside
            if not kind.gap_ms and item.at_ms + kind.size_ms >= end + kind.every_ms
        ]
        self.let_go(state, [item for item in inside if item not in rest], "e")
        if not state.items:
            state.phase = "resting"


def _at(item: Item) -> tuple[int, int]:
    return item.at_ms, item.offset
