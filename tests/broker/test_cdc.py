"""Real transactions reach results exactly once, while PostgreSQL and Debezium are killed."""

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from edo_stream.local.connect import LocalConnect, register_postgres_connector
from edo_stream.local.kafka import LocalKafka
from edo_stream.local.postgres import LocalPostgres
from edo_stream.outbox import OutboxEvent, connector_settings, table_sql, write
from tests.broker.bench import Bench, wait_for

KEYS = 3
ROUND = 20
ORDERS = """\
create schema thing;
create table thing.orders (
    id int primary key, turn int, price numeric(10,2), day date, at timestamp, note text
);
alter table thing.orders alter column note set storage external;
create table thing.lines (turn int, line int, primary key (turn, line));
create table thing.bills (turn int primary key)
"""


@pytest.fixture
def postgres() -> Iterator[LocalPostgres]:
    # Not in pytest's own directory: the server runs as another user, who may not pass that.
    directory = Path(tempfile.mkdtemp(prefix="edo-cdc-"))
    directory.chmod(0o755)
    with LocalPostgres(directory) as postgres:
        yield postgres
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def connect(tmp_path: Path, kafka: LocalKafka) -> Iterator[LocalConnect]:
    with LocalConnect(tmp_path / "connect", kafka.bootstrap) as connect:
        yield connect


def order(postgres: LocalPostgres, turn: int) -> None:
    """One transaction: a row is written, and an event says so; every fifth is undone."""
    key = turn % KEYS
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute(
            "insert into thing.orders values (%s, %s, %s, '2026-01-31', '2026-01-31 12:00:00', %s)"
            " on conflict (id) do update set turn = excluded.turn",
            (key, turn, "19.90", secrets.token_hex(4_000)),
        )
        connection.execute("insert into thing.lines values (%s, 1)", (turn,))
        connection.execute("insert into thing.bills values (%s)", (turn,))
        connection.execute("insert into thing.lines values (%s, 2)", (turn,))
        event = OutboxEvent("order.taken", "/shop", f"order-{key}", {"turn": turn}, id=f"e{turn}")
        write(connection, event, "thing.outbox")
        if turn % 5 == 0:
            connection.rollback()


def declare_transactions(bench: Bench) -> str:
    """Lines, bills and ends of transactions go to one topic, whose contract puts them together."""
    parts = bench.declare(
        "parts", "ordering: {policy: transaction, gap_timeout: 10s}", partitions=2
    )
    mapping = "mapping: {collections: [thing.lines, thing.bills]}"
    for last, *more in (["lines"], ["bills"], ["transaction", mapping]):
        name = bench.declare(last, "key: transaction", *more, codec="debezium", partitions=2)
        file = bench.contracts / name / "contract.yaml"
        file.write_text(file.read_text().replace(f"topic: {name}.out", f"topic: {parts}"))
    return parts


def order_until_the_log_is_read(
    bench: Bench, postgres: LocalPostgres, parts: str, turns: Iterator[int]
) -> None:
    """Before that the connector would begin with its snapshot anew, of what is there then."""

    def is_read() -> bool:
        order(postgres, next(turns))
        return any("ce_transactionid" in headers(one) for one in bench.read(f"{parts}.out"))

    wait_for(is_read, "transactions that are read from the log")


