"""Who asked to be told of the end of an instance: a row ``a`` for each, until it is told.

A request that starts an instance is told of its first end: ``done`` with the results of the steps,
``compensated``, or ``abandoned``. One whose key has an instance already is told so at once, as is
one whose time is over before it is read.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from edo_stream.core.asked import DONE, FAILED, Asker, Cause, Replies, reason_of
from edo_stream.core.headers import utf8
from edo_stream.core.saga.changes import Abandoned, Change, Compensated, Completed
from edo_stream.core.saga.instance import InstanceRow
from edo_stream.core.sizes import fitting_end
from edo_stream.core.state import Table
from edo_stream.core.task import Step, TaskIdentity

ASKER: Final = b"a"
BYTES_MAX: Final = 1 << 20
"""Of a reply: of what all steps have returned."""
SKIPPED: Final = "skipped"
COMPENSATED: Final = "compensated"
ABANDONED: Final = "abandoned"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Asker).decode


class SagaReplies:
    """Of one task."""

    def __init__(self, identity: TaskIdentity, state: Table, step: Step) -> None:
        self._source = utf8(f"/edo/{identity.app}")
        self._state = state
        self._step = step

    def asker(self, replies: Replies | None, headers: Mapping[str, bytes]) -> Asker | None:
        """Who asks by a record that starts an instance."""
        if replies is None:
            return None
        request, correlation_id = (
            headers.get(name, b"").decode("utf-8", "replace")
            for name in ("ce_causationid", "ce_correlationid")
        )
        return replies.asker([*headers.items()], request, correlation_id)

    def begin(self, name: bytes, asker: Asker | None) -> None:
        """An instance has begun; who asks waits for its end."""
        if asker is not None and isinstance(asker.place, int):
            self._state.write(ASKER + name, _encode(asker))

    def expire(self, replies: Replies, asker: Asker, key: bytes, until: str) -> None:
        """The time of a request is over before it is read: nothing begins, and it is told so."""
        why = reason_of("business", "expired", f"its request has expired at {until}")
        self._tell(replies, asker, FAILED, (asker.request, key, why))

    def turn_away(self, replies: Replies, asker: Asker, name: bytes, row: InstanceRow) -> None:
        """The key of a request has an instance: it is told so, unless it began that one itself."""
        value = self._state.get(ASKER + name)
        if value is None or _decode(value) != asker:
            detail = f"its key has instance {row.id}, which is {row.status.value}"
            why = reason_of("business", "instance", detail)
            self._tell(replies, asker, SKIPPED, (asker.request, row.key, why))

    def end(
        self, replies: Replies | None, name: bytes, row: InstanceRow, changes: Sequence[Change]
    ) -> None:
        """Tell who asked how an instance has ended, if it has; once."""
        told = next((found for change in changes if (found := _end(row, change))), None)
        value = None if told is None else self._state.get(ASKER + name)
        if told is None or value is None:
            return
        self._state.write(ASKER + name, None)
        if replies is not None:
            kind, data = told
            self._tell(replies, _decode(value), kind, (row.id, row.key, data))

    def _tell(
        self, replies: Replies, asker: Asker, kind: str, told: tuple[str, bytes, bytes]
    ) -> None:
        cause_id, key, data = told
        cause = Cause(replies.flow, kind, self._source, cause_id, self._step.now_ms)
        reply = replies.reply(asker, cause, key, data)
        if reply is not None:
            self._step.publish.append(fitting_end(reply, BYTES_MAX))


def _end(row: InstanceRow, change: Change) -> tuple[str, bytes] | None:
    """What a change tells who asked, if it is an end."""
    match change:
        case Completed():
            results = {
                name: msgspec.Raw(step.result) for name, step in row.steps.items() if step.was_done
            }
            return DONE, msgspec.json.encode({"instance": row.id, "results": results})
        case Compensated():
            detail = f"instance {row.id}: all that was done is undone"
            return COMPENSATED, reason_of("business", row.reason, detail)
        case Abandoned():
            detail = f"instance {row.id} was left as it is"
            return ABANDONED, reason_of("business", row.reason, detail)
        case _:
            return None
