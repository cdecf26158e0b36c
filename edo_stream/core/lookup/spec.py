"""What flows look up: tables, keys, and what comes of a row that is not there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from edo_stream.core.contract import Contract
from edo_stream.core.correlation.feed import ValueOf
from edo_stream.core.event import Decoded
from edo_stream.core.record import Record
from edo_stream.core.trigger import FlowTrigger

Decode = Callable[[Record], Decoded]


class OnMissing(Enum):
    """What comes of an event whose row is not there in time."""

    NULL = "null"
    """It goes on with null."""
    DEAD_LETTER = "dead-letter"
    FAILURE = "failure"
    """An event among the flow's outcomes."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """One row that a flow wants of each event."""

    name: str
    table: str
    """The compacted topic."""
    topic: str
    """Internal topic by which events come to the tasks that have the table's rows."""
    partitions: int
    """Of that topic, and of the table unless it is global."""
    key: ValueOf
    wait_ms: int = 0
    """For so long a row is waited for; 0: only until all that was written before is read."""
    missing: OnMissing = OnMissing.DEAD_LETTER
    per_key_max: int = 1_000
    """Events of one key that may wait; what is more is a dead letter."""
    row_bytes_max: int = 1_048_576
    """What the table takes."""
    global_partitions: int = 0
    """Of a table that each worker has in full; 0: it is none."""

    @property
    def is_global(self) -> bool:
        """Whether each worker has all rows: an event is looked at where its own key belongs."""
        return self.global_partitions > 0


@dataclass(frozen=True, slots=True)
class Enrichment:
    """All that one flow looks up, in order, and what its events are then."""

    trigger: FlowTrigger
    outcomes: str
    """Topic of the failure events."""
    lookups: tuple[Lookup, ...]
    contract: Contract
    """Of a topic that its events come from."""
    waiting_max: int = 100_000
    """Events of the flow that may wait in one task."""
    bytes_max: int = 1_048_576
    """What the internal topics take."""


@dataclass(frozen=True, slots=True)
class LookupSpec:
    """A group whose tasks have the rows of all tables with so many partitions."""

    topic: str
    """Internal topic that its tasks read, besides the tables."""
    partitions: int
    dead_letters: str
    """For what is no event of any flow, and for rows that cannot be used."""
    tables: Mapping[str, Decode]
    """Those whose partitions the tasks read."""
    enrichments: Mapping[str, Enrichment]
    """By flow."""
    bytes_max: int = 1_048_576
    """What the state takes in one row, and the topic of dead letters, but for 64 KiB more."""
    judged: frozenset[str] = frozenset()
    """Tables of which a task keeps no rows: they are global, and it only says what is none."""
