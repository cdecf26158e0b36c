"""What workers and the owner of a target say to each other, as JSON records.

Workers write *requests* to the control topic, to the partition of the target's owner; the owner
writes *answers*, in the transaction of its state, and all workers read them. Both speak of spans of
time and never of moments, since their clocks may differ.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from edo_stream.core.act.breaker import BreakerState

SUCCEEDED: Final = "."
FAILED: Final = "x"
START_WITHIN_MS: Final = 2_000
"""A probe begins so soon after it was asked for, or not at all."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker reports on a target, or asks for something."""

    app: str
    worker: str
    """Names one life of a process."""
    target: str
    number: int
    """Grows with each request of a worker about a target."""
    epoch: int = 0
    """Of the breaker, as the worker knows it; 0 when it knows nothing yet."""
    tokens: int = 0
    """How many are wanted."""
    per_s: float = 0.0
    burst: int = 1
    probe_ms: int = 0
    """Above zero when a probe is wanted: how long it may take."""
    runs: str = ""
    """How runs of this epoch have ended, in order: ``.`` or ``x``."""
    error: str = ""
    """Reason of the last failure."""
    trip: str = ""
    """Why the worker has stopped by itself."""
    probe: int = 0
    """Number of the request that a probe was granted for, and that has ended."""
    probe_end: str = ""
    """``.``, ``x``, or empty when it says nothing."""
    reset: bool = False
    """An operator has closed the breaker."""

    @property
    def is_told(self) -> bool:
        """Whether it must not get lost: it is sent again until it was heard."""
        return bool(self.trip or self.probe or self.reset)


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What one worker may do; it holds only for the request of this number."""

    worker: str
    number: int
    tokens: int = 0
    after_ms: int = 0
    """When the first token may be used, counted from when this is heard; may be past."""
    is_probe: bool = False


class Answer(msgspec.Struct, frozen=True):
    """The state of a target, for all workers, and what some of them have asked for."""

    app: str
    target: str
    owner: str
    """The worker that owns the target."""
    epoch: int
    state: BreakerState
    open_for_ms: int
    """How long it stays open from now."""
    is_probing: bool
    heard: Mapping[str, int]
    """Number of the last request, by worker."""
    grants: tuple[Grant, ...] = ()


encode: Final = msgspec.json.Encoder().encode
_decode_request: Final = msgspec.json.Decoder(Request).decode
_decode_answer: Final = msgspec.json.Decoder(Answer).decode


def parse_request(value: bytes | None) -> Request | None:
    """Read a request; ``None`` for what is none."""
    try:
        return _decode_request(value or b"")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def parse_answer(value: bytes | None) -> Answer | None:
    """Read an answer; ``None`` for what is none."""
    try:
        return _decode_answer(value or b"")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
