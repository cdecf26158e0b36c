"""The fates of one topic's records in one step, each record once."""

from bisect import bisect_left
from typing import Final

from edo_stream.core.accounts import Account, Fate, Run, runs_of
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.task import TaskIdentity

if IS_COMPILED:
    from edo_stream.core import _native

_UNREAD: Final = 2**63
"""Beyond all offsets: the step reads nothing of the topic."""


class Ledger:
    """Collects fates; an event that is held and released within the step ends with one.

    ``mark`` is called in ascending order of offset for records read, and at any time for those
    held before. What is below the offset that the step began at was held by an earlier one.
    ``times_ms`` are the times at which the events emitted have happened.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.times_ms: list[int] = []
        self._offsets: list[int] = []
        self._fates: list[Fate] = []
        self._settled: list[tuple[int, Fate]] = []
        self._read_from = _UNREAD

    def open(self, next_offset: int) -> None:
        """A batch of the topic is being read: the step writes an account in any case."""
        self._read_from = min(self._read_from, next_offset)

    def mark(self, offset: int, fate: Fate) -> None:
        """Note what has become of a record."""
        offsets = self._offsets
        if offset < self._read_from:
            # What is taken up and held again has settled nothing.
            if fate is not Fate.HELD:
                self._settled.append((offset, fate))
        elif not offsets or offset > offsets[-1]:
            offsets.append(offset)
            self._fates.append(fate)
        else:
            self._fates[bisect_left(offsets, offset)] = fate

    def pages(self) -> tuple[list[int], list[Fate], list[int], int]:
        """What the compiled half writes to: offsets, fates, times; marks go beyond the last."""
        offsets = self._offsets
        last = offsets[-1] if offsets else -1
        return offsets, self._fates, self.times_ms, max(last, self._read_from - 1)

    def settlement(self) -> tuple[list[tuple[int, Fate]], int]:
        """Where the compiled half notes what an earlier step held, and below which offset."""
        return self._settled, self._read_from

    def close(self, identity: TaskIdentity, at_ms: int) -> Account | None:
        """The step's account, ``None`` when there is nothing to tell; the ledger starts anew."""
        if self._read_from == _UNREAD and not self._settled:
            return None
        self._settled.sort(key=_offset_of)
        account = Account(
            app=identity.app,
            group=identity.group,
            topic=self.topic,
            partition=identity.partition,
            at_ms=at_ms,
            runs=_runs(self._offsets, self._fates),
            settled=_runs_of_pairs(self._settled),
        )
        self.discard()
        return account

    def discard(self) -> None:
        """Forget the step."""
        self.times_ms = []
        self._offsets = []
        self._fates = []
        self._settled = []
        self._read_from = _UNREAD


def account_of_start(
    identity: TaskIdentity, topic: str, offset: int, at_ms: int, lost: tuple[int, int] | None
) -> Account:
    """The account of a source that begins at an offset, or goes on behind records that are gone."""
    assert lost is None or lost[1] == offset, f"{topic}: lost {lost} does not end at {offset}"
    return Account(
        app=identity.app,
        group=identity.group,
        topic=topic,
        partition=identity.partition,
        at_ms=at_ms,
        start=offset if lost is None else None,
        lost=lost,
    )


def _offset_of(entry: tuple[int, Fate]) -> int:
    return entry[0]


def _runs(offsets: list[int], fates: list[Fate]) -> tuple[Run, ...]:
    if IS_COMPILED:
        return _native.runs_of(offsets, fates, Run)
    return runs_of(offsets, fates)


def _runs_of_pairs(entries: list[tuple[int, Fate]]) -> tuple[Run, ...]:
    return _runs([offset for offset, _ in entries], [fate for _, fate in entries])
