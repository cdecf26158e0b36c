"""A consumer group: its coordinator at the broker, and a member's side of it (aiokafka, eager).

A member is heard while its heartbeats come. In a rebalance each member first awaits its revoke
callback, heartbeats going on, and joins again; who takes too long is left out, and who was not
heard for a session is out at once. Neither learns of it before its next heartbeat.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Protocol

from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from edo_stream.testing.intake import SimulatedIntake
from edo_stream.testing.loop import VirtualLoop
from edo_stream.testing.producer import Machinery

Joined = tuple[int, list[TopicPartition], list[TopicPartition]]
"""Generation, partitions to work on, and partitions to stand by for."""


class _Member:
    def __init__(self) -> None:
        self.heard_at = 0.0
        self.waiting: asyncio.Future[Joined] | None = None


class Coordinator:
    """Who is in the group, and who has which tasks: all sources of a partition go together."""

    def __init__(
        self,
        loop: VirtualLoop,
        random: Random,
        tasks: Mapping[tuple[str, int], list[TopicPartition]],
        session_timeout_s: float,
        rebalance_timeout_s: float,
        standbys: int,
    ) -> None:
        self.generation = 0
        self.owners: dict[tuple[str, int], str] = {}
        self._loop = loop
        self._random = random
        self._tasks = tasks
        self._session_timeout_s = session_timeout_s
        self._rebalance_timeout_s = rebalance_timeout_s
        self._standbys = standbys
        self._members: dict[str, _Member] = {}
        self._rebalance = 0
        self._is_rebalancing = False

    def join(self, name: str, answer: "asyncio.Future[Joined]") -> None:
        """Take part in the next generation; the answer comes when it begins."""
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = _Member()
            self._loop.later(self._session_timeout_s, self._check, name, member)
        member.waiting = answer
        member.heard_at = self._loop.time()
        self._begin_rebalance()

    def heartbeat(self, name: str, generation: int) -> None:
        member = self._members.get(name)
        if member is None:
            raise UnknownMemberIdError
        if generation != self.generation:
            raise IllegalGenerationError
        member.heard_at = self._loop.time()
        if self._is_rebalancing:
            raise RebalanceInProgressError

    def has(self, name: str, task: tuple[str, int]) -> bool:
        """Whether a task is nobody else's yet: in a rebalance, those that had tasks end them."""
        return self._is_rebalancing or self.owners.get(task) == name

    def leave(self, name: str) -> None:
        if self._members.pop(name, None) is not None:
            self._begin_rebalance()

    def rebalance(self) -> None:
        """As when a topic was added: everybody joins again."""
        if self._members:
            self._begin_rebalance()

    def _check(self, name: str, member: _Member) -> None:
        if self._members.get(name) is not member:
            return
        silent_s = self._loop.time() - member.heard_at
        if silent_s >= self._session_timeout_s and member.waiting is None:
            self.leave(name)
        else:
            wait_s = max(self._session_timeout_s - silent_s, 0.5)
            self._loop.later(wait_s, self._check, name, member)

    def _begin_rebalance(self) -> None:
        if not self._is_rebalancing:
            self._is_rebalancing = True
            self._rebalance += 1
            self._loop.later(self._rebalance_timeout_s, self._give_up, self._rebalance)
        self._end_if_complete()

    def _give_up(self, rebalance: int) -> None:
        if self._is_rebalancing and rebalance == self._rebalance:
            for name, member in list(self._members.items()):
                if member.waiting is None:
                    del self._members[name]
            self._end_if_complete()

    def _end_if_complete(self) -> None:
        if any(member.waiting is None for member in self._members.values()):
            return
        self._is_rebalancing = False
        self.generation += 1
        names = sorted(self._members)
        self._random.shuffle(names)
        shares: dict[str, list[TopicPartition]] = {name: [] for name in names}
        warm: dict[str, list[TopicPartition]] = {name: [] for name in names}
        self.owners = {}
        if names:
            for index, (task, places) in enumerate(sorted(self._tasks.items())):
                owner = self.owners[task] = names[index % len(names)]
                shares[owner] += places
                for other in range(1, min(self._standbys, len(names) - 1) + 1):
                    warm[names[(index + other) % len(names)]] += places
        for name in names:
            member = self._members[name]
            waiting, member.waiting = member.waiting, None
            member.heard_at = self._loop.time()
            if waiting is not None and not waiting.done():
                waiting.set_result((self.generation, shares[name], warm[name]))


