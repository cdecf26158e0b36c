"""Events that were acknowledged lately, so that their repetition is answered alike.

Best effort within one process: what decides is the dedupe of the engine. An id counts from the
moment at which Kafka has its event; a repetition that comes while the first is under way waits
for the outcome of the first and shares it.
"""

from collections.abc import Callable

Outcome = str | None
"""Why an event could not be written; ``None`` if it was."""
Done = Callable[[Outcome], None]


class Remembered:
    """At most ``count_max`` ids; the oldest are forgotten first."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._acknowledged: dict[bytes, None] = {}
        self._under_way: dict[bytes, list[Done]] = {}

    def __len__(self) -> int:
        return len(self._acknowledged)

    def is_acknowledged(self, key: bytes) -> bool:
        """Whether the event is known to be written."""
        return key in self._acknowledged

    def joins(self, key: bytes, done: Done) -> bool:
        """Wait for the first of its kind, if it is under way; else be the first."""
        waiting = self._under_way.get(key)
        if waiting is None:
            self._under_way[key] = []
            return False
        waiting.append(done)
        return True

    def settle(self, key: bytes, outcome: Outcome) -> None:
        """Tell the outcome of the first to all that wait for it; remember it if it was written."""
        waiting = self._under_way.pop(key, [])
        if outcome is None and self._count_max:
            self._acknowledged[key] = None
            if len(self._acknowledged) > self._count_max:
                del self._acknowledged[next(iter(self._acknowledged))]
        for done in waiting:
            done(outcome)
