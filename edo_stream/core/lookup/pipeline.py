"""The decision core of a task that looks up: rows and events in, enriched commands out.

Theory of operation. The task reads its partition of each table, and one internal topic by which
events come, keyed as the rows are: what meets is in one task. A row is kept as it is read, a
tombstone deletes it; events find it or wait (:mod:`.queue`). The step is a pure function of the
tables, the batches and the two times it is given, as that of :mod:`edo_stream.core.pipeline` is.

Rows of a global table are none of the task's own. It looks them up in what the worker has, is told
which have come, and lets go what waits for them at the beginning of its next step (see
:mod:`.arrivals`). What an event finds is what is there in the one step that is committed.

Every event has a fate: *emitted* when it went on, held before if it waited, *failed* (a failure
event), or a dead letter. A row is *applied*, or a dead letter, and the row before it stays.

Rows of a table that no flow looks up any more go, so many a step. Where the table was read to is
kept, as the group's offset is there as well; a flow that looks it up again has it read anew
(:meth:`LookupPipeline.read_anew`), for which a row ``g`` says that its rows are gone.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from msgspec.structs import replace

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.operations import Verb, WaitOperation, parse_wait_operation
from edo_stream.core.correlation.outlet import UndecodableOutlet
from edo_stream.core.correlation.rows import EventRows, FlowRow
from edo_stream.core.effects import Effects
from edo_stream.core.event import Ignored, Violation
from edo_stream.core.ledger import Ledger, account_of_start
from edo_stream.core.lookup.arrivals import Arrivals
from edo_stream.core.lookup.global_table import row_of_record
from edo_stream.core.lookup.path import decode_seeker
from edo_stream.core.lookup.queue import AT_ONCE, Find, FlowOfTask, Queue, SharedState
from edo_stream.core.lookup.rows import (
    GONE,
    QUEUE,
    decode_queue,
    encode_queue,
    parse_queue,
    row_of,
    rows_of,
)
from edo_stream.core.lookup.spec import LookupSpec
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Batch, Record
from edo_stream.core.sizes import FRAME_BYTES, HEADROOM_BYTES
from edo_stream.core.state import RowCache, Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.task_pipeline import TaskPipeline
from edo_stream.core.timers import Timers

_SKEW_MS: Final = 5 * 60 * 1000
"""How far a record's time may run ahead of the task's clock."""
_TIMERS_MAX: Final = 500
_ARRIVALS_MAX: Final = 1_000
"""Rows that have come, and queues, that a step looks at."""
_PUT_OFF_MS: Final = 60 * 60 * 1000
_REMOVED_MAX: Final = 1_000
"""Rows of tables that are declared no more which a step removes."""


class LookupPipeline(TaskPipeline):
    """Decides for one task that looks up."""

    def __init__(
        self, identity: TaskIdentity, spec: LookupSpec, state: Table, internal: InternalTopics
    ) -> None:
        super().__init__(identity, state, internal)
        self.events_topic = spec.topic
        """By which events come."""
        self.tables = tuple(table for table in spec.tables if table not in spec.judged)
        """Of which it keeps rows."""
        self._spec = spec
        self._queue_rows = RowCache(state, QUEUE, encode_queue, decode_queue)
        self._events = EventRows(state)
        self._timers = Timers(state)
        self._ledger = Ledger(spec.topic)
        self._control = Ledger(internal.control)
        self._table_ledgers = {table: Ledger(table) for table in spec.tables}
        letters_bytes = spec.bytes_max + HEADROOM_BYTES
        self._undecodable = UndecodableOutlet(
            identity, spec.dead_letters, self._step, letters_bytes
        )
        shared = SharedState(
            identity, self._step, state, self._queue_rows, self._events, self._timers, self._ledger
        )
        self._flows = {
            name: FlowOfTask(enrichment, shared) for name, enrichment in spec.enrichments.items()
        }
        self._queues = {
            (name, lookup.name): Queue(flow, stage, shared)
            for name, flow in self._flows.items()
            for stage, lookup in enumerate(flow.enrichment.lookups)
            if lookup.topic == spec.topic
        }
        self._by_table = {
            table: [
                queue
                for queue in self._queues.values()
                if queue.table == table and not queue.is_global
            ]
            for table in spec.tables
        }
        self._global_tables = shared.global_tables
        self._arrivals = Arrivals()
        self.restore()

    @property
    def global_tables(self) -> frozenset[str]:
        """Tables in which it looks rows up that it does not have."""
        return frozenset(queue.table for queue in self._queues.values() if queue.is_global)

    def share(self, tables: Mapping[str, Find]) -> None:
        """Look up in these tables what is of global ones."""
        self._global_tables.update(tables)

    def tell(self, table: str, keys: Sequence[bytes] | None) -> None:
        """Note rows of a global table that have come, between steps; ``None``: any may have."""
        if self._waits_for_global():
            self._arrivals.tell(table, keys)

    @property
    def has_arrivals(self) -> bool:
        """Whether rows have come that the next step looks at."""
        return bool(self._arrivals)

    @property
    def _ledgers(self) -> list[Ledger]:
        return [self._ledger, self._control, *self._table_ledgers.values()]

    def restore(self) -> None:
        """Read anew what is kept in memory; after the tables were restored or discarded."""
        super().restore()
        self._queue_rows.discard()
        self._events.discard()
        self._timers.restore()
        for flow in self._flows.values():
            flow.restore()
        for ledger in self._ledgers:
            ledger.discard()
        # What came while nobody listened, or was seen in a step that was in vain.
        if self._waits_for_global():
            self._arrivals.look_at_all()
        else:
            self._arrivals.looked(None)
        known = (self.events_topic, self._internal.control, *self.tables)
        self._leaving = [topic for topic in self._step.row.sources if topic not in known]

    def start(
        self, topic: str, offset: int, now_ms: int, lost: tuple[int, int] | None = None
    ) -> Effects:
        """Begin to read a topic at an offset, or go on behind what is gone of it."""
        if topic in self._spec.judged:
            # Should a flow ever want them of the task, they are to be read.
            self._state.write(_gone(topic), b"")
        return super().start(topic, offset, now_ms, lost)

    @property
    def returning(self) -> list[str]:
        """Tables that are looked up again, and whose rows are gone: to be read anew."""
        return [table for table in self.tables if self._state.get(_gone(table)) is not None]

    def read_anew(self, table: str, offset: int, now_ms: int) -> Effects:
        """Read a table from an offset on, that of its log's beginning."""
        self._begin(now_ms)
        for row, _ in list(self._state.scan(*rows_of(table))):
            self._state.write(row, None)
        self._state.write(_gone(table), None)
        self._source_row(table).next_offset = offset
        account = account_of_start(self._identity, table, offset, now_ms, None)
        self._flush()
        return self._effects([replace(account, is_anew=True)])

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Events that wait, and since when one of the first of them does; call between steps."""
        count = sum(flow.row.held for flow in self._flows.values())
        return {self._spec.topic: (count, self._since_ms() if count else None)}

    def open_waits(self) -> Mapping[str, tuple[FlowRow, int | None]]:
        """Counters of each flow, and since when it waits for a row; call between steps."""
        return {
            name: (flow.row, self._since_ms() if flow.row.held else None)
            for name, flow in self._flows.items()
        }

    def next_due_ms(self) -> int | None:
        """Time of the earliest timer, which may be past; ``None`` when there is none."""
        return 0 if self._leaving else self._timers.next_due_ms

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide on batches, then on timers due up to ``caught_up_ms``, until the step is full."""
        self._begin(now_ms)
        has_fired = False
        while not self._step.is_full and self._expire(AT_ONCE):
            has_fired = True
        has_fired = self._release() or has_fired
        for batch in batches:
            if self._step.is_full:
                break
            if batch.topic == self._internal.control:
                self._operate_all(batch)
            elif batch.topic == self._spec.topic:
                self._read_events(batch)
            else:
                self._read_rows(batch)
        has_fired = self._expire(min(now_ms, caught_up_ms)) or has_fired
        has_removed = self._remove_rows()
        if not (batches or has_fired or has_removed):
            return Effects()
        return self._conclude(self._ledgers)

    def _read_events(self, batch: Batch) -> None:
        row, now_ms = self._step.row, self._step.now_ms
        for record in self._until_full(batch, self._ledger):
            if record.timestamp > row.stream_ms:
                row.stream_ms = max(row.stream_ms, min(record.timestamp, now_ms + _SKEW_MS))
            seeker = decode_seeker(record.value)
            why = seeker if isinstance(seeker, Violation) else None
            if not isinstance(seeker, Violation):
                queue = self._queues.get((seeker.flow, seeker.lookup))
                if queue is not None:
                    queue.place(record, seeker)
                    continue
                why = Violation("unknown-flow", f"no flow {seeker.flow} looks up {seeker.lookup}")
            assert why is not None, "it was not placed"
            self._undecodable.dead_letter(record, why)
            self._ledger.mark(record.offset, Fate.DEAD_LETTERED)

    def _read_rows(self, batch: Batch) -> None:
        table, ledger = batch.topic, self._table_ledgers[batch.topic]
        for record in self._until_full(batch, ledger):
            row = self._misplaced(record) or self._row_of(record)
            match row:
                case Violation():
                    self._undecodable.dead_letter(record, row, (table, str(record.partition)))
                    ledger.mark(record.offset, Fate.DEAD_LETTERED)
                case Ignored():
                    ledger.mark(record.offset, Fate.IGNORED)
                case _:
                    self._keep(table, record.key or b"", row)
                    ledger.mark(record.offset, Fate.APPLIED)

    def _keep(self, table: str, key: bytes, row: bytes | None) -> None:
        """Keep a row, or delete it; what waits for it goes on."""
        if table in self._spec.judged:
            return
        self._state.write(row_of(table, key), row)
        if row is not None:
            for queue in self._by_table[table]:
                queue.release(key)

    def _misplaced(self, record: Record) -> Violation | None:
        """Why no event would find a row, if so."""
        if not record.key or record.topic in self._spec.judged:
            return None
        owner = partition_of(record.key, self._spec.partitions)
        if owner == record.partition:
            return None
        detail = (
            f"the key belongs to partition {owner} of {self._spec.partitions}, and the record "
            f"is in {record.partition}: write rows with Kafka's default partitioner (murmur2)"
        )
        return Violation("misplaced-row", detail)

    def _row_of(self, record: Record) -> bytes | Violation | Ignored | None:
        """The row that a record has, as JSON; ``None``: its key has none any more."""
        row = row_of_record(record, self._spec.tables[record.topic])
        if not isinstance(row, bytes) or record.topic in self._spec.judged:
            return row
        size_bytes = len(row_of(record.topic, record.key or b"")) + len(row)
        bytes_max = self._spec.bytes_max + HEADROOM_BYTES
        if size_bytes > bytes_max - FRAME_BYTES:
            # As it was written it may have been compressed; in the state it is not.
            detail = f"a row has at most {bytes_max} bytes with its key: found {size_bytes}"
            return Violation("too-large", detail)
        return row

    def _waits_for_global(self) -> bool:
        return any(queue.is_global and queue.waits for queue in self._queues.values())

    def _release(self) -> bool:
        """Let go what waits for rows of global tables that have come; whether anything did."""
        if not self._arrivals:
            return False
        before, left = self._held(), _ARRIVALS_MAX
        while left and not self._step.is_full and (told := self._arrivals.pop()) is not None:
            table, key = told
            left -= 1
            for queue in self._queues.values():
                if queue.is_global and queue.table == table:
                    queue.look(key)
        if left and self._arrivals.next is not None:
            self._look_through(self._arrivals.next, left)
        return before != self._held()

    def _held(self) -> int:
        return sum(flow.row.held for flow in self._flows.values())

    def _look_through(self, start: bytes, most: int) -> None:
        """Look at so many of the queues from one on."""
        rows = self._state.scan(QUEUE + start, bytes((QUEUE[0] + 1,)))
        names = [key[len(QUEUE) :] for key, _ in islice(rows, most)]
        for name in names:
            if self._step.is_full:
                self._arrivals.looked(name)
                return
            place = parse_queue(name)
            queue = self._queues.get((place.flow, place.lookup))
            if queue is not None and queue.is_global:
                queue.look(place.key)
        self._arrivals.looked(names[-1] + b"\0" if len(names) == most else None)

    def _expire(self, limit_ms: int) -> bool:
        """Fire timers that are due; whether there were any."""
        due = self._timers.due(limit_ms, _TIMERS_MAX)
        for due_ms, name in due:
            if self._step.is_full:
                break
            place = parse_queue(name)
            queue = self._queues.get((place.flow, place.lookup))
            if queue is None:
                self._put_off(due_ms, name)
            else:
                queue.expire(place.key, limit_ms)
        return bool(due)

    def _remove_rows(self) -> bool:
        """Remove some rows of a table that no flow looks up; whether there were any."""
        while self._leaving:
            table = self._leaving[-1]
            rows = [row for row, _ in islice(self._state.scan(*rows_of(table)), _REMOVED_MAX)]
            is_known = self._state.get(_gone(table)) is not None
            if rows or not is_known:
                for row in rows:
                    self._state.write(row, None)
                self._state.write(_gone(table), b"")
                # A transaction has an account, also where it has read nothing.
                self._ledger.open(self._source_row(self.events_topic).next_offset)
                return True
            self._leaving.pop()
        return False

    def _put_off(self, due_ms: int, name: bytes) -> None:
        """Keep the events of a lookup that is declared no more; it may come back."""
        row = self._queue_rows.get(name)
        assert row is not None, f"timer of {name!r} without its queue"
        self._timers.clear(due_ms, name)
        row.due_ms = self._step.now_ms + _PUT_OFF_MS
        self._timers.set(row.due_ms, name)
        self._queue_rows.put(name, row)

    def _operate_all(self, batch: Batch) -> None:
        """Carry out operators' requests; done or refused, each is answered by a notice."""
        for record in self._until_full(batch, self._control):
            operation, request = parse_wait_operation(record.value)
            key, refusal = None, None
            if isinstance(operation, Violation):
                refusal = operation.detail
            else:
                key, refusal = operation.key, self._operate(operation)
            self._answer(record, key, request, refusal)
            self._control.mark(record.offset, Fate.APPLIED)

    def _operate(self, operation: WaitOperation) -> str | None:
        if operation.flow not in self._flows:
            return "unknown flow"
        is_forced = operation.verb is Verb.FORCE
        found = [
            queue.let_go(operation.key, is_forced)
            for (flow, _), queue in self._queues.items()
            if flow == operation.flow
        ]
        return None if any(found) else "nothing waits"

    def _since_ms(self) -> int | None:
        """Since when the queue waits whose deadline is the next."""
        if self._timers.next_due_ms is None:
            return None
        ((_, name),) = self._timers.due(self._timers.next_due_ms, 1)
        row = self._queue_rows.get(name)
        return None if row is None else row.since_ms

    def _flush(self) -> None:
        self._queue_rows.flush()
        self._events.flush()
        self._timers.flush()
        for flow in self._flows.values():
            flow.flush()
        super()._flush()


def _gone(table: str) -> bytes:
    return GONE + table.encode()
