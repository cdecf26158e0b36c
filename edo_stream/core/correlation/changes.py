"""What happens to a wait, as events: its state is what they add up to.

One event tells of one act: an event that came, a deadline, an operator, the sweep. It says what led
to it (``cause``), what it did in a word (``change``, which ends the event's type,
``edo.wait.completed``), and how the state differs: fields of the row that have changed, and which
events are held no longer, or from now on. :func:`apply` is how they add up. A ``snapshot`` has all
of the state, so that a wait that is open for long need not be read from its beginning.

Where an event rests has three names: ``wait``, in the wait's own row; ``postponed``, there as well,
but for what comes after the wait; ``rows``, in a row of its own. The last events of ``bursts`` come
there, and which they are is a field of the row.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from edo_stream.core.asked import Asker
from edo_stream.core.correlation.joined import Joined, decode_joined, encode_joined
from edo_stream.core.correlation.rows import Burst, Head, HeldEvent, Phase, WaitRow

WAIT: Final = "wait"
POSTPONED: Final = "postponed"
ROWS: Final = "rows"
BURSTS: Final = "bursts"
SNAPSHOT: Final = "snapshot"
FORGOTTEN: Final = "forgotten"
#: How ends of waits are called as changes; those of other names keep them.
ENDINGS: Final = {
    "complete": "completed",
    "timeout": "timed-out",
    "fallback": "fell-back",
    "absent": "found-absent",
    "window": "window-ended",
}
#: Lists of events have places of their own, and the number of changes is that of the event.
_TOLD_ELSEWHERE: Final = ("heads", "postponed", "bursts", "changes")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return "".join((first, *(part.capitalize() for part in rest)))


_FIELDS: Final = {
    _camel(name): name for name in WaitRow.__struct_fields__ if name not in _TOLD_ELSEWHERE
}


class HeldFact(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event that is held; one that was held before is named by its offset alone."""

    offset: int
    """Of its record on the topic of joins; no other of the key has it."""
    place: str = ""
    """What orders it among its wait's rows, in Base64; of those in a row of their own."""
    input: str = ""
    at_ms: int = 0
    size_bytes: int = 0
    id: str = ""
    source: str = ""
    type: str = ""
    position: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    """In place of ``data``, where that is no JSON."""
    is_json: bool = False
    is_left_out: bool = False
    """The data would have made the event too large."""
    time_ms: int | None = None
    subject: str | None = None
    correlation_id: str | None = None
    content_type: str | None = None
    member: str | None = None
    expect: int | None = None
    members: tuple[str, ...] | None = None
    is_failed: bool = False
    asker: Asker | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What has led to a change: an event, a timer or an operation; nothing of it: the sweep."""

    offset: int | None = None
    """Of a record on the topic of joins."""
    input: str = ""
    id: str = ""
    position: str = ""
    due_ms: int | None = None
    operation: str = ""


class Ending(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An end of the wait, or of an event that is of none; an act may have several."""

    reason: str
    """As a result has it; also ``late`` and ``refused``."""
    by: str
    """Name of an input, ``deadline``, ``operator``; why an event was refused."""
    firing: int = 0
    """How often the key has fired by then."""


class WaitChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One act, and what it did to the state of a key."""

    flow: str
    key: str | dict[str, str]
    number: int
    """From 1, without gaps, as long as the key is known; 0: nothing of it is kept."""
    change: str
    at: int
    cause: Cause = Cause()
    ends: tuple[Ending, ...] = ()
    row: dict[str, Any] = msgspec.field(default_factory=dict)
    """Fields of the row that have changed."""
    gone: dict[str, tuple[int | str, ...]] = msgspec.field(default_factory=dict)
    """By where they rested: offsets of events; of those in rows of their own, places."""
    came: dict[str, tuple[HeldFact, ...]] = msgspec.field(default_factory=dict)
    """By where they rest, in order, behind those that stay."""
    is_forgotten: bool = False
    """Nothing of the key is kept any more."""


encode_change: Final = msgspec.json.Encoder().encode
decode_change: Final = msgspec.json.Decoder(WaitChange).decode


def without_data(change: WaitChange) -> WaitChange:
    """The same change, without the data of events."""
    came = {where: tuple(map(_without_data, facts)) for where, facts in change.came.items()}
    return msgspec.structs.replace(change, came=came)


def _without_data(fact: HeldFact) -> HeldFact:
    if not fact.input:
        return fact
    return msgspec.structs.replace(fact, data=msgspec.UNSET, data_base64=None, is_left_out=True)


def row_fields(row: WaitRow) -> dict[str, Any]:
    """What events tell of a row."""
    told = {name: getattr(row, own) for name, own in _FIELDS.items()}
    bursts = [
        {"firstMs": one.first_ms, "count": one.count, "ids": list(one.ids), "last": one.last.offset}
        for one in row.bursts
    ]
    return told | {"phase": Phase(row.phase).name.lower(), BURSTS: bursts}


def row_changes(before: WaitRow | None, after: WaitRow) -> dict[str, Any]:
    """Fields of a row that have changed."""
    was = row_fields(WaitRow(0) if before is None else before)
    return {name: value for name, value in row_fields(after).items() if value != was[name]}


def fact_of(event: Head | HeldEvent, place: bytes = b"") -> HeldFact:
    """A held event, with all that is known of it; ``place`` is that of a row of its own."""
    joined = decode_joined(event.payload)
    assert isinstance(joined, Joined), "it was decoded before it was held"
    data = joined.data
    is_plain = joined.is_json and data is not None and data == data.strip()
    return HeldFact(
        offset=event.offset,
        place=b64encode(place).decode(),
        input=joined.input,
        at_ms=event.at_ms,
        size_bytes=event.size_bytes,
        id=joined.id,
        source=joined.source,
        type=joined.type,
        position=joined.position,
        data=msgspec.Raw(data) if is_plain and data is not None else msgspec.UNSET,
        data_base64=None if is_plain or data is None else b64encode(data).decode(),
        is_json=joined.is_json,
        time_ms=joined.time_ms,
        subject=joined.subject,
        correlation_id=joined.correlation_id,
        content_type=joined.content_type,
        member=joined.member,
        expect=joined.expect,
        members=joined.members,
        is_failed=joined.is_failed,
        asker=joined.asker,
    )


@dataclass(slots=True)
class WaitState:
    """One key of one flow: its row, and the events in rows of their own, by place."""

    row: WaitRow | None = None
    events: dict[bytes, HeldEvent] = field(default_factory=dict)


def apply(state: WaitState, change: WaitChange) -> None:
    """Change a state."""
    if not change.number:
        return
    if change.is_forgotten or change.change == SNAPSHOT:
        state.row, state.events = None, {}
    if change.is_forgotten:
        return
    row = state.row = state.row or WaitRow(0)
    for name, value in change.row.items():
        if name != BURSTS:
            setattr(row, _FIELDS[name], _value(name, value))
    row.changes = change.number
    known: dict[int, Head] = {}
    is_short = any(not fact.input for facts in change.came.values() for fact in facts)
    if is_short or BURSTS in change.row:
        known = {head.offset: head for head in _all(state)}
    if BURSTS in change.row:
        came = (_head(fact, change.flow, known) for fact in change.came.get(BURSTS, ()))
        lasts = known | {head.offset: head for head in came}
        row.bursts = [
            Burst(one["firstMs"], one["count"], tuple(one["ids"]), lasts[one["last"]])
            for one in change.row[BURSTS]
        ]
    row.heads = _list(row.heads, WAIT, change, known)
    row.postponed = _list(row.postponed, POSTPONED, change, known)
    for place in change.gone.get(ROWS, ()):
        del state.events[b64decode(str(place))]
    for fact in change.came.get(ROWS, ()):
        head = _head(fact, change.flow, known)
        event = HeldEvent(head.at_ms, head.offset, head.size_bytes, head.payload)
        state.events[b64decode(fact.place)] = event


def _value(name: str, value: Any) -> Any:
    if name == "phase":
        return Phase[value.upper()]
    return tuple(value) if isinstance(value, list) else value


def _all(state: WaitState) -> list[Head]:
    """All that is held, as it is in a wait's row."""
    row = state.row or WaitRow(0)
    lasts = [burst.last for burst in row.bursts]
    return [*row.heads, *row.postponed, *lasts] + [
        Head(joined.input, event.at_ms, event.offset, event.size_bytes, event.payload)
        for event in state.events.values()
        if isinstance(joined := decode_joined(event.payload), Joined)
    ]


def _list(before: list[Head], where: str, change: WaitChange, known: dict[int, Head]) -> list[Head]:
    gone = set(change.gone.get(where, ()))
    came = [_head(fact, change.flow, known) for fact in change.came.get(where, ())]
    return [head for head in before if head.offset not in gone] + came


def _head(fact: HeldFact, flow: str, known: dict[int, Head]) -> Head:
    if not fact.input:
        return known[fact.offset]
    data = None if fact.data_base64 is None else b64decode(fact.data_base64)
    if isinstance(fact.data, msgspec.Raw):
        data = bytes(fact.data)
    joined = Joined(
        flow=flow,
        input=fact.input,
        id=fact.id,
        source=fact.source,
        type=fact.type,
        position=fact.position,
        data=data,
        is_json=fact.is_json,
        time_ms=fact.time_ms,
        subject=fact.subject,
        correlation_id=fact.correlation_id,
        content_type=fact.content_type,
        member=fact.member,
        expect=fact.expect,
        members=fact.members,
        is_failed=fact.is_failed,
        asker=fact.asker,
    )
    return Head(fact.input, fact.at_ms, fact.offset, fact.size_bytes, encode_joined(joined))
