"""What a task needs from the outside: each port has a real and a simulated side.

The real producer is aiokafka's, used as it is; the other ports are implemented by the transport
(``intake``, ``membership``) and the restorer (``changelog``). The simulation implements all.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from aiokafka import TopicPartition

from edo_stream.core.effects import Publish, WireRecords
from edo_stream.core.record import Headers

Row: TypeAlias = tuple[bytes, bytes | None]
"""Key and value of a table's row; ``None``: it is deleted."""


class BatchBuilder(Protocol):
    """A producer batch that is being filled."""

    def fill(self, items: Sequence[Publish], start: int, bytes_max: int | None = None) -> int:
        """Add records from ``start`` on while they fit; the index of the first that did not.

        The first record of a batch always fits. ``bytes_max`` is given where the topic allows
        less than the producer's own batches have.
        """

    def adopt(self, records: WireRecords, bytes_max: int | None = None) -> bool:
        """Begin with records that are written already, if they fit; if not, it is of no more use.

        One record alone always fits. The records are the batch's then.
        """

    def fill_rows(
        self, rows: Sequence[Row], start: int, now_ms: int, bytes_max: int | None = None
    ) -> int:
        """Add rows of a table as :meth:`fill` adds records, all of one time."""

    def size(self) -> int:
        """Encoded size so far, in bytes."""

    def record_count(self) -> int:
        """Records so far."""

    async def pack(self) -> None:
        """Take no more, and compress what is there; what is large, while others have their turn."""


class Delivered(Protocol):
    """Where a batch landed."""

    @property
    def offset(self) -> int:
        """Offset of the batch's first record; -1 when the broker could not tell."""


class Producer(Protocol):
    """A transactional producer, in the words and with the failures of aiokafka's."""

    async def start(self) -> None:
        """Initialise the transactional id: fence its former owner and end its transaction."""

    async def stop(self) -> None:
        """Close the connections; an open transaction stays open at the broker."""

    async def begin_transaction(self) -> None:
        """Open a transaction, locally."""

    def create_batch(self, topic: str) -> BatchBuilder:
        """Give an empty batch to fill, for a topic."""

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> Awaitable[Delivered]:
        """Hand a batch over for delivery; the future fails when the delivery does.

        The transaction may still be committed when a delivery has failed: the caller must
        await every future first.
        """

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None:
        """Make the group's offsets part of the transaction."""

    async def commit_transaction(self) -> None:
        """Commit; when this raises, the outcome is unknown."""

    async def abort_transaction(self) -> None:
        """Abort."""


ProducerFactory = Callable[[str], Producer]
"""Makes an unstarted producer for a transactional id."""


class ChangelogRecord(NamedTuple):
    """One committed record of a changelog partition."""

    offset: int
    key: bytes
    value: bytes | None


Read_co = TypeVar("Read_co", covariant=True)
"""What a reader makes of a record."""


class Reading(Protocol):
    """A read under way: records in parts; to be closed when it is not read to its end."""

    def __aiter__(self) -> AsyncIterator[Sequence[ChangelogRecord]]:
        """Itself."""

    async def __anext__(self) -> Sequence[ChangelogRecord]:
        """The next part."""

    async def aclose(self) -> None:
        """Give up what it holds at the broker."""


