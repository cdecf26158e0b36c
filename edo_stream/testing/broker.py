"""A broker: logs with transactions, fencing, offsets, compaction and retention; no network.

Its methods are what happens inside the broker at one moment; :mod:`edo_stream.testing.network`
brings the requests there. The rules are those of Kafka 4 with the old protocol of transactions,
verified by the partition leaders (KIP-890, part 1): a late request of an older epoch gets into no
log, be the partition part of the transaction or not.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
)

from edo_stream.core.record import Headers as RecordHeaders
from edo_stream.testing.loop import VirtualLoop

Headers = tuple[tuple[str, bytes | None], ...]


class NewRecord(NamedTuple):
    """A record on its way to a log."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def size_of(record: NewRecord) -> int:
    """Bytes of a record, which its topic may have a limit for."""
    size = len(record.key or b"") + len(record.value or b"")
    return size + sum(len(name) + len(value or b"") for name, value in record.headers)


class Txn:
    """One transaction: ``outcome`` is ``None`` while it is open, then whether it commits.

    Between the decision and the marker in a partition the records there are not yet visible.
    """

    __slots__ = ("first_at", "markers_due", "offsets", "outcome", "owner", "partitions")

    def __init__(self, owner: str, first_at: float) -> None:
        self.owner = owner
        self.first_at = first_at
        self.partitions: dict[TopicPartition, None] = {}
        self.offsets: dict[TopicPartition, int] = {}
        self.outcome: bool | None = None
        self.markers_due = 0


class Entry:
    """A record in a log, or a marker, which occupies an offset too."""

    __slots__ = ("appended_at", "headers", "is_marker", "key", "offset", "partition",
                 "timestamp", "topic", "txn", "value")  # fmt: skip

    def __init__(
        self,
        place: TopicPartition,
        offset: int,
        record: NewRecord,
        txn: Txn | None,
        appended_at: float,
    ) -> None:
        self.topic: str = place.topic
        self.partition: int = place.partition
        self.offset = offset
        self.timestamp, self.key, self.value = record[:3]
        self.headers: RecordHeaders = record.headers
        self.txn = txn
        self.is_marker = False
        self.appended_at = appended_at

    def is_committed(self) -> bool:
        """Whether its transaction, if any, was decided to commit."""
        return not self.is_marker and (self.txn is None or self.txn.outcome is True)


_NOTHING = NewRecord(-1, None, None)


class Log:
    """One partition. ``entries`` is what a reader finds; ``history`` all there ever was."""

    def __init__(self, place: TopicPartition, record_bytes_max: int) -> None:
        self.place = place
        self.record_bytes_max = record_bytes_max
        self.start = 0
        self.end = 0
        self.entries: list[Entry] = []
        self.history: list[Entry] = []
        self.unfinished: dict[Txn, int] = {}
        """First offset of each transaction that has no marker here yet."""
        self.compacted_before = 0
        self.stable_at: list[tuple[int, float]] = [(0, 0.0)]
        """When the last stable offset reached which value."""

    def append(self, record: NewRecord, txn: Txn | None, at: float) -> Entry:
        entry = Entry(self.place, self.end, record, txn, at)
        if txn is not None:
            self.unfinished.setdefault(txn, self.end)
        self._add(entry)
        return entry

    def mark(self, txn: Txn, at: float) -> None:
        """Write the marker of a transaction that is decided."""
        self.unfinished.pop(txn, None)
        marker = Entry(self.place, self.end, _NOTHING, txn, at)
        marker.is_marker = True
        self._add(marker)

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.history.append(entry)
        self.end += 1
        stable = self.last_stable
        if stable > self.stable_at[-1][0]:
            self.stable_at.append((stable, entry.appended_at))

    @property
    def last_stable(self) -> int:
        """What a ``read_committed`` reader takes for the end."""
        return min(self.unfinished.values()) if self.unfinished else self.end

    def visible_since(self, offset: int) -> float | None:
        """When readers could see an offset first."""
        return next((at for stable, at in self.stable_at if stable > offset), None)

    def read(self, start: int, records_max: int) -> tuple[list[Entry], int]:
        """Committed records from an offset on, and the offset to go on at."""
        end = self.last_stable
        found: list[Entry] = []
        for index in range(bisect_left(self.entries, start, key=_offset_of), len(self.entries)):
            entry = self.entries[index]
            if entry.offset >= end:
                break
            if entry.is_committed():
                if len(found) == records_max:
                    return found, entry.offset
                found.append(entry)
        return found, max(start, end)

    def committed(self) -> list[Entry]:
        """All records that a ``read_committed`` reader has ever been able to see."""
        end = self.last_stable
        return [entry for entry in self.history if entry.offset < end and entry.is_committed()]

    def compact(self, before: int) -> None:
        """Keep the last record of each key below an offset, and tombstones, as they are young."""
        before = min(before, self.last_stable)
        self.compacted_before = max(self.compacted_before, before)
        last: dict[bytes | None, int] = {}
        for entry in self.entries:
            if entry.offset < before and entry.is_committed():
                last[entry.key] = entry.offset
        self.entries = [
            entry
            for entry in self.entries
            if entry.offset >= before
            or (not entry.is_marker and last.get(entry.key) == entry.offset)
        ]

    def delete_before(self, offset: int) -> None:
        """Retention: the log begins later."""
        self.start = max(self.start, min(offset, self.last_stable))
        self.entries = [entry for entry in self.entries if entry.offset >= self.start]


