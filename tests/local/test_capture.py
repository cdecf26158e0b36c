"""Changes of a real PostgreSQL arrive on a real Kafka, each once, over a restart too."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer

from edo_stream.local.connect import LocalConnect, register_postgres_connector
from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from edo_stream.local.postgres import LocalPostgres


@dataclass(frozen=True)
class Services:
    postgres: LocalPostgres
    kafka: LocalKafka
    connect: LocalConnect


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    # Not in pytest's own directory: the server runs as another user, who may not pass that, and
    # each run of pytest that begins sees to it that nobody may.
    base = Path(tempfile.mkdtemp(prefix="edo-capture-"))
    base.chmod(0o755)
    with (
        LocalPostgres(base / "postgres") as postgres,
        LocalKafka(base / "kafka") as kafka,
        LocalConnect(base / "connect", kafka.bootstrap) as connect,
    ):
        yield Services(postgres, kafka, connect)
    shutil.rmtree(base, ignore_errors=True)


def test_changes_arrive_once_over_a_crash_of_the_worker(services: Services) -> None:
    _execute(services, "create table orders (id int primary key, state text)")
    _execute(services, "insert into orders values (1, 'there before')")
    _register(services, "orders")
    _execute(services, "insert into orders values (2, 'new')")
    _execute(services, "update orders set state = 'paid' where id = 2")
    before_the_crash = [(1, "r", "there before"), (2, "c", "new"), (2, "u", "paid")]
    changes = asyncio.run(_changes(services, "shop.public.orders", len(before_the_crash)))
    assert changes == before_the_crash

    services.connect.kill()
    _execute(services, "delete from orders where id = 2")
    services.connect.start()
    _execute(services, "insert into orders values (3, 'last')")
    expected = [*before_the_crash, (2, "d", None), (2, None, None), (3, "c", "last")]
    assert expected == asyncio.run(_changes(services, "shop.public.orders", len(expected)))


def test_a_refused_connector_says_why(services: Services) -> None:
    with pytest.raises(LocalError, match=r'(?s)nowhere was refused.*database "nosuch" does not'):
        register_postgres_connector(
            services.connect.url,
            services.postgres.dsn.removesuffix("postgres") + "nosuch",
            name="nowhere",
            tables=["public.orders"],
            topic_prefix="nowhere",
        )


def _execute(services: Services, statement: str) -> None:
    with psycopg.connect(services.postgres.dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def _register(services: Services, table: str) -> None:
    register_postgres_connector(
        services.connect.url,
        services.postgres.dsn,
        name=table,
        tables=[f"public.{table}"],
        topic_prefix="shop",
    )


async def _changes(
    services: Services, topic: str, count: int
) -> list[tuple[int, str | None, str | None]]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=services.kafka.bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(120):
            return [_change(await consumer.getone()) for _ in range(count)]
    finally:
        await consumer.stop()


def _change(record: Any) -> tuple[int, str | None, str | None]:
    value = json.loads(record.value) if record.value is not None else {}
    after = value.get("after") or {}
    return json.loads(record.key)["id"], value.get("op"), after.get("state")
