"""Operators' requests about waits: JSON records on the control topic of the group.

``{"op": "wait.force", "flow": …, "key": …}`` fires a wait with what there is; ``wait.expire`` ends
it as if its deadline had passed, and forgets a key whose wait is over, so that the next event opens
another one. A key that is no text is ``{"base64": …}``.
"""

from binascii import Error as Base64Error
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from edo_stream.core.event import Violation
from edo_stream.core.operations import Base64, key_of


class Verb(Enum):
    """What an operator asks for."""

    FORCE = "wait.force"
    EXPIRE = "wait.expire"


class WaitOperation(msgspec.Struct, frozen=True):
    """A request about one key of one flow."""

    verb: Verb
    flow: str
    key: bytes


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    op: str
    flow: str
    key: str | Base64
    id: str | None = None
    """Name that the operator's tool gives to the request, to find its outcome."""


_decode: Final = msgspec.json.Decoder(_Request).decode
_VERBS: Final = {verb.value: verb for verb in Verb}


def parse_wait_operation(
    value: bytes | None,
) -> tuple[WaitOperation | Violation, Mapping[str, Any]]:
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
    return WaitOperation(verb, request.flow, key), repeated
