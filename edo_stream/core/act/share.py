"""One worker's share of a target that the whole fleet calls: what it may do, and what it tells.

Theory of operation. The owner of the target decides (:mod:`.keeper`); this is the worker's end of
the conversation. A run may begin while the breaker is closed, as far as the worker has heard, and
when the worker holds a token, where the target has a rate; while the breaker is half open, only
with the right to probe. What the worker wants is asked for when a run wants to begin, tokens also
while some are used and half of a lease is gone. One question is open at a time: an answer to an
earlier one is void, or a worker would hold more than a lease.

Ends of runs are reported soon when something failed, and rarely otherwise. The worker does not wait
for the owner's word when its own runs say that the target is broken: it stops at once, and tells.
While no owner answers no tokens come, and the breaker's state stays what it was. A worker that has
never heard of its owner waits for it, but not for ever: then it takes the breaker for closed.
"""

from typing import Final, NamedTuple

from edo_stream.core.act.breaker import BreakerPolicy, BreakerState, RecentRuns
from edo_stream.core.act.grants import FAILED, START_WITHIN_MS, SUCCEEDED, Answer, Request
from edo_stream.core.act.limits import Leases, RateLimit

NEVER: Final = 1 << 62
ALONE_MS: Final = 10_000
"""After so long without an owner's word the breaker is taken for closed."""
_AGAIN_MS: Final = 1_000
"""What was not answered by then is asked and told again."""
_FAILURES_MS: Final = 20
_SUCCESSES_MS: Final = 5_000
_RUNS_MAX: Final = 1_000


class Ticket(NamedTuple):
    """What a run may begin by; goes back to the share when it ends."""

    epoch: int
    probe: int = 0
    """Number of the request that the probe was granted for; 0 for any other run."""


class _Said(NamedTuple):
    number: int
    at_ms: int