def _offset_of(entry: Entry) -> int:
    return entry.offset


class ProducerState:
    """What the coordinator knows of a transactional id."""

    def __init__(self, producer_id: int, timeout_s: float) -> None:
        self.producer_id = producer_id
        self.epoch = -1
        self.timeout_s = timeout_s
        self.txn: Txn | None = None
        self.last_end: tuple[int, bool] | None = None
        self.sequences: dict[TopicPartition, tuple[int, int, int]] = {}
        """Last batch of each partition: epoch, next sequence number, first offset."""


class Broker:
    """See the module's docstring."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self.logs: dict[TopicPartition, Log] = {}
        self.offsets: dict[TopicPartition, int] = {}
        self.producers: dict[str, ProducerState] = {}
        self.listeners: list[Callable[[], None]] = []
        self.on_offset: Callable[[TopicPartition, int | None, int], None] = lambda *_: None
        self.marker_delay_s_max = 0.005
        self.fenced_requests = 0
        self._to_apply: deque[dict[TopicPartition, int]] = deque()
        self._loop = loop
        self._random = random

    def create(self, topic: str, partitions: int, record_bytes_max: int = 1 << 20) -> None:
        for number in range(partitions):
            place = TopicPartition(topic, number)
            self.logs[place] = Log(place, record_bytes_max)

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions; those that it has stay as they are."""
        has = max(place.partition for place in self.logs if place.topic == topic) + 1
        record_bytes_max = self.logs[TopicPartition(topic, 0)].record_bytes_max
        for number in range(has, partitions):
            place = TopicPartition(topic, number)
            self.logs[place] = Log(place, record_bytes_max)

    def tell(self) -> None:
        """Wake whoever waits for something to read."""
        for listener in list(self.listeners):
            listener()

    # Plain producers: the sources of the tests.

    def append(self, place: TopicPartition, records: Iterable[NewRecord]) -> list[Entry]:
        entries = [self.logs[place].append(each, None, self._loop.time()) for each in records]
        self.tell()
        return entries

    def open_foreign(self, place: TopicPartition, records: Iterable[NewRecord]) -> Txn:
        """Write as somebody else's transaction, which is open until :meth:`end_foreign`."""
        txn = Txn("foreign", self._loop.time())
        for record in records:
            self.logs[place].append(record, txn, self._loop.time())
        txn.partitions[place] = None
        return txn

    def end_foreign(self, txn: Txn, is_commit: bool) -> None:
        txn.outcome = is_commit
        for place in txn.partitions:
            self.logs[place].mark(txn, self._loop.time())
        self.tell()

    # Transactions.

    def init_producer(self, transactional_id: str, timeout_s: float) -> tuple[int, int]:
        """InitProducerId: fence the former epoch; an open transaction is aborted first."""
        state = self.producers.get(transactional_id)
        if state is None:
            state = self.producers[transactional_id] = ProducerState(
                len(self.producers) + 1, timeout_s
            )
        if state.txn is not None:
            if state.txn.outcome is None:
                state.epoch += 1
                self._decide(state, False)
            raise ConcurrentTransactions
        state.epoch += 1
        state.last_end = None
        return state.producer_id, state.epoch

    def forget_producer(self, transactional_id: str) -> None:
        """An id that was idle for a week (InvalidProducerIdMapping)."""
        state = self.producers.get(transactional_id)
        if state is not None and state.txn is None:
            # The next producer gets a new producer id; the old one is unknown.
            state.producer_id += 1_000
            state.epoch += 1

    def produce(
        self,
        who: tuple[str, int, int],
        place: TopicPartition,
        records: Sequence[NewRecord],
        sequence: int,
    ) -> int:
        """AddPartitionsToTxn and Produce; returns the offset of the first record."""
        state = self._producer(who)
        txn = self._open(state, who[0])
        log = self.logs[place]
        txn.partitions[place] = None
        if any(size_of(each) > log.record_bytes_max for each in records):
            raise MessageSizeTooLargeError
        epoch, expected, first = state.sequences.get(place, (-1, 0, -1))
        if epoch != state.epoch:
            expected = 0
        if sequence < expected:
            if sequence + len(records) == expected:
                return first
            raise DuplicateSequenceNumber
        if sequence > expected:
            raise OutOfOrderSequenceNumber
        now = self._loop.time()
        offset = log.end
        for record in records:
            log.append(record, txn, now)
        state.sequences[place] = (state.epoch, sequence + len(records), offset)
        return offset

    def add_offsets(self, who: tuple[str, int, int], offsets: dict[TopicPartition, int]) -> None:
        """AddOffsetsToTxn and TxnOffsetCommit."""
        self._open(self._producer(who), who[0]).offsets.update(offsets)

    def end(self, who: tuple[str, int, int], is_commit: bool) -> None:
        """EndTxn; answers when it is decided, which is before the markers are written."""
        state = self._producer(who)
        if state.txn is not None and state.txn.outcome is None:
            state.last_end = (state.epoch, is_commit)
            self._decide(state, is_commit)
        elif state.last_end != (state.epoch, is_commit):
            raise InvalidTxnState

    def fence(self, transactional_id: str) -> None:
        """What a transaction that took too long gets: abort, and a new epoch."""
        state = self.producers.get(transactional_id)
        if state is not None and state.txn is not None and state.txn.outcome is None:
            state.epoch += 1
            self._decide(state, False)

    def _producer(self, who: tuple[str, int, int]) -> ProducerState:
        transactional_id, producer_id, epoch = who
        state = self.producers[transactional_id]
        if state.producer_id != producer_id:
            raise InvalidProducerIdMapping
        if state.epoch != epoch:
            self.fenced_requests += 1
            raise InvalidProducerEpoch
        return state

    def _open(self, state: ProducerState, owner: str) -> Txn:
        if state.txn is None:
            if state.last_end is not None and state.last_end[0] == state.epoch:
                state.last_end = None
            state.txn = Txn(owner, self._loop.time())
            self._loop.later(state.timeout_s, self._time_out, state, state.txn)
        elif state.txn.outcome is not None:
            raise ConcurrentTransactions
        return state.txn

    def _time_out(self, state: ProducerState, txn: Txn) -> None:
        if state.txn is txn and txn.outcome is None:
            state.epoch += 1
            self._decide(state, False)

    def _decide(self, state: ProducerState, is_commit: bool) -> None:
        txn = state.txn
        assert txn is not None
        txn.outcome = is_commit
        txn.markers_due = len(txn.partitions) + bool(txn.offsets)
        for place in txn.partitions:
            self._loop.later(self._marker_delay_s(), self._mark, state, txn, place)
        if txn.offsets:
            self._loop.later(self._marker_delay_s(), self._move_offsets, state, txn)
        if not txn.markers_due:
            state.txn = None

    def _marker_delay_s(self) -> float:
        return self._random.random() * self.marker_delay_s_max

    def _mark(self, state: ProducerState, txn: Txn, place: TopicPartition) -> None:
        self.logs[place].mark(txn, self._loop.time())
        self._marked(state, txn)
        self.tell()

    def _move_offsets(self, state: ProducerState, txn: Txn) -> None:
        if txn.outcome:
            # The group's coordinator has the marker in its log, and applies it a little later.
            self._to_apply.append(txn.offsets)
            self._loop.later(self._marker_delay_s(), self._apply_offsets)
        self._marked(state, txn)

    def _apply_offsets(self) -> None:
        for place, offset in self._to_apply.popleft().items():
            self.on_offset(place, self.offsets.get(place), offset)
            self.offsets[place] = offset

    def _marked(self, state: ProducerState, txn: Txn) -> None:
        txn.markers_due -= 1
        if not txn.markers_due:
            state.txn = None
