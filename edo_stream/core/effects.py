"""What a step wants done: values that the engine carries out in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from edo_stream.core.accounts import Account
from edo_stream.core.record import Headers

_RUNS_MAX: Final = 10_000
"""Of one record of an account, which must fit its topic."""


class Publish(msgspec.Struct, frozen=True, gc=False):
    """A record to produce. ``partition`` is explicit: the core knows all partition counts."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class WireRecords(Protocol):
    """Records for one partition, written to where they are sent from by the compiled half."""

    @property
    def topic(self) -> str:
        """Where they go."""

    @property
    def partition(self) -> int:
        """Of the topic."""

    @property
    def size_bytes(self) -> int:
        """As they are in a batch, before compression."""

    def __len__(self) -> int:
        """How many they are."""

    def records(self) -> list[Publish]:
        """What they are, one by one."""


@dataclass(slots=True)
class Effects:
    """Outcome of one step; the state's changes are in its tables.

    Of a partition, ``wire`` is produced before ``publish``.

    The rest is for metrics. ``counts`` are the fates of the records read, by topic and fate code;
    ``settled`` those of records that an earlier step held. ``times_ms`` are, by topic, the times
    at which the events of the results happened. ``replayed`` are events that replays have looked
    at, by flow and what became of them, ``changes`` what has happened to sagas, by saga and kind.
    """

    publish: list[Publish] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    settled: dict[tuple[str, str], int] = field(default_factory=dict)
    times_ms: dict[str, list[int]] = field(default_factory=dict)
    replayed: dict[tuple[str, str], int] = field(default_factory=dict)
    changes: dict[tuple[str, str], int] = field(default_factory=dict)
    wire: Sequence[WireRecords] = ()


def account_records(
    accounts: Iterable[Account], topic: str, partitions: int, at_ms: int
) -> list[Publish]:
    """Records by which a transaction tells its accounts, on a topic of so many partitions."""
    return [
        Publish(
            topic,
            account.partition % partitions,
            f"{account.app}/{account.topic}/{account.partition}".encode(),
            msgspec.json.encode(account),
            (),
            at_ms,
        )
        for whole in accounts
        for account in _parts(whole)
    ]


def _parts(account: Account) -> Iterator[Account]:
    """An account in as many as it takes: a step may settle a great many records."""
    first = max(1, _RUNS_MAX - len(account.runs))
    yield replace(account, settled=account.settled[:first])
    for at in range(first, len(account.settled), _RUNS_MAX):
        settled = account.settled[at : at + _RUNS_MAX]
        yield replace(account, runs=(), settled=settled, start=None, lost=None)


def counted(publish: list[Publish], accounts: list[Account]) -> Effects:
    """Effects whose counts are those of the accounts."""
    effects = Effects(publish, accounts)
    for account in accounts:
        for runs, sums in ((account.runs, effects.counts), (account.settled, effects.settled)):
            for run in runs:
                count = (account.topic, run.fate)
                sums[count] = sums.get(count, 0) + run.length
    return effects
