"""Judge what clients saw: histories of Kafka transactions, and the outcome of a pipeline.

:func:`check` takes a history in the form of Jepsen's Kafka workload and finds its anomalies, by
the definitions there (jepsen.tests.kafka); cycles between transactions (G0, G1c …) are not
looked for. :func:`judge` takes what went into a pipeline and what came out of it.

A history is a sequence of operations ``{index, process, type, f, value}``: ``type`` is
``invoke``, ``ok``, ``fail`` or ``info`` (unknown outcome), ``f`` is ``send``, ``poll`` or
``txn`` with micro-operations as its value, or ``subscribe`` or ``assign`` with keys. A
micro-operation is ``["send", key, value]``, ``["send", key, [offset, value]]`` where the offset is
known, ``["poll"]``, or ``["poll", {key: [[offset, value], …]}]``. Values of a key are unique.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, Final, NamedTuple

from edo_stream.core.accounts import SKIPPED, Fate

Operation = Mapping[str, Any]
Detail = dict[str, Any]
Anomalies = dict[str, list[Detail]]

#: Happens on Kafka by design: other transactions write between the records of one.
ALLOWED: Final = frozenset({"int-send-skip"})


class _Send(NamedTuple):
    key: str
    offset: int | None
    value: Any


class _Read(NamedTuple):
    key: str
    offset: int
    value: Any


class _Log:
    """Version order of a key: what was found at which offset, ranked without the empty ones."""

    def __init__(self, found: Iterable[tuple[int, Any]]) -> None:
        values: defaultdict[int, list[Any]] = defaultdict(list)
        self.offsets: dict[Any, list[int]] = {}
        for offset, value in found:
            if value not in values[offset]:
                values[offset].append(value)
            places = self.offsets.setdefault(value, [])
            if offset not in places:
                places.append(offset)
        self.ranked: list[tuple[int, list[Any]]] = sorted(values.items())
        self.index: dict[Any, int] = {}
        for index, (_, at_offset) in enumerate(self.ranked):
            for value in at_offset:
                self.index.setdefault(value, index)

    def between(self, first: int, last: int) -> list[Any]:
        """Values strictly between two indices."""
        return [value for _, values in self.ranked[first + 1 : last] for value in values]


class _History:
    """A history with what every search needs: its completed operations and version orders."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.completed = [one for one in operations if one["type"] != "invoke"]
        self.read_ok = {
            (read.key, read.value)
            for one in self.completed
            if one["type"] == "ok"
            for read in _reads(one)
        }
        self.logs = {key: _Log(found) for key, found in self._found().items()}

    def is_committed(self, operation: Operation) -> bool:
        """An operation that succeeded, or of unknown outcome with a value that was read."""
        if operation["type"] == "info":
            return any((sent.key, sent.value) in self.read_ok for sent in _sends(operation))
        return bool(operation["type"] == "ok")

    def index(self, key: str, value: Any) -> int | None:
        log = self.logs.get(key)
        return None if log is None else log.index.get(value)

    def _found(self) -> dict[str, list[tuple[int, Any]]]:
        found: defaultdict[str, list[tuple[int, Any]]] = defaultdict(list)
        for one in self.completed:
            if self.is_committed(one):
                for key, offset, value in _sends(one):
                    if offset is not None:
                        found[key].append((offset, value))
            for key, offset, value in _reads(one):
                found[key].append((offset, value))
        return found


def check(history: Iterable[Operation]) -> Anomalies:
    """Find the anomalies of a history, by name; references are indices of completing operations.

    A history in which nothing was sent and nothing polled proves nothing: it has the anomaly
    ``no-operations``.
    """
    seen = _History(history)
    found: Anomalies = {
        "duplicate": _duplicates(seen),
        "inconsistent-offsets": _inconsistent_offsets(seen),
        "lost-write": _lost_writes(seen),
        "G1a": _aborted_reads(seen),
        "precommitted-read": _precommitted_reads(seen),
        "unseen": _unseen(seen),
        "no-operations": [] if any(map(_steps, seen.completed)) else [{}],
        **_jumps_between(seen, "poll"),
        **_jumps_between(seen, "send"),
        **_jumps_within(seen, "poll"),
        **_jumps_within(seen, "send"),
    }
    return {name: details for name, details in found.items() if details}


def _steps(operation: Operation) -> Sequence[Any]:
    return operation["value"] if operation["f"] in ("send", "poll", "txn") else ()


def _sends(operation: Operation) -> Iterator[_Send]:
    for step in _steps(operation):
        if step[0] == "send":
            _, key, what = step
            offset, value = what if isinstance(what, list | tuple) else (None, what)
            yield _Send(key, offset, value)


def _reads(operation: Operation) -> Iterator[_Read]:
    for step in _steps(operation):
        if step[0] == "poll" and len(step) > 1:
            for key, records in step[1].items():
                for offset, value in records:
                    yield _Read(key, offset, value)


def _duplicates(seen: _History) -> list[Detail]:
    return [
        {"key": key, "value": value, "count": len(offsets), "offsets": sorted(offsets)}
        for key, log in seen.logs.items()
        for value, offsets in log.offsets.items()
        if len(offsets) > 1
    ]


