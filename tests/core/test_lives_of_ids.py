"""Ids through random lives of a task on two workers, beside a dictionary of what it must know.

Owner and standby change places, each on the disk that it has; steps are aborted, or committed and
lost before they reach the disk; a standby lags and expires by an older clock; two topics have times
to live of their own, which change; budgets and sweeps are of any size.
"""

from random import Random

import pytest

from edo_stream.core.dedupe import Ids, expand_ids
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.state import Table
from tests.core.memory import Memory

TTL_S = {"x": 5, "y": 40}
STEPS = 150


class Worker:
    """A disk, how much of the changelog is on it, and the ids of its task."""

    def __init__(self, log: list[tuple[bytes, bytes | None]], ids_max: int) -> None:
        self.disk = Memory()
        self.at = 0
        self._log = log
        self._ids_max = ids_max
        self.start()

    def restore(self, until: int) -> None:
        for key, value in self._log[self.at : until]:
            self.disk.write(dict(expand_ids(key, value)))
        self.at = until

    def start(self) -> None:
        """Begin a task on what the disk has, brought up to the end."""
        self.restore(len(self._log))
        self.budget = IdsBudget(self._ids_max)
        self.table = Table(self.disk, expand_ids)
        self.ids = Ids(self.table, self.budget)

    def stand_by(self, until: int, stream_s: int, turns: int) -> None:
        self.restore(until)
        table = Table(self.disk, expand_ids)
        ids = Ids(table, IdsBudget())
        for _ in range(turns):
            ids.sweep(stream_s * 1000, 2)
            self.disk.write(table.local)
            table.settle()

    def commit(self) -> None:
        self._log += self.table.changelog.items()
        self.disk.write(self.table.local)
        self.at = len(self._log)
        self.table.settle()


class Life:
    """One history."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.log: list[tuple[bytes, bytes | None]] = []
        budgets = self.random.choice([0, 3, 30, 1000]), self.random.choice([0, 1000])
        self.owner, self.other = (Worker(self.log, ids_max) for ids_max in budgets)
        self.known: dict[tuple[str, int], int] = {}
        self.now_s, self.offset = 1, 0

    def live(self) -> None:
        for _ in range(STEPS):
            self.now_s += self.random.choice([0, 0, 1, 3, 12])
            what = self.random.random()
            if what < 0.08:
                self.owner, self.other = self.other, self.owner
                self.owner.start()
            elif what < 0.12:
                self.owner.start()
            elif what < 0.25:
                until = self.random.randint(self.other.at, len(self.log))
                stream_s = self.random.choice([self.now_s, self.now_s - 3])
                self.other.stand_by(until, stream_s, self.random.randint(0, 5))
            else:
                self.step()

    def step(self) -> None:
        owner, known = self.owner, dict(self.known)
        owner.ids.sweep(self.now_s * 1000, self.random.choice([0, 1, 2, 4]))
        for topic in self.random.sample(sorted(TTL_S), self.random.choice([1, 2])):
            self.read(topic, known)
            self.now_s += self.random.choice([0, 0, 0, 0, 6])
        what = self.random.random()
        if what < 0.15:
            owner.table.discard()
            owner.ids.restore()
            return
        self.known = known
        if what < 0.25:
            # Committed; the worker has ended before it was on the disk.
            self.log += owner.table.changelog.items()
            owner.start()
            return
        owner.commit()
        assert owner.budget.ids == len(owner.ids._known())

    def read(self, topic: str, known: dict[tuple[str, int], int]) -> None:
        """A batch of a topic."""
        numbers = [self.random.randrange(8) for _ in range(self.random.randint(1, 5))]
        digests = [bytes([number]) * 15 + topic.encode() for number in numbers]
        ids = self.owner.ids
        for number, digest, row in zip(numbers, digests, ids.recall(digests), strict=True):
            ttl_s = TTL_S[topic] if self.random.random() < 0.9 else 2
            is_first = known.get((topic, number), 0) <= self.now_s
            expiry_s = self.now_s + ttl_s
            assert is_first is ids.admit(digest, row, self.offset, self.now_s * 1000, expiry_s)
            if is_first:
                known[topic, number] = expiry_s
            self.offset += 1
        ids.write(topic)

    def end(self) -> None:
        """Nothing is left of it on either disk when all has expired."""
        for worker in (self.owner, self.other):
            worker.start()
            worker.ids.recall([bytes(16)])
            for _ in range(2 * len(worker.disk.rows) + 2):
                worker.ids.sweep((self.now_s + 100) * 1000, 1)
                worker.disk.write(worker.table.local)
                worker.table.settle()
            assert worker.disk.rows == {}
            assert worker.budget.ids == 0


@pytest.mark.parametrize("seed", range(60))
def test_the_same_ids_are_known_wherever_they_are(seed: int) -> None:
    life = Life(seed)
    life.live()
    life.end()
