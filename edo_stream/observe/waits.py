"""What flows wait for, read from the state's changelogs while workers go on."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import structs

from edo_stream.core.correlation.changes import WaitChange, decode_change
from edo_stream.core.correlation.rows import (
    FLOW,
    WAIT,
    FlowRow,
    Phase,
    WaitRow,
    decode_flow,
    decode_wait,
)
from edo_stream.core.correlation.spec import (
    Absent,
    Batched,
    Correlation,
    Counted,
    Debounced,
    JoinSpec,
    Members,
    OnFailed,
    OnTimeout,
    Windowed,
)
from edo_stream.core.correlation.waits import joined_of
from edo_stream.core.headers import time_text
from edo_stream.core.notices import key_json
from edo_stream.observe.held_rows import HeldRows
from edo_stream.observe.rows import read_rows, read_topics

STATES: Final = ("open", "early", "over", "resting")
_SHOWN_MAX: Final = 20
_NOT_DECLARED: Final = "the flow is not declared"


class HeldInput(msgspec.Struct, frozen=True):
    """An event that a wait has."""

    input: str
    id: str
    position: str
    """``topic/partition/offset``."""
    at_ms: int
    member: str | None = None


class Wait(msgspec.Struct, frozen=True):
    """One key of one flow."""

    flow: str
    partition: int
    key: bytes
    group: str
    state: str
    """One of :data:`STATES`: ``open``; ``early``, what opens it has not come; ``over``;
    ``resting``, between two waits."""
    since_ms: int | None
    """When it opened, by the flow's clock; ``None`` where nothing waits."""
    until_ms: int | None
    """Its deadline."""
    missing: tuple[str, ...]
    """Inputs, or members, that are not there."""
    count: int
    """Events that count."""
    expected: int | None
    """How many are needed, where that is known."""
    held: tuple[HeldInput, ...]
    events: int
    size_bytes: int
    firings: int
    """Results and failure events."""
    ended: str
    """How the last wait ended; empty before that."""
    ended_ms: int
    completed_by: str
    failing: tuple[str, ...] = ()
    """How a wait ends with a failure event; empty: all firings are results."""


class WaitRows(HeldRows[WaitRow, HeldInput]):
    """The rows of waits in one changelog partition."""

    def __init__(self) -> None:
        super().__init__(WAIT, decode_wait, lambda event: held_of(event.at_ms, event.payload))

    def waits(self, group: str, partition: int, spec: JoinSpec) -> list[Wait]:
        """Keys as of the last record taken; what waits for flows that are no more says so."""
        found = []
        for name, row in self.rows.items():
            flow, _, key = name.partition(b"\0")
            correlation = spec.correlations.get(flow.decode())
            events = [*self.events(name).values(), *heads_of(row)]
            if correlation is not None:
                found.append(wait_of((group, partition, key), correlation, row, events))
            elif row.held:
                found.append(_left((group, partition, key), flow.decode(), row, events))
        return found


def held_of(at_ms: int, payload: bytes) -> HeldInput:
    """An event that rests in the state."""
    joined = joined_of(payload)
    return HeldInput(joined.input, joined.id, joined.position, at_ms, joined.member)


def heads_of(row: WaitRow) -> list[HeldInput]:
    """Events in a wait's own row."""
    heads = [*row.heads, *(burst.last for burst in row.bursts)]
    return [held_of(head.at_ms, head.payload) for head in heads]


def wait_of(
    place: tuple[str, int, bytes], correlation: Correlation, row: WaitRow, held: list[HeldInput]
) -> Wait:
    """A row in words; ``place`` is group, partition and key."""
    missing, expected = _missing(correlation, row, held) if _is_waiting(row) else ((), None)
    return structs.replace(
        _left(place, correlation.flow, row, held),
        missing=missing,
        expected=expected,
        count=_count(correlation, row),
        failing=_failing(correlation),
    )


