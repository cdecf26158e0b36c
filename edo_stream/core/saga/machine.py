"""Decides for one instance: what has happened in, changes out.

Theory of operation. Forward, a step is sent as soon as all that it comes after is done. When one
fails, the direction turns, for good: nothing new is sent, replies that are out are waited for, and
a step that is done (or may be: *unsure*) is undone as soon as everything that was begun behind it
is settled. So compensations run in reverse order, and side by side where the steps did.

A reply that does not come in time is not a failure of its step: its command may still run. The
direction turns, but the step itself is settled only by its reply; every command has an end, so one
comes. Undoing what has not happened yet would leave what happens afterwards.

A *pivot* that is done closes the way back, and one that is out, or unsure, blocks it: what fails
then waits for a person (*stuck*). So does a compensation that fails.

Each command's id derives from instance, step, direction and attempt, and while one is out a reply
counts if it is of that one. A step that had failed and is done after all (its dead letter was sent
again, of whichever attempt) counts as done: forward it goes on, backward it is undone. Where
another attempt is out by then, that is kept, and counts if the other one fails. So it is with
compensations, but for attempts from before the step was done: they may have come too early.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from edo_stream.core.event import derive_id
from edo_stream.core.saga.changes import (
    Abandoned,
    Change,
    Compensated,
    Compensating,
    Completed,
    LateReply,
    Overdue,
    Resumed,
    Started,
    StepDone,
    StepFailed,
    StepOverdue,
    StepSent,
    StepUndone,
    Stuck,
    UndoFailed,
    UndoSent,
    apply,
)
from edo_stream.core.saga.definition import SagaDefinition, SagaStep
from edo_stream.core.saga.instance import (
    RESULT_BYTES_MAX,
    InstanceRow,
    SagaStatus,
    StepRow,
    StepStatus,
)

_SETTLED: Final = frozenset({StepStatus.WAITING, StepStatus.FAILED, StepStatus.UNDONE})
_TO_UNDO: Final = frozenset({StepStatus.DONE, StepStatus.UNSURE})
_ENDED_BADLY: Final = frozenset({StepStatus.FAILED, StepStatus.UNSURE})
_NULL: Final = msgspec.Raw(b"null")


class Said(Enum):
    """What a reply says."""

    DONE = "done"
    FAILED = "failed"
    """And has had no effect."""
    UNSURE = "unsure"
    """It was given up, or nobody knows."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a command."""

    flow: str
    command_id: str
    said: Said
    result: bytes | None = None
    error: str = ""


