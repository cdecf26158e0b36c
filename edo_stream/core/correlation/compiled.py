"""Which flows of a task the compiled half takes events of, and what it has to know of them.

It takes those of named inputs, each of which opens a wait, of sequences, and of a number or a list
that the declaration says, no manifest: the first event of a key, one more, and the one that
completes it. Whatever else happens to such a wait is Python's, and what comes of it that does not
fit its topic.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.joined import joined_frame
from edo_stream.core.correlation.rows import EventRows, WaitRow
from edo_stream.core.correlation.spec import (
    Clock,
    Correlation,
    Counted,
    Fire,
    Members,
    Named,
    OnLate,
    Ordered,
)
from edo_stream.core.correlation.waits import Waits
from edo_stream.core.event import id_start
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.sizes import FRAME_BYTES
from edo_stream.core.state import RowCache
from edo_stream.core.task import TaskIdentity

if TYPE_CHECKING:
    from edo_stream.core._native import PlainWait, PlainWaits
if IS_COMPILED:
    from edo_stream.core import _native

_TEXT_BYTES_MAX: Final = 400
_INPUTS_MAX: Final = 16


def plain_waits(
    identity: TaskIdentity,
    flows: Iterable[Waits],
    rows: RowCache[WaitRow],
    events: EventRows,
) -> "PlainWaits | None":
    """The compiled half of a task; ``None`` where there is none, or nothing that it takes."""
    if not IS_COMPILED:
        return None
    known = {waits.correlation.flow.encode(): _plain_wait(identity, waits) for waits in flows}
    plain = {name: wait for name, wait in known.items() if wait is not None}
    if not plain:
        return None
    _, last = joined_frame("", "")
    return _native.PlainWaits(plain, rows.pages(), rows.get, events, Fate.HELD, Fate.EMITTED, last)


def _plain_wait(identity: TaskIdentity, waits: Waits) -> "PlainWait | None":
    correlation = waits.correlation
    bounds, target = correlation.bounds, correlation.target
    kind, needed, members = _kind_of(correlation)
    has_birth = correlation.fire is Fire.EACH or correlation.late is OnLate.NEW_RUN
    start = id_start("firing", identity.app, correlation.flow)
    source = f"/edo/{identity.app}/waits"
    place = waits.outlet.of(())
    texts = (correlation.flow, target.type, source, *correlation.inputs)
    if (
        needed < 2
        or correlation.opens
        or correlation.history
        or correlation.fallback in correlation.inputs
        or max(len(start), len(place)) > _TEXT_BYTES_MAX
        or not all(map(_is_plain, texts))
    ):
        return None
    return _native.PlainWait(
        waits,
        (waits.name(b""), *waits.timers.pages()),
        kind,
        correlation.inputs,
        needed,
        members,
        (correlation.within_ms, correlation.grace_ms, waits.idle_ms),
        (bounds.open_max, bounds.events_max, bounds.bytes_max),
        (correlation.clock is Clock.EVENT, correlation.fire is Fire.ONCE),
        (
            start,
            f"{identity.partition}/".encode() if has_birth else None,
            correlation.flow.encode(),
            source.encode(),
            target.type.encode(),
            place,
            target.topic,
            target.partitions,
            target.bytes_max - FRAME_BYTES,
        ),
    )


def _kind_of(correlation: Correlation) -> tuple[int, int, tuple[str, ...] | None]:
    """What a flow waits for, how many events complete it, and of which members, if of a list.

    0 events: it is of no kind that is taken.
    """
    match correlation.kind:
        case Named(needed) if needed <= _INPUTS_MAX:
            return _native.WAITS_FOR_ALL, needed, None
        case Ordered() if len(correlation.inputs) <= _INPUTS_MAX:
            return _native.WAITS_IN_ORDER, len(correlation.inputs), None
        case Counted(expect=int(expect), is_gathered=False, manifest=""):
            return _native.WAITS_FOR_COUNT, expect, None
        case Members(members=tuple(members), manifest="") if len(set(members)) == len(members):
            return _native.WAITS_FOR_COUNT, len(members), members
        case _:
            return _native.WAITS_FOR_ALL, 0, None


def _is_plain(text: str) -> bool:
    """Whether JSON has a text as it is, between quotes."""
    is_short = 0 < len(text) <= _TEXT_BYTES_MAX
    return is_short and text.isascii() and msgspec.json.encode(text) == f'"{text}"'.encode()
