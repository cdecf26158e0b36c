"""Statements as side effects, on a real PostgreSQL: once, whatever happens between."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from edo_stream.actions.inbox import inbox_sql
from edo_stream.actions.sql import SqlExecutor, Statement
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.local.postgres import LocalPostgres
from tests.actions.commands import command

TAKE = "UPDATE stock SET n = n - %(items)s WHERE item = %(item)s"
PARAMETERS = {"items": "/items", "item": "/item"}
TEA = {"item": "tea", "items": 2}
ONE_ROW = Done(b'{"rows":1}', "application/json")
RULES = {"23514": FailureClass.BUSINESS}


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalPostgres]:
    # Not in pytest's own directory: the server runs as another user, who may not pass that.
    directory = Path(tempfile.mkdtemp(prefix="edo-inbox-"))
    directory.chmod(0o755)
    with LocalPostgres(directory) as postgres:
        with psycopg.connect(postgres.dsn) as connection:
            # As it is printed, more than once.
            connection.execute(inbox_sql().encode())
            connection.execute(inbox_sql().encode())
            connection.execute("CREATE TABLE stock (item text PRIMARY KEY, n int CHECK (n >= 0))")
        yield postgres
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def dsn(postgres: LocalPostgres) -> str:
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute("TRUNCATE edo_inbox, stock")
        connection.execute("INSERT INTO stock VALUES ('tea', 10)")
    return postgres.dsn


Use = Callable[[SqlExecutor], Awaitable[Any]]


def use(dsn: str, do: Use, text: str = TAKE, **more: Any) -> Any:
    """Let a test use an executor, and close that."""

    async def go() -> Any:
        statement = Statement(text, **{"parameters": PARAMETERS, "meanings": RULES, **more})
        async with AsyncExitStack() as stack:
            executor = SqlExecutor(statement, lambda: dsn)
            stack.push_async_callback(executor.close)
            return await do(executor)

    return asyncio.run(go())


def once(dsn: str, data: Any = TEA, text: str = TAKE, **more: Any) -> Outcome:
    outcome: Outcome = use(dsn, lambda executor: executor(command(data)), text, **more)
    return outcome


def value(dsn: str, query: str = "SELECT n FROM stock") -> Any:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]


def test_a_command_that_has_run_is_not_run_again_and_has_the_same_outcome(dsn: str) -> None:
    assert once(dsn) == ONE_ROW
    assert once(dsn) == ONE_ROW
    assert value(dsn) == 8
    returning = f"{TAKE} RETURNING n, item, now() AS at"

    async def twice(executor: SqlExecutor) -> list[Outcome]:
        return [await executor(command(TEA, id="c-2", attempt=attempt)) for attempt in (1, 2)]

    first, second = use(dsn, twice, returning)
    assert first == second
    assert first.data.startswith(b'[{"n":6,"item":"tea","at":"2')


def test_many_runs_of_one_command_at_once_are_one(dsn: str) -> None:
    async def race(executor: SqlExecutor) -> list[Outcome]:
        return await asyncio.gather(*(executor(command(TEA)) for _ in range(8)))

    assert use(dsn, race) == [ONE_ROW] * 8
    assert value(dsn) == 8


def test_different_commands_do_not_wait_for_each_other(dsn: str) -> None:
    async def many(executor: SqlExecutor) -> list[Outcome]:
        runs = (executor(command(TEA, id=f"c-{n}")) for n in range(6))
        return await asyncio.gather(*runs)

    outcomes = use(dsn, many)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Done"] * 5 + ["Failed"]
    assert value(dsn) == 0


def test_what_is_refused_leaves_no_row_and_is_classed_by_rule(dsn: str) -> None:
    too_many = {"item": "tea", "items": 11}
    refused = once(dsn, too_many)
    assert isinstance(refused, Failed)
    assert (refused.failure, refused.reason) == (FailureClass.BUSINESS, "sql-23514")
    poison = once(dsn, too_many, meanings={})
    assert isinstance(poison, Failed)
    assert poison.failure is FailureClass.POISON
    passing = once(dsn, too_many, meanings={"23": FailureClass.TRANSIENT})
    assert isinstance(passing, Failed)
    assert passing.failure is FailureClass.TRANSIENT
    assert value(dsn, "SELECT count(*) FROM edo_inbox") == 0


def test_a_run_that_is_cut_off_leaves_nothing_and_its_connection_is_not_used_again(
    dsn: str,
) -> None:
    async def cut_off(executor: SqlExecutor) -> Outcome:
        run = asyncio.create_task(executor(command(TEA)))
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as looking:
            async with asyncio.timeout(50):
                while not (
                    await looking.execute(
                        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                    )
                ).rowcount:
                    pass
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            left = await looking.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            )
            assert left.rowcount == 0, "the server runs it no more"
        return await executor(command(TEA, id="c-2"))

    slow = f"{TAKE} AND pg_sleep(CASE %(command_id)s WHEN 'c-1' THEN 60 ELSE 0 END) IS NOT NULL"
    assert use(dsn, cut_off, slow) == ONE_ROW
    assert value(dsn) == 8
    assert value(dsn, "SELECT string_agg(command_id, ' ') FROM edo_inbox") == "c-2"


def test_the_server_ends_what_takes_longer_than_the_flow_waits(dsn: str) -> None:
    slow = f"{TAKE} AND pg_sleep(60) IS NOT NULL"
    outcome = once(dsn, text=slow, timeout_ms=50)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "sql-57014")


def test_a_commit_whose_answer_was_lost_is_found_again(dsn: str) -> None:
    lost = "pg_terminate_backend(pg_backend_pid())"

    async def interrupted(executor: SqlExecutor) -> Outcome:
        return await executor(command(TEA))

    # The connection goes before the commit: nothing has happened.
    outcome = use(dsn, interrupted, f"{TAKE} AND {lost}")
    assert isinstance(outcome, Failed)
    assert outcome.failure is FailureClass.TRANSIENT
    assert value(dsn) == 10
    # The commit took place, and nobody was told: as if the worker had died right after it.
    assert once(dsn) == ONE_ROW
    assert once(dsn) == ONE_ROW
    assert value(dsn) == 8


def test_a_connection_that_was_closed_while_nobody_used_it_is_replaced(dsn: str) -> None:
    async def closed(executor: SqlExecutor) -> list[Outcome]:
        before = await executor(command(TEA))
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        return [before, await executor(command(TEA, id="c-2"))]

    assert use(dsn, closed) == [ONE_ROW, ONE_ROW]
    assert value(dsn) == 6


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://postgres@127.0.0.1:1/postgres",
        "host=no-such-host.invalid",
        "host=localhost s3cret word",
    ],
)
def test_a_database_that_is_not_there_is_transient(where: str) -> None:
    outcome = once(where)
    assert outcome == Failed(FailureClass.TRANSIENT, "connection", "OperationalError")


@pytest.mark.parametrize(
    ("text", "data", "reason", "failure"),
    [
        (TAKE, {"item": "tea"}, "parameters", FailureClass.POISON),
        (TAKE, {"item": "te\0a", "items": 1}, "sql", FailureClass.POISON),
        (TAKE, {"item": "tea", "items": 1 << 70}, "sql-22003", FailureClass.POISON),
        ("SELEC 1", TEA, "sql-42601", FailureClass.POISON),
        ("UPDATE stock SET n = 1; SELECT 1", TEA, "sql-42601", FailureClass.POISON),
        ("UPDATE nowhere SET n = 1", TEA, "sql-42p01", FailureClass.TRANSIENT),
        ("SELECT 1 FROM stock WHERE item LIKE 't%%'", TEA, None, None),
    ],
)
def test_a_failure_is_classed_by_whose_it_is(
    dsn: str, text: str, data: Any, reason: str | None, failure: FailureClass | None
) -> None:
    outcome = once(dsn, data, text)
    if reason is None:
        assert isinstance(outcome, Done)
    else:
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.failure) == (reason, failure)
        assert value(dsn) == 10


def test_a_flow_without_its_inbox_waits_for_it(dsn: str) -> None:
    outcome = once(dsn, inbox="nowhere.inbox")
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "sql-42p01")
    assert value(dsn) == 10


def test_old_rows_of_the_inbox_go(dsn: str) -> None:
    rows = "INSERT INTO edo_inbox SELECT g::text, %s, NULL, now() - %s::interval FROM {}"
    with psycopg.connect(dsn) as connection:
        for flow, age, numbers in (
            ("ship", "41 days", "generate_series(1, 20)"),
            ("ship", "39 days", "generate_series(21, 25)"),
            ("other", "41 days", "generate_series(31, 33)"),
        ):
            connection.execute(rows.format(f"{numbers} AS g").encode(), (flow, age))
    assert once(dsn) == ONE_ROW
    left = "SELECT string_agg(command_id, ' ' ORDER BY command_id) FROM edo_inbox"
    assert value(dsn, left) == "21 22 23 24 25 31 32 33 c-1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT %(nothing)s", "no parameter 'nothing'"),
        ("SELECT 1 WHERE 'a' LIKE 'a%'", "write %(name)s"),
        ("SELECT %s", "write %(name)s"),
        ("SELECT 5 %", "write %(name)s"),
        (" commit", "commit: the transaction is that of the inbox"),
    ],
)
def test_a_statement_that_nothing_fills_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        Statement(text)
