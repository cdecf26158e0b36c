"""A replay as it runs: reads a range, writes commands and what became of all events, at a rate.

Commands and the note that counts them are written in one transaction, a piece of the range at a
time; so what was counted is what was written. Between pieces it waits, such that never more
commands are written than the rate allows: what is replayed shares partitions with what happens now.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from edo_stream.core.contract import Contract
from edo_stream.core.effects import Publish
from edo_stream.core.replay import REPLAYED, WHERE_FAILED, Judged, Replayer
from edo_stream.replay.fates import read_fates

_PIECES_PER_S: Final = 4
_PIECE_MAX: Final = 500
_JUDGED_MAX: Final = 20_000
"""Events that a note counts at most: what is skipped shows in the metrics before the end, too."""

Bound = tuple[int | None, int | None]
"""An offset, or a time in epoch ms; neither: the end of the log on that side."""


@dataclass(frozen=True, slots=True)
class ReplaySpec:
    """What is replayed, and how."""

    app: str
    contract: Contract
    partitions: tuple[int, ...]
    start: Bound
    end: Bound
    rate_per_s: float
    name: str
    controls: Mapping[str, str]
    """Control topics of the flows' groups, by flow."""
    is_dry: bool


class WhereFailure(NamedTuple):
    """An event of which it cannot be told whether it was asked for."""

    position: str
    """``topic/partition/offset``."""
    detail: str


@dataclass(slots=True)
class Progress:
    """How far a replay is; whole pieces only."""

    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)
    """First and end offset by partition."""
    next_offsets: dict[int, int] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """Events by flow and reason."""
    records: int = 0
    where_failed: WhereFailure | None = None
    """The first one."""


@dataclass(slots=True)
class _Piece:
    """Judged and not written yet."""

    commands: list[Publish] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    next_offsets: dict[int, int] = field(default_factory=dict)
    records: int = 0
    where_failed: WhereFailure | None = None

    def add(self, record: ConsumerRecord, judged: Sequence[Judged]) -> None:
        self.records += 1
        self.next_offsets[record.partition] = record.offset + 1
        for one in judged:
            self.counts.setdefault(one.flow, Counter())[one.reason] += 1
            if one.command is not None:
                self.commands.append(one.command)
            if one.reason == WHERE_FAILED and self.where_failed is None:
                position = f"{record.topic}/{record.partition}/{record.offset}"
                self.where_failed = WhereFailure(position, one.detail.removeprefix("where: "))


