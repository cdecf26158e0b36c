"""Deduplication: an event whose key values were seen within the time-to-live is a duplicate.

Theory of operation. A digest of the key values is remembered with its expiry in stream time. The
changelog gets one record for all that a batch has seen for the first time (per expiry), not one
per event. The task that has written it keeps the ids in memory, and the record as one row of its
disk, from which it reads them again. A restore, which knows no bound of what it may find, makes
rows of them by :func:`expand_ids`: one per digest, and one that lists them for the expiry; so
does the task when there are too many in memory already. The changelog's retention deletes
the records themselves, so expiry is local: no tombstones. A restore may bring expired rows back;
they are expired all the same.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import Any, Final

from edo_stream.core.contract import DedupePolicy
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.known_ids import (
    DIGEST_BYTES,
    EXPIRY_BYTES,
    IdsBudget,
    KnownIds,
    digests_in,
    new_ids,
)
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve
from edo_stream.core.record import Record
from edo_stream.core.redrive import redrive_of
from edo_stream.core.state import Expand, Rows, Table

if IS_COMPILED:
    from edo_stream.core._native import SourceIdDigest, ids_names, ids_rows

NO_DIGEST: Final = b""
"""Of what is no event."""
DISK_FORMAT: Final = 2
"""Of the disks of ids: from 2 on they have records whose ids have no rows."""
OLDEST_DISK_FORMAT: Final = 1
"""Whose disks are used as they are: one has rows only."""
_MEMORY_ROW: Final = b"a"
"""Of a record whose ids its task has in memory."""
_INDEX_ROW: Final = b"b"
"""Of a record whose ids are rows."""
_DIGEST_ROW: Final = b"d"
_EXPIRY: Final = Struct(">I")
_KEY: Final = Struct(">IQ")
_EXPIRY_MAX_S: Final = 0xFFFFFFFF
_DIGESTS_MAX: Final = 16_384
"""Of one changelog record: 256 KiB."""

Digest = Callable[[Event], bytes | Violation]
Digests = Callable[[list[Decoded]], list[bytes]]
"""Digests of a batch; an event without a key value becomes a violation in its list."""


def expand_ids(key: bytes, value: bytes | None) -> Rows:
    """Local rows that a restore makes of one changelog record of the ids table."""
    return ids_rows(key, value) if IS_COMPILED else _rows_in_python(key, value)


def _rows_in_python(key: bytes, value: bytes | None) -> Rows:
    yield _INDEX_ROW + key, value
    if value is not None:
        expiry = value[:EXPIRY_BYTES]
        for digest in digests_in(value):
            yield _DIGEST_ROW + digest, expiry


def as_restored(expand: Expand, rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Rows of a table's disk as a restore makes them; for those who judge disks."""
    return spread(rows) if expand is expand_ids else rows


