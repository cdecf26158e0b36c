"""What the decision cores of all tasks have in common: positions, starts, steps, accounts."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edo_stream.core.accounts import Account
from edo_stream.core.effects import Effects, account_records, counted
from edo_stream.core.ledger import Ledger, account_of_start
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.notices import Notices
from edo_stream.core.record import Batch, Record
from edo_stream.core.state import Table
from edo_stream.core.task import (
    InternalTopics,
    SourceRow,
    Step,
    TaskIdentity,
    TaskRow,
    load_task,
    save_task,
)

if IS_COMPILED:
    from edo_stream.core._native import WireOutput


class TaskPipeline(ABC):
    """Decides for one task; synchronous, and free of I/O, clocks and chance.

    A subclass calls :meth:`restore` when it is built. Its step begins with :meth:`_begin`, reads
    batches by :meth:`_new_records`, and ends with :meth:`_conclude`.
    """

    def __init__(self, identity: TaskIdentity, state: Table, internal: InternalTopics) -> None:
        self._identity = identity
        self._state = state
        self._internal = internal
        self._step = Step(TaskRow())
        self._notices = Notices(identity, internal)

    @abstractmethod
    def restore(self) -> None:
        """Read anew what is kept in memory; after the tables were restored or discarded."""
        self._step.row = load_task(self._state)
        self._step.clear()

    def write_as_sent(self) -> None:
        """Let the compiled half write plain records as they are sent: ``wire`` of the effects."""
        if IS_COMPILED:
            self._step.output = WireOutput()

    def discard(self) -> None:
        """Forget all that is uncommitted: the transaction was aborted."""
        self._state.discard()
        self.restore()

    def positions(self) -> Mapping[str, int]:
        """Next offset of each source topic that was ever started."""
        return {topic: source.next_offset for topic, source in self._step.row.sources.items()}

    def stream_ms(self) -> int | None:
        """Time of the latest record read; ``None`` before the first."""
        return self._step.row.stream_ms or None

    @abstractmethod
    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Events held by topic, and since when the oldest of them waits; call between steps."""

    @abstractmethod
    def next_due_ms(self) -> int | None:
        """Time of the earliest timer, which may be past; ``None`` when there is none."""

    def start(
        self, topic: str, offset: int, now_ms: int, lost: tuple[int, int] | None = None
    ) -> Effects:
        """Begin to read a source at an offset; with ``lost``, go on behind records that are gone.

        ``lost`` is a range of offsets, first and next, that the log no longer had; ``offset`` is
        its end then.
        """
        self._begin(now_ms)
        self._source_row(topic).next_offset = offset
        account = account_of_start(self._identity, topic, offset, now_ms, lost)
        self._flush()
        return self._effects([account])

    @abstractmethod
    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide on batches, then on timers that are due, until the step is full.

        What is left of the batches the positions say; it is what the next step begins with.
        Timers fire up to ``caught_up_ms`` only, the time at which the task had read all that was
        there: an outage must not look like events that did not come.
        """

    def _begin(self, now_ms: int) -> None:
        self._step.begin(now_ms)

    def _source_row(self, topic: str) -> SourceRow:
        return self._step.row.sources.setdefault(topic, SourceRow(0))

    def _new_records(self, batch: Batch, ledger: Ledger) -> Sequence[Record]:
        """Records of a batch that were not processed before; a redelivery may repeat some."""
        assert batch.partition == self._identity.partition, (
            f"{batch.topic}/{batch.partition} is not of partition {self._identity.partition}"
        )
        source = self._source_row(batch.topic)
        ledger.open(source.next_offset)
        records = batch.records
        if records[0].offset < source.next_offset:
            records = [record for record in records if record.offset >= source.next_offset]
        if records:
            source.next_offset = records[-1].offset + 1
        return records

    def _until_full(self, batch: Batch, ledger: Ledger) -> Iterator[Record]:
        """New records of a batch one by one; when the step is full, the rest is left."""
        for record in self._new_records(batch, ledger):
            if self._step.is_full:
                self._leave(record)
                return
            yield record

    def _leave(self, record: Record) -> None:
        """Leave a record of a batch that is being read, and all behind it, to the next step."""
        self._source_row(record.topic).next_offset = record.offset

    def _answer(
        self, record: Record, key: bytes | None, request: Mapping[str, Any], refusal: str | None
    ) -> None:
        """Publish what has become of an operator's request: done, or refused and why."""
        self._step.publish.append(
            self._notices.outcome(record.offset, key, request, refusal, self._step.now_ms)
        )

    def _conclude(self, ledgers: Iterable[Ledger]) -> Effects:
        """End a step that did anything: its accounts, its rows, and what it publishes."""
        accounts = [ledger.close(self._identity, self._step.now_ms) for ledger in ledgers]
        self._flush()
        return self._effects([account for account in accounts if account is not None])

    def _flush(self) -> None:
        """Write the task's row; a subclass writes those of its parts first."""
        save_task(self._state, self._step.row)

    def _effects(self, accounts: list[Account]) -> Effects:
        internal, now_ms = self._internal, self._step.now_ms
        publish, self._step.publish = self._step.publish, []
        publish += account_records(
            accounts, internal.accounts, internal.accounts_partitions, now_ms
        )
        effects = counted(publish, accounts)
        if self._step.output is not None:
            effects.wire = self._step.output.take()
        return effects
