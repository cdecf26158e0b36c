"""Find the anomalies in a history of Kafka transactions, as their clients saw them.

The form of a history and the anomalies are those of Jepsen's Kafka workload (jepsen.tests.kafka);
cycles between transactions (G0, G1c …) are not looked for.

A history is a sequence of operations ``{index, process, type, f, value}``: ``type`` is
``invoke``, ``ok``, ``fail`` or ``info`` (unknown outcome), ``f`` is ``send``, ``poll`` or
``txn`` with micro-operations as its value, or ``subscribe`` or ``assign`` with keys. A
micro-operation is ``["send", key, value]``, ``["send", key, [offset, value]]`` where the offset is
known, ``["poll"]``, or ``["poll", {key: [[offset, value], …]}]``. Values of a key are unique.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Operation = Mapping[str, Any]
Detail = dict[str, Any]
Anomalies = dict[str, list[Detail]]


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
