"""What became of the records of a range, as the accounts tell it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiokafka.structs import ConsumerRecord

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.contract import Contract
from edo_stream.observe.rows import read_topics
from edo_stream.registry.plan import ACCOUNTS

_CODES: Final = {fate.value: code for code, fate in enumerate(Fate, start=1)}
_FATES: Final = dict(enumerate(Fate, start=1))
_POSITION: Final = "ce_edoposition"
_EMITTED: Final = _CODES[Fate.EMITTED.value]

_decode: Final = msgspec.json.Decoder(Account).decode


class Fates:
    """Fates of one partition's records between two offsets, a byte each."""

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        self._codes = bytearray(max(0, end - first))
        self._has_start = False
        self._accounted_from: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether retention has deleted accounts of the range."""
        begin = self._accounted_from
        return not self._has_start and (begin is None or begin > self._first)

    def take(self, account: Account) -> None:
        """Take an account of the partition; in the order of their writing."""
        self._has_start |= account.start is not None
        for run in (*account.runs, *account.settled):
            begin = max(0, run.offset - self._first)
            end = min(len(self._codes), run.offset + run.length - self._first)
            code = _CODES.get(run.fate, 0)
            for index in range(begin, end):
                # What once went on has its command, whatever a later reading found it to be.
                if self._codes[index] != _EMITTED:
                    self._codes[index] = code
        if account.runs and self._accounted_from is None:
            self._accounted_from = account.runs[0].offset

    def went_on(self, offset: int) -> None:
        """A result names the offset as its cause."""
        index = offset - self._first
        if 0 <= index < len(self._codes):
            self._codes[index] = _EMITTED

    def of(self, offset: int) -> Fate | None:
        """Fate of a record; ``None`` when nothing tells of it."""
        return _FATES.get(self._codes[offset - self._first])


async def read_fates(
    broker: Mapping[str, Any], app: str, contract: Contract, ranges: Mapping[int, tuple[int, int]]
) -> dict[int, Fates]:
    """Read the accounts of a topic's partitions; ``ranges`` are offsets, first and end.

    Accounts are kept for two weeks, records and results for as long as the contract says: what
    accounts no longer tell, the results do.

    Raises:
        KafkaError: the broker cannot be reached.
    """
    fates = {partition: Fates(first, end) for partition, (first, end) in ranges.items()}
    wanted = {f"{app}/{contract.topic}/{partition}".encode(): partition for partition in ranges}

    def take(record: ConsumerRecord) -> None:
        partition = wanted.get(record.key)
        if partition is not None:
            fates[partition].take(_decode(record.value))

    await read_topics([ACCOUNTS], broker, take)
    if any(fate.is_cut for fate in fates.values()):
        await read_topics([contract.emit], broker, _results(app, contract.topic, fates))
    return fates


def _results(app: str, topic: str, fates: Mapping[int, Fates]) -> Callable[[ConsumerRecord], None]:
    source, prefix = f"/edo/{app}".encode(), f"{topic}/".encode()

    def take(record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        position = headers.get(_POSITION) or b""
        if headers.get("ce_source") != source or not position.startswith(prefix):
            return
        partition, _, offset = position.removeprefix(prefix).partition(b"/")
        if partition.isdigit() and offset.isdigit() and int(partition) in fates:
            fates[int(partition)].went_on(int(offset))

    return take
