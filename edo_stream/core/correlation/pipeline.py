"""The decision core of a task that correlates: events by key in, firings out.

Theory of operation. The task reads one internal topic, to which events come by their correlation
key: all that one wait needs meets in one task. Each event goes to the correlator of its flow. It
came in the transaction that read it from its own topic, so none comes twice, and what a batch
repeats after a crash is below the next offset. The step is a pure function of the tables, the
batches and the two times it is given, as that of :mod:`edo_stream.core.pipeline` is.

Every event has a fate: held first, then *emitted* (it is in a result), *failed* (in a failure
event), *stale* (replaced, or of no use any more), *late*, or a dead letter.

Keys that are over are forgotten ``remember`` later, in stream time: exactly so where they are
looked at, and for their rows within a few rounds of a sweep.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.batching import Batching
from edo_stream.core.correlation.collecting import Collecting
from edo_stream.core.correlation.compiled import plain_waits
from edo_stream.core.correlation.debouncing import Debouncing
from edo_stream.core.correlation.history import Correlator, History, Told
from edo_stream.core.correlation.joined import decode_joined, size_of
from edo_stream.core.correlation.operations import Verb, WaitOperation, parse_wait_operation
from edo_stream.core.correlation.ordered import InOrder
from edo_stream.core.correlation.outlet import UndecodableOutlet
from edo_stream.core.correlation.redeclared import Redeclared, shape_of
from edo_stream.core.correlation.rows import (
    WAIT,
    EventRows,
    FlowRow,
    Phase,
    decode_stamp,
    decode_wait,
    encode_wait,
    not_declared,
)
from edo_stream.core.correlation.spec import (
    Batched,
    Correlation,
    Debounced,
    JoinSpec,
    Kind,
    Ordered,
    Windowed,
)
from edo_stream.core.correlation.waits import Arrival, SharedState, Waits
from edo_stream.core.correlation.windows import InWindows
from edo_stream.core.effects import Effects
from edo_stream.core.event import Violation
from edo_stream.core.ledger import Ledger
from edo_stream.core.record import Batch, Record
from edo_stream.core.sizes import HEADROOM_BYTES
from edo_stream.core.state import RowCache, Table
from edo_stream.core.task import WRITTEN_BYTES_MAX, WRITTEN_MAX, InternalTopics, TaskIdentity
from edo_stream.core.task_pipeline import TaskPipeline

if TYPE_CHECKING:
    from edo_stream.core._native import PlainWaits

_SKEW_MS: Final = 5 * 60 * 1000
"""How far a record's time may run ahead of the task's clock."""
_TIMERS_MAX: Final = 500
_SWEEP_EVERY_MS: Final = 1_000
_SWEPT_MIN: Final = 64
_WAIT_END: Final = bytes([WAIT[0] + 1])


class FlowOfTask(NamedTuple):
    """A flow within a task."""

    waits: Waits
    correlator: Correlator
    history: History | None


class JoinPipeline(TaskPipeline):
    """Decides for one task that correlates."""

    def __init__(
        self,
        identity: TaskIdentity,
        spec: JoinSpec,
        dead_letters: str,
        state: Table,
        internal: InternalTopics,
    ) -> None:
        super().__init__(identity, state, internal)
        self.upstream = spec.upstream
        """Topics that the events come from, with their partitions."""
        self._rows = RowCache(state, WAIT, encode_wait, decode_wait)
        self._events = EventRows(state)
        self._ledger = Ledger(spec.topic)
        self._control = Ledger(internal.control)
        letters_bytes = spec.bytes_max + HEADROOM_BYTES
        self._undecodable = UndecodableOutlet(identity, dead_letters, self._step, letters_bytes)
        shared = SharedState(self._step, state, self._rows, self._events, self._ledger)
        self._flows = {
            name: _flow(identity, correlation, shared)
            for name, correlation in spec.correlations.items()
        }
        self._by_name = {name.encode(): flow for name, flow in self._flows.items()}
        waits = [flow.waits for flow in self._flows.values()]
        self._plain = plain_waits(identity, waits, self._rows, self._events)
        self._read_since_sweep = 0
        self.restore()

    def restore(self) -> None:
        """Read anew what is kept in memory; after the tables were restored or discarded."""
        super().restore()
        self._rows.discard()
        self._events.discard()
        for flow in self._flows.values():
            flow.waits.restore()
        self.not_declared: Mapping[str, FlowRow] = not_declared(self._state, self._flows)
        """Flows that are no more, and for which events wait, as the state was restored."""
        for ledger in (self._ledger, self._control):
            ledger.discard()

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Events held, and since when the oldest wait is open; call between steps."""
        count = sum(row.held for row, _ in self.open_waits().values())
        since = [at_ms for _, at_ms in self.open_waits().values() if at_ms is not None]
        return {self._ledger.topic: (count, min(since, default=None))}

    def open_waits(self) -> Mapping[str, tuple[FlowRow, int | None]]:
        """Counters of each flow, and since when its oldest wait is open; call between steps."""
        gone = {name: (row, None) for name, row in self.not_declared.items()}
        return gone | {
            name: (flow.waits.flow, flow.waits.oldest_ms()) for name, flow in self._flows.items()
        }

    def next_due_ms(self) -> int | None:
        """Time of the earliest timer, which may be past; ``None`` when there is none."""
        due = [flow.waits.timers.next_due_ms for flow in self._flows.values()]
        return min((due_ms for due_ms in due if due_ms is not None), default=None)

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide on batches, then on timers due up to ``caught_up_ms``, until the step is full."""
        self._begin(now_ms)
        if batches:
            self._sweep()
        for batch in batches:
            if self._step.is_full:
                break
            if batch.topic == self._internal.control:
                self._operate_all(batch)
            else:
                self._read(batch)
        has_fired = self._expire(min(now_ms, caught_up_ms))
        if not batches and not has_fired:
            return Effects()
        return self._conclude((self._ledger, self._control))

    def _read(self, batch: Batch) -> None:
        records = self._new_records(batch, self._ledger)
        at = 0
        while at < len(records) and not self._step.is_full:
            if self._plain is not None:
                at = self._read_plain(self._plain, records, at)
            if at < len(records) and not self._step.is_full:
                self._place(records[at])
                at += 1
        self._read_since_sweep += at
        if at < len(records):
            self._leave(records[at])

    def _read_plain(self, plain: "PlainWaits", records: Sequence[Record], at: int) -> int:
        """Let the compiled half take what is plain; the index of the first that is not."""
        step, now_ms = self._step, self._step.now_ms
        row = step.row
        offsets, fates, _, last = self._ledger.pages()
        at = plain.take(
            records, at, now_ms, row.stream_ms, now_ms + _SKEW_MS,
            offsets, fates, last, *self._ledger.settlement(), step.publish, step.output,
            WRITTEN_MAX, WRITTEN_BYTES_MAX - step.written_bytes,
        )  # fmt: skip
        row.stream_ms = plain.stream_ms
        step.note(plain.written_bytes)
        return at

    def _place(self, record: Record) -> None:
        """Bring one record to its flow."""
        row, ledger, now_ms = self._step.row, self._ledger, self._step.now_ms
        if record.timestamp > row.stream_ms:
            row.stream_ms = max(row.stream_ms, min(record.timestamp, now_ms + _SKEW_MS))
        joined = decode_joined(record.value)
        if isinstance(joined, Violation):
            self._undecodable.dead_letter(record, joined)
            ledger.mark(record.offset, Fate.DEAD_LETTERED)
            return
        flow = self._flows.get(joined.flow)
        if flow is None:
            # Its file is gone, and nobody waits any more.
            ledger.mark(record.offset, Fate.IGNORED)
            return
        flow.correlator.place(
            Arrival(
                key=record.key or b"",
                joined=joined,
                payload=record.value or b"",
                offset=record.offset,
                at_ms=flow.waits.time_of(record.timestamp, joined),
                size_bytes=size_of(joined),
            )
        )

    def _expire(self, limit_ms: int) -> bool:
        """Fire timers that are due, flow by flow; whether there were any."""
        has_fired = False
        for flow in self._flows.values():
            timers = flow.waits.timers
            for due_ms, key in timers.due(limit_ms, _TIMERS_MAX):
                if self._step.is_full:
                    break
                has_fired = True
                row = flow.waits.find(key)
                assert row is not None, f"timer of {key!r} without its row"
                assert row.due_ms == due_ms, f"timer of {key!r} at {due_ms}, not {row.due_ms}"
                timers.clear(due_ms, key)
                row.due_ms = None
                flow.correlator.expire(key, row, due_ms)
        return has_fired

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
        flow, key = self._flows.get(operation.flow), operation.key
        if flow is None:
            return "unknown flow"
        row = flow.waits.find(key)
        if row is None or row.phase == Phase.RESTING:
            return "nothing waits"
        if operation.verb is Verb.FORCE:
            if row.phase == Phase.OVER:
                return f"its wait is over: {row.ended}"
            flow.correlator.force(key, row)
        elif row.phase == Phase.OVER:
            if flow.history is not None:
                flow.history.forget(key, row, operation.verb.value)
            self._rows.delete(flow.waits.name(key))
        else:
            flow.correlator.end(key, row)
        return None

    def _sweep(self) -> None:
        """Delete rows of keys that are forgotten among the next few; the first act of a step."""
        row = self._step.row
        if row.stream_ms - row.swept_ms < _SWEEP_EVERY_MS:
            return
        row.swept_ms = row.stream_ms
        # Twice as many as may have come to be, so that rows are deleted faster than they come.
        count = _SWEPT_MIN + 2 * self._read_since_sweep
        self._read_since_sweep = 0
        rows = list(islice(self._state.scan(row.swept_to or WAIT, _WAIT_END), count))
        row.swept_to = rows[-1][0] + b"\0" if len(rows) == count else b""
        for key, value in rows:
            name, _, of_wait = key[1:].partition(b"\0")
            flow = self._by_name.get(name)
            if flow is not None and flow.waits.is_idle(decode_stamp(value)):
                if flow.history is not None:
                    flow.history.forget(of_wait, decode_wait(value))
                self._rows.delete(key[1:])

    def _flush(self) -> None:
        self._rows.flush()
        self._events.flush()
        for flow in self._flows.values():
            flow.waits.flush()
        super()._flush()


def _flow(identity: TaskIdentity, correlation: Correlation, shared: SharedState) -> FlowOfTask:
    waits = Waits(identity, correlation, shared, shape_of(correlation))
    correlator = Redeclared(_correlator(waits, correlation.kind), waits)
    if not correlation.history:
        return FlowOfTask(waits, correlator, None)
    history = History(identity, waits, shared.step)
    return FlowOfTask(waits, Told(correlator, history), history)


def _correlator(waits: Waits, kind: Kind) -> Correlator:
    if isinstance(kind, Windowed):
        return InWindows(waits, kind)
    if isinstance(kind, Ordered):
        return InOrder(waits)
    if isinstance(kind, Debounced):
        return Debouncing(waits, kind)
    if isinstance(kind, Batched):
        return Batching(waits, kind)
    return Collecting(waits, kind)
