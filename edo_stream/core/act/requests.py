"""What operators ask of an act task: of a blocked key, of a flow's breaker, of a flow's pause."""

from typing import Final

from edo_stream.core.accounts import Fate
from edo_stream.core.act.command import queue_of
from edo_stream.core.act.in_hand import InHand
from edo_stream.core.act.keys import Blocked, KeyRow
from edo_stream.core.act.operations import ActOperation, Verb
from edo_stream.core.act.outcome import Failed, FailureClass
from edo_stream.core.act.outlet import ActOutlet
from edo_stream.core.act.policy import ActSpec, FlowPolicy
from edo_stream.core.act.switches import Paused
from edo_stream.core.act.work import Work
from edo_stream.core.task import Step

_OF_FLOWS: Final = frozenset({Verb.OPEN, Verb.CLOSE, Verb.PAUSE, Verb.RESUME, Verb.NOTE_REPLAY})


class Requests:
    """Carries them out on the commands in hand."""

    def __init__(self, spec: ActSpec, step: Step, hand: InHand, outlet: ActOutlet) -> None:
        self._spec = spec
        self._step = step
        self._hand = hand
        self._outlet = outlet
        self._replayed: dict[tuple[str, str], int] = {}

    def restore(self) -> None:
        """Forget the step."""
        self._replayed = {}

    def replayed(self) -> dict[tuple[str, str], int]:
        """Events that replays have looked at, by flow and what became of them; each once."""
        replayed, self._replayed = self._replayed, {}
        return replayed

    def operate(self, operation: ActOperation) -> str | None:
        """Carry a request out; why not, if it is refused."""
        policy = self._spec.flows.get(operation.flow)
        if policy is None:
            return "unknown flow"
        if operation.verb in _OF_FLOWS:
            self._operate_flow(operation)
            return None
        if operation.verb is Verb.DROP and policy.is_awaited:
            return "its saga waits for how it ends: key skip makes it a dead letter"
        return self._operate_key(operation, policy)

    def _operate_key(self, operation: ActOperation, policy: FlowPolicy) -> str | None:
        name = queue_of(operation.flow, operation.key)
        row = self._hand.keys.get(name)
        if row is None:
            return "the key is not blocked"
        match operation.verb, row.blocked:
            case Verb.RUN_NOW, _ if self._may_run_now(operation.flow, row):
                self._run_now(name, row)
            case ((Verb.DROP | Verb.SKIP) as verb, _) if row.is_aside:
                self._end_head(self._hand.first_parked(name), policy, verb)
            case ((Verb.DROP | Verb.SKIP), Blocked.WAITING):
                return self._drop_waiting(name, policy, operation.verb)
            case Verb.CONTINUE, Blocked.STOPPED:
                self._hand.go_on(name)
            case Verb.SKIP, Blocked.STOPPED:
                self._skip_parked(name, policy)
            case verb, _:
                return f"{verb.value}: not while the key is {row.state}{self._also(operation.flow)}"
        return None

    def _may_run_now(self, flow: str, row: KeyRow) -> bool:
        """Whether the head of a key waits for its time only."""
        waits = row.blocked is Blocked.WAITING or row.is_resting
        return waits and not self._hand.switches.is_stopped(flow)

    def _also(self, flow: str) -> str:
        is_stopped = self._hand.switches.is_stopped(flow)
        return " and its flow paused or stopped" if is_stopped else ""

    def _run_now(self, name: bytes, row: KeyRow) -> None:
        """Let the head of a key run that waits for its time, or rests."""
        row.run_now = True
        self._hand.keys.put(name, row)
        if row.is_resting:
            self._hand.resume(name)
        elif (work := self._hand.pull(name)) is not None:
            self._hand.place(work)

    def _operate_flow(self, operation: ActOperation) -> None:
        flow = operation.flow
        match operation.verb:
            case Verb.OPEN | Verb.CLOSE as verb:
                self._hand.switches.switch(flow, verb is Verb.OPEN)
            case Verb.PAUSE:
                paused = Paused(self._step.now_ms, operation.by, operation.reason)
                self._hand.switches.pause(flow, paused)
            case Verb.RESUME:
                self._hand.switches.resume(flow)
            case _:
                self._note_replay(operation)
                return
        if self._hand.switches.is_stopped(flow):
            self._hand.stop_flow(flow)
        else:
            self._hand.go_on_flow(flow)

    def _note_replay(self, operation: ActOperation) -> None:
        for reason, count in operation.counts.items():
            event = (operation.flow, reason)
            self._replayed[event] = self._replayed.get(event, 0) + count

    def _drop_waiting(self, name: bytes, policy: FlowPolicy, verb: Verb) -> str | None:
        work = self._hand.pull(name)
        if work is None and self._hand.is_running(name):
            return "its command is running; try again in a moment"
        if work is None:
            return "its command is not in hand yet; try again in a moment"
        self._end_head(work, policy, verb)
        return None

    def _end_head(self, work: Work, policy: FlowPolicy, verb: Verb) -> None:
        if verb is Verb.SKIP:
            self._skip(work, policy)
        else:
            self._outlet.dropped(work.command, policy)
            self._hand.done_with(work, Fate.DROPPED)
        self._hand.go_on(work.command.queue)

    def _skip_parked(self, name: bytes, policy: FlowPolicy) -> None:
        row = self._hand.keys.get(name)
        if row is not None and row.parked:
            self._skip(self._hand.first_parked(name), policy)
        self._hand.go_on(name)

    def _skip(self, work: Work, policy: FlowPolicy) -> None:
        why = Failed(FailureClass.POISON, "skipped", "given up by an operator")
        self._outlet.dead_letter(work.command, policy, why)
        self._hand.done_with(work, Fate.DEAD_LETTERED)
