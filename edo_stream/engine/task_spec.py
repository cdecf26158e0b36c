"""What a task is made of and what it shows: spec, decider, outside world, counters."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from edo_stream.core.contract import Start
from edo_stream.core.effects import Effects
from edo_stream.core.record import Batch
from edo_stream.engine.global_tables import GlobalTables
from edo_stream.engine.hooks import Hooks
from edo_stream.engine.pace import Pace
from edo_stream.engine.ports import Changelog, Intake, Membership, ProducerFactory
from edo_stream.engine.runs import WorkerRuns
from edo_stream.engine.target import Targets


class Decider(Protocol):
    """The core's pipeline as the task uses it; see :mod:`edo_stream.core.pipeline`."""

    def restore(self) -> None:
        """Read what it keeps in memory from the tables."""

    def discard(self) -> None:
        """Forget all that is uncommitted."""

    def positions(self) -> Mapping[str, int]:
        """Next offset of each source topic, as the state has it."""

    def start(
        self, topic: str, offset: int, now_ms: int, lost: tuple[int, int] | None = None
    ) -> Effects:
        """Begin a source at an offset."""

    def step(self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int) -> Effects:
        """Decide on batches and due timers."""

    def next_due_ms(self) -> int | None:
        """Time of the earliest timer."""

    def stream_ms(self) -> int | None:
        """Time of the latest record read."""

    def held(self) -> Mapping[str, tuple[int, int | None]]:
        """Events held by topic, and since when the oldest of them waits."""


@runtime_checkable
class PatientDecider(Decider, Protocol):
    """A pipeline whose long steps pause for others."""

    def steps(
        self, batches: Sequence[Batch], now_ms: int, caught_up_ms: int
    ) -> Generator[None, None, Effects]:
        """Decide with pauses; between them nothing but ``discard`` is called."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world of a task."""

    producers: ProducerFactory
    changelog: Changelog
    intake: Intake
    membership: Membership
    now_ms: Callable[[], int]
    pace: Pace
    batch_bytes_max: Mapping[str, int] = field(default_factory=dict)
    """Topics whose ``max.message.bytes`` is below the default."""
    hooks: Hooks = field(default_factory=Hooks)
    targets: Targets = field(default_factory=dict)
    """What the worker's act tasks run commands by."""
    runs: WorkerRuns = field(default_factory=WorkerRuns)
    global_tables: GlobalTables | None = None
    """What all tasks of the worker look up in; ``None``: nothing does."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a task is: names, sources and limits; the same for every partition of a group."""

    app: str
    """Application id, which is the consumer group too."""
    group: str
    """Co-partition group."""
    sources: Mapping[str, Start]
    """Source topics and where to begin when the group has no offset."""
    transaction_timeout_s: float
    session_timeout_s: float
    batch_records_max: int = 4_000
    accepted_losses: frozenset[tuple[str, int, int, int]] = frozenset()
    """Lost ranges that an operator has accepted: topic, partition, first, next."""

    def of_group(self, group: str, sources: Mapping[str, Start]) -> "TaskSpec":
        """The same for another group."""
        return replace(self, group=group, sources=sources)

    def transactional_id(self, partition: int) -> str:
        """Name of the one producer that may write for the partition."""
        return f"{self.app}.{self.group}.{partition}"


@dataclass(slots=True)
class TaskStats:
    """Counters since the task object was made."""

    transactions: int = 0
    resets: int = 0
    fences: int = 0
    rewinds: int = 0
    restored_records: int = 0


@dataclass(slots=True)
class TaskProgress:
    """Where a task stands, for those who look at it; nothing is decided by it."""

    committed: dict[str, int] = field(default_factory=dict)
    """Next offset by topic, as the group has it."""
    done_ms: dict[str, int] = field(default_factory=dict)
    """Time of the last record processed, by topic."""
    ends: dict[str, int] = field(default_factory=dict)
    """Ends of the sources when the task positioned itself."""
    in_hand: Sequence[Batch] = ()
    """What the running step is about."""
    moved_at: float = 0.0
    """When anything last began or ended, on the event loop's clock."""
