"""The reading of an audit, on a real broker: EDO_TEST_BROKER=host:port."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import time_ns

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from edo_stream.core.accounts import Account, Fate, Run
from edo_stream.core.contract import Codec, Contract
from edo_stream.observe.audit.reader import AuditSpec, Progress, audit_topics
from edo_stream.observe.audit.report import Problem, Report, Tally

BROKER = {"bootstrap_servers": os.environ.get("EDO_TEST_BROKER", "")}
pytestmark = pytest.mark.skipif(
    not BROKER["bootstrap_servers"], reason="needs a broker: set EDO_TEST_BROKER to host:port"
)


class Place:
    """Topics of the test's own, and a producer that does what a task does."""

    def __init__(self, name: str, producer: AIOKafkaProducer) -> None:
        self.app = f"{name}-app"
        self.contract = Contract(
            topic=f"{name}.in",
            owner="tests",
            group="g",
            partitions=1,
            codec=Codec.CLOUDEVENTS,
            emit=f"{name}.out",
            emit_partitions=1,
            dead_letters=f"{name}.dead",
        )
        self.spec = AuditSpec(self.app, (self.contract,), (), f"{name}.accounts")
        self._producer = producer

    async def write(self, count: int) -> None:
        async with self._producer.transaction():
            for number in range(count):
                await self._producer.send(self.contract.topic, b"%d" % number)

    async def begin(self, *runs: Run, results: Sequence[int], start: int | None = None) -> None:
        """Open a transaction with an account, results, and the offset behind its last run."""
        await self._producer.begin_transaction()
        topic = self.contract.topic
        account = Account(self.app, "g", topic, 0, 0, runs=runs, start=start)
        await self._producer.send(self.spec.accounts_topic, msgspec.json.encode(account))
        for offset in results:
            headers = [
                ("ce_source", f"/edo/{self.app}".encode()),
                ("ce_edoposition", f"{topic}/0/{offset}".encode()),
            ]
            await self._producer.send(self.contract.emit, b"{}", headers=headers)
        following = runs[-1].offset + runs[-1].length
        offsets = {TopicPartition(topic, 0): following}
        await self._producer.flush()
        await self._producer.send_offsets_to_transaction(offsets, self.app)

    async def commit(self) -> None:
        await self._producer.commit_transaction()

    async def abort(self) -> None:
        await self._producer.abort_transaction()

    async def audit(self) -> Report:
        return await audit_topics(self.spec, BROKER, lambda _: None)


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    name = f"audit-{time_ns()}"
    producer = AIOKafkaProducer(**BROKER, transactional_id=name)
    await producer.start()
    try:
        yield Place(name, producer)
    finally:
        await producer.stop()


@asynccontextmanager
async def created() -> AsyncIterator[Place]:
    async with place() as made:
        admin = AIOKafkaAdminClient(**BROKER)
        await admin.start()
        contract = made.contract
        names = (contract.topic, contract.emit, contract.dead_letters, made.spec.accounts_topic)
        await admin.create_topics([NewTopic(name, 1, 1) for name in names])
        await admin.close()
        yield made


def emitted(offset: int, length: int) -> Run:
    return Run(offset, length, Fate.EMITTED.value)


def test_what_an_aborted_transaction_wrote_is_not_there() -> None:
    async def scenario() -> Report:
        async with created() as there:
            await there.write(3)
            await there.begin(emitted(0, 3), results=[0, 1, 2], start=0)
            await there.abort()
            await there.begin(emitted(0, 2), results=[0, 1], start=0)
            await there.commit()
            return await there.audit()

    report = asyncio.run(scenario())
    assert report.counts == {}
    assert list(report.tallies.values()) == [Tally(emitted=2, pending=1)]


def test_a_transaction_marker_in_a_source_is_no_record() -> None:
    async def scenario() -> Report:
        async with created() as there:
            await there.write(2)  # 0 and 1; the marker is at 2
            await there.write(1)
            await there.begin(emitted(0, 2), emitted(3, 1), results=[0, 1, 3], start=0)
            await there.commit()
            return await there.audit()

    report = asyncio.run(scenario())
    assert report.counts == {}
    assert list(report.tallies.values()) == [Tally(emitted=3)]


def test_a_committed_transaction_without_its_result_is_found() -> None:
    async def scenario() -> Report:
        async with created() as there:
            await there.write(2)
            await there.begin(emitted(0, 2), results=[0], start=0)
            await there.commit()
            return await there.audit()

    assert asyncio.run(scenario()).counts == {Problem.MISSING_RESULT: 1}


def test_an_open_transaction_is_waited_for() -> None:
    async def scenario() -> tuple[Report, set[str]]:
        async with created() as there:
            await there.write(2)
            await there.begin(emitted(0, 2), results=[0, 1], start=0)
            told: set[str] = set()
            waits = asyncio.Event()

            def tell(progress: Progress) -> None:
                told.add(progress.what)
                waits.set()

            audit = asyncio.create_task(audit_topics(there.spec, BROKER, tell))
            await waits.wait()
            await there.commit()
            return await audit, told

    report, told = asyncio.run(scenario())
    assert (report.counts, "waiting for open transactions" in told) == ({}, True)


def test_topics_that_do_not_exist_are_found() -> None:
    async def scenario() -> Report:
        async with place() as nowhere:
            return await nowhere.audit()

    assert asyncio.run(scenario()).counts == {Problem.TOPIC_MISSING: 4}
