"""A transactional producer with the failures of aiokafka 0.14, read from its source.

What it shares with the real one, and what the engine has to live with:

- A batch that was refused fails its own future only: the transaction may still commit.
- Requests to the coordinator are repeated for ever; only the caller's patience ends them.
- What was asked for goes on in the background after the caller has stopped to wait.
- Once fenced it raises ``IllegalOperation`` (no ``KafkaError``) or ``AssertionError`` from calls
  that would need an open transaction; only futures and the commit say ``ProducerFenced``.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    DuplicateSequenceNumber,
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    PolicyViolationError,
    ProducerFenced,
    RequestTimedOutError,
    UnknownError,
)

from edo_stream.engine.batches import ByAppending
from edo_stream.testing.broker import Broker, NewRecord
from edo_stream.testing.faults import Faults
from edo_stream.testing.loop import Process, VirtualLoop
from edo_stream.testing.network import Network

_BATCH_BYTES_MAX = 1 << 20


class Machinery(NamedTuple):
    """What the ports of one process are made of."""

    loop: VirtualLoop
    process: Process
    broker: Broker
    network: Network
    faults: Faults


class SimulatedBatch(ByAppending):
    """See :class:`edo_stream.engine.ports.BatchBuilder`."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self._bytes = 0

    def append(
        self,
        *,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes | None]],
    ) -> object | None:
        size = 32 + len(key or b"") + len(value or b"")
        if self.records and self._bytes + size > _BATCH_BYTES_MAX:
            return None
        self._bytes += size
        self.records.append(NewRecord(timestamp, key, value, tuple(headers)))
        return self

    def size(self) -> int:
        return self._bytes

    def record_count(self) -> int:
        return len(self.records)


class Landed(NamedTuple):
    """See :class:`edo_stream.engine.ports.Delivered`."""

    offset: int


class _State(Enum):
    NEW = "new"
    READY = "ready"
    OPEN = "open"
    ENDING = "ending"
    FATAL = "fatal"