def _left(
    place: tuple[str, int, bytes], flow: str, row: WaitRow, held: Sequence[HeldInput]
) -> Wait:
    """What is known of a row without its flow's declaration."""
    group, partition, key = place
    return Wait(
        flow=flow,
        partition=partition,
        key=key,
        group=group,
        state=Phase(row.phase).name.lower(),
        since_ms=row.opened_ms if _is_waiting(row) else None,
        until_ms=row.until_ms if _is_waiting(row) else None,
        missing=(_NOT_DECLARED,),
        count=row.held,
        expected=None,
        held=tuple(held),
        events=row.held,
        size_bytes=row.size_bytes,
        firings=row.run,
        ended=row.ended,
        ended_ms=row.ended_ms,
        completed_by=row.completed_by,
    )


def _is_waiting(row: WaitRow) -> bool:
    return row.phase in (Phase.EARLY, Phase.OPEN)


def _failing(correlation: Correlation) -> tuple[str, ...]:
    if isinstance(correlation.kind, Windowed | Debounced | Batched | Absent):
        return ()
    reasons = {
        "timeout": correlation.on_timeout is OnTimeout.FAILURE,
        "failed": correlation.failed is OnFailed.FAILURE,
    }
    return tuple(reason for reason, fails in reasons.items() if fails)


def _count(correlation: Correlation, row: WaitRow) -> int:
    match correlation.kind:
        case Counted() | Members():
            return row.counted
        case Debounced():
            return sum(burst.count for burst in row.bursts)
        case _:
            return row.held


def _missing(
    correlation: Correlation, row: WaitRow, held: Sequence[HeldInput]
) -> tuple[tuple[str, ...], int | None]:
    """What is not there, by name, and how many are needed where that is known."""
    kind, there = correlation.kind, {one.input for one in held}
    match kind:
        case Windowed() | Debounced() | Batched():
            return (), kind.count if isinstance(kind, Batched) else None
        case Counted():
            expected = kind.expect or row.expect
            if kind.is_gathered and expected is not None:
                numbers = {one.member for one in held}
                return tuple(n for n in map(str, range(expected)) if n not in numbers), expected
            is_untold = expected is None and not kind.is_carried
            return (kind.manifest,) if is_untold else (), expected
        case Members():
            listed = kind.members or row.members
            if listed is None:
                return (kind.manifest,), None
            members = {one.member for one in held}
            return tuple(one for one in listed if one not in members), len(listed)
        case _:
            return tuple(one for one in correlation.inputs if one not in there), None


def as_document(wait: Wait) -> dict[str, Any]:
    """A wait as JSON has it."""
    return {
        "flow": wait.flow,
        "key": key_json(wait.key),
        "state": wait.state,
        "sinceMs": wait.since_ms,
        "untilMs": wait.until_ms,
        "missing": list(wait.missing),
        "count": wait.count,
        "expected": wait.expected,
        "inputs": [
            {
                "input": one.input,
                "id": one.id,
                "position": one.position,
                "atMs": one.at_ms,
                "member": one.member,
            }
            for one in wait.held
        ],
        "events": wait.events,
        "bytes": wait.size_bytes,
        "firings": wait.firings,
        "ended": wait.ended or None,
        "endedMs": wait.ended_ms or None,
        "completedBy": wait.completed_by or None,
        "group": wait.group,
        "partition": wait.partition,
    }


