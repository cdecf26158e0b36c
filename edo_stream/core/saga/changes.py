"""What happens to an instance, as events: its state is what they add up to.

Each decision is one change. :func:`apply` is the only way in which an instance's row changes, so
that the row is a snapshot, and the topic of events tells the same from the beginning. The name of a
change, in lower case and joined by ``-``, ends the type of its event: ``edo.saga.step-done``.
"""

import re
from typing import Final

import msgspec

from edo_stream.core.saga.definition import SagaDefinition
from edo_stream.core.saga.instance import InstanceRow, SagaStatus, StepRow, StepStatus


class _Change(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Started(_Change, frozen=True):
    """An event has started the instance."""

    event: msgspec.Raw
    correlation_id: str
    due_ms: int | None


class StepSent(_Change, frozen=True):
    """The command of a step was written, or a person is asked (``command`` is empty)."""

    step: str
    attempt: int
    command: str
    due_ms: int | None


class StepDone(_Change, frozen=True):
    """A step has succeeded."""

    step: str
    result: msgspec.Raw
    is_result_dropped: bool = False
    """It was no JSON, or too large."""


class StepFailed(_Change, frozen=True):
    """A step has failed."""

    step: str
    error: str
    is_unsure: bool = False
    """It may have had its effect all the same."""


class StepOverdue(_Change, frozen=True):
    """A reply has not come in time; it is still waited for."""

    step: str


class Overdue(_Change, frozen=True):
    """The instance has not ended in time."""


class Compensating(_Change, frozen=True):
    """From here on, what is done is undone."""

    reason: str


class UndoSent(_Change, frozen=True):
    """The compensation of a step was written."""

    step: str
    attempt: int
    command: str
    due_ms: int | None


class StepUndone(_Change, frozen=True):
    """A step is undone, or there was nothing to undo."""

    step: str


class UndoFailed(_Change, frozen=True):
    """The compensation of a step has failed."""

    step: str
    error: str


class Stuck(_Change, frozen=True):
    """The instance waits for a person."""

    reason: str


class Resumed(_Change, frozen=True):
    """The instance waits for a person no longer."""


class Completed(_Change, frozen=True):
    """All steps are done."""

    forget_ms: int


class Compensated(_Change, frozen=True):
    """All that was done is undone."""

    forget_ms: int


class Abandoned(_Change, frozen=True):
    """A person has given it up as it is."""

    reason: str
    forget_ms: int


class LateReply(_Change, frozen=True):
    """A reply that changes nothing: of an attempt of before, or said before."""

    step: str
    command: str
    said: str
    is_kept: bool = False
    """An attempt of before is done: it counts if the one that is out fails."""
    result: msgspec.Raw = msgspec.Raw(b"null")
    """Of one that is kept."""
    is_result_dropped: bool = False


Change = (
    Started
    | StepSent
    | StepDone
    | StepFailed
    | StepOverdue
    | Overdue
    | Compensating
    | UndoSent
    | StepUndone
    | UndoFailed
    | Stuck
    | Resumed
    | Completed
    | Compensated
    | Abandoned
    | LateReply
)

KINDS: Final[dict[str, type[Change]]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in Change.__args__
}
NAMES: Final = {kind: name for name, kind in KINDS.items()}


def begun(definition: SagaDefinition, instance_id: str, key: bytes, now_ms: int) -> InstanceRow:
    """An instance before its first change."""
    steps = {step.name: StepRow(since_ms=now_ms) for step in definition.steps}
    return InstanceRow(definition.name, definition.version, instance_id, key, now_ms, steps=steps)


def apply(row: InstanceRow, change: Change, at_ms: int) -> None:
    """Change an instance."""
    row.changes += 1
    match change:
        case Started():
            row.event = bytes(change.event)
            row.correlation_id = change.correlation_id
            row.due_ms = change.due_ms
        case Overdue():
            row.is_overdue, row.due_ms = True, None
        case Stuck():
            row.stuck = change.reason
        case Resumed():
            row.stuck = ""
        case Compensating():
            row.status, row.reason = SagaStatus.COMPENSATING, change.reason
            row.due_ms = row.ended_ms = None
        case Completed() | Compensated() | Abandoned():
            _end(row, change, at_ms)
        case LateReply():
            if change.is_kept:
                # Nothing is no JSON: that its result was dropped is said again if it counts.
                kept = b"" if change.is_result_dropped else bytes(change.result)
                row.steps[change.step].kept = kept
        case _:
            _apply_to_step(row.steps[change.step], change, at_ms)


def _end(row: InstanceRow, change: Completed | Compensated | Abandoned, at_ms: int) -> None:
    match change:
        case Completed():
            row.status = SagaStatus.COMPLETED
        case Compensated():
            row.status = SagaStatus.COMPENSATED
        case Abandoned():
            row.status, row.reason = SagaStatus.ABANDONED, change.reason
    row.stuck, row.ended_ms, row.due_ms = "", at_ms, change.forget_ms


_OfStep = StepSent | StepDone | StepFailed | StepOverdue | UndoSent | StepUndone | UndoFailed


def _apply_to_step(step: StepRow, change: _OfStep, at_ms: int) -> None:
    if isinstance(change, StepOverdue):
        step.is_overdue, step.due_ms = True, None
        return
    step.since_ms, step.is_overdue, step.due_ms, step.error = at_ms, False, None, ""
    step.kept = None
    match change:
        case StepSent():
            step.status, step.due_ms = StepStatus.SENT, change.due_ms
            step.attempt, step.command_id = change.attempt, change.command
        case StepDone():
            step.status, step.was_done, step.result = StepStatus.DONE, True, bytes(change.result)
            step.undo_first = step.undo_attempt + 1
        case StepFailed():
            step.status = StepStatus.UNSURE if change.is_unsure else StepStatus.FAILED
            step.error = change.error
        case UndoSent():
            step.status, step.due_ms = StepStatus.UNDOING, change.due_ms
            step.undo_attempt, step.undo_id = change.attempt, change.command
        case StepUndone():
            step.status = StepStatus.UNDONE
        case UndoFailed():
            step.status, step.error = StepStatus.NOT_UNDONE, change.error
