"""What a worker shows of itself: values that the engine fills in, and that ``observe`` tells on.

They say where things stand at one moment; what happens over time is told by the engine's hooks.
"""

from enum import Enum

import msgspec


class Phase(Enum):
    """Where a task stands in its life."""

    FENCING = "fencing"
    RESTORING = "restoring"
    POSITIONING = "positioning"
    RUNNING = "running"
    WAITING = "waiting"
    """After a reset, for a heartbeat."""
    REFUSED = "refused"
    """It would lose or repeat something; a person must decide."""
    CLOSED = "closed"


class Failure(Enum):
    """Why a task started over."""

    ABORTED = "aborted"
    """Its transaction: nothing of it is visible."""
    UNKNOWN = "unknown"
    """Its transaction: committed or not, only the log tells."""
    FENCED = "fenced"
    """Another worker has taken over its transactional id."""
    OTHER = "other"


class SourceView(msgspec.Struct, frozen=True, rename="camel"):
    """One source partition of a task."""

    topic: str
    next_offset: int | None
    """First offset that is not processed; ``None`` until the task has positioned itself."""
    end_offset: int | None
    """Last stable offset that the broker told: with the last fetch, or when the task began."""
    lag_records: int | None
    lag_ms: int | None
    """Age of the oldest record that is not processed, by its timestamp; 0 when there is none."""
    held: int
    held_since_ms: int | None
    contract: str = ""
    """Revision of the contract that its records are judged by."""
    contract_version: int = 0
    """Newest version of that contract's schema; 0 without one."""
    contract_from: int | None = None
    """First offset judged by it; ``None``: it is the one of the worker's own files."""
    is_paused: bool = False
    """Commands of a flow that an operator has paused."""


class WaitsView(msgspec.Struct, frozen=True, rename="camel"):
    """What one flow waits for in one task; what ended is counted since the state began."""

    flow: str
    open: int
    events: int
    """That wait."""
    oldest_age_ms: int
    """Of the wait whose deadline is the next, by the flow's clock; 0 with none."""
    fired: int
    timed_out: int
    late: int
    refused: int


class TaskView(msgspec.Struct, frozen=True, rename="camel"):
    """One task; counts are since it began, which every rebalance makes it do anew."""

    group: str
    partition: int
    phase: Phase
    refusal: str | None
    sources: tuple[SourceView, ...]
    transactions: int
    resets: int
    fences: int
    rewinds: int
    restored_records: int
    has_work: bool
    """Whether records or a transaction are in its hands."""
    still_ms: int
    """How long ago it has finished or begun anything."""
    waits: tuple[WaitsView, ...] = ()
    """What its flows wait for, if it correlates."""

    @property
    def name(self) -> str:
        """Group and partition, as in logs."""
        return f"{self.group}-{self.partition}"


class StandbyPhase(Enum):
    """Where a standby stands."""

    WAITING = "waiting"
    """For tasks of this worker to be restored, and for the broker."""
    FOLLOWING = "following"
    FAILED = "failed"
    """Its disk cannot be written, or its task is of a later version; until the next rebalance."""


class StandbyView(msgspec.Struct, frozen=True, rename="camel"):
    """State of a task that runs elsewhere, kept warm here."""

    group: str
    partition: int
    phase: StandbyPhase
    lag_records: int | None
    """Offsets of its changelogs that are not applied; ``None`` until it has begun."""
    applied_records: int
    """Since it began."""


class DiskView(msgspec.Struct, frozen=True, rename="camel"):
    """The two RocksDBs of one task or standby."""

    group: str
    partition: int
    file_bytes: int
    memory_bytes: int


class TableView(msgspec.Struct, frozen=True, rename="camel"):
    """A global table, as this worker has it."""

    topic: str
    is_loaded: bool
    """Whether all was read that was there when the worker began."""
    rows: int
    lag_records: int | None
    """Offsets that are not applied; ``None`` until the broker has told the ends."""
    file_bytes: int
    memory_bytes: int


class TargetView(msgspec.Struct, frozen=True, rename="camel"):
    """What a flow's commands run by, on this worker."""

    flow: str
    running: int
    breaker: str
    """``closed``, ``open`` or ``half-open``."""
    opened: int
    """How often it has opened."""
    is_stopped: bool
    """By the guard against floods of dead letters."""
    target: str = ""
    """What is called, which other flows may share."""
    limit: int = 0
    """Runs at once, at most, now."""


class RetriesView(msgspec.Struct, frozen=True, rename="camel"):
    """Retries of a flow that this worker ran, and how long after they were due."""

    flow: str
    retries: int
    """Since the worker started; the times are of the last thousand."""
    late_median_ms: int
    late_p99_ms: int
    late_max_ms: int


class LettersView(msgspec.Struct, frozen=True, rename="camel"):
    """Dead letters of an owner that nobody has acknowledged, in the whole fleet."""

    owner: str
    waiting: int
    oldest_age_ms: int
    overdue: int
    """Those that had to be acknowledged by now."""


class WorkerView(msgspec.Struct, frozen=True, rename="camel"):
    """A worker and its tasks."""

    app: str
    version: str
    is_assigned: bool
    """Whether the consumer group has told which partitions are this worker's."""
    fetched_ms_ago: int | None
    """When the consumer was last asked for records; ``None``: never yet."""
    stuck_after_ms: int
    """How long a task may have work without getting on."""
    tasks: tuple[TaskView, ...]
    disks: tuple[DiskView, ...]
    standbys: tuple[StandbyView, ...] = ()
    targets: tuple[TargetView, ...] = ()
    tables: tuple[TableView, ...] = ()
    """Global tables."""
    retries: tuple[RetriesView, ...] = ()
    letters: tuple[LettersView, ...] | None = None
    """``None`` where another worker counts them, or this one has not read all yet."""


class Page(msgspec.Struct, frozen=True):
    """Answer to a request for a page."""

    status: int
    content_type: str
    body: bytes