async def read_waits(
    specs: Mapping[str, JoinSpec], changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> list[Wait]:
    """Read what is waited for now; ``changelogs`` are the state's topics, by group.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    rows = await read_rows(changelogs, broker, WaitRows)
    found = [
        wait
        for (group, partition), of_partition in rows.items()
        for wait in of_partition.waits(group, partition, specs[group])
    ]
    return sorted(found, key=lambda wait: (wait.flow, wait.since_ms or wait.ended_ms, wait.key))


class FlowRows:
    """The flows of one changelog partition, with what waits for them; takes records in order."""

    def __init__(self) -> None:
        self.rows: dict[str, FlowRow] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[: len(FLOW)] != FLOW:
            return
        flow = key[len(FLOW) :].decode()
        if value is None:
            self.rows.pop(flow, None)
        else:
            self.rows[flow] = decode_flow(value)


async def read_not_declared(
    specs: Mapping[str, JoinSpec], changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> dict[str, tuple[int, bool]]:
    """Flows that are in no group now: how many events wait, and whether their task stops for it.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    found: dict[str, tuple[int, bool]] = {}
    for (group, _), part in (await read_rows(changelogs, broker, FlowRows)).items():
        for flow, row in part.rows.items():
            if row.held and flow not in specs[group].correlations:
                held, is_owed = found.get(flow, (0, False))
                found[flow] = (held + row.held, is_owed or row.is_owed)
    return dict(sorted(found.items()))


async def read_wait_history(topic: str, key: bytes, broker: Mapping[str, Any]) -> list[WaitChange]:
    """Read what has happened to a key, in order, as far as its topic still has it.

    :func:`~edo_stream.core.correlation.changes.apply` adds them up, from a first one (number 1) or
    a snapshot on.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    found: list[WaitChange] = []

    def take(record: ConsumerRecord) -> None:
        if record.key == key:
            found.append(decode_change(record.value))

    await read_topics([topic], broker, take)
    return found


def change_told(change: WaitChange) -> str:
    """A change in a line: when, what, and what led to it."""
    cause, at = change.cause, _time(change.at)
    if cause.id:
        why = f"{cause.input} {cause.id}, {cause.position}"
    elif cause.due_ms is not None:
        why = f"due {_time(cause.due_ms)}"
    else:
        why = f"edo {cause.operation.replace('wait.', 'waits ')}" if cause.operation else ""
    ends = ", ".join(f"{end.reason} by {end.by}" if end.by else end.reason for end in change.ends)
    told = (part for part in (ends, why) if part)
    return f"{at}  {change.number:>4}  {change.change:<15} {'; '.join(told)}".rstrip()


def explained(wait: Wait) -> list[str]:
    """Why a key has fired or not, a line for each part of it."""
    lines = []
    if wait.since_ms is not None:
        what = "opened" if wait.state == "open" else "has events since"
        lines.append(f"{what} {_time(wait.since_ms)}, waits until {_time(wait.until_ms)}")
        if wait.expected is not None:
            lines.append(f"{wait.count} of {wait.expected} are there")
        if wait.missing:
            more = ", …" if len(wait.missing) > _SHOWN_MAX else ""
            lines.append(f"missing: {', '.join(wait.missing[:_SHOWN_MAX])}{more}")
        if wait.state == "early":
            lines.append("what opens the wait has not come")
    if wait.ended:
        last = "its last wait" if wait.since_ms is not None else "its wait"
        lines.append(f"{last} ended {_time(wait.ended_ms)}: {wait.ended}, by {wait.completed_by}")
    if wait.firings:
        lines.append(_fired(wait))
    lines += [
        f"has {one.input}{'' if one.member is None else f' {one.member}'}: "
        f"{one.id} of {_time(one.at_ms)}, {one.position}"
        for one in wait.held[:_SHOWN_MAX]
    ]
    return lines


def _fired(wait: Wait) -> str:
    """What came of a key; its row has one number for results and failure events."""
    one = wait.firings == 1
    if one and wait.ended in wait.failing:
        return "no result so far, 1 failure event"
    if not wait.failing or (one and wait.ended != "timeout"):
        return f"{wait.firings} {'result' if one else 'results'} so far"
    what = "result or failure event" if one else "results or failure events"
    return f"{wait.firings} {what} so far"


def _time(at_ms: int | None) -> str:
    return "for ever" if at_ms is None else (time_text(at_ms) or b"").decode()
