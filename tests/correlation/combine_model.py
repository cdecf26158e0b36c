"""What debounce and batch should do, as plainly as it can be said: every event kept, in lists."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edo_stream.core.correlation.spec import Batched, Debounced


class Item(NamedTuple):
    """An event, by what matters of it."""

    offset: int
    at_ms: int
    size_bytes: int

    @property
    def id(self) -> str:
        return f"e{self.offset}"


Said = tuple[str, str, int, str, Any]
"""Key, reason, how many, time of the first, and ids: of a debounce the last, of a batch all."""


@dataclass
class DebounceModel:
    """Groups of events: two that are not a pause apart are one, unless the cap is between them."""

    kind: Debounced
    events_max: int
    outputs: list[Said] = field(default_factory=list)
    keys: dict[str, list[list[Item]]] = field(default_factory=dict)

    def due(self, group: list[Item]) -> int:
        first_ms = min(item.at_ms for item in group)
        last_ms = max(item.at_ms for item in group)
        return min(last_ms + self.kind.quiet_ms, first_ms + self.kind.max_ms)

    def arrive(self, key: str, item: Item) -> None:
        groups = [*self.keys.get(key, []), [item]]
        groups.sort(key=lambda group: (min(one.at_ms for one in group), _latest(group).offset))
        kept: list[list[Item]] = []
        for group in groups:
            if kept and min(one.at_ms for one in group) < self.due(kept[-1]):
                kept[-1] = kept[-1] + group
            else:
                kept.append(group)
        while len(kept) > self.events_max:
            self.tell(key, kept.pop(0))
        self.keys[key] = kept

    def tick(self, limit_ms: int) -> None:
        for key, groups in self.keys.items():
            while groups and self.due(groups[0]) <= limit_ms:
                self.tell(key, groups.pop(0))

    def tell(self, key: str, group: list[Item]) -> None:
        first_ms, last = min(item.at_ms for item in group), _latest(group)
        is_quiet = self.due(group) == last.at_ms + self.kind.quiet_ms
        reason = "quiet" if is_quiet else "max"
        self.outputs.append((key, reason, len(group), str(first_ms), last.id))


@dataclass
class BatchModel:
    """A list of each key; whoever finds it at a bound ends it."""

    kind: Batched
    outputs: list[Said] = field(default_factory=list)
    keys: dict[str, list[Item]] = field(default_factory=dict)

    def due(self, items: list[Item]) -> int:
        return min(item.at_ms for item in items) + self.kind.after_ms

    def arrive(self, key: str, item: Item) -> None:
        items = self.keys.setdefault(key, [])
        if items and item.at_ms >= self.due(items):
            self.tell(key, "time")
        elif items and _size(items) + item.size_bytes > self.kind.size_bytes:
            self.tell(key, "bytes")
        items.append(item)
        if len(items) == self.kind.count:
            self.tell(key, "count")
        elif _size(items) >= self.kind.size_bytes:
            self.tell(key, "bytes")

    def tick(self, limit_ms: int) -> None:
        for key, items in self.keys.items():
            if items and self.due(items) <= limit_ms:
                self.tell(key, "time")

    def tell(self, key: str, reason: str) -> None:
        items = self.keys[key]
        first_ms = min(item.at_ms for item in items)
        ids = [item.id for item in items]
        self.outputs.append((key, reason, len(items), str(first_ms), ids))
        items.clear()


def _latest(items: list[Item]) -> Item:
    return max(items, key=lambda item: (item.at_ms, item.offset))


def _size(items: list[Item]) -> int:
    return sum(item.size_bytes for item in items)
