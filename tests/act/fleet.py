"""Workers and the owner of their targets in one process: requests and answers take no way.

The owner is the real decision core; its transactions always commit. Time is what the test says.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from edo_stream.core.act.breaker import BreakerPolicy
from edo_stream.core.act.grants import Answer, Request, encode, parse_answer
from edo_stream.core.act.keeper import KeeperTopics, TargetKeeper, TargetPolicy
from edo_stream.core.act.limits import RateLimit
from edo_stream.core.act.share import Share
from edo_stream.core.effects import Effects
from edo_stream.core.record import Batch, StoredRecord
from edo_stream.core.state import Table
from edo_stream.core.task import TaskIdentity
from edo_stream.engine.fleet import Gate
from edo_stream.engine.target import Target
from tests.core.memory import Memory

APP = "app"
CONTROL = "edo.control.edo.targets"
ANSWERS = "edo.targets"
IDENTITY = TaskIdentity(APP, "edo.targets", 0)
TOPICS = KeeperTopics(ANSWERS, "edo.accounts", 1)
QUICK = BreakerPolicy(0.5, window=4, consecutive=3, open_ms=100, open_max_ms=400, probes=2)


class Owner:
    """The task that owns targets, with its state; it may be replaced by another one."""

    def __init__(self, policies: Mapping[str, TargetPolicy], name: str = "owner") -> None:
        self.policies = policies
        self.memory = Memory()
        self.offset = 0
        self.begin(name)

    def begin(self, name: str) -> None:
        """Somebody else takes over what is committed."""
        self.state = Table(self.memory)
        self.keeper = TargetKeeper(IDENTITY, name, self.policies, self.state, TOPICS)
        if CONTROL not in self.keeper.positions():
            self.commit(self.keeper.start(CONTROL, 0, 0))

    def read(self, now_ms: int, *values: bytes) -> list[Answer]:
        """Read requests and commit; returns the answers."""
        records = []
        for value in values:
            records.append(StoredRecord(CONTROL, 0, self.offset, now_ms, b"t", value))
            self.offset += 1
        batches = [Batch(CONTROL, 0, records)] if records else []
        return self.commit(self.keeper.step(batches, now_ms, now_ms))

    def commit(self, effects: Effects) -> list[Answer]:
        """Take what a step wants."""
        self.memory.write(self.state.local)
        self.state.settle()
        found = [parse_answer(one.value) for one in effects.publish if one.topic == ANSWERS]
        return [answer for answer in found if answer is not None]

    def ask(self, now_ms: int, *requests: Request) -> list[Answer]:
        """Read requests as they are sent."""
        return self.read(now_ms, *map(encode, requests))


def owner_of(rate: RateLimit | None = None, breaker: BreakerPolicy = QUICK) -> Owner:
    """The owner of one target, ``t``."""
    return Owner({"t": TargetPolicy(breaker, rate)})


def share_of(worker: str, rate: RateLimit | None = None, breaker: BreakerPolicy = QUICK) -> Share:
    """A worker's share of it."""
    share = Share(APP, worker, "t", breaker, rate)
    share.probe_ms = 50
    return share


def talk(owner: Owner, now_ms: int, *shares: Share) -> list[Request]:
    """Let all say what they have to say, until nobody has anything; returns what was sent."""
    sent: list[Request] = []
    while True:
        said = [one for share in shares if (one := share.request(now_ms)) is not None]
        answers = owner.ask(now_ms, *said)
        for answer in answers:
            for share in shares:
                share.hear(answer, now_ms)
        sent += said
        if not said and not answers:
            return sent


def request(worker: str, number: int, **more: Any) -> Request:
    """A worker's request about the target ``t``."""
    return Request(APP, worker, "t", number, **{"epoch": 1, **more})


def gate_of(rate: RateLimit | None = None, breaker: BreakerPolicy = QUICK) -> Gate:
    """A worker's gate to the target ``t``, its owner at hand; call it in an event loop."""
    owner, loop = owner_of(rate, breaker), asyncio.get_running_loop()

    def now_ms() -> int:
        return int(loop.time() * 1000)

    def send(_: str, value: bytes) -> None:
        loop.call_soon(answer, value)

    def answer(*values: bytes) -> None:
        for one in owner.read(now_ms(), *values):
            gate.hear(one)
        due_ms = owner.keeper.next_due_ms()
        if due_ms is not None:
            loop.call_later(max(0.001, (due_ms - now_ms()) / 1000), answer)

    gate = Gate(Share(APP, "w", "t", breaker, rate), send)
    return gate


async def may_begin(target: Target) -> None:
    """Wait until a command may begin."""
    called = asyncio.Event()
    while (wait_ms := target.wait_ms(called.set)) > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(wait_ms / 1000, 5)):
                await called.wait()
        called.clear()
