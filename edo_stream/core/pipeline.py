"""The decision core of a task: batches of records and time in, effects and rows out.

Theory of operation. A step reads batches, fires what timers are due, and writes what has changed
to two tables, whose uncommitted rows the engine commits together with the effects in one
transaction. The step is a pure function of the tables, the batches and the two times it is given;
what is kept in memory between steps repeats what the tables say, and is forgotten on a discard.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Final

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.assembly import ASSEMBLY, decode_assembly, encode_assembly
from edo_stream.core.dedupe import Ids
from edo_stream.core.effects import Effects
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.held import Held
from edo_stream.core.idle import REACHED, SEQUENCE, IdleSweep
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Lane, Source
from edo_stream.core.ledger import Ledger
from edo_stream.core.monotonic import decode_reached, encode_reached
from edo_stream.core.operations import ApplyContract, Operation, SkipGap, parse_operation
from edo_stream.core.published import CONTRACT, decode_published, encode_published
from edo_stream.core.record import Batch, Record
from edo_stream.core.resequencer import SequenceState
from edo_stream.core.sequence import decode_sequence, encode_sequence
from edo_stream.core.state import RowCache, Table
from edo_stream.core.task import WRITTEN_BYTES_MAX, WRITTEN_MAX, InternalTopics, TaskIdentity
from edo_stream.core.task_pipeline import TaskPipeline
from edo_stream.core.timers import Timers

_SKEW_MS: Final = 5 * 60 * 1000
"""How far a record's time may run ahead of the task's clock."""
_TIMERS_MAX: Final = 1_000
_PUT_OFF_MS: Final = 60 * 60 * 1000
_SWEPT_MIN: Final = 2
_PART_RECORDS: Final = 500
"""Decided without a pause: some five milliseconds."""


class Pipeline(TaskPipeline):
    """Decides for one task of the decide plane."""

    def __init__(  # noqa: PLR0913 - its parts, put together in one place
        self,
        identity: TaskIdentity,
        sources: Mapping[str, Source],
        state: Table,
        ids: Table,
        internal: InternalTopics,
        ids_budget: IdsBudget,
    ) -> None:
        super().__init__(identity, state, internal)
        self._ids_table = ids
        self._ids = Ids(ids, ids_budget)
        self._timers = Timers(state)
        self._held = Held(state)
        self._sequences = RowCache(state, SEQUENCE, encode_sequence, decode_sequence)
        self._reached = RowCache(state, REACHED, encode_reached, decode_reached)
        self._assemblies = RowCache(state, ASSEMBLY, encode_assembly, decode_assembly)
        shared = SequenceState(self._step, self._sequences, self._held, self._timers, self._notices)
        self._lanes = {
            topic: Lane(identity, source, shared, self._reached, self._assemblies)
            for topic, source in sources.items()
        }
        self._control = Ledger(internal.control)
        self._ledgers = [self._control, *(lane.ledger for lane in self._lanes.values())]
        self._lanes_by_name = {topic.encode(): lane for topic, lane in self._lanes.items()}
        self._idle = IdleSweep(
            state, self._step, self._lanes_by_name, self._sequences, self._reached, self._assemblies
        )
        self.restore()

    def restore(self) -> None:
        """Read anew what is kept in memory; after the tables were restored or discarded."""
        super().restore()
        self._sequences.discard()
        self._reached.discard()
        self._assemblies.discard()
        self._held.discard()
        self._timers.restore()
        self._ids.restore()
        for ledger in self._ledgers:
            ledger.discard()
        for topic, lane in self._lanes.items():
            row = self._state.get(CONTRACT + topic.encode())
            if lane.follow(None if row is None else decode_published(row)) is not None:
                # Of files that are newer, or of a worker that cannot follow it any more.
                lane.follow(None)

    def discard(self) -> None:
        """Forget all that is uncommitted: the transaction was aborted."""
        self._ids_table.discard()
        super().discard()

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Events held by topic, and since when the oldest of them waits; call between steps."""
        counts = {topic: source.held for topic, source in self._step.row.sources.items()}
        oldest_ms = self._held.oldest_ms() if any(counts.values()) else {}
        return {
            topic: (count, oldest_ms.get(topic) if count else None)
            for topic, count in counts.items()
        }

    def contracts(self) -> Mapping[str, tuple[str, int, int | None]]:
        """Contract by topic: its revision, newest schema version, and since which offset.

        ``None`` for the offset is the contract of the worker's own files.
        """
        return {topic: lane.contract for topic, lane in self._lanes.items()}

    def next_due_ms(self) -> int | None:
        """Time of the earliest timer, which may be past; ``None`` when there is none."""
        return self._timers.next_due_ms

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide on batches, then on timers that are due, until the step is full.

        What is left of the batches the positions say; it is what the next step begins with.
        Timers fire up to ``caught_up_ms`` only, the time at which the task had read all that was
        there: an outage must not look like events that did not come.
        """
        steps = self.steps(batches, now_ms, caught_up_ms)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                effects: Effects = end.value
                return effects

    def steps(
        self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int
    ) -> Generator[None, None, Effects]:
        """Decide as :meth:`step` does, but pause every so many records: others may have their turn.

        Until it is at its end nobody else may call anything but ``discard``.
        """
        self._begin(now_ms)
        if batches:
            self._idle.run()
            records_max = _SWEPT_MIN + 2 * len(batches)
            self._ids.sweep(self._step.row.stream_ms, records_max)
        for batch in batches:
            if self._step.is_full:
                break
            if batch.topic == self._internal.control:
                self._operate_all(batch)
            else:
                yield from self._read(self._lanes[batch.topic], batch)
        has_fired = self._fire(min(now_ms, caught_up_ms))
        if not batches and not has_fired:
            return Effects()
        times_ms = {ledger.topic: ledger.times_ms for ledger in self._ledgers if ledger.times_ms}
        effects = self._conclude(self._ledgers)
        effects.times_ms = times_ms
        return effects

    def _read(self, lane: Lane, batch: Batch) -> Generator[None, None, None]:
        """Bring the records of one source to their fates, in the order of their offsets."""
        records, at = self._new_records(batch, lane.ledger), 0
        while at < len(records):
            at += self._read_part(lane, records[at : at + _PART_RECORDS])
            if at < len(records) and self._step.is_full:
                self._leave(records[at])
                break
            yield
        self._ids.write(lane.topic)

    def _read_part(self, lane: Lane, records: Sequence[Record]) -> int:
        """Bring records to their fates until the step is full; how many."""
        step = self._step
        judged, digests = lane.judge_all(records)
        ids, expiry = self._ids, lane.expiry
        known: list[bytes | None] = ids.recall(digests) if expiry else [None] * len(digests)
        row, source = self._step.row, self._source_row(lane.topic)
        ahead_ms = self._step.now_ms + _SKEW_MS
        expiry_s = until_ms = at = 0
        while at < len(records):
            if lane.plain is not None:
                fresh, of_expiry = ids.pages(expiry_s) if expiry else (None, None)
                if fresh is None or of_expiry is not None:
                    at = lane.plain.take(
                        records, judged, digests, known, at, self._step.now_ms, row.stream_ms,
                        ahead_ms, until_ms, expiry_s, fresh, of_expiry, *lane.ledger.pages(),
                        step.publish, step.output, WRITTEN_MAX,
                        WRITTEN_BYTES_MAX - step.written_bytes, source,
                    )  # fmt: skip
                    row.stream_ms = lane.plain.stream_ms
                    step.note(lane.plain.written_bytes)
                    if at == len(records) or step.is_full:
                        break
            record = records[at]
            if record.timestamp > row.stream_ms < ahead_ms:
                row.stream_ms = min(record.timestamp, ahead_ms)
            if expiry and row.stream_ms >= until_ms:
                expiry_s, until_ms = expiry.at(row.stream_ms)
            self._judge(lane, record, judged[at], (digests[at], known[at], expiry_s))
            at += 1
            if step.is_full:
                break
        return at

    def _judge(
        self,
        lane: Lane,
        record: Record,
        outcome: Decoded,
        sighting: tuple[bytes, bytes | None, int],
    ) -> None:
        """Bring a record to its fate; ``sighting``: digest, row and expiry of its key values."""
        digest, seen, expiry_s = sighting
        ids, stream_ms = self._ids, self._step.row.stream_ms
        match outcome:
            case Event():
                if (
                    not digest
                    or ids.admit(digest, seen, record.offset, stream_ms, expiry_s)
                    or ids.admit_again(digest, record, stream_ms, expiry_s)
                ):
                    lane.place(record, outcome)
                else:
                    lane.ledger.mark(record.offset, Fate.DUPLICATE)
            case Violation():
                lane.reject(record, outcome)
            case _:
                lane.ledger.mark(record.offset, Fate.IGNORED)

    def _operate_all(self, batch: Batch) -> None:
        """Carry out operators' requests; done or refused, each is answered by a notice."""
        for record in self._until_full(batch, self._control):
            operation, request = parse_operation(record.value)
            key, refusal = None, None
            if isinstance(operation, Violation):
                refusal = operation.detail
            else:
                key, refusal = operation.key, self._operate(operation)
                if isinstance(operation, ApplyContract) and operation.topic in self._lanes:
                    request = {**request, "from": self._source_row(operation.topic).next_offset}
            self._answer(record, key, request, refusal)
            self._control.mark(record.offset, Fate.APPLIED)

    def _operate(self, operation: Operation) -> str | None:
        lane = self._lanes.get(operation.topic)
        if lane is None:
            return "unknown topic"
        if isinstance(operation, ApplyContract):
            return self._follow(lane, operation)
        to = operation.to if isinstance(operation, SkipGap) else None
        return lane.operate(operation.key, to)

    def _follow(self, lane: Lane, operation: ApplyContract) -> str | None:
        """Change the contract of a topic from its next offset on, and remember it."""
        if lane.published is not None and lane.published.revision == operation.contract.revision:
            return None
        offset = self._source_row(lane.topic).next_offset
        contract = msgspec.structs.replace(operation.contract, offset=offset)
        refusal = lane.follow(contract)
        if refusal is None:
            self._state.write(CONTRACT + lane.topic.encode(), encode_published(contract))
        return refusal

    def _fire(self, limit_ms: int) -> bool:
        """Fire timers that are due; whether there were any."""
        due = self._timers.due(limit_ms, _TIMERS_MAX)
        for due_ms, name in due:
            if self._step.is_full:
                break
            lane = self._lanes_by_name.get(name.partition(b"\0")[0])
            if lane is None:
                self._put_off(due_ms, name)
            else:
                lane.expire(name, due_ms)
        return bool(due)

    def _put_off(self, due_ms: int, name: bytes) -> None:
        """Keep the timer of a topic that the group no longer reads; its contract may come back."""
        put_off_ms = self._step.now_ms + _PUT_OFF_MS
        if (sequence := self._sequences.get(name)) is not None:
            sequence.due_ms = put_off_ms
            self._sequences.put(name, sequence)
        else:
            assembly = self._assemblies.get(name)
            assert assembly is not None, f"timer of {name!r} without its row"
            assembly.due_ms = put_off_ms
            self._assemblies.put(name, assembly)
        self._timers.clear(due_ms, name)
        self._timers.set(put_off_ms, name)

    def _flush(self) -> None:
        self._sequences.flush()
        self._reached.flush()
        self._assemblies.flush()
        self._held.flush()
        self._timers.flush()
        super()._flush()
