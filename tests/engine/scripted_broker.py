"""A broker of one node that speaks the second version of transactions, and fails as it is told.

It is written from Kafka's message definitions and KIP-890 with nothing of the client's: what it is
sent is read strictly, to the last byte, and what it answers is put together by hand.
"""

import asyncio
import struct
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeVar

from aiokafka.record.util import calc_crc32c

PRODUCE, METADATA, FIND_COORDINATOR, API_VERSIONS = 0, 3, 10, 18
INIT_PRODUCER_ID, END_TXN, TXN_OFFSET_COMMIT = 22, 26, 28
FLEXIBLE = {(PRODUCE, 12), (TXN_OFFSET_COMMIT, 5), (END_TXN, 5), (API_VERSIONS, 3)}

OUT_OF_ORDER, INVALID_EPOCH, INVALID_STATE, FENCED = 45, 47, 48, 90
UNSUPPORTED_VERSION = 35
NODE, PRODUCER_ID = 5, 77
LAST_EPOCH = 32_766
"""A producer id that has used it up is followed by another one."""
T = TypeVar("T")
_BATCH = struct.Struct(">qiibIhiqqqhii")


class Reader:
    """Kafka's encoding, read strictly."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        assert len(taken) == count, "a request that ends too early"
        self._at += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big", signed=True)

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str | None:
        length = self.number(2)
        return None if length < 0 else self.take(length).decode()

    def compact(self) -> bytes | None:
        length = self.varint() - 1
        return None if length < 0 else self.take(length)

    def compact_text(self) -> str:
        taken = self.compact()
        assert taken is not None
        return taken.decode()

    def no_tags(self) -> None:
        assert self.varint() == 0, "a tagged field that is not known"

    def compact_array(self, one: Callable[[], T]) -> list[T]:
        return [one() for _ in range(self.varint() - 1)]

    def end(self) -> None:
        assert self._at == len(self._data), "a request with more than its fields"


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big", signed=True)


def text(value: str | None) -> bytes:
    return b"\xff\xff" if value is None else number(len(value), 2) + value.encode()


def varint(value: int) -> bytes:
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def compact(value: str) -> bytes:
    return varint(len(value) + 1) + value.encode()


def compact_array(items: list[bytes]) -> bytes:
    return varint(len(items) + 1) + b"".join(items)


NO_TAGS = b"\0"


class Harm(NamedTuple):
    """What is done to one call: an error or none, before it has an effect or after."""

    code: int | None
    is_after: bool = False

    def __str__(self) -> str:
        kind = "disconnect" if self.code is None else f"error-{self.code}"
        return f"{kind}-{'after' if self.is_after else 'before'}"


@dataclass(slots=True)
class Abilities:
    """What the broker says of itself."""

    features: dict[str, int] | None = field(
        default_factory=lambda: {"metadata.version": 26, "transaction.version": 2}
    )
    versions: dict[int, tuple[int, int]] = field(
        default_factory=lambda: {
            PRODUCE: (3, 13),
            METADATA: (0, 1),
            FIND_COORDINATOR: (0, 1),
            API_VERSIONS: (0, 4),
            INIT_PRODUCER_ID: (0, 5),
            END_TXN: (0, 5),
            TXN_OFFSET_COMMIT: (0, 5),
        }
    )


class Batch(NamedTuple):
    identity: "Identity"
    sequence: int
    count: int
    offset: int


Place = tuple[str, int]
Identity = tuple[int, int]
"""Producer id and epoch."""


@dataclass(slots=True)
class Transactions:
    """The coordinator's and the partitions' side of one transactional id."""

    producer_id: int = PRODUCER_ID
    epoch: int = -1
    is_open: bool = False
    ended: tuple[Identity, bool] | None = None
    """The last transaction that has ended, and how."""
    logs: dict[Place, list[Batch]] = field(default_factory=lambda: defaultdict(list))
    fates: dict[Identity, bool] = field(default_factory=dict)
    """Whether the transaction of an epoch was committed."""
    offsets: dict[Identity, dict[Place, int]] = field(default_factory=lambda: defaultdict(dict))

    def initialise(self) -> tuple[int, int]:
        if self.is_open:
            self.fates[self.identity] = False
        self.is_open, self.ended = False, None
        self._go_on()
        return 0, self.epoch

    @property
    def identity(self) -> Identity:
        return self.producer_id, self.epoch

    def _go_on(self) -> None:
        is_used_up = self.epoch >= LAST_EPOCH
        self.producer_id += is_used_up
        self.epoch = 0 if is_used_up else self.epoch + 1

    def append(self, place: Place, batch: Batch) -> tuple[int, int]:
        if batch.identity != self.identity:
            return INVALID_EPOCH, -1
        log = self.logs[place]
        same = [one for one in log if one.identity == batch.identity]
        for one in same:
            if (one.sequence, one.count) == (batch.sequence, batch.count):
                return 0, one.offset
        expected = same[-1].sequence + same[-1].count if same else 0
        if batch.sequence != expected:
            return OUT_OF_ORDER, -1
        self.is_open = True
        offset = log[-1].offset + log[-1].count if log else 0
        log.append(batch._replace(offset=offset))
        return 0, offset

    def add_offsets(self, identity: tuple[int, int], offsets: dict[Place, int]) -> int:
        if identity != self.identity:
            return INVALID_EPOCH
        self.is_open = True
        self.offsets[identity] |= offsets
        return 0

    def end(self, identity: tuple[int, int], is_commit: bool) -> tuple[int, int, int]:
        if (identity, is_commit) != self.ended:
            if identity != self.identity:
                return FENCED, -1, -1
            if is_commit and not self.is_open:
                return INVALID_STATE, -1, -1
            self.fates[identity] = is_commit
            self.ended = identity, is_commit
            self.is_open = False
            self._go_on()
        return 0, *self.identity

    def committed(self, place: Place) -> list[int]:
        """Counts of the records of batches that a ``read_committed`` reader sees."""
        return [one.count for one in self.logs[place] if self.fates.get(one.identity)]

    def committed_offset(self, place: Place) -> int | None:
        told = [o[place] for one, o in sorted(self.offsets.items()) if self.fates.get(one)]
        return told[-1] if told else None


class DisconnectedError(Exception):
    """The script wants the connection closed."""


class ScriptedBroker:
    """Use it as a context manager; ``script`` has harms by API key, for its next calls."""

    def __init__(self, topics: dict[str, int], abilities: Abilities | None = None) -> None:
        self.transactions = Transactions()
        self.script: dict[int, deque[Harm]] = defaultdict(deque)
        self.calls: Counter[int] = Counter()
        self.bodies: dict[int, list[bytes]] = defaultdict(list)
        """What was asked, without the header."""
        self.mistakes: list[str] = []
        self._topics = topics
        self._abilities = abilities or Abilities()
        self._writers: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await asyncio.gather(*self._writers.values(), return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._writers[writer] = task
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                answer = self._answer(Reader(await reader.readexactly(size)))
                writer.write(struct.pack(">i", len(answer)) + answer)
                await writer.drain()
        except (OSError, EOFError, DisconnectedError):
            pass
        except AssertionError as error:
            self.mistakes.append(str(error))
        finally:
            del self._writers[writer]
            writer.close()

    def _answer(self, request: Reader) -> bytes:
        key, version = request.number(2), request.number(2)
        correlation, _ = request.take(4), request.text()
        low, high = self._abilities.versions[key]
        if key == API_VERSIONS and version > high:
            return correlation + number(UNSUPPORTED_VERSION, 2) + self._versions_of_old()
        assert low <= version <= high, f"version {version} of API {key}"
        if (key, version) in FLEXIBLE:
            request.no_tags()
        self.calls[key] += 1
        self.bodies[key].append(request._data[request._at :])
        harm = self.script[key].popleft() if self.script[key] else None
        if harm is not None and harm.code is None and not harm.is_after:
            raise DisconnectedError
        handle = {
            API_VERSIONS: self._api_versions,
            METADATA: self._metadata,
            FIND_COORDINATOR: self._find_coordinator,
            INIT_PRODUCER_ID: self._init_producer_id,
            PRODUCE: self._produce,
            TXN_OFFSET_COMMIT: self._txn_offset_commit,
            END_TXN: self._end_txn,
        }[key]
        body = handle(request, version, harm)
        request.end()
        if harm is not None and harm.code is None:
            raise DisconnectedError
        has_tags = (key, version) in FLEXIBLE and key != API_VERSIONS
        return correlation + (NO_TAGS if has_tags else b"") + body

    def _versions_of_old(self) -> bytes:
        ranges = self._abilities.versions.items()
        listed = [number(key, 2) + number(low, 2) + number(high, 2) for key, (low, high) in ranges]
        return number(len(listed), 4) + b"".join(listed)

    def _api_versions(self, request: Reader, version: int, _: Harm | None) -> bytes:
        if version < 3:
            return number(0, 2) + self._versions_of_old() + (number(0, 4) if version else b"")
        request.compact_text()
        request.compact_text()
        request.no_tags()
        ranges = self._abilities.versions.items()
        listed = [
            number(key, 2) + number(low, 2) + number(high, 2) + NO_TAGS
            for key, (low, high) in ranges
        ]
        head = number(0, 2) + compact_array(listed) + number(0, 4)
        features = self._abilities.features
        if features is None:
            return head + NO_TAGS
        levels = compact_array(
            [
                compact(name) + number(level, 2) + number(level, 2) + NO_TAGS
                for name, level in features.items()
            ]
        )
        epoch = number(9, 8)
        return head + b"\2" + b"\1" + varint(8) + epoch + b"\2" + varint(len(levels)) + levels

    def _metadata(self, request: Reader, version: int, _: Harm | None) -> bytes:
        asked = [request.text() for _ in range(request.number(4))]
        node = number(NODE, 4) + text("127.0.0.1") + number(self._port, 4) + text(None)
        topics = [self._topic(one) for one in asked if one in self._topics]
        everyone = number(1, 4) + node + number(NODE, 4)
        return everyone + number(len(topics), 4) + b"".join(topics)

    def _topic(self, name: str) -> bytes:
        replicas = number(1, 4) + number(NODE, 4)
        partitions = [
            number(0, 2) + number(one, 4) + number(NODE, 4) + replicas + replicas
            for one in range(self._topics[name])
        ]
        head = number(0, 2) + text(name) + b"\0"
        return head + number(len(partitions), 4) + b"".join(partitions)

    def _find_coordinator(self, request: Reader, version: int, harm: Harm | None) -> bytes:
        assert version == 1, "version of FindCoordinator"
        request.text()
        request.number(1)
        code = (harm.code or 0) if harm else 0
        where = number(NODE, 4) + text("127.0.0.1") + number(self._port, 4)
        return number(0, 4) + number(code, 2) + text(None) + where

    def _init_producer_id(self, request: Reader, version: int, harm: Harm | None) -> bytes:
        assert version == 0, "version of InitProducerId"
        assert request.text() == "id"
        assert request.number(4) > 0
        code, epoch = _unless_harmed(harm, self.transactions.initialise, -1)
        producer_id = self.transactions.producer_id
        return number(0, 4) + number(code, 2) + number(producer_id, 8) + number(epoch, 2)

    def _produce(self, request: Reader, version: int, harm: Harm | None) -> bytes:
        assert version == 12, "version of Produce"
        assert request.compact_text() == "id"
        assert request.number(2) == -1, "acknowledgements of all replicas"
        assert request.number(4) > 0

        places: list[Place] = []

        def partition(topic: str) -> bytes:
            place = (topic, request.number(4))
            places.append(place)
            batch = _batch_of(request.compact() or b"")
            request.no_tags()
            code, offset = _unless_harmed(harm, lambda: self.transactions.append(place, batch), -1)
            told = number(code, 2) + number(offset, 8) + number(-1, 8) + number(0, 8)
            # The leader is told in a tagged field, as brokers do.
            return number(place[1], 4) + told + compact_array([]) + b"\0" + b"\1\0\2xx"

        def topic() -> bytes:
            name = request.compact_text()
            partitions = request.compact_array(lambda: partition(name))
            request.no_tags()
            return compact(name) + compact_array(partitions) + NO_TAGS

        topics = request.compact_array(topic)
        request.no_tags()
        assert len(places) == len(set(places)), "two batches of a partition at once"
        return compact_array(topics) + number(0, 4) + NO_TAGS

    def _txn_offset_commit(self, request: Reader, version: int, harm: Harm | None) -> bytes:
        assert version == 5, "version of TxnOffsetCommit"
        assert (request.compact_text(), request.compact_text()) == ("id", "group")
        identity = (request.number(8), request.number(2))
        member = (request.number(4), request.compact(), request.compact())
        assert member == (-1, b"", None)
        offsets: dict[Place, int] = {}

        def partition(topic: str) -> int:
            place = (topic, request.number(4))
            offsets[place] = request.number(8)
            assert (request.number(4), request.compact()) == (-1, b"")
            request.no_tags()
            return place[1]

        def topic() -> tuple[str, list[int]]:
            name = request.compact_text()
            partitions = request.compact_array(lambda: partition(name))
            request.no_tags()
            return name, partitions

        topics = request.compact_array(topic)
        request.no_tags()
        code, _ = _unless_harmed(
            harm, lambda: (self.transactions.add_offsets(identity, offsets), 0), 0
        )
        answers = [
            compact(name)
            + compact_array([number(one, 4) + number(code, 2) + NO_TAGS for one in partitions])
            + NO_TAGS
            for name, partitions in topics
        ]
        return number(0, 4) + compact_array(answers) + NO_TAGS

    def _end_txn(self, request: Reader, version: int, harm: Harm | None) -> bytes:
        assert version == 5, "version of EndTxn"
        assert request.compact_text() == "id"
        identity = (request.number(8), request.number(2))
        is_commit = request.take(1) == b"\1"
        request.no_tags()
        producer_id = epoch = -1
        code = 0 if harm is None else harm.code or 0
        if harm is None or harm.is_after:
            told, *after = self.transactions.end(identity, is_commit)
            if not code:
                code, (producer_id, epoch) = told, after
        answer = number(0, 4) + number(code, 2)
        return answer + number(producer_id, 8) + number(epoch, 2) + NO_TAGS


def _unless_harmed(
    harm: Harm | None, act: Callable[[], tuple[int, int]], unknown: int
) -> tuple[int, int]:
    """Code and number to answer with, of what is done unless an error comes before it."""
    code = 0 if harm is None else harm.code or 0
    done = act() if harm is None or harm.is_after else (code, unknown)
    return (code, unknown) if code else done


def _batch_of(data: bytes) -> Batch:
    header = _BATCH.unpack_from(data)
    _, length, _, magic, crc, attributes, last, _, _, producer_id, epoch, sequence, count = header
    assert (magic, length, last) == (2, len(data) - 12, count - 1), "a batch's header"
    assert crc == calc_crc32c(data[21:]), "a batch's checksum"
    assert attributes & 0x10, "a batch outside of transactions"
    return Batch((producer_id, epoch), sequence, count, -1)
