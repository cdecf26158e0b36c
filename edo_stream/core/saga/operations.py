"""Operators' requests about an instance: JSON records on the control topic of the sagas' group.

``{"op": "saga.retry", "saga": …, "key": …}`` sends again what has failed, with ``"step"`` only
that; ``saga.compensate`` turns back, ``saga.abandon`` leaves it as it is, both with a ``"reason"``.
``saga.complete`` says that a person has done a step, with its ``"result"``; ``saga.reject`` that it
will not be done. A key that is no text is written as ``{"base64": …}``.
"""

from binascii import Error as Base64Error
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from edo_stream.core.event import Violation
from edo_stream.core.operations import Base64, key_of


class SagaVerb(Enum):
    """What an operator asks for."""

    RETRY = "saga.retry"
    COMPENSATE = "saga.compensate"
    ABANDON = "saga.abandon"
    COMPLETE = "saga.complete"
    REJECT = "saga.reject"


class SagaOperation(msgspec.Struct, frozen=True):
    """A request about one instance."""

    verb: SagaVerb
    saga: str
    key: bytes
    step: str | None = None
    reason: str = ""
    result: bytes | None = None


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    op: str
    saga: str
    key: str | Base64
    step: str | None = None
    reason: str = ""
    result: msgspec.Raw = msgspec.Raw()
    id: str | None = None
    """Name that the operator's tool gives to the request, to find its outcome."""


_decode: Final = msgspec.json.Decoder(_Request).decode
_VERBS: Final = {verb.value: verb for verb in SagaVerb}
_OF_STEPS: Final = (SagaVerb.COMPLETE, SagaVerb.REJECT)
_REASON_CHARS_MAX: Final = 1_000


def parse_saga_operation(
    value: bytes | None,
) -> tuple[SagaOperation | Violation, Mapping[str, Any]]:
    """Read a request, and what of it its outcome repeats."""
    try:
        request = _decode(value or b"")
        repeated = {
            name: part
            for name in ("op", "saga", "key", "step", "reason", "id")
            if (part := msgspec.to_builtins(getattr(request, name)))
        }
        key = key_of(request.key)
    except Base64Error as error:
        return Violation("invalid", f"key: {error}"), {}
    except (ValueError, RecursionError) as error:
        return Violation("invalid", str(error)[:200]), {}
    verb = _VERBS.get(request.op)
    if verb is None:
        return Violation("invalid", f"op: unknown {request.op[:100]!r}"), repeated
    if verb in _OF_STEPS and request.step is None:
        return Violation("invalid", "step: expected the name of one"), repeated
    result = bytes(request.result) or None
    reason = request.reason[:_REASON_CHARS_MAX]
    return SagaOperation(verb, request.saga, key, request.step, reason, result), repeated
