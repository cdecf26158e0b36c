"""What a flow waits for: kinds of correlation, deadlines, policies and bounds.

A *correlation* is declared by a flow. Its *inputs* are named; each is some events of a topic. All
events with one correlation key are one *wait*: it opens with the first of them, and ends when it
is complete, when its deadline passes, or by an operator. Each end that leads to something is a
*firing*.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from edo_stream.core.asked import Replies
from edo_stream.core.contract import DAY_MS
from edo_stream.core.facts import Make

#: For so long an event waits for one that belongs before it: which of two topics is read first
#: says nothing.
OUT_OF_ORDER_MS: Final = 60_000


class Clock(Enum):
    """Whose time deadlines and windows go by."""

    ARRIVAL = "arrival"
    """When the record came to Kafka: its timestamp."""
    EVENT = "event"
    """When it happened, as the event says; its record's timestamp where it says nothing."""


class OnTimeout(Enum):
    """What comes of a wait whose deadline passes."""

    PARTIAL = "partial"
    """A result with what there is."""
    FALLBACK = "fallback"
    """A result of the fallback's type."""
    FAILURE = "failure"
    """An event among the flow's outcomes."""
    DEAD_LETTER = "dead-letter"
    """A dead letter for each event."""
    DROP = "drop"
    """Nothing; the events are counted as stale."""


class OnLate(Enum):
    """What comes of an event whose wait is over."""

    NEW_RUN = "new-run"
    """It opens the next wait of its key."""
    APPEND = "append"
    """A result of its own, which names the firing that it belongs to."""
    DROP = "drop"
    """Nothing; it is counted as late."""
    DEAD_LETTER = "dead-letter"


class Fire(Enum):
    """How often a key may fire."""

    ONCE = "once"
    """Once; what comes afterwards is late."""
    EACH = "each"
    """Whenever it is complete: the next event opens the next wait."""


class OnFailed(Enum):
    """What comes of commands' ends that are there, when some of them have failed."""

    PARTIAL = "partial"
    """A result that says so, with all of them."""
    FAILURE = "failure"
    """An event among the flow's outcomes."""
    WAIT = "wait"
    """What has failed does not count: it may be sent again, until the deadline."""


class Keep(Enum):
    """Which event of an input stays when there are several, by their times."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Named:
    """So many of the named inputs, in any order: all of them, any of them, n of them."""

    needed: int


@dataclass(frozen=True, slots=True)
class Ordered:
    """One event of each input, in the order of the inputs, within the time given."""


@dataclass(frozen=True, slots=True)
class Absent:
    """An event of the first input that none of the second follows."""

    after: str
    without: str


@dataclass(frozen=True, slots=True)
class Counted:
    """So many events; of one member each, where members are told apart."""

    expect: int | None = None
    """``None``: the manifest says it."""
    manifest: str = ""
    """Input that tells how many there are; without it and a number, each event says it."""
    is_gathered: bool = False
    """Whether they are the ends of a split event's commands: the members are numbers from 0."""

    @property
    def is_carried(self) -> bool:
        """Whether each event says how many there are."""
        return self.expect is None and not self.manifest


@dataclass(frozen=True, slots=True)
class Members:
    """One event of each member of a list."""

    members: tuple[str, ...] | None = None
    """``None``: the manifest lists them."""
    manifest: str = ""


class Function(Enum):
    """What an aggregate makes of the values in a window."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVG = "avg"
    FIRST = "first"
    LAST = "last"
    DISTINCT = "distinct"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate: a function over the values that a pointer leads to."""

    function: Function
    pointer: tuple[str, ...] = ()
    """Tokens of a JSON pointer; of no meaning for ``count``."""


@dataclass(frozen=True, slots=True)
class Windowed:
    """All events of a window. Sizes are in ms; ``size_ms`` is a multiple of ``every_ms``."""

    size_ms: int = 0
    """Of a tumbling or sliding window, which begin at multiples of ``every_ms`` since 1970."""
    every_ms: int = 0
    gap_ms: int = 0
    """Of a session: it ends when nothing has come for so long. 0: no session."""
    session_max_ms: int = 0
    """A session is cut after so long; 0: never."""
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict, hash=False)
    collect: bool = True
    """Whether the result has the events, besides their aggregates."""


