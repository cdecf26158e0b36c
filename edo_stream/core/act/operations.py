"""Operators' requests to the act plane: JSON records on the control topic of its group.

``{"op": "retry.run-now", "flow": …, "key": …}`` runs the head of a waiting key at once;
``retry.drop`` forgets it, ``key.skip`` makes it a dead letter, and both let the key go on;
``key.continue`` lets a stopped key go on. A key that is no text is ``{"base64": …}``.
``{"op": "breaker.open", "flow": …, "key": ""}`` stops a flow until ``breaker.close``; sent to every
partition of the group, it holds on every worker and over restarts.
``{"op": "flow.pause", "flow": …, "key": "", "by": …, "reason": …}`` lets nothing of a flow begin
until ``flow.resume``; sent to every partition as well.

``{"op": "replay.note", "flow": …, "key": "", "replay": …, "counts": {"replayed": 3, …}}`` comes in
the transaction in which a replay has written commands: how many events, by what became of each.
"""

from binascii import Error as Base64Error
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Final

import msgspec

from edo_stream.core.event import Violation
from edo_stream.core.operations import Base64, key_of


class Verb(Enum):
    """What an operator asks for."""

    RUN_NOW = "retry.run-now"
    DROP = "retry.drop"
    CONTINUE = "key.continue"
    SKIP = "key.skip"
    OPEN = "breaker.open"
    CLOSE = "breaker.close"
    PAUSE = "flow.pause"
    RESUME = "flow.resume"
    NOTE_REPLAY = "replay.note"


class ActOperation(msgspec.Struct, frozen=True):
    """A request about one key of one flow."""

    verb: Verb
    flow: str
    key: bytes
    counts: Mapping[str, int] = {}
    """Of a replay: events by reason."""
    by: str = ""
    """Who asks for it."""
    reason: str = ""


#: Reasons are words of ours, and each is a label of a metric.
_REASONS_MAX: Final = 50
_Words = Annotated[str, msgspec.Meta(max_length=500)]
_Counts = Annotated[
    dict[
        Annotated[str, msgspec.Meta(pattern="^[a-z-]{1,40}$")], Annotated[int, msgspec.Meta(ge=0)]
    ],
    msgspec.Meta(max_length=_REASONS_MAX),
]


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    op: str
    flow: str
    key: str | Base64
    replay: str | None = None
    counts: _Counts | None = None
    by: _Words | None = None
    reason: _Words | None = None
    id: str | None = None
    """Name that the operator's tool gives to the request, to find its outcome."""


_decode = msgspec.json.Decoder(_Request).decode
_VERBS = {verb.value: verb for verb in Verb}


def parse_act_operation(value: bytes | None) -> tuple[ActOperation | Violation, Mapping[str, Any]]:
    """Read a request, and what of it its outcome repeats."""
    try:
        request = _decode(value or b"")
        repeated = {
            name: part for name, part in msgspec.to_builtins(request).items() if part is not None
        }
        key = key_of(request.key)
    except Base64Error as error:
        return Violation("invalid", f"key: {error}"), {}
    except (ValueError, RecursionError) as error:
        return Violation("invalid", str(error)[:200]), {}
    verb = _VERBS.get(request.op)
    if verb is None:
        return Violation("invalid", f"op: unknown {request.op[:100]!r}"), repeated
    if (verb is Verb.NOTE_REPLAY) is (request.counts is None):
        return Violation(
            "invalid", f"counts: expected with {Verb.NOTE_REPLAY.value} only"
        ), repeated
    operation = ActOperation(
        verb, request.flow, key, request.counts or {}, request.by or "", request.reason or ""
    )
    return operation, repeated
