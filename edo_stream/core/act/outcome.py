"""How the run of a command ended, in the words that decide what happens next."""

from collections.abc import Mapping
from enum import Enum

import msgspec

from edo_stream.core.effects import Publish


class FailureClass(Enum):
    """What kind of failure it is; an executor's rules map exceptions and codes to these."""

    TRANSIENT = "transient"
    """Passing: run again later."""
    THROTTLED = "throttled"
    """The receiver asks for patience: run again later, and it does not count as an attempt."""
    POISON = "poison"
    """It can never succeed: a dead letter, at once."""
    BUSINESS = "business"
    """The answer is no: an outcome like another, visible, and not run again."""
    FENCED = "fenced"
    """The run was ended because the task is another worker's now; says nothing of the command."""
    CANCELLED = "cancelled"
    """The run was ended because its command is cancelled."""


class Done(msgspec.Struct, frozen=True):
    """It ran and succeeded; ``data`` is what the executor gives to the outcome, JSON or bytes."""

    data: bytes | None = None
    content_type: str | None = None
    records: tuple[Publish, ...] = ()
    """Records that are written in the transaction that records the end."""


class Failed(msgspec.Struct, frozen=True):
    """It ran, or could not, and failed."""

    failure: FailureClass
    reason: str
    """A code of lower-case words joined by ``-``: ``timeout``, ``http-503`` …"""
    detail: str = ""
    """For a person; no payload, no secret."""
    retry_after_ms: int | None = None
    """The receiver's own wish."""


Outcome = Done | Failed


class Unrun(msgspec.Struct, frozen=True):
    """It was not run, or not to its end, because its flow's rules say so."""

    kind: str
    """Type of the outcome event, appended to ``edo.<flow>``."""
    told: Mapping[str, str]
    """Why; the outcome's data."""
