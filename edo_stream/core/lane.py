"""A lane: one source topic of a task, with the rules of its contract compiled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from edo_stream.core.assembly import Assembler, AssemblyRow, AssemblyState
from edo_stream.core.contract import Contract, MonotonicOrder, SequenceOrder, TransactionOrder
from edo_stream.core.dedupe import NO_DIGEST, Expiry, digests_of
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.ledger import Ledger
from edo_stream.core.monotonic import Monotonic, ReachedRow
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.outlet import Outlet
from edo_stream.core.published import Origin, Published
from edo_stream.core.record import Record
from edo_stream.core.resequencer import Resequencer, SequenceState
from edo_stream.core.routing import Router, Routes
from edo_stream.core.state import RowCache
from edo_stream.core.task import TaskIdentity

if TYPE_CHECKING:
    from edo_stream.core._native import PlainWay
if IS_COMPILED:
    from edo_stream.core._native import PlainFirst


@dataclass(frozen=True, slots=True)
class Source:
    """A topic to read: its contract, and the codec that decodes its records.

    ``decode`` returns a violation instead of raising; should it raise all the same, the record
    is a violation too.
    """

    contract: Contract
    decode: Callable[[Record], Event | Violation | Ignored]
    routes: Routes | None = None
    """Flows that want events of the topic."""
    origin: Origin | None = None
    """What is followed when another contract is published; ``None``: none is."""


class Lane:
    """One source topic of a task: how its records are judged, and what orders them."""

    def __init__(
        self,
        identity: TaskIdentity,
        source: Source,
        state: SequenceState,
        reached: RowCache[ReachedRow],
        assemblies: RowCache[AssemblyRow],
    ) -> None:
        contract = source.contract
        ordering = contract.ordering
        self.topic = contract.topic
        self.ledger = Ledger(contract.topic)
        self.outlet = Outlet(identity, contract, state.step, self.ledger)
        if source.routes is not None:
            self.outlet.router = Router(identity, contract, source.routes)
        self.is_numbered = isinstance(ordering, SequenceOrder)
        # Should the contract have been ``sequence`` before, what is still held times out.
        self.resequencer = Resequencer(
            contract,
            ordering if isinstance(ordering, SequenceOrder) else SequenceOrder(),
            self.outlet,
            state,
            self.judge,
        )
        self._assemblies = assemblies
        self.assembler = Assembler(
            contract,
            ordering if isinstance(ordering, TransactionOrder) else TransactionOrder(),
            self.outlet,
            AssemblyState(state.step, assemblies, state.held, state.timers),
            self.judge,
        )
        self.is_assembled = isinstance(ordering, TransactionOrder)
        self.place: Callable[[Record, Event], None] = self.outlet.emit
        self.monotonic: Monotonic | None = None
        self.plain: PlainWay | None = None
        if self.is_numbered:
            self.place = self.resequencer.place
            self.plain = self.resequencer.plain_way()
        elif self.is_assembled:
            self.place = self.assembler.place
        elif isinstance(ordering, MonotonicOrder):
            self.monotonic = Monotonic(contract, ordering, self.outlet, state.step, reached)
            self.place = self.monotonic.place
        else:
            self.plain = self.outlet.plain_way(None)
        dedupe = contract.dedupe
        self.expiry = None if dedupe is None else Expiry(dedupe)
        self._digests = None if dedupe is None else digests_of(contract.topic, dedupe.fields)
        self._source = source
        self._decode = source.decode
        self.published: Published | None = None
        """The contract that is followed; ``None``: that of the worker's files."""

    @property
    def contract(self) -> tuple[str, int, int | None]:
        """The contract that is followed: revision, newest schema version, since which offset."""
        if self.published is not None:
            return self.published.revision, self.published.version, self.published.offset
        origin = self._source.origin
        return ("", 0, None) if origin is None else (origin.revision, origin.version, None)

    def follow(self, published: Published | None) -> str | None:
        """Judge by a published contract from now on, or by the files'; else say why not."""
        source, origin = self._source, self._source.origin
        if published is None:
            self._decode, self.published = source.decode, None
            return None
        if origin is None:
            return "contracts of this topic are not published"
        if published.version < origin.version:
            return f"the worker's own files have version {origin.version} already"
        if self.published is None or published.revision != self.published.revision:
            try:
                self._decode = origin.recompile(published.bundle)
            except ValueError as error:
                return str(error)
        self.published = published
        return None

    def judge(self, record: Record) -> Decoded:
        """Decode a record; whatever the codec does, poison never stops the partition."""
        try:
            return self._decode(record)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # any bug of a codec is about this record only
            return _bug_of_codec(error)

    def judge_all(self, records: Sequence[Record]) -> tuple[list[Decoded], list[bytes]]:
        """Decode a batch; the digest of what is no event is ``NO_DIGEST``."""
        judged: list[Decoded] = []
        decode, judge = self._decode, judged.append
        while len(judged) < len(records):
            try:
                if IS_COMPILED and type(decode) is PlainFirst:
                    decode.extend(judged, records)
                    break
                for record in islice(records, len(judged), None):
                    judge(decode(record))
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  # any bug of a codec is about one record
                judge(_bug_of_codec(error))
        return judged, [NO_DIGEST] * len(judged) if self._digests is None else self._digests(judged)

    def reject(self, record: Record, violation: Violation) -> None:
        """Dead-letter a record; its number is used up if it can be read."""
        self.outlet.dead_letter(record, violation)
        if self.is_numbered and violation.key is not None:
            self.resequencer.fill(violation.key, violation.position)
        elif self.is_assembled and violation.key is not None:
            self.assembler.fill(violation.key, violation.position)

    def expire(self, name: bytes, due_ms: int) -> None:
        """End the wait of what a timer is due for, by the policy that held it."""
        if self._assemblies.get(name) is None:
            self.resequencer.expire(name, due_ms)
        else:
            self.assembler.expire(name)

    def operate(self, key: bytes, to: int | None) -> str | None:
        """Skip or release what a key holds; why not, if refused."""
        by = self.assembler if self.is_assembled else self.resequencer
        return by.operate(key, to)


def _bug_of_codec(error: Exception) -> Violation:
    return Violation("undecodable", f"codec failed: {type(error).__name__}")
