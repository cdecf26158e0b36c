"""The way from a process to the broker and back: it takes time, and may take very long.

A request in flight is not the process's any more: it arrives although its sender was killed,
paused or has stopped to wait. Processes that are cut off have their requests arrive when the
cut ends.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from aiokafka.errors import KafkaError

from edo_stream.testing.loop import Process, VirtualLoop


class Network:
    """Carries requests; ``slowness`` stretches every way from now on."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self.slowness = 1.0
        self.cut_until: dict[Process, float] = {}
        self._loop = loop
        self._random = random

    def call(
        self, process: Process, effect: Callable[..., Any], *args: Any, delay_s: float = 0.0
    ) -> "asyncio.Future[Any]":
        """Have the broker do something; the future has its result, or its ``KafkaError``."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        wait_s = delay_s + self._way_s()
        until = self.cut_until.get(process)
        if until is not None:
            wait_s += max(0.0, until - self._loop.time())
        self._loop.later(wait_s, self._arrive, answer, process, effect, args)
        return answer

    def _arrive(
        self,
        answer: "asyncio.Future[Any]",
        process: Process,
        effect: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        result, error = None, None
        try:
            result = effect(*args)
        except KafkaError as refusal:
            error = refusal
        if not answer.done() and process.is_alive:
            self._loop.later(self._way_s(), _settle, answer, result, error)

    def _way_s(self) -> float:
        chance = self._random.random()
        way_s = 0.0005 + 0.002 * chance if chance < 0.97 else 0.1 * self._random.random()
        return way_s * self.slowness


def _settle(answer: "asyncio.Future[Any]", result: Any, error: KafkaError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