class Callbacks(Protocol):
    """What a member calls on a rebalance."""

    async def revoke(self) -> None: ...

    async def assign(
        self, partitions: list[TopicPartition], standbys: list[TopicPartition]
    ) -> None: ...


class SimulatedMembership:
    """One process's place in the group, and the port ``Membership``."""

    def __init__(
        self,
        machinery: Machinery,
        coordinator: Coordinator,
        intake: SimulatedIntake,
        heartbeat_interval_s: float,
    ) -> None:
        self.is_mute = False
        self.answered_at = 0.0
        """When the group last said that it is a member."""
        self._m = machinery
        self._coordinator = coordinator
        self._intake = intake
        self._interval_s = heartbeat_interval_s
        self._incarnation = 0
        self._generation = -1
        self._confirmed: tuple[float, int] = (-1.0, -1)
        self._rejoin = asyncio.Event()
        self._beat = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._is_leaving = False
        self._left = asyncio.Event()

    async def run(self, callbacks: Callbacks) -> None:
        """Be a member until :meth:`leave`."""
        m = self._m
        while True:
            await callbacks.revoke()
            if self._is_leaving:
                break
            self._stop_beating()
            self._rejoin.clear()
            answer: asyncio.Future[Joined] = m.loop.create_future()
            await m.network.call(m.process, self._coordinator.join, self.name, answer)
            generation, partitions, standbys = await answer
            self._generation = generation
            self.answered_at = m.loop.time()
            # The main loop learns of it a little later than the coordinator's client.
            await asyncio.sleep(m.faults.between(0, 0.003))
            self._beating = m.loop.create_task(self._beat_on())
            self._intake.hold_all(partitions, generation)
            await callbacks.assign(partitions, standbys)
            await self._rejoin.wait()
        self._stop_beating()
        await m.network.call(m.process, self._coordinator.leave, self.name)
        self._left.set()

    async def leave(self) -> None:
        """Leave the group gracefully."""
        self._is_leaving = True
        self._rejoin.set()
        await self._left.wait()

    async def confirmed_since(self, moment: float, timeout_s: float) -> bool:
        """See :class:`edo_stream.engine.ports.Membership`."""
        m = self._m
        m.faults.enter(m.process)
        generation = self._intake.generation
        deadline = m.loop.time() + timeout_s
        while m.loop.time() < deadline:
            sent_at, of_generation = self._confirmed
            if sent_at > moment and of_generation == generation:
                m.faults.leave(m.process)
                return self._intake.generation == generation
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline - m.loop.time()):
                    await self._beat.wait()
        return False

    def heard_at(self) -> float:
        """See :class:`edo_stream.engine.ports.Membership`."""
        return self._confirmed[0]

    @property
    def name(self) -> str:
        """As the coordinator knows it."""
        return f"{self._m.process.name}#{self._incarnation}"

    def _stop_beating(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    async def _beat_on(self) -> None:
        m = self._m
        while True:
            await asyncio.sleep(self._interval_s)
            if self.is_mute:
                continue
            sent_at, generation = m.loop.time(), self._generation
            try:
                await m.network.call(m.process, self._coordinator.heartbeat, self.name, generation)
            except RebalanceInProgressError:
                self._rejoin.set()
            except KafkaError:
                # Out of the group, or of the generation: aiokafka joins as somebody new.
                self._incarnation += 1
                self._rejoin.set()
                return
            self._confirmed = (sent_at, generation)
            self.answered_at = m.loop.time()
            self._beat.set()
            self._beat.clear()