def spread(rows: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Rows of a disk of ids as if a restore had made all of them."""
    found = {key: value for key, value in rows.items() if key[:1] != _MEMORY_ROW}
    for key, record in rows.items():
        if key[:1] == _MEMORY_ROW:
            for name, value in expand_ids(key[1:], record):
                assert value is not None
                found[name] = max(found.get(name, value), value)
    return found


def digest_of(topic: str, fields: tuple[str, ...]) -> Digest:
    """Compile the function that digests an event's key values, each with its length."""
    name = topic.encode()
    start = blake2b(b"%d:%b" % (len(name), name), digest_size=DIGEST_BYTES)
    if fields == ("source", "id"):
        return _digest_of_source_and_id(start)
    readers = [(field, _reader(field)) for field in fields]
    has_pointers = any(field.startswith("/") for field in fields)

    def digest(event: Event) -> bytes | Violation:
        document = parse_json(event.data) if has_pointers else MISSING
        hashed = start.copy()
        for field, read in readers:
            value = read(event, document)
            if value is None:
                detail = f"dedupe key {field}: expected a value, found none"
                return Violation("invalid", detail, event.key, event.position)
            hashed.update(b"%d:%b" % (len(value), value))
        return hashed.digest()

    return digest


def digests_of(topic: str, fields: tuple[str, ...]) -> Digests:
    """Compile the function that digests the events of a batch."""
    digest = digest_of(topic, fields)
    if IS_COMPILED and fields == ("source", "id"):
        name = topic.encode()
        return SourceIdDigest(b"%d:%b" % (len(name), name), digest).of_all

    def digests(judged: list[Decoded]) -> list[bytes]:
        found: list[bytes] = []
        for index, outcome in enumerate(judged):
            of_one = digest(outcome) if isinstance(outcome, Event) else NO_DIGEST
            if isinstance(of_one, Violation):
                judged[index] = of_one
                of_one = NO_DIGEST
            found.append(of_one)
        return found

    return digests


def _digest_of_source_and_id(start: Any) -> Callable[[Event], bytes]:
    """Digest what CloudEvents calls a duplicate: the way of nearly every event."""

    @lru_cache(maxsize=4_096)
    def start_of(source: str) -> Any:
        name = _text(source)
        hashed = start.copy()
        hashed.update(b"%d:%b" % (len(name), name))
        return hashed

    def digest(event: Event) -> bytes:
        event_id = event.id.encode("utf-8", "surrogatepass")
        hashed = start_of(event.source).copy()
        hashed.update(b"%d:%b" % (len(event_id), event_id))
        return hashed.digest()  # type: ignore[no-any-return]  # the hash type has no name

    return digest


def _reader(field: str) -> Callable[[Event, Any], bytes | None]:
    if field.startswith("/"):
        tokens = parse_pointer(field)
        return lambda _, document: _scalar(resolve(document, tokens))
    assert field in {"source", "id", "type", "subject", "key"}, f"unknown dedupe field {field!r}"
    return lambda event, _: _scalar(getattr(event, field))


def _scalar(value: Any) -> bytes | None:
    """Bytes that no value of another JSON type shares; ``None`` for what is no scalar."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _text(value)
    if value is None or value is MISSING or isinstance(value, dict | list):
        return None
    return b"\x00" + str(value).encode()


def _text(text: str) -> bytes:
    """Encode any text at all, different ones differently: a lone surrogate stops nobody."""
    return text.encode("utf-8", "surrogatepass")


class _Index:
    """Records of ids on the disk, in the order in which they expire: rows of one kind."""

    def __init__(self, table: Table, start: bytes) -> None:
        self._table = table
        self._start = start
        self._end = bytes([start[0] + 1])
        self._first: bytes | None = start
        """None is before it, so that no scan crosses what was deleted; ``None``: none at all."""
        self._first_ms = 0
        """None expires before."""

    def restore(self) -> None:
        """Look from the start again."""
        self._first, self._first_ms = self._start, 0

    @property
    def is_empty(self) -> bool:
        """Whether there are none, as far as a look at what has expired has shown."""
        return self._first is None

    def saw(self, row: bytes, record: bytes) -> None:
        """Take note of a record that was added."""
        if self._first is None or row < self._first:
            self._first, self._first_ms = row, _expiry_ms(record)

    def records(self, most: int) -> list[tuple[bytes, bytes]]:
        """The records that expire first, at most so many."""
        if self._first is None:
            return []
        return list(islice(self._table.scan(self._first, self._end), most))

    def gone(self, row: bytes) -> None:
        """Take note that the first record has gone."""
        self._first = row + b"\0"

    def expired(self, stream_ms: int, most: int) -> list[tuple[bytes, bytes]]:
        """The records that have expired, at most so many; costs nothing if none has."""
        if self._first_ms > stream_ms:
            return []
        rows = self.records(most + 1)
        for at, (row, record) in enumerate(rows):
            self._first, self._first_ms = row, _expiry_ms(record)
            if at == most or self._first_ms > stream_ms:
                return rows[:at]
        self._first = None
        return rows


class Ids:
    """First sightings of all topics of a task, over the table of ids.

    Ids that this process has seen are in memory, as long as the worker's budget allows, and on the
    disk as records alone. Those that it sees when the budget is spent, and those that a restore has
    brought, are rows of the disk, one each. Of an id that is both the later expiry counts.
    """

    def __init__(self, table: Table, budget: IdsBudget) -> None:
        self._table = table
        self._budget = budget
        self._memory: KnownIds | None = None
        self._in_memory = _Index(table, _MEMORY_ROW)
        self._in_rows = _Index(table, _INDEX_ROW)
        self._fresh: dict[bytes, int] = {}
        self._fresh_by_expiry: dict[int, tuple[int, list[bytes]]] = {}

    def restore(self) -> None:
        """Forget what is uncommitted, and what is in memory until it is asked for."""
        self._fresh = {}
        self._fresh_by_expiry = {}
        self._in_memory.restore()
        self._in_rows.restore()
        if self._memory is not None:
            self._budget.ids -= len(self._memory)
            self._memory = None

    def _known(self) -> KnownIds:
        """The ids in memory, read from the disk at the first use."""
        if self._memory is None:
            self._memory = new_ids()
            for _, record in self._table.scan(_MEMORY_ROW, _INDEX_ROW):
                self._add(self._memory, record)
        return self._memory

    def _add(self, memory: KnownIds, record: bytes) -> None:
        before = len(memory)
        memory.add(record)
        self._budget.ids += len(memory) - before

    def _remove(self, record: bytes) -> None:
        if self._memory is not None:
            before = len(self._memory)
            self._memory.remove(record)
            self._budget.ids += len(self._memory) - before

    def recall(self, digests: list[bytes]) -> list[bytes | None]:
        """Expiries of a batch's digests, asked for at once; :meth:`admit` takes them one by one."""
        found = self._known().recall(digests)
        if self._in_rows.is_empty:
            return found
        rows = self._table.get_many(_names_of(digests))
        return [_later(one, row) for one, row in zip(found, rows, strict=True)]

    def admit(
        self, digest: bytes, row: bytes | None, offset: int, stream_ms: int, expiry_s: int
    ) -> bool:
        """Whether the event is no duplicate; it is remembered if so."""
        fresh = self._fresh
        known_s = fresh.get(digest)
        if known_s is None and row is not None:
            known_s = int.from_bytes(row, "big")
        if known_s is not None and known_s * 1000 > stream_ms:
            return False
        fresh[digest] = expiry_s
        of_expiry = self._fresh_by_expiry.get(expiry_s)
        if of_expiry is None:
            self._fresh_by_expiry[expiry_s] = (offset, [digest])
        else:
            of_expiry[1].append(digest)
        return True

    def admit_again(self, digest: bytes, record: Record, stream_ms: int, expiry_s: int) -> bool:
        """Whether a double was sent again by an operator, for the first time under its number."""
        redrive = redrive_of(record)
        if redrive is None:
            return False
        again = blake2b(digest + redrive, digest_size=DIGEST_BYTES).digest()
        return self.admit(again, self.recall([again])[0], record.offset, stream_ms, expiry_s)

    def pages(self, expiry_s: int) -> tuple[dict[bytes, int], list[bytes] | None]:
        """What the compiled half writes to; ``None`` before the first sighting of an expiry."""
        of_expiry = self._fresh_by_expiry.get(expiry_s)
        return self._fresh, None if of_expiry is None else of_expiry[1]

    def write(self, topic: str) -> None:
        """Write the first sightings of a batch of one topic to the table."""
        name = topic.encode()
        memory = self._known()
        for expiry_s, (offset, digests) in self._fresh_by_expiry.items():
            expiry = _EXPIRY.pack(expiry_s)
            for at in range(0, len(digests), _DIGESTS_MAX):
                # Offsets of a batch are distinct, and it has at least as many as digests.
                key = _KEY.pack(expiry_s, offset + at) + name
                record = expiry + b"".join(digests[at : at + _DIGESTS_MAX])
                if self._budget.is_spent:
                    self._table.write(key, record)
                    self._in_rows.saw(_INDEX_ROW + key, record)
                    continue
                self._table.write_as(key, record, _MEMORY_ROW + key)
                self._in_memory.saw(_MEMORY_ROW + key, record)
                self._add(memory, record)
        self._fresh = {}
        self._fresh_by_expiry = {}

    def sweep(self, stream_ms: int, records_max: int) -> None:
        """Delete what has expired, at most so many records' worth; costs nothing if none has.

        Tasks that come back to their disks may read more than the budget has left: those of their
        ids that expire first become rows.
        """
        for row, record in self._in_memory.expired(stream_ms, records_max):
            self._remove(record)
            self._table.forget(row)
        for row, record in self._in_rows.expired(stream_ms, records_max):
            self._forget(row, record)
        if self._memory is not None and self._budget.ids > self._budget.ids_max:
            for row, record in self._in_memory.records(records_max):
                if self._budget.ids > self._budget.ids_max:
                    self._move(row, record)

    def _forget(self, row: bytes, record: bytes) -> None:
        expiry = record[:EXPIRY_BYTES]
        names = _names_of(list(digests_in(record)))
        for name, known in zip(names, self._table.get_many(names), strict=True):
            # Seen again after its expiry: the row belongs to a later record.
            if known == expiry:
                self._table.forget(name)
        self._table.forget(row)

    def _move(self, row: bytes, record: bytes) -> None:
        """Make rows of what was in memory."""
        table, expiry = self._table, record[:EXPIRY_BYTES]
        digests = list(digests_in(record))
        names, known = _names_of(digests), self._known().recall(digests)
        for name, one, kept in zip(names, known, table.get_many(names), strict=True):
            # Seen again after its expiry: the later record has its row, or will.
            if one == expiry and (kept is None or kept < expiry):
                table.keep(name, expiry)
        table.keep(_INDEX_ROW + row[1:], record)
        table.forget(row)
        self._in_rows.saw(_INDEX_ROW + row[1:], record)
        self._in_memory.gone(row)
        self._remove(record)


def _expiry_ms(record: bytes) -> int:
    """When the ids of a record expire, in epoch ms."""
    return int.from_bytes(record[:EXPIRY_BYTES], "big") * 1000


def _names_of(digests: list[bytes]) -> list[bytes]:
    return ids_names(digests) if IS_COMPILED else [_DIGEST_ROW + one for one in digests]


def _later(one: bytes | None, other: bytes | None) -> bytes | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


class Expiry:
    """Expiry of one topic's ids, rounded up so that a batch shares one in most cases."""

    def __init__(self, policy: DedupePolicy) -> None:
        self._ttl_ms = policy.ttl_ms
        # About a thousandth late: the split of the input into batches never shows in an expiry.
        self._step_s = max(1, policy.ttl_ms // 1_024_000)

    def at(self, stream_ms: int) -> tuple[int, int]:
        """Until when an event seen at this stream time is remembered, in epoch seconds.

        The second number is the stream time, in ms, from which on the expiry is another one.
        """
        step_ms = self._step_s * 1000
        steps = -(-(stream_ms + self._ttl_ms) // step_ms)
        expiry_s = min(steps * self._step_s, _EXPIRY_MAX_S)
        return expiry_s, expiry_s * 1000 - self._ttl_ms + 1
