"""Commands in hand: which of them may run, one of a key at a time."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from edo_stream.core.act.command import Command
from edo_stream.core.record import Record


@dataclass(slots=True, eq=False)
class Work:
    """A command that is to be run, and where it is kept until its fate is known."""

    command: Command
    record: Record
    """At its position: what :attr:`is_parked` decides how to be done with."""
    is_parked: bool = False
    """Kept in a row of state; else by the log, in the window of its topic."""
    ready_in: int = 0
    """Number of the step that made it ready."""


@dataclass(slots=True)
class KeyQueue:
    """One key's commands in hand, in order."""

    running: Work | None = None
    """The one that runs, or is ready to."""
    waiting: deque[Work] = field(default_factory=deque)

    def wait(self, work: Work) -> None:
        """It waits for its turn: a retry, whose time has come, before what has never run."""
        if work.command.first_ms is None:
            self.waiting.append(work)
            return
        fresh = (n for n, one in enumerate(self.waiting) if one.command.first_ms is None)
        self.waiting.insert(next(fresh, len(self.waiting)), work)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remember."""
        return self.running is None and not self.waiting


class Ready:
    """Commands that may run now, by flow, in the order in which they became so.

    What a step makes ready may follow from an end that is not committed yet: after a crash the
    command before it would run again, behind it. So until the commit there is only what was ready
    before the step.
    """

    def __init__(self) -> None:
        self._by_flow: dict[str, deque[Work]] = {}
        self._step = 0
        self._deferred: list[tuple[int, int, Work]] = []
        self._deferred_count = 0

    def clear(self) -> None:
        """Forget all."""
        self._by_flow.clear()
        self._deferred.clear()

    def defer(self, flow: str, until_ms: int) -> None:
        """Put off the next of a flow: its key rests until then, others go on."""
        self._deferred_count += 1
        heappush(self._deferred, (until_ms, self._deferred_count, self.pop(flow)))

    def release(self, now_ms: int) -> int | None:
        """Let those that were put off until now run; returns when the next one is due."""
        while self._deferred and self._deferred[0][0] <= now_ms:
            self.add(heappop(self._deferred)[2])
        return self._deferred[0][0] if self._deferred else None

    def remove(self, work: Work) -> bool:
        """Take out one that was not taken yet; false when it was."""
        works = self._by_flow.get(work.command.flow, ())
        for index, one in enumerate(works):
            if one is work:
                del self._by_flow[work.command.flow][index]
                return True
        for index, (_, _, one) in enumerate(self._deferred):
            if one is work:
                del self._deferred[index]
                heapify(self._deferred)
                return True
        return False

    def begin_step(self) -> None:
        """What is added from here on is a new step's."""
        self._step += 1

    def add(self, work: Work, first: bool = False) -> None:
        """It may run; ``first`` before the others of its flow."""
        work.ready_in = self._step
        works = self._by_flow.setdefault(work.command.flow, deque())
        if first:
            works.appendleft(work)
        else:
            works.append(work)

    def count(self, flow: str) -> int:
        """How many a flow has; those that were put off count for every flow."""
        return len(self._by_flow.get(flow, ())) + len(self._deferred)

    def flows(self) -> Iterator[str]:
        """Flows that have any."""
        return (flow for flow, works in self._by_flow.items() if works)

    def peek(self, flow: str, is_committed: bool) -> Work | None:
        """The next of a flow; of those that were ready before an uncommitted step, if it is one."""
        works = self._by_flow.get(flow)
        if not works or not (is_committed or works[0].ready_in < self._step):
            return None
        return works[0]

    def pop(self, flow: str) -> Work:
        """Take the next of a flow."""
        return self._by_flow[flow].popleft()