class Changelog(Protocol):
    """Reads changelog topics, committed records only."""

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """First offset and last stable offset (the end for a ``read_committed`` reader)."""

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has now."""

    def read(self, partition: TopicPartition, start: int, end: int) -> Reading:
        """Records from ``start`` up to (not including) ``end``, in parts."""


class Grown(NamedTuple, Generic[Read_co]):
    """What a partition has more than before."""

    records: Sequence[Read_co]
    position: int
    """Offset that is read next, transaction markers skipped."""
    end: int | None
    """Last stable offset that the last fetch told; ``None`` before the first."""
    told_ms: int | None
    """When that was."""


class Follower(Protocol[Read_co]):
    """Reads partitions as they grow, committed records only; for one reader at a time."""

    async def follow(self, starts: Mapping[TopicPartition, int]) -> None:
        """Read these partitions, each from an offset on, and no others."""

    async def next(self, records_max: int) -> Mapping[TopicPartition, Grown[Read_co]]:
        """What has come, of every partition followed; waits a second at most.

        Raises:
            KafkaError: follow anew, from offsets that are looked up again.
        """

    async def close(self) -> None:
        """Close the connection; :meth:`follow` opens another one."""


class Intake(Protocol):
    """The consumer's side of a task: where its sources stand and how to move there."""

    async def committed(self, partitions: Sequence[TopicPartition]) -> list[int | None]:
        """The group's committed offsets."""

    async def log_bounds(self, partitions: Sequence[TopicPartition]) -> list[tuple[int, int]]:
        """First offset and last stable offset of each."""

    async def high_watermarks(self, partitions: Sequence[TopicPartition]) -> list[int]:
        """Ends of the logs, records of open transactions included."""

    async def offset_at(self, partition: TopicPartition, at_ms: int) -> int | None:
        """First offset whose record is not older than a time; ``None`` when all are older."""

    async def move_to(self, partition: TopicPartition, offset: int, epoch: int) -> None:
        """Deliver from an offset on, and resume fetching.

        Batches carry ``epoch`` from now on; those of earlier epochs are void.
        """

    def credit(self, handed: "Handed") -> None:
        """Say that a batch is done with, so that fetching may resume."""

    def last_handed(self, partition: TopicPartition) -> int | None:
        """Last offset drained in the current epoch, handed over or on its way.

        One less than the offset moved to when nothing was drained since; ``None`` before that.
        """

    async def fetch_position(self, partition: TopicPartition) -> int | None:
        """Offset that is drained next, transaction markers skipped.

        Everything before it is covered by what :meth:`last_handed` says afterwards.
        """


class Membership(Protocol):
    """This process's place in the consumer group."""

    async def confirmed_since(self, moment: float, timeout_s: float) -> bool:
        """Wait for a heartbeat of the same generation, sent after a moment and accepted.

        ``moment`` is on the event loop's clock. False when the generation changed or the
        time ran out: then somebody else may own the partitions.
        """

    def heard_at(self) -> float:
        """When the last accepted heartbeat was sent, on the event loop's clock."""


class Handed:
    """A batch on its way from the transport to its task.

    ``previous`` links it to the batch before: the last offset handed over in this epoch, or
    one less than the offset sought. A batch lost in between breaks the chain, and the task
    goes back instead of losing it.
    """

    __slots__ = ("epoch", "partition", "previous", "records", "size_bytes")

    def __init__(
        self,
        partition: TopicPartition,
        records: Sequence["FetchedRecord"],
        epoch: int,
        previous: int,
        size_bytes: int = 0,
    ) -> None:
        self.partition = partition
        self.records = records
        self.epoch = epoch
        self.previous = previous
        self.size_bytes = size_bytes


class Standing(NamedTuple):
    """What the last fetch of a partition told."""

    position: int | None
    """Offset that is drained next, transaction markers skipped."""
    end: int | None
    """Last stable offset."""
    last_handed: int | None
    """See :meth:`Intake.last_handed`."""


class FetchedRecord(Protocol):
    """A record of the consumer; see :class:`edo_stream.core.record.Record`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class DiskError(Exception):
    """A disk cannot be written: it is full, or broken."""


class Disk(Protocol):
    """Committed rows of one table and partition, with the changelog offset they stand for."""

    def get(self, key: bytes) -> bytes | None:
        """Value of a row, or ``None``."""

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Values in the order of the keys."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows from ``start`` (inclusive) to ``end`` (exclusive)."""

    def offset(self) -> int | None:
        """Offset of the last changelog record that is on disk; ``None`` when empty."""

    def written_at_ms(self) -> int | None:
        """When that was."""

    def write(self, rows: Mapping[bytes, bytes | None], offset: int | None, now_ms: int) -> None:
        """Write rows (``None`` deletes) and the changelog offset in one atomic batch.

        Raises:
            DiskError: nothing of it is written.
        """

    def usage(self) -> tuple[int, int]:
        """Bytes in files and in memory."""

    def wipe(self) -> None:
        """Remove all rows; the changelog has them."""

    def close(self) -> None:
        """Release files and lock."""
