"""Readers in the world of correlation: at any moment they ask any worker for the state of a key.

What they are told is held against the changelog: rows and offsets must be those of one committed
transaction, and of a record that was asked for everything that it led to must be in them.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.correlation.joined import Joined, decode_joined
from edo_stream.core.correlation.rows import WAIT
from edo_stream.core.partitioner import partition_of
from edo_stream.core.state import Table
from edo_stream.core.task import TASK_KEY
from edo_stream.engine.read_model import Answer, MinOffset, Question, ReadModel, StateOf
from edo_stream.testing.broker import Entry, Log
from tests.simulation.joins import CHANGELOG, GROUP, INPUTS, TOPIC, JoinWorld
from tests.simulation.world import Worker

_READERS = 2
_FLOW = "pair"


class ReadWorld(JoinWorld):
    """The world of correlation, with readers on each worker."""

    def __init__(self, seed: int, keeps_trace: bool = False) -> None:
        super().__init__(seed, keeps_trace)
        self.answers: Counter[int | str] = Counter()
        self.prepare = self._add_readers

    def _add_readers(self, worker: Worker) -> None:
        model = ReadModel(
            {_FLOW: StateOf(GROUP, self.scenario.groups[1].partitions, _read, self._upstream())},
            lambda: worker.assignment.tasks if worker.assignment.is_assigned else None,
            lambda place: self._address(worker, place),
            lambda: _Looking(worker),
        )
        for _ in range(_READERS):
            worker.process.start(self._read_on(model))

    def _upstream(self) -> dict[str, int]:
        return dict.fromkeys(INPUTS.values(), self.scenario.groups[0].partitions)

    def _address(self, worker: Worker, place: TopicPartition) -> str | None:
        owner = self._owner(GROUP, place.partition)
        return None if owner is None or owner is worker else owner.process.name

    async def _read_on(self, model: ReadModel) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(4.0))
            question = self._question()
            answer = await model.answer(question)
            self.answers[answer.status] += 1
            if answer.status == 200:
                self._hold(question, answer)

    def _question(self) -> Question:
        """One about a key; now and then about one of which a record was just written."""
        random = self.random
        places = [place for place in self.broker.logs if place.topic in INPUTS.values()]
        place = random.choice(sorted(places))
        written = [entry for entry in self.broker.logs[place].history if entry.is_committed()]
        if not written or random.random() < 0.3:
            return Question(_FLOW, b"k%d" % random.randrange(24))
        entry = written[-1] if random.random() < 0.7 else random.choice(written)
        key = msgspec.json.decode(entry.value or b"")["k"].encode()
        wanted = MinOffset(place.topic, place.partition, entry.offset)
        return Question(_FLOW, key, [wanted], wait_s=random.choice((0.0, 2.0, 9.0)))

    def _hold(self, question: Question, answer: Answer) -> None:
        """Hold an answer against what is committed."""
        number = partition_of(question.key, self.scenario.groups[1].partitions)
        committed = self._committed(number, question.key, answer.document["task"])
        if answer.document["row"] not in committed:
            self.fail(f"{question}: {answer}, committed are {committed}")
        applied = answer.document["applied"]
        for wanted in question.min_offsets:
            self.answers["awaited"] += 1
            for entry in self._led_to(number, wanted):
                if applied[TOPIC][str(number)] < entry.offset:
                    self.fail(f"{question}: {applied} is not up to {entry.offset}")
            if applied[wanted.topic][str(wanted.partition)] < wanted.offset:
                self.fail(f"{question}: {applied}")

    def _committed(self, number: int, key: bytes, task: str) -> list[str | None]:
        """A key's row after each transaction that the task's own row is of.

        They may be several: timers that fire leave the task's row as it is.
        """
        rows: dict[bytes, bytes | None] = {}
        found: list[str | None] = []
        for entries in _transactions(self.broker.logs[TopicPartition(CHANGELOG, number)]):
            rows |= {entry.key or b"": entry.value for entry in entries}
            row = rows.get(WAIT + _name(key))
            if (rows.get(TASK_KEY) or b"").hex() == task:
                found.append(None if row is None else row.hex())
        return found

    def _led_to(self, number: int, wanted: MinOffset) -> list[Entry]:
        """Records of the task's own topic that come from a record of an input."""
        position = f"{wanted.topic}/{wanted.partition}/{wanted.offset}"
        log = self.broker.logs[TopicPartition(TOPIC, number)]
        found = []
        for entry in log.history:
            joined = decode_joined(entry.value) if entry.is_committed() else None
            if isinstance(joined, Joined) and joined.position == position:
                found.append(entry)
        return found


class _Looking:
    """What a worker's consumer is asked."""

    def __init__(self, worker: Worker) -> None:
        self.committed = worker.intake.committed
        self.high_watermarks = worker.intake.high_watermarks
        self.last_handed = worker.intake.last_handed
        self.fetch_position = worker.intake.fetch_position
        self.heard_at = worker.membership.heard_at


def _read(state: Table, key: bytes, limit: int, after: bytes) -> dict[str, Any]:
    row, task = state.get(WAIT + _name(key)), state.get(TASK_KEY)
    return {"row": None if row is None else row.hex(), "task": (task or b"").hex()}


def _name(key: bytes) -> bytes:
    return _FLOW.encode() + b"\0" + key


def _transactions(log: Log) -> Iterable[list[Entry]]:
    """What each committed transaction wrote to a log, in order."""
    found: dict[Any, list[Entry]] = {}
    for entry in log.history:
        if entry.is_committed():
            found.setdefault(entry.txn, []).append(entry)
    return found.values()
