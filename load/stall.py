"""Measure how long results stood still although there was input, per partition."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

_POLL_S: Final = 0.5
_PATIENCE_S: Final = 5.0


@dataclass(slots=True)
class Stall:
    """The longest time of a partition, and when it ended, in seconds from the start."""

    longest_s: float = 0.0
    ended_s: float = 0.0

    def note(self, lasted_s: float, at_s: float) -> None:
        if lasted_s > self.longest_s:
            self.longest_s, self.ended_s = lasted_s, at_s


@dataclass(slots=True)
class _Clock:
    """Runs while something is pending and does not move."""

    since_s: float | None = None
    mark: int | None = None
    stall: Stall = field(default_factory=Stall)

    def look(self, is_pending: bool, mark: int, now_s: float, start_s: float) -> None:
        if mark != self.mark or not is_pending:
            # A move that was missed while nothing could be read ends the stall late, not early.
            if self.since_s is not None:
                self.stall.note(now_s - self.since_s, now_s - start_s)
            self.since_s, self.mark = now_s if is_pending else None, mark
        elif self.since_s is None:
            self.since_s = now_s
        else:
            self.stall.note(now_s - self.since_s, now_s - start_s)

    def leave_out(self, began_s: float, ended_s: float) -> None:
        """Let a while count for nothing; what stood still before it goes on behind it."""
        if self.since_s is not None:
            self.since_s += ended_s - max(began_s, self.since_s)


class StallWatch:
    """Looks twice a second, past any proxy; a broker that is down counts as standing still.

    Not so while too few brokers run for anything to be written: see :meth:`without_brokers`.

    Two clocks for each partition: ``worked`` runs while the group has not committed all of the
    source and commits nothing; ``visible`` runs while results are written and not visible to a
    ``read_committed`` reader, as behind a transaction that nobody ends.
    """

    def __init__(self, broker: str, group: str, source: str, results: str, partitions: int) -> None:
        self._broker = broker
        self._group = group
        self._sources = [TopicPartition(source, number) for number in range(partitions)]
        self._results = [TopicPartition(results, number) for number in range(partitions)]
        self._worked = [_Clock() for _ in self._sources]
        self._visible = [_Clock() for _ in self._results]
        self._start_s = time.monotonic()
        self._is_blind = False
        self.looks = 0
        self.without_brokers_s = 0.0
        """The longest time that was left out."""

    @contextmanager
    def without_brokers(self) -> Iterator[None]:
        """Count nothing in this block: no worker could do better than to wait."""
        began_s = time.monotonic()
        self._is_blind = True
        try:
            yield
        finally:
            ended_s = time.monotonic()
            self._is_blind = False
            self.without_brokers_s = max(self.without_brokers_s, ended_s - began_s)
            for clock in (*self._worked, *self._visible):
                clock.leave_out(began_s, ended_s)

    @property
    def worked(self) -> list[Stall]:
        """Per partition: the group committed nothing, although there was input."""
        return [clock.stall for clock in self._worked]

    @property
    def visible(self) -> list[Stall]:
        """Per partition: results were written and could not be read."""
        return [clock.stall for clock in self._visible]

    @property
    def longest_s(self) -> float:
        """The worst of all."""
        return max(stall.longest_s for stall in (*self.worked, *self.visible))

    def age_s(self) -> float:
        """How long the partition that stands still the longest has done so by now."""
        now_s = time.monotonic()
        return max(
            0.0 if clock.since_s is None else now_s - clock.since_s for clock in self._worked
        )

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            # Clients that have seen a broker die are not trusted: new ones see what is.
            with suppress(Exception):
                await self._watch()
            await asyncio.sleep(_POLL_S)

    async def _watch(self) -> None:
        async with AsyncExitStack() as stack:
            clients: list[Any] = [
                self._consumer("read_committed"),
                self._consumer("read_uncommitted"),
                AIOKafkaAdminClient(
                    bootstrap_servers=self._broker, request_timeout_ms=int(_PATIENCE_S * 1000)
                ),
            ]
            for client in clients:
                stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
                stack.push_async_callback(stop)
            for client in clients:
                async with asyncio.timeout(_PATIENCE_S):
                    await client.start()
            while True:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._look(*clients)
                await asyncio.sleep(_POLL_S)

    def _consumer(self, isolation: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._broker,
            isolation_level=isolation,
            request_timeout_ms=int(_PATIENCE_S * 1000),
        )

    async def _look(
        self, stable: AIOKafkaConsumer, end: AIOKafkaConsumer, admin: AIOKafkaAdminClient
    ) -> None:
        offsets: Mapping[TopicPartition, Any] = await admin.list_consumer_group_offsets(
            self._group, partitions=list(self._sources)
        )
        sources = await stable.end_offsets(self._sources)
        visible = await stable.end_offsets(self._results)
        written = await end.end_offsets(self._results)
        now_s = time.monotonic()
        if self._is_blind:
            return
        for clock, partition in zip(self._worked, self._sources, strict=True):
            committed = max(0, offsets[partition].offset) if partition in offsets else 0
            is_pending = committed < sources[partition]
            clock.look(is_pending, committed, now_s, self._start_s)
        for clock, partition in zip(self._visible, self._results, strict=True):
            is_pending = visible[partition] < written[partition]
            clock.look(is_pending, visible[partition], now_s, self._start_s)
        self.looks += 1


def stalls_text(name: str, stalls: Sequence[Stall]) -> str:
    """One line for a person."""
    each = ", ".join(f"{stall.longest_s:.1f} s (at {stall.ended_s:.0f} s)" for stall in stalls)
    return f"{name}: {each}"
