"""A real broker: it starts, keeps its data, and says what keeps it from starting."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from edo_stream.local.process import find, wait_gone
from edo_stream.local.supervisor import RECORD


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def running(kafka: LocalKafka) -> LocalKafka:
    kafka.start()
    return kafka


def test_records_survive_a_stop_and_a_crash(running: LocalKafka) -> None:
    asyncio.run(_write(running.bootstrap, "orders", b"first"))
    running.restart()
    running.kill()
    running.start()
    assert asyncio.run(_read(running.bootstrap, "orders", 1)) == [b"first"]


def test_transactions_work_on_one_node(running: LocalKafka) -> None:
    asyncio.run(_write(running.bootstrap, "transfers", b"both", transactional_id="edo"))
    assert asyncio.run(_read(running.bootstrap, "transfers", 1)) == [b"both"]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"port {port} .* wanted for Kafka, is taken"):
            LocalKafka(tmp_path, port).start()


def test_a_directory_in_use_is_refused(running: LocalKafka) -> None:
    with pytest.raises(LocalError, match=f"is in use: Kafka runs there as pid {running.pid}"):
        LocalKafka(running.directory).start()


def test_a_half_written_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "orders-0").mkdir(parents=True)
    with pytest.raises(LocalError, match=r"holds no complete Kafka data"):
        LocalKafka(tmp_path).start()


def test_an_interrupted_preparation_is_repeated(tmp_path: Path) -> None:
    # In a directory as people name them, too.
    directory = tmp_path / "J\u00f6rg's data"
    (directory / "data.new").mkdir(parents=True)
    (directory / "data.new" / "bootstrap.checkpoint").write_text("half")
    with LocalKafka(directory) as kafka:
        assert kafka.is_running


def test_a_broker_that_dies_at_start_shows_its_last_lines(running: LocalKafka) -> None:
    running.stop()
    identity = running.directory / "data" / "meta.properties"
    good = identity.read_text()
    identity.write_text(good.replace("node.id=1", "node.id=2"))
    try:
        with pytest.raises(LocalError, match=r"(?s)Kafka ended while starting.*node.id"):
            running.start()
    finally:
        identity.write_text(good)


def test_a_killed_supervisor_takes_the_broker_along_and_its_record_is_no_obstacle(
    running: LocalKafka,
) -> None:
    found = find(running.directory)
    assert found is not None
    assert found.supervisor is not None
    assert found.process is not None
    found.supervisor.kill()
    assert wait_gone([found.process], 120) == []
    assert (running.directory / RECORD).exists()
    running.start()
    assert running.is_running


async def _write(
    bootstrap: str, topic: str, value: bytes, transactional_id: str | None = None
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", transactional_id=transactional_id
    )
    await producer.start()
    try:
        if transactional_id is None:
            await producer.send_and_wait(topic, value)
        else:
            async with producer.transaction():
                await producer.send(topic, value)
    finally:
        await producer.stop()


async def _read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()