def _inconsistent_offsets(seen: _History) -> list[Detail]:
    return [
        {"key": key, "index": index, "offset": offset, "values": values}
        for key, log in seen.logs.items()
        for index, (offset, values) in enumerate(log.ranked)
        if len(values) > 1
    ]


def _lost_writes(seen: _History) -> list[Detail]:
    """Committed, not beyond the last value read of the key, and never returned by any poll."""
    returned = {(read.key, read.value) for one in seen.completed for read in _reads(one)}
    last: dict[str, tuple[int, int]] = {}
    for one in seen.completed:
        if one["type"] == "ok":
            for key, _, value in _reads(one):
                index = seen.logs[key].index[value]
                if key not in last or index > last[key][0]:
                    last[key] = (index, one["index"])
    found = []
    for one in filter(seen.is_committed, seen.completed):
        for key, _, value in _sends(one):
            place = seen.index(key, value)
            if place is None or key not in last or (key, value) in returned:
                continue
            read_index, reader = last[key]
            if place <= read_index:
                found.append(
                    {
                        "key": key,
                        "value": value,
                        "index": place,
                        "max-read-index": read_index,
                        "writer": one["index"],
                        "max-read": reader,
                    }
                )
    return found


def _aborted_reads(seen: _History) -> list[Detail]:
    failed = {
        (sent.key, sent.value): one["index"]
        for one in seen.completed
        if one["type"] == "fail"
        for sent in _sends(one)
    }
    return [
        {"reader": one["index"], "writer": failed[key, value], "key": key, "value": value}
        for one in seen.completed
        if one["type"] == "ok"
        for key, _, value in _reads(one)
        if (key, value) in failed
    ]


def _precommitted_reads(seen: _History) -> list[Detail]:
    found = []
    for one in seen.completed:
        own = {(sent.key, sent.value) for sent in _sends(one)}
        found += [
            {"op": one["index"], "key": key, "value": value}
            for key, _, value in _reads(one)
            if (key, value) in own
        ]
    return found


def _unseen(seen: _History) -> list[Detail]:
    unseen: defaultdict[str, list[Any]] = defaultdict(list)
    for one in seen.completed:
        if one["type"] == "ok":
            for key, _, value in _sends(one):
                if (key, value) not in seen.read_ok:
                    unseen[key].append(value)
    return [{"key": key, "values": values} for key, values in unseen.items()]


def _values(operation: Operation, what: str) -> Iterator[tuple[str, Any]]:
    for one in _reads(operation) if what == "poll" else _sends(operation):
        yield one.key, one.value


def _placed(seen: _History, operation: Operation, what: str) -> dict[str, list[tuple[int, Any]]]:
    """Per key the values of an operation whose index is known, in its own order."""
    placed: defaultdict[str, list[tuple[int, Any]]] = defaultdict(list)
    for key, value in _values(operation, what):
        index = seen.index(key, value)
        if index is not None:
            placed[key].append((index, value))
    return placed


def _jumps_within(seen: _History, what: str) -> Anomalies:
    skips, backwards = [], []
    for one in seen.completed:
        for key, values in _placed(seen, one, what).items():
            for (index, value), (following, next_value) in pairwise(values):
                jump: Detail = {
                    "key": key,
                    "values": [value, next_value],
                    "delta": following - index,
                    "op": one["index"],
                }
                if following - index > 1:
                    skipped = seen.logs[key].between(index, following)
                    skips.append({**jump, "skipped": skipped})
                elif following <= index:
                    backwards.append(jump)
    return {f"int-{what}-skip": skips, f"int-nonmonotonic-{what}": backwards}


def _jumps_between(seen: _History, what: str) -> Anomalies:
    """Skips and steps back between successive transactions of one process.

    Only what succeeded moves the process on: an aborted transaction rewinds it. A key that a
    subscription drops is forgotten.
    """
    skips, backwards = [], []
    last: defaultdict[Any, dict[str, tuple[int, int, Any]]] = defaultdict(dict)
    for one in seen.completed:
        of_process = last[one["process"]]
        if one["f"] in ("subscribe", "assign"):
            kept = {key: of_process[key] for key in one["value"] if key in of_process}
            last[one["process"]] = kept
            continue
        if what == "send" and one["type"] == "fail":
            continue
        for key, values in _placed(seen, one, what).items():
            first, first_value = values[0]
            if key in of_process:
                operation, index, value = of_process[key]
                jump: Detail = {
                    "key": key,
                    "ops": [operation, one["index"]],
                    "delta": first - index,
                }
                if first - index > 1:
                    skips.append({**jump, "skipped": seen.logs[key].between(index, first)})
                elif first <= index:
                    backwards.append({**jump, "values": [value, first_value]})
            if one["type"] == "ok":
                of_process[key] = (one["index"], *values[-1])
    if what == "send":  # others write in between: nothing was skipped
        return {"nonmonotonic-send": backwards}
    return {"poll-skip": skips, "nonmonotonic-poll": backwards}


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
