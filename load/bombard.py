"""Faults in the protocol, one after another by a seed: which calls, and what is done to them."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edo_stream.engine.transaction_v2.choice import TransactionProtocol
from load.proxy.rules import Api, Code, Harm, Kind, Rule
from load.proxy.server import Proxy

#: How long a rule waits for its call.
_PATIENCE_S: Final = 4.0
_POLL_S: Final = 0.05
_TRIGGER_SHARE: Final = 0.5

_COORDINATOR: Final = (
    Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.NOT_COORDINATOR,
)
_TRANSACTION: Final = (
    *_COORDINATOR,
    Code.CONCURRENT_TRANSACTIONS,
    Code.INVALID_PRODUCER_EPOCH,
    Code.INVALID_TXN_STATE,
    Code.INVALID_PRODUCER_ID_MAPPING,
    Code.UNKNOWN_SERVER_ERROR,
)
_MEMBER: Final = (
    *_COORDINATOR,
    Code.UNKNOWN_MEMBER_ID,
    Code.REBALANCE_IN_PROGRESS,
    Code.UNKNOWN_SERVER_ERROR,
)

#: What each API may be told instead of being served, by the first version of transactions.
_ERRORS: Final[Mapping[Api, Sequence[Code]]] = {
    Api.PRODUCE: (
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.NOT_ENOUGH_REPLICAS,
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.KAFKA_STORAGE_ERROR,
        Code.INVALID_PRODUCER_EPOCH,
        Code.OUT_OF_ORDER_SEQUENCE_NUMBER,
        Code.UNKNOWN_PRODUCER_ID,
        Code.INVALID_TXN_STATE,
    ),
    Api.FETCH: (
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.KAFKA_STORAGE_ERROR,
        Code.FENCED_LEADER_EPOCH,
        Code.UNKNOWN_SERVER_ERROR,
        Code.OFFSET_OUT_OF_RANGE,
    ),
    Api.INIT_PRODUCER_ID: (
        *_COORDINATOR,
        Code.CONCURRENT_TRANSACTIONS,
        Code.UNKNOWN_SERVER_ERROR,
    ),
    Api.ADD_PARTITIONS_TO_TXN: _TRANSACTION,
    Api.ADD_OFFSETS_TO_TXN: _TRANSACTION,
    Api.TXN_OFFSET_COMMIT: (
        *_COORDINATOR,
        Code.REQUEST_TIMED_OUT,
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.INVALID_PRODUCER_EPOCH,
        Code.UNKNOWN_SERVER_ERROR,
    ),
    Api.END_TXN: (
        *_COORDINATOR,
        Code.CONCURRENT_TRANSACTIONS,
        Code.INVALID_PRODUCER_EPOCH,
        Code.INVALID_TXN_STATE,
        Code.UNKNOWN_SERVER_ERROR,
    ),
    Api.JOIN_GROUP: _MEMBER,
    Api.SYNC_GROUP: (*_MEMBER, Code.ILLEGAL_GENERATION),
    Api.HEARTBEAT: (*_MEMBER, Code.ILLEGAL_GENERATION),
    Api.OFFSET_FETCH: (*_COORDINATOR, Code.UNSTABLE_OFFSET_COMMIT, Code.UNKNOWN_SERVER_ERROR),
}
_ABORTS: Final = (
    Code.CONCURRENT_TRANSACTIONS,
    Code.PRODUCER_FENCED,
    Code.TRANSACTION_ABORTABLE,
)
#: The calls that add to a transaction do themselves what these announced before.
_FIRST_ONLY: Final = (Api.ADD_PARTITIONS_TO_TXN, Api.ADD_OFFSETS_TO_TXN)
_OF_SECOND: Final = (Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN)

#: What each API may be told instead of being served.
ERRORS: Final[Mapping[TransactionProtocol, Mapping[Api, Sequence[Code]]]] = {
    TransactionProtocol.FIRST: _ERRORS,
    TransactionProtocol.SECOND: {
        api: (*dict.fromkeys((*codes, *_ABORTS)),) if api in _OF_SECOND else codes
        for api, codes in _ERRORS.items()
        if api not in _FIRST_ONLY
    },
}
#: What the broker may say although it has done what was asked.
ERRORS_AFTER: Final[Mapping[Api, Sequence[Code]]] = {
    Api.PRODUCE: (Code.REQUEST_TIMED_OUT, Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND),
    Api.TXN_OFFSET_COMMIT: (Code.REQUEST_TIMED_OUT,),
    Api.END_TXN: (Code.COORDINATOR_NOT_AVAILABLE, Code.UNKNOWN_SERVER_ERROR),
    Api.INIT_PRODUCER_ID: (Code.COORDINATOR_NOT_AVAILABLE,),
}
#: Calls that a worker makes only when something has happened before: this makes it happen.
TRIGGERS: Final[Mapping[Api, tuple[Api, Code]]] = {
    Api.JOIN_GROUP: (Api.HEARTBEAT, Code.REBALANCE_IN_PROGRESS),
    Api.SYNC_GROUP: (Api.HEARTBEAT, Code.REBALANCE_IN_PROGRESS),
    Api.INIT_PRODUCER_ID: (Api.END_TXN, Code.INVALID_TXN_STATE),
    Api.OFFSET_FETCH: (Api.END_TXN, Code.INVALID_TXN_STATE),
}
#: Kinds with their weights: a black hole lasts, so it is rare.
_KINDS: Final = {
    Kind.ERROR: 50,
    Kind.ERROR_AFTER: 10,
    Kind.DISCONNECT_BEFORE: 13,
    Kind.DISCONNECT_AFTER: 13,
    Kind.DELAY: 11,
    Kind.BLACK_HOLE: 3,
}


def draw(chance: random.Random, protocol: TransactionProtocol) -> tuple[Api, Harm]:
    """A fault by chance, of calls that workers make."""
    errors = ERRORS[protocol]
    api = chance.choice(tuple(errors))
    while True:
        (kind,) = chance.choices(tuple(_KINDS), tuple(_KINDS.values()))
        match kind:
            case Kind.ERROR:
                return api, Harm(kind, code=chance.choice(errors[api]))
            case Kind.ERROR_AFTER:
                if api in ERRORS_AFTER:
                    return api, Harm(kind, code=chance.choice(ERRORS_AFTER[api]))
            case Kind.DELAY:
                return api, Harm(kind, seconds=round(chance.uniform(0.1, 2.0), 1))
            case _:
                return api, Harm(kind)


@dataclass(slots=True)
class Bombardment:
    """Injects faults until so many have fired; each rule that did not in time is given up."""

    proxy: Proxy
    faults: int
    chance: random.Random
    protocol: TransactionProtocol
    at_once: int = 2
    """Rules that wait for their calls at the same time."""
    pause_s: float = 1.0
    """At most, between two of them: a member that is thrown out is waited for by the others for
    a session timeout, and results would stand still by the number of faults alone."""
    missed: int = 0
    """Rules that never fired, since no such call came."""
    _fired: Counter[tuple[Api, Kind]] = field(default_factory=Counter)

    @property
    def fired(self) -> Counter[tuple[Api, Kind]]:
        """Faults by API and kind, triggers included: they are faults as well."""
        return self._fired

    async def run(self) -> None:
        """Bombard from several sides."""
        await asyncio.gather(*(self._run_one() for _ in range(self.at_once)))

    async def _run_one(self) -> None:
        while self._fired.total() < self.faults:
            api, harm = draw(self.chance, self.protocol)
            rules = [self.proxy.rule(api, harm).once()]
            trigger = TRIGGERS.get(api)
            if trigger is not None and self.chance.random() < _TRIGGER_SHARE:
                other, code = trigger
                rules.append(self.proxy.on(other).error(code).once())
            await self._wait(rules[0])
            await asyncio.sleep(self.chance.uniform(0.0, self.pause_s))
            for rule in rules:
                rule.off()
                self._note(rule)

    async def _wait(self, rule: Rule) -> None:
        left_s = _PATIENCE_S
        while not rule.times_triggered and left_s > 0:
            await asyncio.sleep(_POLL_S)
            left_s -= _POLL_S

    def _note(self, rule: Rule) -> None:
        self.proxy.forget(rule)
        if rule.times_triggered:
            assert rule.harm is not None
            self._fired[rule.api, rule.harm.kind] += rule.times_triggered
        else:
            self.missed += 1
