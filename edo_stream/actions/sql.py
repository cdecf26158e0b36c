"""Side effects in PostgreSQL: with a row in an inbox in the same transaction, exactly once.

The table is made once, by its owner::

    CREATE TABLE edo_inbox (
        command_id text PRIMARY KEY,
        flow text NOT NULL,
        done_at timestamptz NOT NULL DEFAULT now()
    );

A command whose id is in it has run: its statement is not run again. Rows may be deleted when no
redelivery is to be expected any more, such as after the retention of the commands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql as psql

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve

_ROWS_MAX: Final = 100
#: Classes of SQLSTATE that may pass: connection, rollback, resources, operator, system.
_PASSING: Final = ("08", "40", "53", "55", "57", "58")


@dataclass(frozen=True, slots=True)
class Statement:
    """What to run: SQL with ``%(name)s`` for parameters, each by a JSON pointer into the data."""

    text: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    inbox: str = "edo_inbox"
    business_states: frozenset[str] = frozenset()
    """SQLSTATEs that mean no: 23505 for what is there already."""


class SqlExecutor:
    """Runs commands by a statement each, on a connection of its own to ``conninfo()``."""

    def __init__(self, statement: Statement, conninfo: Callable[[], str]) -> None:
        self._statement = statement
        self._conninfo = conninfo

    async def __call__(self, command: Command) -> Outcome:
        """Run the statement, unless it has run for this command before."""
        try:
            parameters = self._parameters(command)
        except ValueError as error:
            return Failed(FailureClass.POISON, "parameters", str(error))
        try:
            async with await psycopg.AsyncConnection.connect(self._conninfo()) as connection:
                return await self._run(connection, command, parameters)
        except psycopg.Error as error:
            return self._failure(error)

    def _parameters(self, command: Command) -> dict[str, Any]:
        data = parse_json(command.data)
        found: dict[str, Any] = {
            "command_id": command.id,
            "key": command.key.decode("utf-8", "replace"),
            "flow": command.flow,
        }
        for name, pointer in self._statement.parameters.items():
            value = resolve(data, parse_pointer(pointer))
            if value is MISSING:
                raise ValueError(f"{name}: the event has no {pointer}")
            nested = isinstance(value, dict | list)
            found[name] = msgspec.json.encode(value).decode() if nested else value
        return found

    async def _run(
        self,
        connection: psycopg.AsyncConnection[Any],
        command: Command,
        parameters: Mapping[str, Any],
    ) -> Outcome:
        inbox = psql.SQL(
            "INSERT INTO {} (command_id, flow) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        ).format(psql.Identifier(*self._statement.inbox.split(".")))
        async with connection.cursor() as cursor:
            await cursor.execute(inbox, (command.id, command.flow))
            if cursor.rowcount == 0:
                return Done()
            await cursor.execute(self._statement.text.encode(), parameters)
            if cursor.description is None:
                return Done(msgspec.json.encode({"rows": cursor.rowcount}), "application/json")
            names = [column.name for column in cursor.description]
            rows = await cursor.fetchmany(_ROWS_MAX)
        found = [dict(zip(names, row, strict=True)) for row in rows]
        return Done(msgspec.json.encode(found, enc_hook=str), "application/json")

    def _failure(self, error: psycopg.Error) -> Failed:
        state = error.sqlstate
        if state is None:
            return Failed(FailureClass.TRANSIENT, "connection", type(error).__name__)
        detail = error.diag.message_primary or ""
        if state in self._statement.business_states:
            return Failed(FailureClass.BUSINESS, f"sql-{state.lower()}", detail)
        kind = FailureClass.TRANSIENT if state[:2] in _PASSING else FailureClass.POISON
        return Failed(kind, f"sql-{state.lower()}", detail)
