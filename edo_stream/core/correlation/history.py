"""Telling what happens to the waits of a flow (``history: true``), whatever kind they are of.

The rules of a kind change rows and events as they like; what they did is seen by looking at a key
before an act and after it. So a kind knows nothing of its history, and none can forget to tell.
The events are written in the step, and so in the transaction, of the act.
"""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import Final, NamedTuple, Protocol

from edo_stream.core.correlation.changes import (
    BURSTS,
    ENDINGS,
    FORGOTTEN,
    POSTPONED,
    ROWS,
    SNAPSHOT,
    WAIT,
    Cause,
    Ending,
    HeldFact,
    WaitChange,
    encode_change,
    fact_of,
    row_changes,
    row_fields,
    without_data,
)
from edo_stream.core.correlation.rows import Head, HeldEvent, Journal, Phase, WaitRow
from edo_stream.core.correlation.waits import Arrival, Waits
from edo_stream.core.effects import Publish
from edo_stream.core.event import derive_id
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8
from edo_stream.core.notices import key_json, key_text
from edo_stream.core.task import Step, TaskIdentity

#: A snapshot comes after so many changes of a key.
SNAPSHOT_EVERY: Final = 64
_OPERATED: Final = {"wait.force": "forced", "wait.expire": "expired"}


class Correlator(Protocol):
    """The rules of one kind of correlation."""

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Do what a timer is due for."""

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire with what there is."""

    def end(self, key: bytes, row: WaitRow) -> None:
        """End the wait."""


class _Before(NamedTuple):
    """A key before an act."""

    row: WaitRow | None
    """A copy, with lists of its own; ``None`` where nothing is known."""
    stored: WaitRow | None
    """What rests in the table, even if it is as good as forgotten."""


class History:
    """Tells what happens to the waits of one flow within one task."""

    def __init__(self, identity: TaskIdentity, waits: Waits, step: Step) -> None:
        self._identity = identity
        self._waits = waits
        self._step = step
        self._source = ("ce_source", utf8(f"/edo/{identity.app}/waits"))

    def before(self, key: bytes) -> _Before:
        """Look at a key before an act."""
        waits = self._waits
        waits.told = []
        waits.events.journal = {}
        row, stored = waits.find(key), waits.stored(key)
        if row is not None:
            row = copy(row)
            row.heads, row.postponed = list(row.heads), list(row.postponed)
            row.bursts = list(row.bursts)
        return _Before(row, stored)

    def tell(self, key: bytes, before: _Before, cause: Cause, correlation_id: str = "") -> None:
        """Look at it afterwards, and tell what has happened."""
        waits = self._waits
        ends, waits.told = tuple(waits.told or ()), None
        journal, waits.events.journal = waits.events.journal or {}, None
        was, row = before.row, waits.stored(key)
        if was is None and row is before.stored:
            row = None  # What was as good as forgotten still is.
        number = 0 if was is None and row is None else 1 + (0 if was is None else was.changes)
        gone, came = ({}, {}) if row is None else _moved(was, row, journal)
        change = WaitChange(
            flow=waits.correlation.flow,
            key=key_json(key),
            number=number,
            change=_name(was, row, cause, ends, came),
            at=self._step.now_ms,
            cause=cause,
            ends=ends,
            row={} if row is None else row_changes(was, row),
            gone=gone,
            came=came,
            is_forgotten=row is None and was is not None,
        )
        born = (row or was or WaitRow(cause.offset or 0)).born
        self._tell(key, born, change, correlation_id)
        if row is not None:
            row.changes = number
            if number % SNAPSHOT_EVERY == 0 and row.held:
                self._snapshot(key, row)
            waits.keep(key, row)

    def forget(self, key: bytes, row: WaitRow, operation: str = "") -> None:
        """Tell that a key is known no longer."""
        change = WaitChange(
            flow=self._waits.correlation.flow,
            key=key_json(key),
            number=row.changes + 1,
            change=FORGOTTEN,
            at=self._step.now_ms,
            cause=Cause(operation=operation),
            is_forgotten=True,
        )
        self._tell(key, row.born, change)

    def _snapshot(self, key: bytes, row: WaitRow) -> None:
        """Tell the whole state, if it is not too large."""
        events = self._waits.events.all(self._waits.name(key))
        came = {
            WAIT: tuple(map(fact_of, row.heads)),
            POSTPONED: tuple(map(fact_of, row.postponed)),
            ROWS: tuple(fact_of(event, place) for place, event in events),
            BURSTS: tuple(fact_of(burst.last) for burst in row.bursts),
        }
        change = WaitChange(
            flow=self._waits.correlation.flow,
            key=key_json(key),
            number=row.changes + 1,
            change=SNAPSHOT,
            at=self._step.now_ms,
            row=row_fields(row),
            came={where: facts for where, facts in came.items() if facts},
        )
        value = encode_change(change)
        if len(value) <= self._waits.correlation.history_bytes_max:
            row.changes += 1
            self._publish(key, row.born, change, value)

    def _tell(self, key: bytes, born: int, change: WaitChange, correlation_id: str = "") -> None:
        value = encode_change(change)
        if len(value) > self._waits.correlation.history_bytes_max:
            value = encode_change(without_data(change))
        self._publish(key, born, change, value, correlation_id)

    def _publish(
        self, key: bytes, born: int, change: WaitChange, value: bytes, correlation_id: str = ""
    ) -> None:
        identity, correlation, now_ms = self._identity, self._waits.correlation, self._step.now_ms
        place = (key.hex(), f"{identity.partition}/{born}", str(change.number))
        change_id = derive_id("wait-change", identity.app, correlation.flow, *place)
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", change_id.encode()),
            self._source,
            ("ce_type", utf8(f"edo.wait.{change.change}")),
            ("ce_subject", utf8(key_text(key))),
            ("ce_time", time_text(now_ms)),
            JSON_CONTENT,
        ]
        if change.cause.id:
            headers.append(("ce_correlationid", utf8(correlation_id or change.cause.id)))
            headers.append(("ce_causationid", utf8(change.cause.id)))
        self._step.publish.append(
            Publish(correlation.history, identity.partition, key, value, headers, now_ms)
        )


