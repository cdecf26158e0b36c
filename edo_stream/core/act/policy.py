"""What the act plane is told about a flow, and about the group that its commands run in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from edo_stream.core.act.ladder import Ladder, RetryPolicy
from edo_stream.core.act.turns import KeyLimit, Throttle
from edo_stream.core.correlation.ends import EndFeed

_RETRY = RetryPolicy()


class Order(Enum):
    """What a failing command does to later ones of its key."""

    STRICT = "strict"
    """They are parked behind it, durably, and run in order when it is through."""
    RELAXED = "relaxed"
    """They go on."""


class Delivery(Enum):
    """What a crash while a command runs leads to."""

    AT_LEAST_ONCE = "at-least-once"
    """It is run again, with the same idempotency key."""
    AT_MOST_ONCE = "at-most-once"
    """It is not run again; its outcome is unknown, and said to be."""


class AfterDeadLetter(Enum):
    """What a dead letter does to its key."""

    CONTINUE = "continue"
    STOP = "stop"
    """Nothing of the key runs until an operator lets it go on."""


class Singleton(Enum):
    """What becomes of a command while another one of its key runs, or waits to."""

    SKIP = "skip"
    """It ends as skipped."""
    QUEUE = "queue"
    """It waits; whoever waited before it ends as skipped."""
    REPLACE = "replace"
    """All before it are cancelled."""


@dataclass(frozen=True, slots=True)
class FlowPolicy:
    """One flow's rules in the act plane."""

    flow: str
    owner: str
    """Of the dead letters."""
    commands: str
    """Topic of its commands."""
    outcomes: str
    """Topic of its outcomes: done, failed, unknown."""
    dead_letters: str
    order: Order = Order.STRICT
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    retry: RetryPolicy = _RETRY
    after_dead_letter: AfterDeadLetter = AfterDeadLetter.CONTINUE
    parked_per_key_max: int = 1_000
    """Commands beyond it stay unread: the partition pauses."""
    record_bytes_max: int = 1_048_576
    singleton: Singleton | None = None
    throttle: Throttle | None = None
    rate_limit: KeyLimit | None = None
    replies: str | None = None
    """Topic on which requests may ask for a reply (:mod:`.reply`); ``None``: it never replies."""
    reply_partitions: int = 8
    has_tags: bool = False
    """Whether events cancel its commands by another field than their key."""
    is_awaited: bool = False
    """A saga waits for the end of each of its commands: none is dropped without one."""


@dataclass(frozen=True, slots=True)
class ActSpec:
    """A co-partition group of the act plane: its flows, and the ladder that they share."""

    flows: Mapping[str, FlowPolicy]
    """By name."""
    ladder: Ladder
    tiers: Mapping[int, str]
    """Topic of each tier, by its delay in ms; every delay of the ladder has one."""
    dead_letters: str
    """For what belongs to no flow (any more)."""
    window_max: int = 1_000
    """Records of one topic beyond its committed offset that are in hand at most."""
    parked_max: int = 10_000
    """Commands parked in the partition at most; beyond, the command topics pause. And as many
    retries of paused flows; beyond, they stay in the window of their tier."""
    ends: Mapping[str, tuple[EndFeed, ...]] = field(default_factory=dict)
    """By flow: who gathers how its commands end."""

    def __post_init__(self) -> None:
        assert set(self.ladder.delays_ms) == set(self.tiers), "a topic for each tier"
