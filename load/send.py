"""Send a plan open-loop: the clock decides when a record goes, never the broker's answer.

Theory of operation. One loop hands every record that is due to the lane of its partition; a
lane fills batches while the one before is on its way, so that batches grow with the backlog.
The only brake is ``pending_max``, the records not yet acknowledged. When it holds the loop
back, the records behind it go late, and how late is measured against the plan: what a
closed-loop generator would leave out (coordinated omission) is in the report.
"""

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from edo_stream.engine.guard import pace_metadata
from load.plan import Headers, Planned, time_of

_BATCH_BYTES: Final = 512 * 1024
_TICK_S: Final = 0.002
#: Records handed over before the loop looks at the clock and lets the network run.
_STRIDE: Final = 250


@dataclass(frozen=True, slots=True)
class SendPolicy:
    pending_max: int = 100_000
    """Records sent and not yet acknowledged; at the bound the schedule slips, and says so."""
    late_ms: float = 20.0
    """A record that goes so much after its time counts as late."""
    compression: str | None = None


@dataclass(slots=True)
class Report:
    """What was sent, and how well the schedule was kept; times are against the plan."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    late: int = 0
    held_back: int = 0
    """Times that ``pending_max`` stopped the loop."""
    duration_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lags_ms: "array[float]" = field(default_factory=lambda: array("f"))
    """How long after its time each record was handed to the producer; empty without a rate."""
    acknowledged_ms: "array[float]" = field(default_factory=lambda: array("f"))
    """From the time of a batch's oldest record to its acknowledgement, one a batch."""

    @property
    def rate(self) -> float:
        return self.sent / self.duration_s if self.duration_s else 0.0

    def as_dict(self) -> dict[str, object]:
        """Plain values for ``--json``."""
        return {
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "late": self.late,
            "held_back": self.held_back,
            "duration_s": round(self.duration_s, 3),
            "rate": round(self.rate, 1),
            "kinds": dict(self.kinds),
            "errors": dict(self.errors),
            "schedule_lag_ms": quantiles(self.lags_ms),
            "acknowledged_ms": quantiles(self.acknowledged_ms),
        }


def quantiles(values: "array[float]") -> dict[str, float] | None:
    """Read p50, p99 and the greatest of the values; ``None`` without values."""
    if not values:
        return None
    ranked = sorted(values)
    return {
        "p50": round(ranked[len(ranked) // 2], 3),
        "p99": round(ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)], 3),
        "max": round(ranked[-1], 3),
    }


class TopicMissingError(Exception):
    """The topic to send to does not exist."""


async def send(
    planned: Iterable[Planned],
    topic: str,
    broker: Mapping[str, Any],
    policy: SendPolicy,
    on_progress: Callable[[Report], None],
) -> Report:
    """Send the plan and wait until every record is acknowledged or has failed.

    ``broker`` is what the client needs to connect: ``bootstrap_servers`` and its security.
    ``on_progress`` is told twice a second; the report grows between the calls.

    Raises:
        TopicMissingError: No such topic.
        KafkaError: The broker cannot be reached.
    """
    producer = AIOKafkaProducer(
        **broker,
        acks="all",
        enable_idempotence=True,
        compression_type=policy.compression,
        max_batch_size=_BATCH_BYTES,
        max_request_size=2 * _BATCH_BYTES,
    )
    pace_metadata(producer.client)
    await producer.start()
    try:
        if topic not in (await producer.client.fetch_all_metadata()).topics():
            raise TopicMissingError(f"topic {topic} does not exist")
        partitions = sorted(await producer.partitions_for(topic))
        sender = _Sender(producer, topic, partitions, policy)
        watcher = asyncio.create_task(_watch(sender.report, on_progress))
        try:
            await sender.run(planned)
        finally:
            watcher.cancel()
        on_progress(sender.report)
        return sender.report
    finally:
        await producer.stop()


async def _watch(report: Report, on_progress: Callable[[Report], None]) -> None:
    while True:
        await asyncio.sleep(0.5)
        on_progress(report)