class Machine:
    """One instance in one step of its task. ``changes`` are what it has decided, in order."""

    def __init__(self, app: str, definition: SagaDefinition, row: InstanceRow, now_ms: int) -> None:
        assert (row.saga, row.version) == (definition.name, definition.version), row.id
        self.changes: list[Change] = []
        self._app = app
        self._definition = definition
        self._row = row
        self._now_ms = now_ms

    # What happens.

    def start(self, event: bytes | None, correlation_id: str) -> None:
        """Begin."""
        deadline_ms = self._definition.deadline_ms
        due_ms = None if deadline_ms is None else self._now_ms + deadline_ms
        document = _NULL if event is None or not _is_json(event) else msgspec.Raw(event)
        self._emit(Started(event=document, correlation_id=correlation_id, due_ms=due_ms))
        self._advance()

    def reply(self, reply: Reply) -> bool:
        """Take the end of a command; whether it changes anything."""
        for step in self._definition.steps:
            state = self._row.steps[step.name]
            if reply.flow == step.flow:
                is_heard = self._hear(step, state, reply)
            elif reply.flow == step.undo:
                is_heard = self._hear_undo(step, state, reply)
            else:
                continue
            if not is_heard:
                self._put_aside(step, state, reply)
            self._advance()
            return is_heard
        return False

    def time_out(self, name: str) -> None:
        """The reply of a step, or of its compensation, is overdue."""
        step, state = self._definition.by_name[name], self._row.steps[name]
        if state.status is StepStatus.SENT and step.flow is None:
            self._fail(step, "timeout", is_unsure=False)
        elif state.status in (StepStatus.SENT, StepStatus.UNDOING):
            self._emit(StepOverdue(step=name))
            self._turn_back(f"{name}: timeout")
        self._advance()

    def expire(self) -> None:
        """The instance as a whole is overdue."""
        if self._row.status is SagaStatus.RUNNING:
            self._emit(Overdue())
            self._turn_back("deadline")
            self._advance()

    # What operators ask for; each gives the reason of a refusal.

    def retry(self, name: str | None) -> str | None:
        """Send again what has failed."""
        row = self._row
        if row.status.is_over:
            return f"it is {row.status.value}"
        is_forward = row.status is SagaStatus.RUNNING
        wanted = _ENDED_BADLY if is_forward else {StepStatus.NOT_UNDONE}
        found = [
            step
            for step in self._definition.steps
            if row.steps[step.name].status in wanted and name in (None, step.name)
        ]
        if not found:
            what = "step" if is_forward else "compensation"
            return f"no {what} of it has failed" if name is None else f"{name} has not failed"
        if is_forward:
            for step in found:
                self._send(step)
        elif (refusal := self._undo_again(found)) is not None:
            return refusal
        self._advance()
        return None

    def _undo_again(self, found: Sequence[SagaStep]) -> str | None:
        may = [step for step in found if step.undo is not None and self._is_behind_settled(step)]
        for step in may:
            self._undo(step)
        if may:
            return None
        if found[-1].undo is None:
            return f"nothing undoes {found[-1].name}: do it by hand, and abandon the instance"
        return f"what came after {found[-1].name} is undone first"

    def compensate(self, reason: str) -> str | None:
        """Turn back."""
        row, pivot = self._row, self._definition.pivot
        if row.status is not SagaStatus.RUNNING:
            return f"it is {row.status.value}"
        status = None if pivot is None else row.steps[pivot].status
        if status is StepStatus.DONE:
            return f"{pivot} is done: there is no way back"
        if status is StepStatus.SENT:
            return f"{pivot} is on its way: wait for its reply"
        self._emit(Compensating(reason=reason))
        self._advance()
        return None

    def abandon(self, reason: str) -> str | None:
        """Leave it as it is, for good."""
        if self._row.status.is_over:
            return f"it is {self._row.status.value}"
        self._emit(Abandoned(reason=reason, forget_ms=self._now_ms + self._definition.kept_ms))
        return None

    def answer(self, name: str, result: bytes | None, refusal: str | None) -> str | None:
        """A person has done a step, or refused to."""
        step = self._definition.by_name.get(name)
        if step is None or step.flow is not None:
            return f"{name} is no step that a person does"
        status = self._row.steps[name].status
        if self._row.status.is_over:
            return f"it is {self._row.status.value}"
        if status is not StepStatus.SENT:
            return f"{name} is {status.value}"
        if refusal is None:
            self._done(step, result)
        else:
            self._fail(step, refusal, is_unsure=False)
        self._advance()
        return None

    # Replies.

    def _hear(self, step: SagaStep, state: StepRow, reply: Reply) -> bool:
        if self._row.status is SagaStatus.ABANDONED:
            return False
        is_last = reply.command_id == state.command_id
        if state.status is StepStatus.SENT and is_last:
            if reply.said is Said.DONE:
                self._done(step, reply.result)
            elif state.kept is not None:
                self._done(step, state.kept)
            else:
                self._fail(step, reply.error, is_unsure=reply.said is Said.UNSURE)
            return True
        if state.status is StepStatus.SENT or reply.said is not Said.DONE or state.was_done:
            return False
        if not is_last and not self._is_earlier(step, state, reply):
            return False
        # It had failed, and its dead letter was sent again; also one from before a retry.
        self._done(step, reply.result)
        if self._row.status is SagaStatus.COMPENSATED:
            self._emit(Compensating(reason=f"{step.name} was done after all"))
        return True

    def _is_earlier(self, step: SagaStep, state: StepRow, reply: Reply) -> bool:
        """Whether it is of an attempt before the last one, of a step or of its compensation."""
        direction, attempts = "do", range(1, state.attempt)
        if reply.flow == step.undo:
            direction, attempts = "undo", range(state.undo_first, state.undo_attempt)
        return any(
            reply.command_id == self._command_id(step.name, direction, attempt)
            for attempt in attempts
        )

    def _put_aside(self, step: SagaStep, state: StepRow, reply: Reply) -> None:
        """Tell a reply that changes nothing now."""
        out = StepStatus.UNDOING if reply.flow == step.undo else StepStatus.SENT
        is_out = state.status is out and not self._row.status.is_over
        is_kept = reply.said is Said.DONE and is_out and self._is_earlier(step, state, reply)
        result, is_dropped = _result(reply.result if is_kept else None)
        self._emit(
            LateReply(
                step=step.name,
                command=reply.command_id,
                said=reply.said.value,
                is_kept=is_kept,
                result=result,
                is_result_dropped=is_dropped,
            )
        )

    def _hear_undo(self, step: SagaStep, state: StepRow, reply: Reply) -> bool:
        if self._row.status is SagaStatus.ABANDONED:
            return False
        is_last = reply.command_id == state.undo_id
        is_done = reply.said is Said.DONE
        if state.status is StepStatus.UNDOING and is_last:
            if is_done or state.kept is not None:
                self._emit(StepUndone(step=step.name))
            else:
                self._emit(UndoFailed(step=step.name, error=reply.error))
            return True
        if state.status is not StepStatus.NOT_UNDONE or not is_done:
            return False
        is_heard = is_last or self._is_earlier(step, state, reply)
        if is_heard:
            self._emit(StepUndone(step=step.name))
        return is_heard

    def _done(self, step: SagaStep, result: bytes | None) -> None:
        kept, is_dropped = _result(result)
        self._emit(StepDone(step=step.name, result=kept, is_result_dropped=is_dropped))

    def _fail(self, step: SagaStep, error: str, is_unsure: bool) -> None:
        self._emit(StepFailed(step=step.name, error=error, is_unsure=is_unsure))
        self._turn_back(f"{step.name}: {error}")

    def _turn_back(self, reason: str) -> None:
        """Undo what is done, if there is a way back."""
        pivot = self._definition.pivot
        is_open = pivot is None or self._row.steps[pivot].status in (
            StepStatus.WAITING,
            StepStatus.FAILED,
        )
        if is_open and self._row.status is SagaStatus.RUNNING:
            self._emit(Compensating(reason=reason))

    # What follows.

    def _advance(self) -> None:
        if self._row.status is SagaStatus.RUNNING:
            self._go_on()
        elif self._row.status is SagaStatus.COMPENSATING:
            self._go_back()
        stuck = _stuck(self._row)
        if stuck and stuck != self._row.stuck:
            self._emit(Stuck(reason=stuck))
        elif self._row.stuck and not stuck:
            self._emit(Resumed())

    def _go_on(self) -> None:
        steps = self._row.steps
        for step in self._definition.steps:
            is_next = steps[step.name].status is StepStatus.WAITING
            if is_next and all(steps[name].status is StepStatus.DONE for name in step.after):
                self._send(step)
        if all(state.status is StepStatus.DONE for state in steps.values()):
            self._emit(Completed(forget_ms=self._now_ms + self._definition.kept_ms))

    def _go_back(self) -> None:
        steps = self._row.steps
        for step in reversed(self._definition.steps):
            state = steps[step.name]
            if state.status is StepStatus.SENT and step.flow is None:
                self._emit(StepFailed(step=step.name, error="cancelled"))
            if state.status in _TO_UNDO and self._is_behind_settled(step):
                self._undo(step)
        if all(state.status in _SETTLED for state in steps.values()):
            self._emit(Compensated(forget_ms=self._now_ms + self._definition.kept_ms))

    def _is_behind_settled(self, step: SagaStep) -> bool:
        """Whether all that was begun behind a step has had no effect, or has none any more."""
        behind = self._definition.descendants[step.name]
        return all(self._row.steps[name].status in _SETTLED for name in behind)

    def _send(self, step: SagaStep) -> None:
        attempt = self._row.steps[step.name].attempt + 1
        command = "" if step.flow is None else self._command_id(step.name, "do", attempt)
        self._emit(
            StepSent(step=step.name, attempt=attempt, command=command, due_ms=self._due_ms(step))
        )

    def _undo(self, step: SagaStep) -> None:
        if step.undo is None:
            if step.is_pivot and self._row.steps[step.name].was_done:
                # It had failed, so that the direction turned, and was done after all.
                self._emit(UndoFailed(step=step.name, error="it is done, and nothing undoes it"))
            else:
                self._emit(StepUndone(step=step.name))
            return
        attempt = self._row.steps[step.name].undo_attempt + 1
        command = self._command_id(step.name, "undo", attempt)
        self._emit(
            UndoSent(step=step.name, attempt=attempt, command=command, due_ms=self._due_ms(step))
        )

    def _command_id(self, step: str, direction: str, attempt: int) -> str:
        return derive_id(
            "saga-command", self._app, self._row.saga, self._row.id, step, direction, str(attempt)
        )

    def _due_ms(self, step: SagaStep) -> int | None:
        return None if step.timeout_ms is None else self._now_ms + step.timeout_ms

    def _emit(self, change: Change) -> None:
        apply(self._row, change, self._now_ms)
        self.changes.append(change)


def _stuck(row: InstanceRow) -> str:
    """Why an instance waits for a person; empty while it does not."""
    is_forward = row.status is SagaStatus.RUNNING
    if row.status.is_over:
        return ""
    for name, state in row.steps.items():
        if is_forward and state.status in _ENDED_BADLY:
            return f"{name}: {state.error}"
        if not is_forward and state.status is StepStatus.NOT_UNDONE:
            return f"{name} is not undone: {state.error}"
        if state.is_overdue and (is_forward or state.status is StepStatus.UNDOING):
            return f"{name}: timeout"
    return "deadline" if is_forward and row.is_overdue else ""


def _result(value: bytes | None) -> tuple[msgspec.Raw, bool]:
    """What is remembered of what a step returned, and whether that is nothing for its size."""
    if value is None:
        return _NULL, False
    is_fine = len(value) <= RESULT_BYTES_MAX and _is_json(value)
    return (msgspec.Raw(value) if is_fine else _NULL), not is_fine


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return False
    return True
