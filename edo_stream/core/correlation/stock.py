"""What a wait has collected so far, by kind: whether it is complete, and what is missing.

A stock holds events and says what it has; it knows nothing of deadlines and ends.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.joined import Joined, shown
from edo_stream.core.correlation.outlet import single
from edo_stream.core.correlation.rows import NUMBER, Head, WaitRow
from edo_stream.core.correlation.spec import Absent, Counted, Keep, Members, Named, OnFailed
from edo_stream.core.correlation.waits import Arrival, Waits, head_of, joined_of
from edo_stream.core.event import Violation

_MANIFEST: Final = "manifest"


class Piece(Protocol):
    """An event that is held, in whatever row."""

    @property
    def at_ms(self) -> int:
        """Time by the flow's clock."""

    @property
    def offset(self) -> int:
        """Offset of its record."""

    @property
    def payload(self) -> bytes:
        """The event, encoded."""


class Stock(Protocol):
    """See the module's docstring."""

    def add(self, row: WaitRow, arrival: Arrival) -> Violation | None:
        """Hold an event, or say why it cannot be; it may replace another, which becomes stale."""

    def is_complete(self, row: WaitRow) -> bool:
        """Whether all is there that is needed."""

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """What is not there, for people and results."""

    def pieces(self, key: bytes, row: WaitRow) -> Sequence[Piece]:
        """All that is held, in the order of a result."""

    def drop(self, key: bytes, row: WaitRow, before_ms: int) -> None:
        """Let go of what is older than a time; it becomes stale."""

    def postpone(self, key: bytes, row: WaitRow, after_ms: int) -> None:
        """Postpone what is later than a time: it is none of this wait."""

    def clear(self, key: bytes, row: WaitRow) -> None:
        """Forget all that is held; whoever calls has said what becomes of it."""

    def inputs(self, joined: Sequence[Joined]) -> dict[str, Any]:
        """Events as a result shows them."""


class NamedStock:
    """One event of each input."""

    def __init__(self, waits: Waits, kind: Named | Absent) -> None:
        self._waits = waits
        self._inputs = waits.correlation.inputs
        self._order = {name: index for index, name in enumerate(self._inputs)}
        self._needed = kind.needed if isinstance(kind, Named) else 1
        self._keep = waits.correlation.keep
        # Whichever of it is in time counts.
        self._unwanted = kind.without if isinstance(kind, Absent) else ""

    def add(self, row: WaitRow, arrival: Arrival) -> Violation | None:
        """Hold an event, unless another one of its input is to stay."""
        waits, name = self._waits, arrival.joined.input
        if name not in self._order:
            return Violation("unknown-input", f"the flow has no input {name}")
        there = next((head for head in row.heads if head.input == name), None)
        if name == self._unwanted:
            there = None
        if there is not None and stays(self._keep, there.at_ms, arrival.at_ms):
            waits.settle(arrival, Fate.STALE)
            return None
        refusal = waits.refusal(row, arrival.size_bytes, there.size_bytes if there else None)
        if refusal is not None:
            return refusal
        if there is not None:
            waits.drop_head(row, there, Fate.STALE)
        waits.add_head(row, arrival)
        return None

    def is_complete(self, row: WaitRow) -> bool:
        """Whether enough inputs are there."""
        return len(row.heads) >= self._needed

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """Names of the inputs that are not there."""
        there = {head.input for head in row.heads}
        return {"missing": [name for name in self._inputs if name not in there]}

    def pieces(self, key: bytes, row: WaitRow) -> Sequence[Head]:
        """Events in the order of the inputs."""
        order, last = self._order, len(self._order)
        return sorted(row.heads, key=lambda head: order.get(head.input, last))

    def drop(self, key: bytes, row: WaitRow, before_ms: int) -> None:
        """Let go of what is older than a time."""
        for head in [head for head in row.heads if head.at_ms < before_ms]:
            self._waits.drop_head(row, head, Fate.STALE)

    def postpone(self, key: bytes, row: WaitRow, after_ms: int) -> None:
        """Postpone what is later than a time."""
        row.postponed += [head for head in row.heads if head.at_ms > after_ms]
        row.heads = [head for head in row.heads if head.at_ms <= after_ms]

    def clear(self, key: bytes, row: WaitRow) -> None:
        """Forget all events."""
        for head in row.heads:
            self._waits.forget(row, head.size_bytes)
        row.heads = []

    def inputs(self, joined: Sequence[Joined]) -> dict[str, Any]:
        """One event an input."""
        return single([(one.input, one) for one in joined])