class _Sender:
    """The loop that keeps the schedule, and the lanes that it feeds."""

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, partitions: list[int], policy: SendPolicy
    ) -> None:
        self.report = Report()
        self._policy = policy
        self._partitions = partitions
        self._partitioner = DefaultPartitioner()
        self._lane_of: dict[bytes, _Lane] = {}
        self._acknowledged = asyncio.Event()
        self._start_s = 0.0
        self._lanes = {
            partition: _Lane(producer, topic, partition, self._settle) for partition in partitions
        }

    async def run(self, planned: Iterable[Planned]) -> None:
        self._start_s = time.monotonic()
        pumps = [asyncio.create_task(lane.pump()) for lane in self._lanes.values()]
        try:
            await self._keep_schedule(planned)
            for lane in self._lanes.values():
                lane.finish()
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            self.report.duration_s = time.monotonic() - self._start_s

    async def _keep_schedule(self, planned: Iterable[Planned]) -> None:
        elapsed_s = 0.0
        stamp = time_of(time.time_ns() // 1_000_000)
        for index, record in enumerate(planned):
            if index % _STRIDE == 0 or record.due_s > elapsed_s:
                elapsed_s = await self._until(record.due_s)
                stamp = time_of(time.time_ns() // 1_000_000)
            self._hand_over(record, elapsed_s, stamp)

    async def _until(self, due_s: float) -> float:
        """Let the network run, wait for the time and, at the bound, for room; the new time."""
        while self.report.sent - self._settled >= self._policy.pending_max:
            self.report.held_back += 1
            self._acknowledged.clear()
            await self._acknowledged.wait()
        await asyncio.sleep(0)
        elapsed_s = time.monotonic() - self._start_s
        if elapsed_s < due_s:
            # Ticks, not exact times: a timer for each record would cost more than the record.
            await asyncio.sleep(max(_TICK_S, due_s - elapsed_s))
            elapsed_s = time.monotonic() - self._start_s
        self.report.duration_s = elapsed_s
        return elapsed_s

    def _hand_over(self, record: Planned, elapsed_s: float, stamp: bytes) -> None:
        report = self.report
        report.sent += 1
        report.kinds[record.kind.value] += 1
        if record.due_s:
            lag_ms = (elapsed_s - record.due_s) * 1_000
            report.lags_ms.append(lag_ms)
            report.late += lag_ms > self._policy.late_ms
        lane = self._lane_of.get(record.key)
        if lane is None:
            lane = self._lanes[self._partitioner(record.key, self._partitions, self._partitions)]
            self._lane_of[record.key] = lane
        lane.add(record, stamp, record.due_s or elapsed_s)

    @property
    def _settled(self) -> int:
        return self.report.acknowledged + self.report.failed

    def _settle(self, batch: "_Batch", error: Exception | None) -> None:
        if error is None:
            self.report.acknowledged += batch.records
            elapsed_s = time.monotonic() - self._start_s
            self.report.acknowledged_ms.append((elapsed_s - batch.oldest_s) * 1_000)
        else:
            self.report.failed += batch.records
            self.report.errors[type(error).__name__] += batch.records
        self._acknowledged.set()


class _Batch:
    def __init__(self, builder: Any, oldest_s: float) -> None:
        self.builder = builder
        self.oldest_s = oldest_s
        self.records = 0


class _Lane:
    """One partition: batches that wait, the last of them still filling, and one on its way."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partition: int,
        settle: Callable[[_Batch, Exception | None], None],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._settle = settle
        self._waiting: deque[_Batch] = deque()
        self._filled = asyncio.Event()
        self._is_finished = False

    def add(self, record: Planned, stamp: bytes, due_s: float) -> None:
        headers = _stamped(record.headers, stamp)
        if not self._waiting or not self._append(record, headers):
            self._waiting.append(_Batch(self._producer.create_batch(), due_s))
            if not self._append(record, headers):
                raise ValueError(f"a record does not fit into a batch of {_BATCH_BYTES} bytes")
        self._filled.set()

    def finish(self) -> None:
        self._is_finished = True
        self._filled.set()

    def _append(self, record: Planned, headers: list[tuple[str, bytes]]) -> bool:
        batch = self._waiting[-1]
        added = batch.builder.append(
            timestamp=None, key=record.key, value=record.value, headers=headers
        )
        if added is None:
            return False
        batch.records += 1
        return True

    async def pump(self) -> None:
        while True:
            await self._filled.wait()
            if not self._waiting:
                if self._is_finished:
                    return
                self._filled.clear()
                continue
            batch = self._waiting.popleft()
            batch.builder.close()
            error: Exception | None = None
            try:
                future = await self._producer.send_batch(
                    batch.builder, self._topic, partition=self._partition
                )
                await future
            except KafkaError as failure:
                error = failure
            self._settle(batch, error)


def _stamped(headers: Headers, stamp: bytes) -> list[tuple[str, bytes]]:
    if headers[-1][0] == "ce_time":  # planned with a fixed base
        return list(headers)
    return [*headers, ("ce_time", stamp)]
