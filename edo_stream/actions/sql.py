"""Side effects in PostgreSQL: with a row in an inbox in the same transaction, exactly once.

Theory of operation. A transaction inserts the command's id into the inbox, runs the statement, and
keeps its result in the row. A command whose id is there has run: its statement is not run again,
and its outcome is the one that was kept. Two runs of one command at the same time meet at the row:
the second waits for the first one's transaction, and finds the row, or nothing if it was rolled
back. Whether a commit whose answer was lost took place, the next run finds out in the same way.

``edo flow inbox-table`` prints the statements that create the inbox. Its rows are deleted when they
are older than ``inbox_kept``, now and then, by the executor itself.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql as psql

from edo_stream.actions.inbox import TABLE
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.core.contract import DAY_MS
from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve

log = logging.getLogger(__name__)

_JSON: Final = "application/json"
_ROWS_MAX: Final = 100
_RESULT_CHARS_MAX: Final = 512 * 1024
_SWEEP_EVERY_S: Final = 600.0
_SWEPT_MAX: Final = 10_000
_OWN_PARAMETERS: Final = frozenset({"command_id", "key", "flow"})
_PLACEHOLDER: Final = re.compile(
    r"%(?:\((?P<name>[^)]*)\)s|(?P<percent>%)|(?P<wrong>.|$))", re.DOTALL
)
_TRANSACTION: Final = re.compile(
    r"\s*(?:begin|start|commit|end|rollback|abort|savepoint|release|prepare)\b", re.IGNORECASE
)
_PASSES, _STAYS = FailureClass.TRANSIENT, FailureClass.POISON
#: What SQLSTATEs mean, or whole classes of them. What concerns the database or the rights of the
#: flow's user, not the command, passes when somebody mends it.
_MEANINGS: Final[Mapping[str, FailureClass]] = {
    "08": _PASSES,  # connection
    "25": _PASSES,  # transaction state: such as read only, after a failover
    "28": _PASSES,  # user
    "3D": _PASSES,  # database
    "40": _PASSES,  # rollback
    "42501": _PASSES,  # rights
    "42P01": _PASSES,  # no such table
    "53": _PASSES,  # resources
    "55": _PASSES,  # locks
    "57": _PASSES,  # operator, time limit
    "58": _PASSES,  # system
    "XX": _PASSES,  # internal
}

# The limits go with the transaction, so that a proxy of connections may stand between.
_CLAIM: Final = """\
WITH limits AS (
    SELECT set_config('statement_timeout', %(limit_ms)s, true),
           set_config('idle_in_transaction_session_timeout', %(limit_ms)s, true)
)
INSERT INTO {inbox} (command_id, flow) SELECT %(command_id)s, %(flow)s FROM limits
ON CONFLICT DO NOTHING"""
_KEEP: Final = "UPDATE {inbox} SET result = %s WHERE command_id = %s"
_KEPT: Final = "SELECT result FROM {inbox} WHERE command_id = %s"
_SWEEP: Final = """\
DELETE FROM {inbox} WHERE command_id IN (
    SELECT command_id FROM {inbox}
    WHERE flow = %s AND done_at < now() - make_interval(secs => %s) LIMIT %s)"""


@dataclass(frozen=True, slots=True)
class Statement:
    """What to run: SQL with ``%(name)s`` for parameters, each by a JSON pointer into the data."""

    text: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    inbox: str = TABLE
    inbox_kept_ms: int = 40 * DAY_MS
    meanings: Mapping[str, FailureClass] = field(default_factory=dict)
    """By SQLSTATE, or its first two letters; before the usual ones."""
    timeout_ms: int = 30_000
    """For the server, which ends what nobody waits for any more."""

    def __post_init__(self) -> None:
        """Look at its parameters.

        Raises:
            ValueError: a placeholder that nothing fills, or a transaction of its own.
        """
        if (own := _TRANSACTION.match(self.text)) is not None:
            raise ValueError(f"{own[0].strip()}: the transaction is that of the inbox")
        known = self.parameters.keys() | _OWN_PARAMETERS
        for found in _PLACEHOLDER.finditer(self.text):
            if found["wrong"] is not None:
                raise ValueError(f"{found[0]!r}: write %(name)s for a parameter, %% for a %")
            if found["name"] is not None and found["name"] not in known:
                raise ValueError(f"no parameter {found['name']!r}: there are {sorted(known)}")


class SqlExecutor:
    """Runs commands by a statement each, on connections to ``conninfo()``."""

    def __init__(self, statement: Statement, conninfo: Callable[[], str]) -> None:
        self._statement = statement
        self._conninfo = conninfo
        self._idle: list[psycopg.AsyncConnection[Any]] = []
        self._swept_s: float | None = None
        inbox = psql.Identifier(*statement.inbox.split("."))
        self._claim, self._keep, self._kept, self._sweep_sql = (
            psql.SQL(text).format(inbox=inbox) for text in (_CLAIM, _KEEP, _KEPT, _SWEEP)
        )

    async def __call__(self, command: Command) -> Outcome:
        """Run the statement, unless it has run for this command before."""
        try:
            parameters = self._parameters(command)
        except ValueError as error:
            return Failed(FailureClass.POISON, "parameters", str(error))
        try:
            async with self._connection(command) as (connection, is_claimed):
                if not is_claimed:
                    return await self._before(connection, command)
                outcome = await self._run(connection, command, parameters)
                await connection.commit()
                await self._sweep(connection, command.flow)
                return outcome
        except psycopg.Error as error:
            return self._failure(error)

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

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

    @asynccontextmanager
    async def _connection(
        self, command: Command
    ) -> AsyncIterator[tuple[psycopg.AsyncConnection[Any], bool]]:
        """A connection in a transaction, and whether the command is not in the inbox yet.

        It is kept for the next command, unless something went wrong.
        """
        connection, is_claimed = await self._begin(command)
        try:
            yield connection, is_claimed
            await connection.rollback()
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)

    async def _begin(self, command: Command) -> tuple[psycopg.AsyncConnection[Any], bool]:
        while self._idle:
            connection = self._idle.pop()
            try:
                return connection, await self._claims(connection, command)
            except psycopg.OperationalError as error:
                await connection.close()
                if error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P")):
                    raise
                # It was closed while nobody used it; nothing of the command has run.
            except BaseException:
                await connection.close()
                raise
        connection = await self._connect()
        try:
            return connection, await self._claims(connection, command)
        except BaseException:
            await connection.close()
            raise

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            return await psycopg.AsyncConnection.connect(self._conninfo(), prepare_threshold=None)
        except psycopg.ProgrammingError:
            # Nothing that a command can help. Not its text, which repeats parts of the secret.
            raise psycopg.OperationalError("not a connection string") from None

    async def _claims(self, connection: psycopg.AsyncConnection[Any], command: Command) -> bool:
        values = {
            "limit_ms": str(self._statement.timeout_ms),
            "command_id": command.id,
            "flow": command.flow,
        }
        cursor = await connection.execute(self._claim, values)
        return cursor.rowcount == 1

    async def _before(self, connection: psycopg.AsyncConnection[Any], command: Command) -> Outcome:
        cursor = await connection.execute(self._kept, (command.id,))
        row = await cursor.fetchone()
        return Done() if row is None or row[0] is None else Done(row[0].encode(), _JSON)

    async def _run(
        self,
        connection: psycopg.AsyncConnection[Any],
        command: Command,
        parameters: Mapping[str, Any],
    ) -> Outcome:
        async with connection.cursor() as cursor:
            # In a pipeline the server takes one statement only, also where there is no parameter.
            async with connection.pipeline():
                await cursor.execute(self._statement.text.encode(), parameters)
            found: Any = {"rows": cursor.rowcount}
            if cursor.description is not None:
                names = [column.name for column in cursor.description]
                rows: Sequence[Any] = await cursor.fetchmany(_ROWS_MAX)
                found = [dict(zip(names, row, strict=True)) for row in rows]
        result = msgspec.json.encode(found, enc_hook=str)
        if len(result) <= _RESULT_CHARS_MAX:
            await connection.execute(self._keep, (result.decode(), command.id))
        return Done(result, _JSON)

    async def _sweep(self, connection: psycopg.AsyncConnection[Any], flow: str) -> None:
        """Delete old rows of the inbox, if that was not done for a while."""
        now_s = asyncio.get_running_loop().time()
        if self._swept_s is not None and now_s < self._swept_s + _SWEEP_EVERY_S:
            return
        self._swept_s = now_s
        kept_s = self._statement.inbox_kept_ms / 1000
        try:
            cursor = await connection.execute(self._sweep_sql, (flow, kept_s, _SWEPT_MAX))
            await connection.commit()
        except psycopg.Error as error:
            # The command is done, whatever becomes of this.
            log.warning("inbox %s is not swept: %s", self._statement.inbox, error.sqlstate)
            await connection.rollback()
            return
        if cursor.rowcount == _SWEPT_MAX:
            self._swept_s = None

    def _failure(self, error: psycopg.Error) -> Failed:
        state = error.sqlstate
        if state is None:
            # Not the server's word: no connection, or values that cannot be sent.
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                return Failed(FailureClass.TRANSIENT, "connection", type(error).__name__)
            return Failed(FailureClass.POISON, "sql", type(error).__name__)
        own = self._statement.meanings
        meaning = own.get(state) or own.get(state[:2])
        meaning = meaning or _MEANINGS.get(state) or _MEANINGS.get(state[:2])
        return Failed(meaning or _STAYS, f"sql-{state.lower()}", error.diag.message_primary or "")
