"""Transactions by the second version of the protocol, on a real Kafka: whole, or not there."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from edo_stream.core.effects import Publish
from edo_stream.engine.compression import Compression
from edo_stream.engine.producer import producer_factory
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction import Change, FencedError, Transaction, TransactionAbortedError
from edo_stream.engine.transaction_v2.choice import TransactionProtocol, choose_protocol
from edo_stream.engine.transaction_v2.producer import SecondProducer
from edo_stream.local.kafka import LocalKafka
from load.proxy.rules import Api, Code, Harm, Kind
from load.proxy.server import Proxy
from tests.broker.bench import Bench, wait_for

_OF_THE_FIRST = (Api.ADD_PARTITIONS_TO_TXN, Api.ADD_OFFSETS_TO_TXN)
_OF_BOTH = (Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN)


@pytest.fixture
def proxy(kafka: LocalKafka) -> Iterator[Proxy]:
    with Proxy(kafka.bootstrap) as proxy:
        yield proxy
    assert proxy.failures == []


class Place:
    """A topic, its changelog and a group, and transactions on them."""

    def __init__(self, bench: Bench, proxy: Proxy) -> None:
        self.topic = bench.declare("second", partitions=2)
        self.group = f"group-{self.topic}"
        bench.apply()
        self._bench, self._proxy = bench, proxy
        assert self.values() == []

    async def producer(self) -> SecondProducer:
        access = BrokerAccess(self._proxy.bootstrap)
        make = producer_factory(access, 10_000, Compression("zstd"), TransactionProtocol.SECOND)
        producer = make(f"id-{self.topic}")
        assert isinstance(producer, SecondProducer)
        await producer.start()
        return producer

    async def transact(self, producer: SecondProducer, number: int, timeout_s: float = 9.0) -> None:
        """A transaction on both partitions; the second one is its changelog."""
        transaction = Transaction(producer, self.group, timeout_s)
        value = str(number).encode()
        last = await transaction.run(
            [Publish(self.topic, 0, b"k", value, (), 1_000)],
            [Change(self.topic, 1, {b"row": value, b"other": value})],
            {TopicPartition(self.topic, 0): number},
            1_000,
        )
        assert all(offset >= 1 for offset in last.values())

    def values(self) -> list[bytes | None]:
        return [record.value for record in self._bench.read(self.topic)]

    def committed(self, expected: int) -> None:
        """Results, changelog and offsets of so many transactions, each once."""
        numbers = [str(number + 1).encode() for number in range(expected)]
        wanted = sorted([*numbers, *numbers, *numbers])
        wait_for(lambda: sorted(self.values(), key=bytes) == wanted, f"{expected} transactions")
        # The group's coordinator learns of a commit a moment later.
        wait_for(lambda: asyncio.run(self._offset()) == expected, f"the group's offset {expected}")

    async def _offset(self) -> int:
        place = TopicPartition(self.topic, 0)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bench.broker)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.group, partitions=[place])
            return max(0, int(found[place].offset))
        finally:
            await admin.close()


@pytest.fixture
def place(bench: Bench, proxy: Proxy) -> Place:
    return Place(bench, proxy)


def test_a_broker_of_today_has_agreed_upon_the_second_version(kafka: LocalKafka) -> None:
    access = BrokerAccess(kafka.bootstrap)
    assert asyncio.run(choose_protocol(access, "auto")) is TransactionProtocol.SECOND
    assert asyncio.run(choose_protocol(access, "1")) is TransactionProtocol.FIRST


def test_transactions_commit_each_with_an_epoch_of_its_own(place: Place, proxy: Proxy) -> None:
    async def run() -> list[tuple[int, int]]:
        producer = await place.producer()
        identities = [producer._identity]
        try:
            for number in (1, 2, 3):
                await place.transact(producer, number)
                identities.append(producer._identity)
                # While its markers are not written, a call of the next one has to be made again.
                await asyncio.to_thread(place.committed, number)
                if number == 1:
                    # A new cluster has no coordinators at first, which are asked for repeatedly.
                    proxy.calls.clear()
        finally:
            await producer.stop()
        return identities

    identities = asyncio.run(run())

    assert len({producer_id for producer_id, _ in identities}) == 1
    assert [epoch - identities[0][1] for _, epoch in identities] == [0, 1, 2, 3]
    place.committed(3)
    assert [proxy.calls[api] for api in _OF_THE_FIRST] == [0, 0]
    assert [proxy.calls[api] for api in _OF_BOTH] == [2, 2, 2]


def test_an_abort_leaves_nothing_and_the_next_transaction_goes_on(place: Place) -> None:
    async def run() -> None:
        producer = await place.producer()
        try:
            await place.transact(producer, 1)
            await producer.begin_transaction()
            batch = producer.create_batch(place.topic)
            batch.fill([Publish(place.topic, 0, b"k", b"never", (), 1_000)], 0)
            await (await producer.send_batch(batch, place.topic, partition=0))
            await producer.abort_transaction()
            await place.transact(producer, 2)
        finally:
            await producer.stop()

    asyncio.run(run())

    place.committed(2)


@pytest.mark.parametrize("is_open", [False, True])
def test_who_is_initialised_later_fences_who_was_there(is_open: bool, place: Place) -> None:
    async def run() -> None:
        first = await place.producer()
        try:
            await place.transact(first, 1)
            if is_open:
                await first.begin_transaction()
                batch = first.create_batch(place.topic)
                batch.fill([Publish(place.topic, 0, b"k", b"never", (), 1_000)], 0)
                await (await first.send_batch(batch, place.topic, partition=0))
            second = await place.producer()
            try:
                last = (
                    Transaction(first, place.group, 9.0)._commit()
                    if is_open
                    else (place.transact(first, 99))
                )
                with pytest.raises(FencedError):
                    await last
                await place.transact(second, 2)
            finally:
                await second.stop()
        finally:
            await first.stop()

    asyncio.run(run())

    place.committed(2)


HARMS = [
    (Api.PRODUCE, Harm(Kind.DISCONNECT_BEFORE)),
    (Api.PRODUCE, Harm(Kind.DISCONNECT_AFTER)),
    (Api.PRODUCE, Harm(Kind.ERROR, code=Code.CONCURRENT_TRANSACTIONS)),
    (Api.PRODUCE, Harm(Kind.ERROR_AFTER, code=Code.REQUEST_TIMED_OUT)),
    (Api.TXN_OFFSET_COMMIT, Harm(Kind.DISCONNECT_BEFORE)),
    (Api.TXN_OFFSET_COMMIT, Harm(Kind.DISCONNECT_AFTER)),
    (Api.TXN_OFFSET_COMMIT, Harm(Kind.ERROR, code=Code.NOT_COORDINATOR)),
    (Api.END_TXN, Harm(Kind.DISCONNECT_BEFORE)),
    (Api.END_TXN, Harm(Kind.DISCONNECT_AFTER)),
    (Api.END_TXN, Harm(Kind.ERROR_AFTER, code=Code.COORDINATOR_NOT_AVAILABLE)),
]


def test_whatever_is_lost_on_the_way_is_asked_again_and_done_once(
    place: Place, proxy: Proxy
) -> None:
    async def run() -> None:
        producer = await place.producer()
        try:
            for number, (api, harm) in enumerate(HARMS, 1):
                rule = proxy.rule(api, harm).once()
                await place.transact(producer, number)
                assert rule.times_triggered == 1, rule.name
        finally:
            await producer.stop()

    asyncio.run(run())

    place.committed(len(HARMS))


@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT], ids=lambda api: api.name)
def test_what_the_broker_wants_aborted_is_aborted(api: Api, place: Place, proxy: Proxy) -> None:
    async def run() -> None:
        producer = await place.producer()
        try:
            await place.transact(producer, 1)
            proxy.on(api).error_after(Code.TRANSACTION_ABORTABLE).once()
            with pytest.raises(TransactionAbortedError, match="TransactionAbortable"):
                await place.transact(producer, 99)
            assert proxy.calls[Api.END_TXN] == 2
            await place.transact(producer, 2)
        finally:
            await producer.stop()

    asyncio.run(run())

    place.committed(2)


_KILLED = """
import asyncio, os, sys
from edo_stream.core.effects import Publish
from edo_stream.engine.compression import Compression
from edo_stream.engine.producer import producer_factory
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction_v2.choice import TransactionProtocol

async def run(broker, topic):
    make = producer_factory(BrokerAccess(broker), 10_000, Compression(), TransactionProtocol.SECOND)
    producer = make(f"id-{topic}")
    await producer.start()
    await producer.begin_transaction()
    batch = producer.create_batch(topic)
    batch.fill([Publish(topic, 0, b"k", b"never", (), 1_000)], 0)
    await (await producer.send_batch(batch, topic, partition=0))
    print("open", flush=True)
    await asyncio.sleep(600)

asyncio.run(run(*sys.argv[1:]))
"""


def test_what_a_killed_process_leaves_open_is_aborted_by_its_successor(
    place: Place, proxy: Proxy
) -> None:
    command = [sys.executable, "-c", _KILLED, proxy.bootstrap, place.topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        try:
            assert killed.stdout.readline() == "open\n"
        finally:
            os.kill(killed.pid, signal.SIGKILL)

    async def run() -> None:
        producer = await place.producer()
        try:
            await place.transact(producer, 1)
        finally:
            await producer.stop()

    asyncio.run(run())

    place.committed(1)
