"""What rows keep of commands in hand: what waits behind a head, and heads of stopped flows.

Theory of operation. The topics of a group's tiers are shared by all of its flows. While an
operator has a flow *stopped*, by a pause or by its breaker, its retries come due, and may not run;
those that stayed in the window of their tier would fill it, and hold up the retries of other flows
behind them. So each is parked in its key's row, before the commands that wait behind it, and the
row says that it is *aside*. A flow's own commands hold up no other flow: while it is stopped they
stay on their topic, and none of them is parked, so that they take no room from those of others.

When the flow goes on its keys come back, a window of them at a time: a step takes as many as are
missing of those that are ready, so neither a step nor memory holds all of them.

Parked retries have a bound of their own (``parked_max``), as many as other commands. What is due
beyond it stays in the window of its tier, and when that is full other flows' retries wait until the
flow goes on, or an operator has dropped some: that comes on the control topic.
"""

from collections import deque
from collections.abc import Mapping

from edo_stream.core.accounts import Fate
from edo_stream.core.act.command import flow_of
from edo_stream.core.act.keys import Blocked, KeyRow, Keys
from edo_stream.core.act.policy import ActSpec
from edo_stream.core.act.switches import Switches
from edo_stream.core.act.window import Window
from edo_stream.core.act.work import KeyQueue, Ready, Work
from edo_stream.core.task import Step


class Parking:
    """Of one task."""

    def __init__(
        self,
        spec: ActSpec,
        step: Step,
        rows: tuple[Keys, Switches],
        windows: Mapping[str, Window],
        ready: Ready,
    ) -> None:
        self._spec = spec
        self._step = step
        self._keys, self._switches = rows
        self._windows = windows
        self._ready = ready
        self._tiers = frozenset(spec.tiers.values())
        self._aside: dict[str, dict[bytes, None]] = {}
        """By flow: keys whose heads wait in their rows, the first one put aside first."""

    def restore(self) -> None:
        """Find the keys that are aside."""
        self._aside.clear()
        for name, row in self._keys.all().items():
            if row.is_aside:
                self._add(name)

    # What is parked behind the head of a key.

    def may_park(self, row: KeyRow, work: Work, queue: KeyQueue) -> bool:
        """Whether a row may keep a command that comes now, behind all others of its key."""
        if self.is_stopped(work):
            return self._has_room(row, work)
        return not queue.waiting and self._has_room(row, work)

    def park_waiting(self, name: bytes, queue: KeyQueue) -> None:
        """Let the row of a blocked key keep what waits in memory, as far as it may."""
        row = self._keys.get(name)
        if row is None or not queue.waiting:
            return
        waiting, queue.waiting = queue.waiting, deque()
        for work in waiting:
            if self._has_room(row, work):
                self.park(name, work)
            else:
                queue.waiting.append(work)

    def park(self, name: bytes, work: Work) -> None:
        """Let the row keep a command; it exists."""
        self._keys.park(name, work.record)
        self._windows[work.record.topic].end(work.record.offset, Fate.HELD)

    def _has_room(self, row: KeyRow, work: Work) -> bool:
        if self.is_stopped(work):
            return self._is_retry(work) and self._keys.retries < self._spec.parked_max
        return row.parked < self._spec.flows[work.command.flow].parked_per_key_max

    # Heads of flows that are stopped.

    def is_stopped(self, work: Work) -> bool:
        """Whether nothing of its flow may begin, as an operator says."""
        return self._switches.is_stopped(work.command.flow)

    def may_be_aside(self, work: Work) -> bool:
        """Whether a row keeps it, or can: what is on its flow's own topic is in nobody's way."""
        if work.is_parked:
            return True
        if not self._is_retry(work) or self._keys.retries >= self._spec.parked_max:
            return False
        name = work.command.queue
        return self._keys.get(name) is None or self._keys.has_place_before(name)

    def put_aside(self, work: Work, queue: KeyQueue) -> None:
        """Let a row keep the head of a key until its flow goes on."""
        command, name = work.command, work.command.queue
        row = self._keys.get(name) or KeyRow(Blocked.DRAINING, self._step.now_ms)
        row.blocked, row.is_aside, row.head = Blocked.DRAINING, True, command.id
        row.attempt, row.error, row.due_ms, row.tags = command.attempt, command.error, 0, ()
        self._keys.put(name, row)
        queue.running = None
        if not work.is_parked:
            self._keys.park_before(name, work.record)
            self._windows[work.record.topic].end(work.record.offset, Fate.HELD)
        self.park_waiting(name, queue)
        self._add(name)

    def take_back(self, queue: KeyQueue) -> Work | None:
        """Of a key with something ready: what is to be put aside, the rest waits behind it."""
        running = queue.running
        works = () if running is None else (running, *queue.waiting)
        first = next((one for one in works if self.may_be_aside(one)), None)
        if running is None or first is None or not self._ready.remove(running):
            return None
        queue.running = None
        queue.waiting.appendleft(running)
        queue.waiting.remove(first)
        return first

    @property
    def is_due(self) -> bool:
        """Whether a key may come back now."""
        return any(map(self._may_come_back, self._aside))

    def come_back(self) -> bytes | None:
        """Take a key that is aside, and may come back now."""
        for flow in filter(self._may_come_back, list(self._aside)):
            names = self._aside.pop(flow)
            while names:
                name = next(iter(names))
                del names[name]
                row = self._keys.get(name)
                if row is not None and row.is_aside:
                    self._aside.update({flow: names} if names else {})
                    return name
        return None

    def _add(self, name: bytes) -> None:
        self._aside.setdefault(flow_of(name), {})[name] = None

    def _may_come_back(self, flow: str) -> bool:
        is_stopped = self._switches.is_stopped(flow)
        return not is_stopped and self._ready.count(flow) < self._spec.window_max

    def _is_retry(self, work: Work) -> bool:
        return work.record.topic in self._tiers