class TallyStock:
    """Many events, up to a number or to the members of a list; and the manifest that tells it."""

    def __init__(self, waits: Waits, kind: Counted | Members) -> None:
        self._waits = waits
        self._kind = kind
        self._inputs = frozenset(waits.correlation.inputs)
        self._keep = waits.correlation.keep
        self._listed = kind.members if isinstance(kind, Members) else None
        self._is_carried = isinstance(kind, Counted) and kind.is_carried
        self._is_gathered = isinstance(kind, Counted) and kind.is_gathered
        self._failed_count = waits.correlation.failed is not OnFailed.WAIT

    def add(self, row: WaitRow, arrival: Arrival) -> Violation | None:
        """Hold an event, or the manifest."""
        waits, name = self._waits, arrival.joined.input
        if name == self._kind.manifest:
            return self._add_manifest(row, arrival)
        if name not in self._inputs:
            return Violation("unknown-input", f"the flow has no input {name}")
        member = arrival.joined.member
        refusal = self._unexpected(row, member) or self._disagreement(row, arrival.joined)
        if refusal is not None:
            return refusal
        place = NUMBER.pack(arrival.offset) if member is None else member.encode()
        there = None if member is None else waits.events.get(waits.name(arrival.key), place)
        if there is not None and stays(self._keep, there.at_ms, arrival.at_ms):
            waits.settle(arrival, Fate.STALE)
            return None
        refusal = waits.refusal(row, arrival.size_bytes, there.size_bytes if there else None)
        if refusal is not None:
            return refusal
        if there is not None:
            waits.forget(row, there.size_bytes)
            waits.settle(there, Fate.STALE)
            row.counted -= self._counts(joined_of(there.payload))
        waits.add_event(arrival.key, row, place, arrival)
        row.counted += self._counts(arrival.joined)
        if self._is_carried or (self._is_gathered and row.expect is None):
            row.expect = arrival.joined.expect
        return None

    def _counts(self, joined: Joined) -> bool:
        """Whether an event counts towards what is expected."""
        return self._failed_count or not joined.is_failed

    def _disagreement(self, row: WaitRow, joined: Joined) -> Violation | None:
        """What is wrong with the number that an event says, if each says it."""
        if not self._is_carried or (joined.expect is not None and row.expect is None):
            return None
        if joined.expect is None:
            return Violation("no-count", "expect: expected a number in the event, found none")
        if joined.expect == row.expect:
            return None
        detail = f"expect: the event says {joined.expect}, and others of its key {row.expect}"
        return Violation("unexpected-count", detail)

    def _forget_count(self, row: WaitRow) -> None:
        """With the last event goes what it said of their number."""
        if self._is_carried and not row.held:
            row.expect = None

    def _add_manifest(self, row: WaitRow, arrival: Arrival) -> Violation | None:
        waits, joined = self._waits, arrival.joined
        there = next((head for head in row.heads if head.input == joined.input), None)
        if there is not None and stays(self._keep, there.at_ms, arrival.at_ms):
            waits.settle(arrival, Fate.STALE)
            return None
        # However many wait: without it they would go on to wait.
        refusal = waits.refusal(row, arrival.size_bytes, there.size_bytes if there else 0)
        if refusal is not None:
            return refusal
        if there is not None:
            waits.drop_head(row, there, Fate.STALE)
        waits.add_head(row, arrival)
        row.expect = joined.expect
        row.members = joined.members
        if joined.members is not None:
            listed = frozenset(joined.members)
            row.expect = len(listed)
            self._drop_unlisted(arrival.key, row, listed)
        return None

    def _drop_unlisted(self, key: bytes, row: WaitRow, members: frozenset[str]) -> None:
        waits = self._waits
        for place, event in waits.events.all(waits.name(key)):
            joined = joined_of(event.payload)
            if joined.member is not None and joined.member not in members:
                waits.events.release(waits.name(key), place)
                waits.forget(row, event.size_bytes)
                row.counted -= 1
                waits.bury(key, event.offset, joined, _unlisted(joined.member))

    def _unexpected(self, row: WaitRow, member: str | None) -> Violation | None:
        if not isinstance(self._kind, Members):
            return None
        if member is None:
            return Violation("no-member", "member: expected a value in the event, found none")
        listed = row.members if self._listed is None else self._listed
        return None if listed is None or member in listed else _unlisted(member)

    def _expect(self, row: WaitRow) -> int | None:
        if isinstance(self._kind, Counted) and self._kind.expect is not None:
            return self._kind.expect
        return row.expect if self._listed is None else len(self._listed)

    def is_complete(self, row: WaitRow) -> bool:
        """Whether as many are there as are expected."""
        expect = self._expect(row)
        return expect is not None and row.counted >= expect

    def missing(self, key: bytes, row: WaitRow) -> dict[str, Any]:
        """How many are there and how many are expected; of a list, which are not there."""
        found: dict[str, Any] = {"count": row.counted, "expected": self._expect(row)}
        if isinstance(self._kind, Members):
            listed = row.members if self._listed is None else self._listed
            waits = self._waits
            there = {place.decode() for place, _ in waits.events.all(waits.name(key))}
            found["missing"] = (
                [_MANIFEST] if listed is None else [one for one in listed if one not in there]
            )
        elif self._is_gathered:
            waits, expect = self._waits, self._expect(row) or 0
            told = {place for place, _ in waits.events.all(waits.name(key))}
            found["missing"] = [n for n in range(expect) if b"%d" % n not in told]
        elif self._expect(row) is None:
            found["missing"] = [self._kind.manifest] if self._kind.manifest else []
        return found

    def pieces(self, key: bytes, row: WaitRow) -> Sequence[Piece]:
        """Events as they are ordered, then the manifest."""
        waits = self._waits
        events = [event for _, event in waits.events.all(waits.name(key))]
        return [*events, *row.heads]

    def drop(self, key: bytes, row: WaitRow, before_ms: int) -> None:
        """Let go of what is older than a time."""
        waits, name = self._waits, self._waits.name(key)
        for place, event in waits.events.all(name) if row.held > len(row.heads) else ():
            if event.at_ms < before_ms:
                waits.events.release(name, place)
                waits.forget(row, event.size_bytes)
                waits.settle(event, Fate.STALE)
                row.counted -= self._counts(joined_of(event.payload))
        self._forget_count(row)
        for head in [head for head in row.heads if head.at_ms < before_ms]:
            waits.drop_head(row, head, Fate.STALE)
            row.expect = row.members = None

    def postpone(self, key: bytes, row: WaitRow, after_ms: int) -> None:
        """Postpone what is later than a time."""
        events, name = self._waits.events, self._waits.name(key)
        for place, event in events.all(name):
            if event.at_ms > after_ms:
                events.release(name, place)
                row.counted -= self._counts(joined_of(event.payload))
                row.postponed.append(head_of(event))
        late = [head for head in row.heads if head.at_ms > after_ms]
        if late:
            row.postponed += late
            row.heads = []
            row.expect = row.members = None

    def clear(self, key: bytes, row: WaitRow) -> None:
        """Forget all events."""
        waits = self._waits
        for _, event in waits.events.take_all(waits.name(key)):
            waits.forget(row, event.size_bytes)
        for head in row.heads:
            waits.forget(row, head.size_bytes)
        row.heads = []
        row.counted = 0
        row.expect = row.members = None

    def inputs(self, joined: Sequence[Joined]) -> dict[str, Any]:
        """Events by input, in lists; the manifest by itself."""
        found: dict[str, Any] = {name: [] for name in self._waits.correlation.inputs}
        found |= by_input(joined)
        manifest = self._kind.manifest
        if manifest in found:
            (found[manifest],) = found[manifest]
        return found


def stays(keep: Keep, there_ms: int, at_ms: int) -> bool:
    """Whether an event that is there stays, when another one of its input or member comes."""
    return at_ms >= there_ms if keep is Keep.FIRST else at_ms < there_ms


def by_input(joined: Sequence[Joined]) -> dict[str, Any]:
    """Events by input, in lists, as a result shows them."""
    found: dict[str, Any] = {}
    for one in joined:
        found.setdefault(one.input, []).append(shown(one))
    return found


def _unlisted(member: str) -> Violation:
    return Violation("unexpected-member", f"member: {member[:100]} is not in the list")