class Replay:
    """One replay. ``progress`` may be looked at whenever it ends, by whatever."""

    def __init__(
        self,
        spec: ReplaySpec,
        broker: Mapping[str, Any],
        replayer: Replayer,
        now_ms: Callable[[], int],
    ) -> None:
        self.progress = Progress()
        self._spec = spec
        self._broker = broker
        self._replayer = replayer
        self._now_ms = now_ms
        self._free_at = 0.0

    async def run(self) -> Progress:
        """Replay the range.

        Raises:
            KafkaError: the broker cannot be reached, or refuses.
        """
        consumer = AIOKafkaConsumer(
            **self._broker,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            self.progress.ranges = await self._ranges(consumer)
            self.progress.next_offsets = {p: r[0] for p, r in self.progress.ranges.items()}
            if any(first < end for first, end in self.progress.ranges.values()):
                await self._replay(consumer)
        finally:
            await consumer.stop()
        return self.progress

    async def _ranges(self, consumer: AIOKafkaConsumer) -> dict[int, tuple[int, int]]:
        places = [
            TopicPartition(self._spec.contract.topic, number) for number in self._spec.partitions
        ]
        firsts = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
        ranges = {}
        starts = await self._at(consumer, places, self._spec.start, firsts)
        stops = await self._at(consumer, places, self._spec.end, ends)
        for place in places:
            first = min(max(starts[place], firsts[place]), ends[place])
            ranges[place.partition] = first, max(first, min(stops[place], ends[place]))
        return ranges

    async def _at(
        self,
        consumer: AIOKafkaConsumer,
        places: Sequence[TopicPartition],
        bound: Bound,
        otherwise: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        offset, at_ms = bound
        if offset is not None:
            return dict.fromkeys(places, offset)
        if at_ms is None:
            return dict(otherwise)
        found = await consumer.offsets_for_times(dict.fromkeys(places, at_ms))
        ends = await consumer.end_offsets(places)
        return {
            place: ends[place] if found.get(place) is None else found[place].offset
            for place in places
        }

    async def _replay(self, consumer: AIOKafkaConsumer) -> None:
        spec = self._spec
        fates = await read_fates(self._broker, spec.app, spec.contract, self.progress.ranges)
        producer = None if spec.is_dry else await self._producer()
        try:
            piece = _Piece()
            most = max(1, min(_PIECE_MAX, int(spec.rate_per_s / _PIECES_PER_S)))
            async for record in self._records(consumer):
                fate = fates[record.partition].of(record.offset)
                piece.add(record, self._replayer.judge(record, fate, self._now_ms()))
                if len(piece.commands) >= most or piece.records >= _JUDGED_MAX:
                    await self._write(producer, piece)
                    piece = _Piece()
            await self._write(producer, piece)
            self.progress.next_offsets = {p: r[1] for p, r in self.progress.ranges.items()}
        finally:
            if producer is not None:
                await producer.stop()

    async def _producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._broker,
            acks="all",
            # Of one replay: no other is fenced by it.
            transactional_id=f"{self._spec.app}.replay.{self._spec.name}",
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _records(self, consumer: AIOKafkaConsumer) -> AsyncIterator[ConsumerRecord]:
        """All records of the range, each partition in order."""
        ends = {
            TopicPartition(self._spec.contract.topic, number): end
            for number, (first, end) in self.progress.ranges.items()
            if first < end
        }
        consumer.assign(list(ends))
        for place in ends:
            consumer.seek(place, self.progress.ranges[place.partition][0])
        left = set(ends)
        while left:
            for place, records in (await consumer.getmany(*left, timeout_ms=200)).items():
                for record in records:
                    if record.offset < ends[place]:
                        yield record
            for place in list(left):
                # Past transaction markers too, which no record shows.
                if await consumer.position(place) >= ends[place]:
                    left.discard(place)
                    consumer.pause(place)

    async def _write(self, producer: AIOKafkaProducer | None, piece: _Piece) -> None:
        if producer is not None and piece.counts:
            await self._pace(len(piece.commands))
            async with producer.transaction():
                sent = [
                    await producer.send(
                        one.topic,
                        one.value,
                        one.key,
                        one.partition,
                        headers=list(one.headers),
                    )
                    for one in piece.commands
                ]
                for flow, counts in piece.counts.items():
                    note = self._note(flow, counts)
                    sent.append(
                        await producer.send(self._spec.controls[flow], note, flow.encode(), 0)
                    )
                # A transaction commits although a record of it was refused.
                await asyncio.gather(*sent)
        progress = self.progress
        progress.records += piece.records
        progress.next_offsets |= piece.next_offsets
        progress.where_failed = progress.where_failed or piece.where_failed
        for flow, counts in piece.counts.items():
            progress.counts.setdefault(flow, Counter()).update(counts)

    def _note(self, flow: str, counts: Counter[str]) -> bytes:
        note = {"op": "replay.note", "flow": flow, "key": "", "replay": self._spec.name}
        return json.dumps({**note, "counts": dict(counts)}).encode()

    async def _pace(self, commands: int) -> None:
        """Wait until so many commands more are within the rate."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._free_at - loop.time()))
        self._free_at = max(self._free_at, loop.time()) + commands / self._spec.rate_per_s


def replayed(progress: Progress) -> int:
    """Commands that were written, or in a dry run would be."""
    return sum(counts[REPLAYED] for counts in progress.counts.values())