class SimulatedProducer:
    """See :class:`edo_stream.engine.ports.Producer`."""

    def __init__(self, machinery: Machinery, transactional_id: str, timeout_s: float) -> None:
        self._m = machinery
        self._transactional_id = transactional_id
        self._timeout_s = timeout_s
        self._who = (transactional_id, -1, -1)
        self._state = _State.NEW
        self._has_sent = False
        self._ended: asyncio.Future[None] | None = None
        self._pending: dict[asyncio.Future[Any], None] = {}
        self._last_of: dict[TopicPartition, asyncio.Task[None]] = {}
        self._sequences: dict[TopicPartition, int] = {}
        self._background: dict[asyncio.Task[None], None] = {}

    async def start(self) -> None:
        m = self._m
        m.faults.enter(m.process)
        if m.faults.strikes("init-fails"):
            await asyncio.sleep(m.faults.between(0.01, 3))
            raise KafkaConnectionError("simulated: no broker")
        while True:
            try:
                self._who = (
                    self._transactional_id,
                    *await m.network.call(
                        m.process,
                        m.broker.init_producer,
                        self._transactional_id,
                        self._timeout_s,
                        delay_s=self._slow("init-slow"),
                    ),
                )
                break
            except ConcurrentTransactions:
                await asyncio.sleep(0.1)
        self._state = _State.READY
        m.faults.leave(m.process)

    async def stop(self) -> None:
        m = self._m
        m.faults.enter(m.process)
        if m.faults.strikes("stop-hangs"):
            await asyncio.sleep(3_600)
        await asyncio.sleep(0.001)
        self._state = _State.FATAL
        for task in list(self._background):
            task.cancel()
        m.faults.leave(m.process)

    async def begin_transaction(self) -> None:
        self._m.faults.enter(self._m.process)
        assert self._state is _State.READY, f"Invalid state transition {self._state} -> OPEN"
        self._state = _State.OPEN
        self._has_sent = False
        self._ended = self._m.loop.create_future()
        self._m.faults.leave(self._m.process)

    def create_batch(self, topic: str) -> SimulatedBatch:
        return SimulatedBatch()

    async def send_batch(
        self, batch: SimulatedBatch, topic: str, *, partition: int
    ) -> Awaitable[Landed]:
        self._m.faults.enter(self._m.process)
        if self._state is not _State.OPEN:
            raise IllegalOperation("Can't send messages while not in transaction")
        place = TopicPartition(topic, partition)
        landed: asyncio.Future[Landed] = self._m.loop.create_future()
        self._pending[landed] = None
        sequence = self._sequences.get(place, 0)
        self._sequences[place] = sequence + len(batch.records)
        before = self._last_of.get(place)
        self._last_of[place] = self._start(
            self._deliver(batch.records, place, sequence, landed, before)
        )
        self._m.faults.leave(self._m.process)
        return landed

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None:
        m = self._m
        m.faults.enter(m.process)
        if self._state is not _State.OPEN:
            raise IllegalOperation("Not in the middle of a transaction")
        sent: asyncio.Future[None] = m.loop.create_future()
        self._pending[sent] = None
        self._start(self._send_offsets(dict(offsets), sent))
        if m.faults.strikes("offsets-fail"):
            await asyncio.sleep(0.01)
            raise UnknownError
        await asyncio.shield(sent)
        m.faults.leave(m.process)

    async def commit_transaction(self) -> None:
        m = self._m
        m.faults.enter(m.process)
        assert self._state is _State.OPEN, f"Invalid state transition {self._state} -> ENDING"
        self._state = _State.ENDING
        assert self._ended is not None
        match m.faults.one_of("commit-not-asked", "commit-lost", "commit-hangs", "commit-refused"):
            case "commit-not-asked":
                await asyncio.sleep(m.faults.between(0, 3))
                raise KafkaConnectionError("simulated: request lost")
            case "commit-lost":
                self._start(self._end(True))
                await asyncio.sleep(m.faults.between(0, 0.02))
                raise RequestTimedOutError
            case "commit-hangs":
                await asyncio.sleep(3_600)
            case "commit-refused":
                await asyncio.sleep(0.01)
                raise UnknownError
            case _:
                self._start(self._end(True))
        await asyncio.shield(self._ended)
        m.faults.leave(m.process)

    async def abort_transaction(self) -> None:
        m = self._m
        m.faults.enter(m.process)
        assert self._state is _State.OPEN, f"Invalid state transition {self._state} -> ENDING"
        self._state = _State.ENDING
        assert self._ended is not None
        self._start(self._end(False))
        await asyncio.shield(self._ended)
        m.faults.leave(m.process)

    # The sender, in the background.

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self._m.loop.create_task(coroutine)
        self._background[task] = None
        task.add_done_callback(lambda done: self._background.pop(done, None))
        return task

    async def _deliver(
        self,
        records: list[NewRecord],
        place: TopicPartition,
        sequence: int,
        landed: "asyncio.Future[Landed]",
        before: "asyncio.Task[None] | None",
    ) -> None:
        faults = self._m.faults
        if before is not None and not before.done():
            await asyncio.wait([before])
        fault = faults.one_of("produce-refused", "produce-unacked", "produce-duplicate")
        if fault == "produce-refused":
            self._fail(landed, faults.choose(PolicyViolationError(), UnknownError()))
            return
        try:
            offset = await self._request(
                "produce", self._m.broker.produce, place, records, sequence
            )
        except DuplicateSequenceNumber:
            offset = -1
        except InvalidProducerEpoch:
            # Seen by the coordinator it is fatal, seen by a partition it is this batch's.
            if faults.between(0, 1) < 0.5:
                self._fatal(ProducerFenced())
            self._fail(landed, ProducerFenced())
            return
        except (InvalidTxnState, InvalidProducerIdMapping):
            self._fatal(KafkaError("Unexpected error during batch delivery"))
            return
        except KafkaError as error:
            self._fail(landed, error)
            return
        if fault == "produce-unacked":
            self._fail(landed, RequestTimedOutError())
            return
        self._has_sent = True
        self._pending.pop(landed, None)
        if not landed.done():
            landed.set_result(Landed(-1 if fault == "produce-duplicate" else offset))

    async def _send_offsets(
        self, offsets: dict[TopicPartition, int], sent: "asyncio.Future[None]"
    ) -> None:
        try:
            await self._request("offsets", self._m.broker.add_offsets, offsets)
        except InvalidProducerEpoch:
            self._fatal(ProducerFenced())
            return
        except KafkaError as error:
            self._fatal(error)
            return
        self._has_sent = True
        self._pending.pop(sent, None)
        if not sent.done():
            sent.set_result(None)

    async def _end(self, is_commit: bool) -> None:
        under_way = [task for task in self._last_of.values() if not task.done()]
        if under_way:
            await asyncio.wait(under_way)
        try:
            if self._has_sent:
                await self._request("end", self._m.broker.end, is_commit)
        except InvalidProducerEpoch:
            self._fatal(ProducerFenced())
            return
        except KafkaError:
            self._fatal(KafkaError("Unexpected error during batch delivery"))
            return
        if self._state is _State.ENDING:
            self._state = _State.READY
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _request(self, name: str, effect: Any, *args: Any) -> Any:
        """Ask until there is an answer; a lost one leads to a repeated request."""
        m = self._m
        while True:
            delay_s = self._slow(f"{name}-slow")
            try:
                answer = await m.network.call(m.process, effect, self._who, *args, delay_s=delay_s)
            except ConcurrentTransactions:
                await asyncio.sleep(0.02)
                continue
            if m.faults.strikes(f"{name}-answer-lost"):
                await asyncio.sleep(m.faults.between(0.1, 2))
                continue
            return answer

    def _slow(self, name: str) -> float:
        # From a hiccup to beyond all timeouts.
        faults = self._m.faults
        return 40 ** faults.between(-1, 1) if faults.strikes(name) else 0.0

    def _fail(self, future: "asyncio.Future[Any]", error: BaseException) -> None:
        self._pending.pop(future, None)
        if not future.done():
            future.set_exception(error)
            with suppress(BaseException):
                future.exception()

    def _fatal(self, error: KafkaError) -> None:
        """The sender has died: all that waits fails, and nothing can be begun any more."""
        self._state = _State.FATAL
        for future in list(self._pending):
            self._fail(future, error)
        if self._ended is not None and not self._ended.done():
            self._fail(self._ended, error)