@dataclass(frozen=True, slots=True)
class Debounced:
    """The last event of a key, once none has come for so long."""

    quiet_ms: int
    max_ms: int
    """From the first event that none has been fired for, whatever comes. Not below the other."""


@dataclass(frozen=True, slots=True)
class Batched:
    """Events of a key in lists: a list ends at whichever of the bounds it reaches first."""

    count: int
    size_bytes: int
    """Of its events, as a result has them; an event that has more goes alone."""
    after_ms: int
    """From its first event."""


Kind = Named | Ordered | Absent | Counted | Members | Windowed | Debounced | Batched


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait. What finds a bound reached is a dead letter.

    Never a pause: what would complete a wait comes on the partition that would be paused.
    """

    open_max: int = 1_000_000
    """Waits of the flow in one task."""
    events_max: int = 10_000
    """Events of one wait."""
    bytes_max: int = 512 * 1024
    """Bytes of the events of one wait, as a result has them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the firings of a flow go."""

    topic: str
    partitions: int
    type: str
    """``ce_type`` of a result; that of a fallback ends in ``.fallback``."""
    is_command: bool = False
    """Whether it is the topic of the flow's commands."""
    bytes_max: int = 1_048_576
    """What the topic takes."""
    make: Make | None = None
    """What makes a command's data of the result; ``None``: it is the result."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """What one flow waits for."""

    flow: str
    owner: str
    kind: Kind
    inputs: tuple[str, ...]
    """Names, in the order of their declaration; without the fallback and the manifest."""
    target: Target
    outcomes: str
    """Topic of the failure events."""
    dead_letters: str
    partitions: int
    """Of both."""
    within_ms: int = DAY_MS
    """From the first event of a wait to its deadline; windows have their own ends."""
    grace_ms: int = 0
    """For so long after the deadline events that belong before it are still waited for."""
    clock: Clock = Clock.ARRIVAL
    on_timeout: OnTimeout = OnTimeout.FAILURE
    late: OnLate = OnLate.DROP
    fire: Fire = Fire.ONCE
    keep: Keep = Keep.LAST
    remember_ms: int = 7 * DAY_MS
    """For so long a wait that is over is known (stream time)."""
    opens: frozenset[str] = frozenset()
    """Inputs that open a wait; empty: each does. Others that come before count by look-back."""
    look_back_ms: int = 0
    failed: OnFailed = OnFailed.PARTIAL
    """Of gathered ends."""
    fallback: str = ""
    """Input that fires whatever there is, unless the key has fired before."""
    bounds: Bounds = Bounds()
    ends_bytes_max: int = 1_048_576
    """What topics of failure events and dead letters take, but for 64 KiB more."""
    history: str = ""
    """Topic of the changes of waits, with the partitions of the group; empty: they are not told."""
    history_bytes_max: int = 4 << 20
    """What it takes."""
    replies: Replies | None = None
    """Where its events may ask to be told of their end."""


@dataclass(frozen=True, slots=True)
class JoinSpec:
    """All correlations of a group: the tasks read one topic with the events of all of them."""

    topic: str
    partitions: int
    correlations: Mapping[str, Correlation]
    upstream: tuple[tuple[str, int], ...] = ()
    """Topics that the events come from, with their partitions: a deadline has not passed before
    what these had at the time has come here."""
    bytes_max: int = 1_048_576
    """What the topic takes; that of the dead letters takes 64 KiB more."""

    @property
    def combining(self) -> frozenset[str]:
        """Flows whose events are all to be in commands: those that debounce or batch."""
        return frozenset(
            flow
            for flow, correlation in self.correlations.items()
            if isinstance(correlation.kind, Debounced | Batched)
        )
