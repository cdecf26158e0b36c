"""What the resequencer should do, as plainly as it can be said: no rows, no batches, no ranges."""

from dataclasses import dataclass, field
from typing import Any

from edo_stream.core.contract import OnFull, OnLate, OnTimeout, SequenceOrder


@dataclass
class Key:
    """One numbered key."""

    next: int
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number → offset, held since."""
    filled: set[int] = field(default_factory=set)
    skipped: set[int] = field(default_factory=set)


@dataclass
class Model:
    """Ids without expiry, numbered keys, one topic."""

    policy: SequenceOrder
    outputs: list[tuple[Any, ...]] = field(default_factory=list)
    fates: dict[int, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    keys: dict[str, Key] = field(default_factory=dict)

    def arrive(self, offset: int, key: str, number: int, event_id: str, now_ms: int) -> None:
        if event_id in self.ids:
            self.fates[offset] = "d"
            return
        self.ids.add(event_id)
        state = self.key(key, number)
        policy = self.policy
        if number < state.next:
            self.pass_by(offset, state, number)
        elif number in state.held:
            self.bury(offset, "sequence-conflict")
        elif number in state.filled:
            self.bury(offset, "sequence-reused")
        elif number > state.next and policy.on_full is OnFull.DEAD_LETTER and self.is_full(state):
            self.bury(offset, "buffer-full")
            state.filled.add(number)
        else:
            while number > state.next and self.is_full(state):
                self.skip(key, min([*state.held, number]), "buffer-full")
            if number == state.next:
                self.emit(offset)
                state.next += 1
                self.drain(state)
            else:
                state.held[number] = (offset, now_ms)
                self.fates[offset] = "h"

    def spoil(self, offset: int, key: str, number: int) -> None:
        """An invalid record arrives."""
        self.bury(offset, "invalid")
        state = self.key(key, number)
        if number >= state.next and number not in state.held:
            state.filled.add(number)
            self.drain(state)

    def tick(self, now_ms: int) -> None:
        """Fire each timer that is due once, the earliest first."""
        due = [
            (at_ms, key)
            for key, state in self.keys.items()
            if (at_ms := self.due(state)) is not None and at_ms <= now_ms
        ]
        for _, key in sorted(due):
            state = self.keys[key]
            if self.policy.on_timeout is OnTimeout.SKIP:
                self.skip(key, min(state.held), "gap-timeout")
            else:
                self.skip(key, max(state.held) + 1, "dead-letter")

    def release(self, key: str) -> None:
        """An operator releases all that is held."""
        state = self.keys.get(key)
        if state is not None and state.held:
            self.skip(key, max(state.held) + 1, "operator")

    def due(self, state: Key) -> int | None:
        if not state.held or self.policy.on_timeout is OnTimeout.HOLD:
            return None
        return min(since for _, since in state.held.values()) + self.policy.gap_timeout_ms

    def key(self, key: str, number: int) -> Key:
        if key not in self.keys:
            start = number if self.policy.start is None else self.policy.start
            self.keys[key] = Key(start, skipped=set(range(start)))
        return self.keys[key]

    def is_full(self, state: Key) -> bool:
        held = sum(len(each.held) for each in self.keys.values())
        policy = self.policy
        return len(state.held) >= policy.held_per_key_max or held >= policy.held_per_partition_max

    def pass_by(self, offset: int, state: Key, number: int) -> None:
        if self.policy.on_late is OnLate.DROP:
            self.fates[offset] = "l"
        elif number not in state.skipped:
            self.bury(offset, "sequence-reused")
        elif self.policy.on_late is OnLate.EMIT:
            state.skipped.remove(number)
            self.outputs.append(("late", offset))
            self.fates[offset] = "e"
        else:
            self.bury(offset, "late")

    def skip(self, key: str, until: int, reason: str) -> None:
        state = self.keys[key]
        while state.next < until:
            first = min([*state.held, *state.filled, until])
            first = min(first, until)
            self.outputs.append(("gap", key, state.next, first - 1, reason))
            state.skipped |= set(range(state.next, first))
            state.next = first
            self.drain(state, "gap-timeout" if reason == "dead-letter" else None)

    def drain(self, state: Key, reason: str | None = None) -> None:
        while True:
            if state.next in state.held:
                offset, _ = state.held.pop(state.next)
                if reason is None:
                    self.emit(offset)
                else:
                    self.bury(offset, reason)
            elif state.next in state.filled:
                state.filled.remove(state.next)
            else:
                return
            state.next += 1

    def emit(self, offset: int) -> None:
        self.outputs.append(("emit", offset))
        self.fates[offset] = "e"

    def bury(self, offset: int, reason: str) -> None:
        self.outputs.append(("dead", offset, reason))
        self.fates[offset] = "x"
