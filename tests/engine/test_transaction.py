"""A transaction is all or nothing, whatever the producer does (invariant 1)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    ProducerFenced,
    RequestTimedOutError,
)

from edo_stream.core.effects import Publish
from edo_stream.engine.batches import ByAppending
from edo_stream.engine.transaction import (
    Change,
    FencedError,
    OutcomeUnknownError,
    TooLargeError,
    Transaction,
    TransactionAbortedError,
)

NOW_MS = 1_700_000_000_000
OUT = TopicPartition("out", 1)
OTHER = TopicPartition("out", 2)
LOG = TopicPartition("state-changelog", 3)
OFFSETS = {TopicPartition("in", 3): 42}
CALLS = ("begin", "send", "offsets", "commit")


class Landed(NamedTuple):
    offset: int


class Batch(ByAppending):
    """Holds at most ``records_max`` records, as a batch of so many bytes would."""

    def __init__(self, records_max: int, topic: str = "") -> None:
        self.topic = topic
        self.records: list[tuple[bytes | None, bytes | None]] = []
        self._records_max = records_max

    def append(self, *, key: bytes | None, value: bytes | None, **_: object) -> object | None:
        if len(self.records) >= self._records_max:
            return None
        self.records.append((key, value))
        return self

    def size(self) -> int:
        return 0

    def record_count(self) -> int:
        return len(self.records)


class ScriptedProducer:
    """Does as told: ``fails`` names calls and what they raise; a delivery fails by its place."""

    def __init__(
        self, *, records_max: int = 1_000, offset: int | None = None, **fails: BaseException
    ) -> None:
        self.calls: list[str] = []
        self.sent: list[tuple[TopicPartition, list[tuple[bytes | None, bytes | None]]]] = []
        self.undelivered: dict[TopicPartition, KafkaError] = {}
        self.delivered = asyncio.Event()
        self.delivered.set()
        self._records_max = records_max
        self._offset = offset
        self._ends: dict[TopicPartition, int] = {}
        self._fails = fails

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self._fails:
            raise self._fails[name]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def begin_transaction(self) -> None:
        self._call("begin")

    def create_batch(self, topic: str) -> Batch:
        return Batch(self._records_max, topic)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Awaitable[Landed]:
        self._call("send")
        assert batch.topic == topic, "its codec is another topic's"
        place = TopicPartition(topic, partition)
        self.sent.append((place, batch.records))
        first = self._ends.get(place, 100)
        self._ends[place] = first + batch.record_count()
        return asyncio.ensure_future(self._deliver(place, first))

    async def _deliver(self, place: TopicPartition, first: int) -> Landed:
        await self.delivered.wait()
        if place in self.undelivered:
            raise self.undelivered[place]
        self.calls.append("delivered")
        return Landed(first if self._offset is None else self._offset)

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None:
        self._call("offsets")

    async def commit_transaction(self) -> None:
        self._call("commit")

    async def abort_transaction(self) -> None:
        self._call("abort")


def record(value: bytes, place: TopicPartition = OUT) -> Publish:
    return Publish(place.topic, place.partition, b"k", value, (), NOW_MS)


def run(
    producer: ScriptedProducer,
    publish: Sequence[Publish] = (record(b"a"), record(b"b")),
    rows: Mapping[bytes, bytes | None] | None = None,
    timeout_s: float = 5.0,
    **more: Any,
) -> Coroutine[Any, Any, dict[TopicPartition, int]]:
    changes = [Change(LOG.topic, LOG.partition, rows or {b"row": b"1", b"gone": None})]
    return Transaction(producer, "app", timeout_s, **more).run(publish, changes, OFFSETS, NOW_MS)


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


class Written:
    """Records that are written already."""

    def __init__(self, place: TopicPartition, *values: bytes) -> None:
        self.topic, self.partition = place
        self.size_bytes = 0
        self._records = [record(value, place) for value in values]

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> list[Publish]:
        return self._records


@pytest.mark.parametrize(
    ("records_max", "expected"),
    [
        (9, [b"ab", b"cdeXY"]),
        (5, [b"ab", b"cdeXY"]),
        (3, [b"ab", b"cde", b"XY"]),
        (2, [b"ab", b"cd", b"eX", b"Y"]),
    ],
)
def test_what_is_written_already_goes_before_the_rest_of_its_partition(
    records_max: int, expected: list[bytes]
) -> None:
    async def test() -> None:
        producer = ScriptedProducer(records_max=records_max)
        wire = [Written(OUT, b"a", b"b"), Written(OTHER, b"o"), Written(OUT, b"c", b"d", b"e")]
        publish = [record(b"X"), record(b"P", OTHER), record(b"Y")]
        changes = [Change(LOG.topic, LOG.partition, {b"row": b"1"})]
        await Transaction(producer, "app", 5.0).run(publish, changes, OFFSETS, NOW_MS, wire)
        sent: dict[TopicPartition, list[bytes]] = {}
        for place, rows in producer.sent:
            sent.setdefault(place, []).append(b"".join(value or b"" for _, value in rows))
        assert {OUT: expected, OTHER: [b"oP"], LOG: [b"1"]} == sent

    on_loop(test)


def test_records_keep_their_order_and_the_changelog_its_last_offset() -> None:
    async def test() -> None:
        producer = ScriptedProducer()
        last = await run(producer)
        assert producer.sent == [
            (OUT, [(b"k", b"a"), (b"k", b"b")]),
            (LOG, [(b"row", b"1"), (b"gone", None)]),
        ]
        assert last == {LOG: 101}

    on_loop(test)


def test_offsets_are_sent_after_every_delivery_and_the_commit_is_last() -> None:
    async def test() -> None:
        producer = ScriptedProducer()
        producer.delivered.clear()
        running = asyncio.ensure_future(run(producer))
        for _ in range(10):
            await asyncio.sleep(0)
        assert producer.calls == ["begin", "send", "send"]
        producer.delivered.set()
        await running
        assert producer.calls[3:] == ["delivered", "delivered", "offsets", "commit"]

    on_loop(test)


@pytest.mark.parametrize("place", [OUT, LOG])
@pytest.mark.parametrize(
    ("failure", "raised", "told"),
    [
        (MessageSizeTooLargeError(), TooLargeError, "{}-.* takes no batch of .* records"),
        (NotEnoughReplicasError(), TransactionAbortedError, "NotEnoughReplicas"),
        (RequestTimedOutError(), TransactionAbortedError, "RequestTimedOut"),
    ],
)
def test_a_failed_delivery_aborts_and_commits_nothing(
    place: TopicPartition, failure: KafkaError, raised: type[TransactionAbortedError], told: str
) -> None:
    async def test() -> None:
        producer = ScriptedProducer()
        producer.undelivered[place] = failure
        with pytest.raises(raised, match=told.format(place.topic)):
            await run(producer)
        assert producer.calls[-1] == "abort"
        assert not {"offsets", "commit"} & set(producer.calls)

    on_loop(test)


@pytest.mark.parametrize("call", ["begin", "send", "offsets"])
def test_a_call_that_fails_before_the_commit_aborts(call: str) -> None:
    async def test() -> None:
        producer = ScriptedProducer(**{call: KafkaConnectionError("gone")})
        with pytest.raises(TransactionAbortedError, match="gone"):
            await run(producer)
        assert producer.calls[-1] == "abort"
        assert "commit" not in producer.calls

    on_loop(test)


def test_an_abort_that_fails_as_well_changes_nothing() -> None:
    async def test() -> None:
        producer = ScriptedProducer(send=KafkaConnectionError("gone"), abort=KafkaError("too"))
        with pytest.raises(TransactionAbortedError, match="gone"):
            await run(producer)

    on_loop(test)


def test_a_delivery_that_never_ends_is_aborted_at_the_timeout() -> None:
    async def test() -> None:
        producer = ScriptedProducer()
        producer.delivered.clear()
        with pytest.raises(TransactionAbortedError, match="TimeoutError"):
            await run(producer, timeout_s=0.01)
        assert producer.calls[-1] == "abort"

    on_loop(test)


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), TimeoutError()])
def test_a_commit_that_is_not_confirmed_is_unknown_and_not_aborted(error: Exception) -> None:
    async def test() -> None:
        producer = ScriptedProducer(commit=error)
        with pytest.raises(OutcomeUnknownError, match=type(error).__name__):
            await run(producer)
        assert producer.calls[-1] == "commit"

    on_loop(test)


@pytest.mark.parametrize("call", CALLS)
def test_a_fenced_producer_says_so_at_every_call_and_aborts_nothing(call: str) -> None:
    async def test() -> None:
        producer = ScriptedProducer(**{call: ProducerFenced()})
        with pytest.raises(FencedError):
            await run(producer)
        assert producer.calls[-1] == call

    on_loop(test)


def test_batches_are_cut_where_the_builder_is_full() -> None:
    async def test() -> None:
        producer = ScriptedProducer(records_max=2)
        last = await run(producer, [], {b"%d" % n: b"" for n in range(5)})
        assert [len(records) for _, records in producer.sent] == [2, 2, 1]
        assert [key for _, records in producer.sent for key, _ in records] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
        ]
        assert last == {LOG: 104}

    on_loop(test)


def test_batches_are_cut_at_the_size_that_the_topic_allows() -> None:
    async def test() -> None:
        producer = ScriptedProducer()
        values = [b"x" * 400, b"y" * 400, b"z" * 5_000, b"w"]
        await run(producer, [record(value) for value in values], batch_bytes_max={OUT.topic: 1_200})
        of_out = [records for place, records in producer.sent if place == OUT]
        assert [[value[:1] for _, value in records if value] for records in of_out] == [
            [b"x", b"y"],
            [b"z"],
            [b"w"],
        ]

    on_loop(test)


def test_a_repeated_batch_leaves_its_changelog_offset_unknown() -> None:
    async def test() -> None:
        assert await run(ScriptedProducer(offset=-1)) == {LOG: -1}

    on_loop(test)
