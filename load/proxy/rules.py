"""Rules of the proxy: which calls of which API are harmed, how, and how often that happened."""

import random
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Self


class Api(IntEnum):
    """Kafka's API keys, as far as anybody here speaks of them."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Code(IntEnum):
    """Kafka's error codes that are worth injecting."""

    UNKNOWN_SERVER_ERROR = -1
    OFFSET_OUT_OF_RANGE = 1
    UNKNOWN_TOPIC_OR_PARTITION = 3
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    ILLEGAL_GENERATION = 22
    UNKNOWN_MEMBER_ID = 25
    REBALANCE_IN_PROGRESS = 27
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    CONCURRENT_TRANSACTIONS = 51
    KAFKA_STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    FENCED_LEADER_EPOCH = 74
    UNSTABLE_OFFSET_COMMIT = 88
    PRODUCER_FENCED = 90
    TRANSACTION_ABORTABLE = 120


class Kind(Enum):
    """What is done to a call."""

    ERROR = "error instead of the call"
    ERROR_AFTER = "error after the call"
    DISCONNECT_BEFORE = "disconnect before the call"
    DISCONNECT_AFTER = "disconnect after the call"
    DELAY = "delay"
    BLACK_HOLE = "black hole"


@dataclass(frozen=True, slots=True)
class Harm:
    """One way to harm a call."""

    kind: Kind
    code: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """As in reports: the kind, and with which error or for how long."""
        match self.kind:
            case Kind.ERROR | Kind.ERROR_AFTER:
                return f"{self.kind.value}: {_code_name(self.code)}"
            case Kind.DELAY:
                return f"{self.kind.value} of {self.seconds:g} s"
            case _:
                return str(self.kind.value)


def _code_name(code: int) -> str:
    try:
        return Code(code).name
    except ValueError:
        return str(code)


class Rule:
    """What happens to calls of one API; harmless until it is told what to do and how often.

    Say the harm first and the mode after it: ``rule.error(Code.NOT_COORDINATOR).times(2)``. The
    modes are counted over the calls that the rule sees, from 1, on all connections together. Of
    several rules that match a call, the one made first gets it.
    """

    def __init__(self, api: Api, client_id: str | None, chance: random.Random) -> None:
        self.api = api
        self.calls = 0
        self.times_triggered = 0
        self._client_id = client_id
        self._chance = chance
        self._harm: Harm | None = None
        self._first = 1
        self._last: int | None = None
        self._probability = 1.0
        self._is_off = False

    @property
    def name(self) -> str:
        """API and harm, as in reports."""
        return f"{self.api.name} {self._harm.name if self._harm else 'passes'}"

    @property
    def harm(self) -> Harm | None:
        """What it does, once told."""
        return self._harm

    # -- harms

    def error(self, code: int) -> Self:
        """Answer with an error; the broker never sees the call."""
        return self.do(Harm(Kind.ERROR, code=code))

    def error_after(self, code: int) -> Self:
        """Answer with an error, although the broker has done what was asked."""
        return self.do(Harm(Kind.ERROR_AFTER, code=code))

    def disconnect_before(self) -> Self:
        """Close the connection; the broker never sees the call."""
        return self.do(Harm(Kind.DISCONNECT_BEFORE))

    def disconnect_after(self) -> Self:
        """Close the connection when the broker has answered; the answer is lost."""
        return self.do(Harm(Kind.DISCONNECT_AFTER))

    def delay(self, seconds: float) -> Self:
        """Hold the call back, and with it what follows on its connection."""
        return self.do(Harm(Kind.DELAY, seconds=seconds))

    def black_hole(self) -> Self:
        """Swallow the call and all that follows on its connection, which stays open."""
        return self.do(Harm(Kind.BLACK_HOLE))

    def do(self, harm: Harm) -> Self:
        """Any of the above, given as a value."""
        assert self._harm is None, f"{self.name}: a rule has one harm"
        self._harm = harm
        return self

    # -- modes

    def once(self) -> Self:
        """The next call only."""
        return self.times(1)

    def times(self, count: int) -> Self:
        """The next so many calls."""
        self._last = count
        return self

    def on_call(self, number: int) -> Self:
        """The n-th call from now on, from 1."""
        self._first = self._last = number
        return self

    def with_probability(self, probability: float) -> Self:
        """Each call by chance; without another mode, for as long as the rule is there."""
        self._probability = probability
        return self

    def off(self) -> None:
        """Harm nothing from now on."""
        self._is_off = True

    def decide(self, api_key: int, client_id: str | None) -> Harm | None:
        """Tell what to do to a call; counts it."""
        if self._is_off or api_key != self.api or self._harm is None:
            return None
        if self._client_id is not None and self._client_id not in (client_id or ""):
            return None
        self.calls += 1
        if self.calls < self._first or (self._last is not None and self.calls > self._last):
            return None
        if self._probability < 1.0 and self._chance.random() >= self._probability:
            return None
        self.times_triggered += 1
        return self._harm
