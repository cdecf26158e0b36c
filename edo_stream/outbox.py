"""The outbox: events that a service writes in the same database transaction as its own rows.

Theory of operation. A service that commits to its database and then sends to Kafka loses the event
when it dies in between, and announces what never happened when it does it the other way round.
So it inserts the event into a table, in the transaction that changes its rows: both are there
or none is. Debezium reads the table's inserts from the database's log, in the order of commits,
and a contract with ``codec: outbox`` makes the events of them, with their own id, key and
correlation (``docs/outbox.md``).

    with connection.transaction():
        connection.execute("UPDATE orders SET state = 'paid' WHERE id = %s", (17,))
        outbox.write(connection, OutboxEvent("shop.order.paid", "/shop", "order-17", {"id": 17}))

This module needs no more than the standard library and msgspec, and imports no driver: it takes
what it is given, a connection or cursor of psycopg (2 or 3), a connection or session of SQLAlchemy.
"""

import re
import secrets
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

TABLE: Final = "edo_outbox"

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")
_EXTENSION: Final = re.compile(r"[a-z0-9]{1,20}")
_FIELDS_OF_ITS_OWN: Final = frozenset(
    {
        "id",
        "source",
        "type",
        "specversion",
        "subject",
        "time",
        "datacontenttype",
        "data",
        "correlationid",
        "causationid",
    }
)
_COLUMNS: Final = (
    "id",
    "source",
    "type",
    "key",
    "subject",
    "content_type",
    "data",
    "data_binary",
    "correlation_id",
    "causation_id",
    "extensions",
)


class OutboxError(Exception):
    """An event cannot be written, or would be written outside of a transaction."""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event to write; the attributes are those of CloudEvents."""

    type: str
    source: str
    key: str
    """Events of one key stay in order."""
    data: Any = None
    """Text and bytes as they are, ``None`` for no data; anything else becomes JSON."""
    id: str = field(
        default_factory=lambda: str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    )
    """Names the event for ever. One of your own makes a retried request one event; a unique
    violation then says that it was written already."""
    subject: str | None = None
    """``None``: the key."""
    content_type: str = "application/json"
    correlation_id: str | None = None
    causation_id: str | None = None
    """Id of the event that made the service do this."""
    extensions: dict[str, str] = field(default_factory=dict)
    """Further attributes, such as ``traceparent``; names of a-z and 0-9."""


def table_sql(table: str = TABLE) -> str:
    """SQL (PostgreSQL) that creates the table, if it is not there.

    Raises:
        OutboxError: the name is none.
    """
    name = _checked_name(table)
    short = name.rpartition(".")[2]
    return f"""\
