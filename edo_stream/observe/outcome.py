"""Judge the outcome of a pipeline: what went in, against what came out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from edo_stream.core.accounts import SKIPPED, Fate


class Position(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


class Input(NamedTuple):
    """A record that went in; ``id`` and ``sequence`` are ``None`` where they cannot be read."""

    position: Position
    key: bytes | None
    id: str | None
    sequence: int | None = None


class Output(NamedTuple):
    """A result: where it lies, and which input it came from."""

    position: Position
    cause: Position
    key: bytes | None
    id: str
    """Id of the input event, not of the result."""
    sequence: int | None = None


class GivenUp(NamedTuple):
    """Numbers of a key that the pipeline said it skipped, from first to last."""

    topic: str
    key: bytes
    first: int
    last: int


class Flaw(Enum):
    """What can be wrong with an outcome."""

    LOST = "lost"
    """An event with no result and no dead letter, neither held nor dropped by a policy."""
    DUPLICATED = "duplicated"
    """An event with two results, a record with two dead letters, or one of each."""
    OUT_OF_ORDER = "out of order"
    """A result whose number is not higher than that of an earlier result of its key."""
    NOT_IN_INPUT = "not in input"
    """A result or dead letter of nothing that went in, or with another key, id or number."""
    UNDECLARED_GAP = "undeclared gap"
    """A number passed over that was neither dead-lettered nor given up in public."""
    TORN = "torn"
    """The accounts say one thing and the topics another: half a transaction."""


class Found(NamedTuple):
    """One flaw of an outcome, and the record that shows it."""

    flaw: Flaw
    position: Position
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that is wrong with an outcome."""

    found: tuple[Found, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.found

    @property
    def counts(self) -> Counter[Flaw]:
        return Counter(one.flaw for one in self.found)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a pipeline that has read all of its inputs.

    ``outputs`` are in the order of their partitions; results of one key share a partition.
    """

    outputs: Sequence[Output]
    dead_letters: Sequence[Position]
    """Where the dead-lettered records lay."""
    gaps: Sequence[GivenUp] = ()
    fates: Mapping[Position, Fate] | None = None
    """Final fates by the accounts; without them, nothing is held, and no late event dropped."""


def judge(inputs: Iterable[Input], outcome: Outcome) -> Verdict:
    """Compare what came out with what went in, record by record.

    An id stands for one event of its topic: further inputs with it are duplicates. Events with
    a ``sequence`` come out in its order, without a number left out in silence.
    """
    given = {one.position: one for one in inputs}
    return Verdict(
        (
            *_lost(given, outcome),
            *_duplicated(outcome),
            *_not_in_input(given, outcome),
            *_disordered(given, outcome),
            *_torn(given, outcome),
        )
    )


_EXCUSED: Final = SKIPPED | {Fate.HELD, Fate.APPLIED}


def _lost(given: Mapping[Position, Input], outcome: Outcome) -> Iterator[Found]:
    ended = {output.cause for output in outcome.outputs} | set(outcome.dead_letters)
    fates = outcome.fates or {}
    copies: defaultdict[tuple[str, str | Position], list[Position]] = defaultdict(list)
    for position, one in given.items():
        # A record without a readable id is no copy of any other.
        copies[position.topic, position if one.id is None else one.id].append(position)
    for positions in copies.values():
        if not any(one in ended or fates.get(one) in _EXCUSED for one in positions):
            yield Found(Flaw.LOST, positions[0], f"event {given[positions[0]].id}")


def _duplicated(outcome: Outcome) -> Iterator[Found]:
    results: set[tuple[str, str]] = set()
    ended: set[Position] = set()
    for output in outcome.outputs:
        event = (output.cause.topic, output.id)
        if event in results or output.cause in ended:
            yield Found(Flaw.DUPLICATED, output.position, f"second result of {output.id}")
        results.add(event)
        ended.add(output.cause)
    for position in outcome.dead_letters:
        if position in ended:
            yield Found(Flaw.DUPLICATED, position, "dead letter of a record that ended before")
        ended.add(position)


def _not_in_input(given: Mapping[Position, Input], outcome: Outcome) -> Iterator[Found]:
    for output in outcome.outputs:
        cause = given.get(output.cause)
        came_from = (output.cause, output.key, output.id, output.sequence)
        if cause != came_from:
            detail = f"result of {output.id}, said to come from {output.cause}"
            yield Found(Flaw.NOT_IN_INPUT, output.position, detail)
    for position in outcome.dead_letters:
        if position not in given:
            yield Found(Flaw.NOT_IN_INPUT, position, "dead letter")


def _disordered(given: Mapping[Position, Input], outcome: Outcome) -> Iterator[Found]:
    passed = _numbers_given_up(given, outcome)
    highest: dict[tuple[str, bytes | None], int] = {}
    for output in outcome.outputs:
        if output.sequence is None:
            continue
        of_key = (output.cause.topic, output.key)
        before = highest.get(of_key)
        if before is not None and output.sequence <= before:
            detail = f"number {output.sequence} after {before}"
            yield Found(Flaw.OUT_OF_ORDER, output.position, detail)
            continue
        highest[of_key] = output.sequence
        if before is not None:
            between = set(range(before + 1, output.sequence)) - passed[of_key]
            if between:
                detail = f"number {min(between)} is missing before {output.sequence}"
                yield Found(Flaw.UNDECLARED_GAP, output.position, detail)


def _numbers_given_up(
    given: Mapping[Position, Input], outcome: Outcome
) -> defaultdict[tuple[str, bytes | None], set[int]]:
    """Numbers that need not come out, by topic and key."""
    numbers: defaultdict[tuple[str, bytes | None], set[int]] = defaultdict(set)
    for position in outcome.dead_letters:
        one = given.get(position)
        if one is not None and one.sequence is not None:
            numbers[position.topic, one.key].add(one.sequence)
    for gap in outcome.gaps:
        numbers[gap.topic, gap.key].update(range(gap.first, gap.last + 1))
    return numbers


def _torn(given: Mapping[Position, Input], outcome: Outcome) -> Iterator[Found]:
    if outcome.fates is None:
        return
    results = {output.cause for output in outcome.outputs}
    letters = set(outcome.dead_letters)
    for position in {**given, **dict.fromkeys(outcome.fates)}:
        fate = outcome.fates.get(position)
        told = fate.name if fate is not None else "no fate"
        if (fate is Fate.EMITTED) != (position in results):
            seen = "a result" if position in results else "no result"
            yield Found(Flaw.TORN, position, f"accounts say {told}, there is {seen}")
        if (fate is Fate.DEAD_LETTERED) != (position in letters):
            seen = "a dead letter" if position in letters else "no dead letter"
            yield Found(Flaw.TORN, position, f"accounts say {told}, there is {seen}")
