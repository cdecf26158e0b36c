"""A worker's part in the protection of targets that the whole fleet calls.

For each target there is one :class:`Gate` on a worker, shared by its flows. It carries the
conversation of its :class:`~edo_stream.core.act.share.Share` with the target's owner: what is to be
sent goes out when something changes or a timer says so, and what is heard wakes whoever waits.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from edo_stream.core.act.breaker import BreakerState
from edo_stream.core.act.grants import Answer, encode, parse_answer
from edo_stream.core.act.keeper import TargetPolicy
from edo_stream.core.act.share import Share, Ticket

log = logging.getLogger(__name__)

Send = Callable[[str, bytes], None]
"""Sends a request to the owner of a target; returns at once, and may lose it."""


class Gate:
    """What stands before a target on this worker; for all flows that call it."""

    def __init__(self, share: Share, send: Send) -> None:
        self.target = share.target
        self._share = share
        self._send = send
        self._listeners: list[Callable[[], None]] = []
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> BreakerState:
        """Of the breaker, as last heard."""
        return self._share.state or BreakerState.CLOSED

    @property
    def opened(self) -> int:
        """How often the breaker was heard to open."""
        return self._share.opened

    @property
    def is_broken(self) -> bool:
        """Whether the target is not to be called now, or only by a probe."""
        return self._share.is_broken

    def attend(self, listener: Callable[[], None], probe_ms: int) -> None:
        """Tell of each change; ``probe_ms`` is how long a run of this flow may take."""
        self._listeners.append(listener)
        self._share.probe_ms = max(self._share.probe_ms, probe_ms)

    def now_ms(self) -> int:
        """Time on the event loop's clock, which never jumps."""
        return int(asyncio.get_running_loop().time() * 1000)

    def wait_ms(self) -> int:
        """0 when a run may begin now, else in how many ms to ask again; a listener is earlier."""
        wait_ms = self._share.wait_ms(self.now_ms())
        if wait_ms:
            self._poke()
        return wait_ms

    def begin(self) -> Ticket | None:
        """Begin a run, and :meth:`end` it; ``None`` when it may not begin at this moment."""
        now_ms = self.now_ms()
        # What was allowed a moment ago may have expired since.
        ticket = None if self._share.wait_ms(now_ms) else self._share.begin(now_ms)
        self._poke()
        return ticket

    def end(self, ticket: Ticket, is_failure: bool | None, error: str) -> None:
        """A run has ended; ``None``: it says nothing of the target."""
        self._share.end(ticket, is_failure, error, self.now_ms())
        self._poke()

    def reset(self) -> None:
        """An operator closes the breaker."""
        self._share.reset()
        self._poke()

    def hear(self, answer: Answer) -> None:
        """Take the owner's word."""
        before = self.state
        is_news = self._share.hear(answer, self.now_ms())
        if self.state is not before:
            log.warning(
                "breaker of target %s: %s, was %s", self.target, self.state.value, before.value
            )
        # Most of what is said is for other workers.
        for listener in self._listeners if is_news else ():
            listener()
        self._poke()

    def close(self) -> None:
        """Send nothing any more."""
        for handle in (self._flushing, self._timer):
            if handle is not None:
                handle.cancel()

    def _poke(self) -> None:
        # Once for all that happens until then.
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        now_ms = self.now_ms()
        request = self._share.request(now_ms)
        if request is not None:
            self._send(self.target, encode(request))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_ms = self._share.next_ms(now_ms)
        if next_ms is not None:
            wait_s = max(0.001, (next_ms - now_ms) / 1000)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._flush)


class Fleet:
    """The gates of a worker. ``worker`` names this life of the process, in the whole fleet."""

    def __init__(
        self, app: str, worker: str, policies: Mapping[str, TargetPolicy], send: Send
    ) -> None:
        self._app = app
        self.gates = {
            target: Gate(Share(app, worker, target, policy.breaker, policy.rate), send)
            for target, policy in policies.items()
        }

    def hear(self, value: bytes | None) -> None:
        """Take an answer as it came from its topic."""
        answer = parse_answer(value)
        if answer is not None and answer.app == self._app and answer.target in self.gates:
            self.gates[answer.target].hear(answer)

    def close(self) -> None:
        """Send nothing any more."""
        for gate in self.gates.values():
            gate.close()