CREATE TABLE IF NOT EXISTS {name} (
    id             text        PRIMARY KEY,
    source         text        NOT NULL,
    type           text        NOT NULL,
    key            text        NOT NULL,
    subject        text,
    time           timestamptz NOT NULL DEFAULT clock_timestamp(),
    content_type   text        NOT NULL DEFAULT 'application/json',
    data           text,
    data_binary    bytea,
    correlation_id text,
    causation_id   text,
    extensions     jsonb       NOT NULL DEFAULT '{{}}',
    CHECK (data IS NULL OR data_binary IS NULL),
    CHECK (id <> '' AND source <> '' AND type <> '' AND key <> '')
);
CREATE INDEX IF NOT EXISTS {short}_time ON {name} (time);
"""


def connector_settings(table: str = f"public.{TABLE}") -> dict[str, str]:
    """Settings of Debezium's connector that the outbox needs beside the usual ones.

    Records are keyed by the event's key, not by the row's: Kafka then keeps events of a key in one
    partition. Deleted rows are no events, so neither are their tombstones.
    """
    return {"message.key.columns": f"{_checked_name(table)}:key", "tombstones.on.delete": "false"}


def write(connection: Any, event: OutboxEvent, table: str = TABLE) -> str:
    """Write an event in the transaction that is open on the connection; give its id.

    Raises:
        OutboxError: the event is none, or the connection commits by itself.
    """
    target = _synchronous(connection)
    sql, parameters = _insert(event, table, _parameter_style(target))
    _require_transaction(target)
    _execute(target, sql, parameters)
    return event.id


async def write_async(connection: Any, event: OutboxEvent, table: str = TABLE) -> str:
    """As :func:`write`, for asynchronous connections and sessions.

    Raises:
        OutboxError: the event is none, or the connection commits by itself.
    """
    target = await connection.connection() if _is_session(connection) else connection
    sql, parameters = _insert(event, table, _parameter_style(target))
    if hasattr(target, "exec_driver_sql"):
        raw = await target.get_raw_connection()
        _require_transaction(raw.driver_connection)
        await target.exec_driver_sql(sql, parameters)
    else:
        _require_transaction(target)
        await target.execute(sql, parameters)
    return event.id


def _is_session(connection: Any) -> bool:
    """Whether it is a session of SQLAlchemy, which has the connection of its transaction."""
    return hasattr(connection, "get_bind") and callable(getattr(connection, "connection", None))


def _synchronous(connection: Any) -> Any:
    return connection.connection() if _is_session(connection) else connection


def _parameter_style(target: Any) -> str:
    dialect = getattr(target, "dialect", None)
    return "pyformat" if dialect is None else str(dialect.paramstyle)


def _execute(target: Any, sql: str, parameters: Any) -> None:
    if hasattr(target, "exec_driver_sql"):
        target.exec_driver_sql(sql, parameters)
    elif hasattr(target, "execute"):
        target.execute(sql, parameters)
    else:
        with target.cursor() as cursor:
            cursor.execute(sql, parameters)


def _require_transaction(target: Any) -> None:
    """Refuse a connection that would commit the event at once, whatever becomes of the rest."""
    # Of SQLAlchemy, the pool's; of a cursor, its own.
    pooled = getattr(target, "connection", None)
    driver = getattr(pooled, "driver_connection", None) or pooled or target
    if getattr(driver, "autocommit", None) is not True:
        return
    info = getattr(driver, "info", None)
    status = getattr(info, "transaction_status", 0)
    if int(status) == 0:
        raise OutboxError(
            "the connection is in autocommit mode and no transaction is open: the event would be "
            "committed without the rows that it tells of; open a transaction around both"
        )


def _insert(event: OutboxEvent, table: str, style: str) -> tuple[str, Any]:
    """The statement and its parameters, in the style of the driver (PEP 249)."""
    values = dict(zip(_COLUMNS, _values(event), strict=True))
    match style:
        case "pyformat":
            marks = [f"%({name})s" for name in _COLUMNS]
        case "format":
            marks = ["%s"] * len(_COLUMNS)
        case "named":
            marks = [f":{name}" for name in _COLUMNS]
        case "qmark":
            marks = ["?"] * len(_COLUMNS)
        case "numeric_dollar":
            marks = [f"${number}" for number in range(1, len(_COLUMNS) + 1)]
        case _:
            raise OutboxError(f"drivers with parameters in style {style} are not known")
    marks[-1] = f"CAST({marks[-1]} AS jsonb)"
    sql = f"INSERT INTO {_checked_name(table)} ({', '.join(_COLUMNS)}) VALUES ({', '.join(marks)})"  # noqa: S608 - a checked name
    return sql, values if style in ("pyformat", "named") else tuple(values.values())


def _values(event: OutboxEvent) -> tuple[Any, ...]:
    for name in ("id", "source", "type", "key"):
        if not getattr(event, name):
            raise OutboxError(f"{name} is empty: every event has one")
    for name in event.extensions:
        if not _EXTENSION.fullmatch(name) or name in _FIELDS_OF_ITS_OWN:
            raise OutboxError(f"extension {name[:60]!r}: write a name of a-z and 0-9, of its own")
    text, binary = _data(event.data)
    return (
        event.id,
        event.source,
        event.type,
        event.key,
        event.subject,
        event.content_type,
        text,
        binary,
        event.correlation_id,
        event.causation_id,
        msgspec.json.encode(event.extensions).decode(),
    )


def _data(data: Any) -> tuple[str | None, bytes | None]:
    if data is None:
        return None, None
    if isinstance(data, bytes | bytearray | memoryview):
        return None, bytes(data)
    if isinstance(data, str):
        return data, None
    try:
        return msgspec.json.encode(data).decode(), None
    except (TypeError, ValueError, RecursionError) as error:
        raise OutboxError(f"data cannot be written as JSON: {error}") from error


def _checked_name(table: str) -> str:
    if _NAME.fullmatch(table) is None:
        raise OutboxError(f"{table[:60]!r} is not a table: write <name> or <schema>.<name>")
    return table
