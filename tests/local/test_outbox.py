"""An event in an outbox shares the fate of the transaction that it was written in."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from edo_stream.local.postgres import LocalPostgres
from edo_stream.outbox import OutboxError, OutboxEvent, table_sql, write, write_async

PAID = "shop.order.paid"


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalPostgres]:
    # Not in pytest's own directory: the server runs as another user, who may not pass that.
    directory = Path(tempfile.mkdtemp(prefix="edo-outbox-"))
    directory.chmod(0o755)
    with LocalPostgres(directory) as postgres:
        with psycopg.connect(postgres.dsn) as connection:
            # As it is printed, more than once.
            connection.execute(table_sql().encode())
            connection.execute(table_sql().encode())
        yield postgres
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def dsn(postgres: LocalPostgres) -> str:
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("truncate edo_outbox")
    return postgres.dsn


@pytest.fixture
def engine(dsn: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


def keys(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("select key from edo_outbox order by key")]


def paid(key: str, data: object = None) -> OutboxEvent:
    return OutboxEvent(PAID, "/shop", key, data)


def test_row_has_what_the_event_has(dsn: str) -> None:
    event = OutboxEvent(
        PAID,
        "/shop",
        "order-17",
        {"note": "50 % :off"},
        id="018f-1",
        correlation_id="c",
        causation_id="d",
        extensions={"traceparent": "00-a"},
    )
    with psycopg.connect(dsn) as connection:
        assert "018f-1" == write(connection, event)
        found = connection.execute(
            "select id, source, type, key, data, correlation_id, causation_id, extensions, "
            "content_type, data_binary, subject from edo_outbox"
        ).fetchone()

    extensions = {"traceparent": "00-a"}
    expected = ("018f-1", "/shop", PAID, "order-17", '{"note":"50 % :off"}', "c", "d", extensions)
    assert (*expected, "application/json", None, None) == found


def test_psycopg_commits_and_rolls_back_the_event_with_the_rest(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        write(connection, paid("kept", b"\x00\xff"))
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        write(cursor, paid("by cursor"))
        connection.commit()
        write(cursor, paid("lost"))
        connection.rollback()

    assert ["by cursor", "kept"] == keys(dsn)


def test_connection_that_commits_by_itself_needs_a_transaction(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        with pytest.raises(OutboxError, match="autocommit"):
            write(connection, paid("lost"))
        with connection.transaction():
            write(connection, paid("kept"))

    assert ["kept"] == keys(dsn)


def test_sqlalchemy_commits_and_rolls_back_the_event_with_the_rest(
    dsn: str, engine: sqlalchemy.Engine
) -> None:
    with engine.begin() as connection:
        write(connection, paid("connection", {"a": 1}))
    with Session(engine) as session, session.begin():
        session.execute(sqlalchemy.text("select 1"))
        write(session, paid("session"))
    with Session(engine) as session:
        write(session, paid("lost"))
        session.rollback()
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection, pytest.raises(OutboxError, match="autocommit"):
        write(connection, paid("lost too"))

    assert ["connection", "session"] == keys(dsn)


def test_second_event_of_one_id_is_refused_by_the_table(dsn: str) -> None:
    event = paid("once")
    with psycopg.connect(dsn) as connection:
        write(connection, event)
        connection.commit()
        with pytest.raises(psycopg.errors.UniqueViolation):
            write(connection, event)
        connection.rollback()


def test_asynchronous_connections_and_sessions_write_too(dsn: str) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await write_async(connection, paid("psycopg"))
        engine = create_async_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
        async with engine.begin() as alchemy:
            await write_async(alchemy, paid("alchemy"))
        async with AsyncSession(engine) as session:
            await write_async(session, paid("alchemy session"))
            await session.commit()
            await write_async(session, paid("lost"))
            await session.rollback()
        await engine.dispose()

    asyncio.run(run())

    assert ["alchemy", "alchemy session", "psycopg"] == keys(dsn)
