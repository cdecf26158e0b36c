"""Deduplication: an event whose key values were seen within the time-to-live is a duplicate.

Theory of operation. A digest of the key values is remembered with its expiry in stream time. The
changelog gets one record for all that a batch has seen for the first time (per expiry), not one
per event; :func:`expand_ids` turns it into the rows on disk, one per digest and one that lists
them for the expiry. The changelog's retention deletes the records themselves, so expiry is local:
no tombstones. A restore may bring expired rows back; they are expired all the same.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import Any, Final

from edo_stream.core.contract import DedupePolicy
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve
from edo_stream.core.record import Record
from edo_stream.core.redrive import redrive_of
from edo_stream.core.state import Rows, Table

if IS_COMPILED:
    from edo_stream.core._native import SourceIdDigest, ids_names, ids_rows

NO_DIGEST: Final = b""
"""Of what is no event."""
_DIGEST_BYTES: Final = 16
_DIGEST_ROW: Final = b"d"
_INDEX_ROW: Final = b"b"
_INDEX_END: Final = b"c"
_EXPIRY: Final = Struct(">I")
_KEY: Final = Struct(">IQ")
_EXPIRY_MAX_S: Final = 0xFFFFFFFF
_DIGESTS_MAX: Final = 16_384
"""Of one changelog record: 256 KiB."""
_NEVER_S: Final = _EXPIRY_MAX_S + 1

Digest = Callable[[Event], bytes | Violation]
Digests = Callable[[list[Decoded]], list[bytes]]
"""Digests of a batch; an event without a key value becomes a violation in its list."""


def expand_ids(key: bytes, value: bytes | None) -> Rows:
    """Local rows of one changelog record of the ids table, at the commit and at a restore."""
    return ids_rows(key, value) if IS_COMPILED else _rows_in_python(key, value)


def _rows_in_python(key: bytes, value: bytes | None) -> Rows:
    yield _INDEX_ROW + key, value
    if value is not None:
        expiry = value[:4]
        for at in range(4, len(value), _DIGEST_BYTES):
            yield _DIGEST_ROW + value[at : at + _DIGEST_BYTES], expiry


def digest_of(topic: str, fields: tuple[str, ...]) -> Digest:
    """Compile the function that digests an event's key values, each with its length."""
    name = topic.encode()
    start = blake2b(b"%d:%b" % (len(name), name), digest_size=_DIGEST_BYTES)
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


class Ids:
    """First sightings of all topics of a task, over the table of ids."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._fresh: dict[bytes, int] = {}
        self._fresh_by_expiry: dict[int, tuple[int, list[bytes]]] = {}
        self._swept_s = 0

    def restore(self) -> None:
        """Forget what is uncommitted."""
        self._fresh = {}
        self._fresh_by_expiry = {}
        self._swept_s = 0

    def recall(self, digests: list[bytes]) -> list[bytes | None]:
        """Rows of a batch's digests, read at once; :meth:`admit` takes them one by one."""
        names = ids_names(digests) if IS_COMPILED else [_DIGEST_ROW + one for one in digests]
        return self._table.get_many(names)

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
        again = blake2b(digest + redrive, digest_size=_DIGEST_BYTES).digest()
        return self.admit(again, self.recall([again])[0], record.offset, stream_ms, expiry_s)

    def pages(self, expiry_s: int) -> tuple[dict[bytes, int], list[bytes] | None]:
        """What the compiled half writes to; ``None`` before the first sighting of an expiry."""
        of_expiry = self._fresh_by_expiry.get(expiry_s)
        return self._fresh, None if of_expiry is None else of_expiry[1]

    def write(self, topic: str) -> None:
        """Write the first sightings of a batch of one topic to the table."""
        name = topic.encode()
        for expiry_s, (offset, digests) in self._fresh_by_expiry.items():
            self._swept_s = min(self._swept_s, expiry_s)
            expiry = _EXPIRY.pack(expiry_s)
            for at in range(0, len(digests), _DIGESTS_MAX):
                # Offsets of a batch are distinct, and it has at least as many as digests.
                key = _KEY.pack(expiry_s, offset + at) + name
                self._table.write(key, expiry + b"".join(digests[at : at + _DIGESTS_MAX]))
        self._fresh = {}
        self._fresh_by_expiry = {}

    def sweep(self, stream_ms: int, rows_max: int) -> None:
        """Delete what has expired, at most ``rows_max`` records' worth; costs nothing if none has.

        ``_swept_s`` is a lower bound of all expiries, so that a scan never crosses the deleted.
        """
        if self._swept_s * 1000 > stream_ms:
            return
        start = _INDEX_ROW + _EXPIRY.pack(self._swept_s)
        rows = list(islice(self._table.scan(start, _INDEX_END), rows_max + 1))
        for key, value in rows[:rows_max]:
            self._swept_s = int.from_bytes(value[:4], "big")
            if self._swept_s * 1000 > stream_ms:
                return
            self._forget(key, value)
        self._swept_s = int.from_bytes(rows[-1][1][:4], "big") if len(rows) > rows_max else _NEVER_S

    def _forget(self, key: bytes, value: bytes) -> None:
        expiry = value[:4]
        names = [name for name, _ in expand_ids(key, value)][1:]
        for name, known in zip(names, self._table.get_many(names), strict=True):
            # Seen again after its expiry: the row belongs to a later record.
            if known == expiry:
                self._table.forget(name)
        self._table.forget(key)


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