class Told:
    """A correlator whose acts are told."""

    def __init__(self, inner: Correlator, history: History) -> None:
        self._inner = inner
        self._history = history

    def place(self, arrival: Arrival) -> None:
        """Take in an event."""
        joined, before = arrival.joined, self._history.before(arrival.key)
        self._inner.place(arrival)
        cause = Cause(
            offset=arrival.offset, input=joined.input, id=joined.id, position=joined.position
        )
        self._history.tell(arrival.key, before, cause, joined.correlation_id or "")

    def expire(self, key: bytes, row: WaitRow, due_ms: int) -> None:
        """Do what a timer is due for."""
        before = self._history.before(key)
        if before.row is not None:
            # The task has taken the timer off the row already.
            before.row.due_ms = due_ms
        self._inner.expire(key, row, due_ms)
        self._history.tell(key, before, Cause(due_ms=due_ms))

    def force(self, key: bytes, row: WaitRow) -> None:
        """Fire with what there is."""
        before = self._history.before(key)
        self._inner.force(key, row)
        self._history.tell(key, before, Cause(operation="wait.force"))

    def end(self, key: bytes, row: WaitRow) -> None:
        """End the wait."""
        before = self._history.before(key)
        self._inner.end(key, row)
        self._history.tell(key, before, Cause(operation="wait.expire"))


def _name(
    was: WaitRow | None,
    row: WaitRow | None,
    cause: Cause,
    ends: Sequence[Ending],
    came: Mapping[str, Sequence[HeldFact]],
) -> str:
    """What has happened, in a word."""
    if ends and not cause.operation:
        reason = ends[0].reason
        return ENDINGS.get(reason, reason)
    if cause.operation:
        return _OPERATED[cause.operation]
    if row is None and was is not None:
        return FORGOTTEN
    if row is not None and row.phase == Phase.OPEN and (was is None or was.phase != Phase.OPEN):
        return "opened"
    for where, facts in came.items():
        if any(fact.offset == cause.offset for fact in facts):
            return "input-postponed" if where == POSTPONED else "input-came"
    return "let-go" if cause.offset is None else "input-dropped"


def _moved(
    was: WaitRow | None, row: WaitRow, journal: Journal
) -> tuple[dict[str, tuple[int | str, ...]], dict[str, tuple[HeldFact, ...]]]:
    """Which events are held no longer where they were, and which are from now on."""
    gone: dict[str, tuple[int | str, ...]] = {}
    came: dict[str, tuple[HeldFact, ...]] = {}
    before = WaitRow(0) if was is None else was
    known = {head.offset for head in (*before.heads, *before.postponed)}
    known.update(burst.last.offset for burst in before.bursts)
    known.update(event.offset for event, _ in journal.values() if event is not None)
    for where, old, new in (
        (WAIT, before.heads, row.heads),
        (POSTPONED, before.postponed, row.postponed),
    ):
        stay = _staying([head.offset for head in old], [head.offset for head in new])
        if left := tuple(head.offset for head in old if head.offset not in stay):
            gone[where] = left
        if facts := tuple(_fact(head, known) for head in new if head.offset not in stay):
            came[where] = facts
    lasts = [burst.last for burst in row.bursts if burst.last.offset not in known]
    if lasts:
        came[BURSTS] = tuple(map(fact_of, lasts))
    released = [place for place, (event, _) in sorted(journal.items()) if event is not None]
    if released:
        gone[ROWS] = tuple(b64encode(place).decode() for place in released)
    held = [(place, event) for place, (_, event) in sorted(journal.items()) if event is not None]
    if held:
        came[ROWS] = tuple(_fact(event, known, place) for place, event in held)
    return gone, came


def _staying(old: Sequence[int], new: Sequence[int]) -> set[int]:
    """Offsets that stay in place: those of the old list with which the new one begins, in order."""
    kept = set(old).intersection(new)
    stay = [offset for offset in old if offset in kept]
    return kept if list(new[: len(stay)]) == stay else set()


def _fact(event: Head | HeldEvent, known: Collection[int], place: bytes = b"") -> HeldFact:
    """An event; its offset is enough for one that was held before."""
    if event.offset in known:
        return HeldFact(offset=event.offset, place=b64encode(place).decode())
    return fact_of(event, place)