def assert_transactions_are_whole(bench: Bench, parts: str, committed: list[int]) -> None:
    """Each row is there once, with its transaction and in order; of one that a kill cut, no row."""

    def all_rows() -> tuple[list[Any], list[Any]] | None:
        found, letters = bench.read(f"{parts}.out"), bench.read(f"edo.dead-letters.{parts}")
        count = len([one for one in found + letters if "ended" not in headers(one)["ce_type"]])
        return (found, letters) if count >= 3 * len(committed) else None

    found, letters = wait_for(all_rows, f"3 rows of each of {len(committed)} transactions")
    rows = [json.loads(one.value).get("after") for one in found + letters]
    names = sorted((row["turn"], row.get("line", 0)) for row in rows if row)
    assert [(turn, line) for turn in committed for line in (0, 1, 2)] == names
    blocks = [
        (one.partition, headers(one)["ce_transactionid"], headers(one)["ce_type"].split(".")[-2])
        for one in found
        if "ce_transactionid" in headers(one)
    ]
    for at in range(0, len(blocks), 4):
        assert 1 == len({block[:2] for block in blocks[at : at + 4]})
        assert ["lines", "bills", "lines", "transaction"] == [
            block[2] for block in blocks[at : at + 4]
        ]
    cut = {headers(one)["ce_transactionid"] for one in letters}
    assert not cut & {block[1] for block in blocks}
    # A kill may cut all that is on its way: what was committed before it, and not read yet.
    assert len(cut) <= 2 * (ROUND - ROUND // 5)


def row_of(record: Any) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(record.value)["after"]
    return row


def headers(record: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def test_real_transactions_reach_results_exactly_once_while_all_is_killed(
    bench: Bench, postgres: LocalPostgres, connect: LocalConnect
) -> None:
    orders = bench.declare(
        "orders", "ordering: {policy: monotonic}", codec="debezium", partitions=2
    )
    outbox = bench.declare("outbox", "ordering: {policy: key}", codec="outbox", partitions=2)
    parts = declare_transactions(bench)
    bench.apply()
    bench.worker().start()
    with psycopg.connect(postgres.dsn) as connection:
        connection.execute(ORDERS.encode())
        connection.execute(table_sql("thing.outbox").encode())
    turns = iter(range(1, 1_000))
    for _ in range(ROUND):
        order(postgres, next(turns))
    register_postgres_connector(
        connect.url,
        postgres.dsn,
        name=bench.name,
        tables=[f"thing.{table}" for table in ("orders", "outbox", "lines", "bills")],
        topic_prefix=bench.name,
        settings={
            **connector_settings("thing.outbox"),
            "value.converter.schemas.enable": "true",
            "provide.transaction.metadata": "true",
            "topic.transaction": "thing.transaction",
            "retriable.restart.connector.wait.ms": "500",
        },
    )
    bench.results(outbox, ROUND - ROUND // 5)

    order_until_the_log_is_read(bench, postgres, parts, turns)
    for _ in range(ROUND):
        order(postgres, next(turns))
    postgres.kill()
    postgres.start()
    for _ in range(ROUND):
        order(postgres, next(turns))
    connect.kill()
    for _ in range(ROUND):
        order(postgres, next(turns))
    connect.start()
    for _ in range(ROUND):
        order(postgres, next(turns))

    committed = [turn for turn in range(1, next(turns)) if turn % 5]
    taken = bench.results(outbox, len(committed))
    # A row has one change a transaction, but those that the first snapshot saw are one.
    last = {max(turn for turn in committed if turn % KEYS == key) for key in range(KEYS)}

    def rows_when_all_are_there() -> list[Any] | None:
        found = bench.read(f"{orders}.out")
        return found if last <= {row_of(record)["turn"] for record in found} else None

    changed = wait_for(rows_when_all_are_there, f"turns {sorted(last)} in {orders}.out")

    assert sorted(f"e{turn}" for turn in committed) == sorted(
        headers(record)["ce_causationid"] for record in taken
    )
    for key in range(KEYS):
        expected = [turn for turn in committed if turn % KEYS == key]
        rows = [record for record in changed if json.loads(record.key)["id"] == key]
        assert expected == [
            json.loads(record.value)["turn"] for record in taken if record.key == b"order-%d" % key
        ]
        after = [row_of(record) for record in rows]
        assert [turn for turn in expected if turn >= after[0]["turn"]] == [
            row["turn"] for row in after
        ]
        for record, row in zip(rows, after, strict=True):
            assert ("19.90", "2026-01-31") == (row["price"], row["day"])
            assert "2026-01-31T12:00:00.000000" == row["at"]
            # The note is stored apart, and not logged where it did not change.
            is_whole = "note" in row
            assert is_whole != ("/after/note" in json.loads(record.value).get("unavailable", []))
            assert is_whole == headers(record)["ce_type"].endswith(("read", "created"))

    assert_transactions_are_whole(bench, parts, committed)
