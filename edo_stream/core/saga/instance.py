"""A saga instance: what is remembered of it, in one row of state."""

from enum import Enum
from typing import Final

import msgspec

DOCUMENT_BYTES_MAX: Final = 128 * 1024
"""Of an event that starts an instance."""
RESULT_BYTES_MAX: Final = 16 * 1024
"""Of what a step returns; a larger result counts as none."""


class SagaStatus(Enum):
    """Where an instance is."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    ABANDONED = "abandoned"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is sent for it."""
        return self not in (SagaStatus.RUNNING, SagaStatus.COMPENSATING)


class StepStatus(Enum):
    """Where a step is."""

    WAITING = "waiting"
    SENT = "sent"
    """Its command runs, or a person is asked; no reply yet."""
    DONE = "done"
    FAILED = "failed"
    """The answer was no: it has had no effect."""
    UNSURE = "unsure"
    """It was given up, or nobody knows: it may have had its effect."""
    UNDOING = "undoing"
    UNDONE = "undone"
    NOT_UNDONE = "not-undone"
    """Its compensation failed."""


class StepRow(msgspec.Struct, array_like=True):
    """What is remembered of a step; fields are only ever appended."""

    status: StepStatus = StepStatus.WAITING
    attempt: int = 0
    """Of the command; the first is 1."""
    command_id: str = ""
    undo_attempt: int = 0
    undo_id: str = ""
    due_ms: int | None = None
    """When its reply, or that of its compensation, is overdue."""
    is_overdue: bool = False
    result: bytes = b"null"
    """JSON that it returned."""
    was_done: bool = False
    """It has said so once; what says it again says nothing."""
    error: str = ""
    since_ms: int = 0
    """When its status was reached."""
    kept: bytes | None = None
    """JSON of an attempt before the one that is out: done, and counts if that one fails.

    Empty where its result was dropped.
    """
    undo_first: int = 1
    """Of the compensation: the first attempt since the step was done last."""


class InstanceRow(msgspec.Struct, array_like=True):
    """What is remembered of an instance; fields are only ever appended."""

    saga: str
    version: int
    id: str
    key: bytes
    started_ms: int
    event: bytes = b"null"
    """JSON of the event that started it."""
    correlation_id: str = ""
    steps: dict[str, StepRow] = msgspec.field(default_factory=dict)
    status: SagaStatus = SagaStatus.RUNNING
    due_ms: int | None = None
    """When it is overdue as a whole; once it is over, when it is forgotten."""
    is_overdue: bool = False
    stuck: str = ""
    """Why it waits for a person; empty while it does not."""
    reason: str = ""
    """Why it is compensated, or was abandoned."""
    changes: int = 0
    """How many there were: the number of the last one."""
    ended_ms: int | None = None


encode_instance: Final = msgspec.msgpack.Encoder().encode
decode_instance: Final = msgspec.msgpack.Decoder(InstanceRow).decode