class Share:
    """See the module's docstring. Times are ms on a clock that never jumps."""

    def __init__(
        self, app: str, worker: str, target: str, breaker: BreakerPolicy, rate: RateLimit | None
    ) -> None:
        self.target = target
        self.state: BreakerState | None = None
        """As last heard; ``None`` before."""
        self.rate = rate
        self.probe_ms = 0
        """How long a probe may take."""
        self.opened = 0
        """How often it was heard to open."""
        self._app, self._worker = app, worker
        self._epoch = 0
        self._number = 0
        self._recent = RecentRuns(breaker)
        self._leases = None if rate is None else Leases(rate.interval_ms)
        self._used = 0
        """Tokens since the last question for some."""
        self._used_ms = -NEVER
        self._is_wanted = False
        self._wanted_ms: int | None = None
        """When a run wanted to begin first, before an owner was heard."""
        self._is_alone = False
        self._open_until_ms = 0
        self._is_probing = False
        """Whether another run probes, as last heard."""
        self._right: _Said | None = None
        """To begin a probe, soon after it was asked for."""
        self._asked: _Said | None = None
        self._told: _Said | None = None
        self._runs: list[str] = []
        self._flush_ms: int | None = None
        self._error = ""
        self._trip = ""
        self._probe = 0
        """Number of the probe that runs here."""
        self._ended_probe: tuple[int, str] | None = None
        self._is_reset = False

    @property
    def is_broken(self) -> bool:
        """Whether the target itself is not to be called now, or only by a probe."""
        return bool(self._trip) or self.state in (BreakerState.OPEN, BreakerState.HALF_OPEN)

    # Runs.

    def wait_ms(self, now_ms: int) -> int:
        """0 when a run may begin now, else in how many ms to ask again; sooner when heard."""
        wait_ms = self._wait_ms(now_ms)
        self._is_wanted = wait_ms > 0
        if self.state is None and self._wanted_ms is None:
            self._wanted_ms = now_ms
        return wait_ms

    def _wait_ms(self, now_ms: int) -> int:
        if self._trip:
            return NEVER
        match self.state:
            case None if not self._is_alone:
                if self._wanted_ms is None or now_ms < self._wanted_ms + ALONE_MS:
                    return ALONE_MS
                self._is_alone = True
            case BreakerState.OPEN:
                return NEVER
            case BreakerState.HALF_OPEN if not self._may_probe(now_ms):
                return NEVER
            case _:
                pass
        wait_ms = 0 if self._leases is None else self._leases.wait_ms(now_ms)
        return NEVER if wait_ms is None else wait_ms

    def _may_probe(self, now_ms: int) -> bool:
        return self._right is not None and now_ms <= self._right.at_ms + START_WITHIN_MS

    def begin(self, now_ms: int) -> Ticket:
        """A run begins that was allowed to; :meth:`end` follows."""
        if self._leases is not None:
            self._leases.take()
            self._used += 1
            self._used_ms = now_ms
        if self.state is not BreakerState.HALF_OPEN:
            return Ticket(self._epoch)
        assert self._right is not None, f"{self.target}: nobody may begin now"
        self._probe, self._right = self._right.number, None
        return Ticket(self._epoch, self._probe)

    def end(self, ticket: Ticket, is_failure: bool | None, error: str, now_ms: int) -> None:
        """A run has ended; ``None``: it says nothing of the target."""
        if ticket.probe:
            self._end_probe(ticket.probe, is_failure, error)
        elif is_failure is not None and ticket.epoch == self._epoch and not self._trip:
            self._runs.append(FAILED if is_failure else SUCCEEDED)
            del self._runs[:-_RUNS_MAX]
            self._recent.note(is_failure)
            at_ms = now_ms + (_FAILURES_MS if is_failure else _SUCCESSES_MS)
            self._flush_ms = at_ms if self._flush_ms is None else min(self._flush_ms, at_ms)
            if is_failure:
                self._error = error
            why = self._recent.verdict()
            if why is not None and self.state is not None:
                self._trip = f"{why}: {self._error}"
                self._told = None

    def _end_probe(self, number: int, is_failure: bool | None, error: str) -> None:
        end = "" if is_failure is None else FAILED if is_failure else SUCCEEDED
        self._ended_probe, self._told, self._probe = (number, end), None, 0
        self._error = error if is_failure else self._error

    def reset(self) -> None:
        """An operator closes the breaker."""
        self._is_reset, self._told = True, None

    # What goes to the owner.

    def next_ms(self, now_ms: int) -> int | None:
        """When there is something to send; ``None`` while there is nothing."""
        due = [at_ms for at_ms in (self._flush_ms, self._tell_ms(now_ms)) if at_ms is not None]
        if self._wants(now_ms):
            due.append(now_ms if self._asked is None else self._asked.at_ms + _AGAIN_MS)
        if self._right is not None:
            # A right that is not used goes back.
            due.append(self._right.at_ms + START_WITHIN_MS + 1)
        if self._is_wanted and self.state is BreakerState.OPEN:
            due.append(self._open_until_ms + _AGAIN_MS)
        return min(due, default=None)

    def _tell_ms(self, now_ms: int) -> int | None:
        if not (self._trip or self._ended_probe or self._is_reset):
            return None
        return now_ms if self._told is None else self._told.at_ms + _AGAIN_MS

    def _wants(self, now_ms: int) -> bool:
        """Whether there is something to ask for."""
        if self.state is None:
            return self._wanted_ms is not None
        return self._wants_probe(now_ms) or self._wanted_tokens(now_ms) > 0

    def _wants_probe(self, now_ms: int) -> bool:
        if not self._is_wanted or self._right or self._probe or self._ended_probe:
            return False
        if self.state is BreakerState.OPEN:
            # It should have been told that time is up.
            return now_ms >= self._open_until_ms + _AGAIN_MS
        return self.state is BreakerState.HALF_OPEN and not self._is_probing

    def _wanted_tokens(self, now_ms: int) -> int:
        if self.rate is None or self._leases is None or self._trip:
            return 0
        if self.state is BreakerState.OPEN or not (self._is_wanted or self._is_in_use(now_ms)):
            return 0
        most, held = self.rate.lease_max, self._leases.held(now_ms)
        if held > most // 2:
            return 0
        return min(most - held, max(1, 2 * self._used))

    def _is_in_use(self, now_ms: int) -> bool:
        return now_ms - self._used_ms < _AGAIN_MS

    def request(self, now_ms: int) -> Request | None:
        """What to send now, if anything; it counts as sent."""
        if self._right is not None and not self._may_probe(now_ms):
            self._end_probe(self._right.number, None, "")
            self._right = None
        tell_ms = self._tell_ms(now_ms)
        is_telling = tell_ms is not None and tell_ms <= now_ms
        is_asking = self._wants(now_ms) and (
            self._asked is None or self._asked.at_ms + _AGAIN_MS <= now_ms
        )
        is_flushing = self._flush_ms is not None and self._flush_ms <= now_ms
        if not (is_telling or is_asking or is_flushing):
            return None
        self._number += 1
        tokens = self._wanted_tokens(now_ms) if is_asking else 0
        wants_probe = is_asking and self._wants_probe(now_ms)
        if is_asking:
            self._asked = _Said(self._number, now_ms)
            self._used = 0 if tokens else self._used
        if is_telling:
            self._told = _Said(self._number, now_ms)
        runs, self._runs, self._flush_ms = "".join(self._runs), [], None
        probe, probe_end = self._ended_probe or (0, "")
        return Request(
            app=self._app,
            worker=self._worker,
            target=self.target,
            number=self._number,
            epoch=self._epoch,
            tokens=tokens,
            per_s=0.0 if self.rate is None or not tokens else self.rate.per_s,
            burst=1 if self.rate is None or not tokens else self.rate.burst,
            probe_ms=self.probe_ms if wants_probe else 0,
            runs=runs,
            error=self._error,
            trip=self._trip if is_telling else "",
            probe=probe if is_telling else 0,
            probe_end=probe_end if is_telling else "",
            reset=self._is_reset and is_telling,
        )

    # What the owner says.

    def hear(self, answer: Answer, now_ms: int) -> bool:
        """Take the owner's word; whether it is news here, and who waits may ask again."""
        known = (self._epoch, self.state, self._is_probing)
        if answer.epoch != self._epoch:
            self._enter(answer)
        self.state, self._is_probing = answer.state, answer.is_probing
        self._open_until_ms = now_ms + answer.open_for_ms
        is_answered = self._worker in answer.heard
        if is_answered:
            self._take_answer(answer, answer.heard[self._worker], now_ms)
        is_news = is_answered or known != (self._epoch, self.state, self._is_probing)
        if is_news:
            self._is_wanted = False
        return is_news

    def _take_answer(self, answer: Answer, heard: int, now_ms: int) -> None:
        if self._told is not None and heard >= self._told.number:
            self._trip, self._ended_probe, self._is_reset, self._told = "", None, False, None
        asked = self._asked
        if asked is None:
            return
        for grant in answer.grants:
            if (grant.worker, grant.number) == (self._worker, asked.number):
                self._take(grant.tokens, now_ms + grant.after_ms)
                if grant.is_probe and self.state is BreakerState.HALF_OPEN:
                    # Counted from the question: the owner counts from its answer, which is later.
                    self._right = asked
        if heard >= asked.number:
            self._asked = None

    def _enter(self, answer: Answer) -> None:
        """A new state of the breaker, or the first that is heard of."""
        self.opened += answer.state is BreakerState.OPEN and self._epoch > 0
        self._epoch = answer.epoch
        self._recent.forget()
        self._runs, self._flush_ms, self._trip, self._right = [], None, "", None

    def _take(self, tokens: int, first_ms: int) -> None:
        if tokens and self._leases is not None:
            self._leases.add(tokens, first_ms)
