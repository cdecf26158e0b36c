"""The inbox of `kind: sql`: a row a command, in the transaction of the command's statement."""

from typing import Final

TABLE: Final = "edo_inbox"

_SQL: Final = """\
CREATE TABLE IF NOT EXISTS {table} (
    command_id text PRIMARY KEY,
    flow text NOT NULL,
    result text,
    done_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS {name}_done_at ON {table} (flow, done_at);
"""


def inbox_sql(table: str = TABLE) -> str:
    """Statements that create an inbox, if it is not there; ``table`` may have a schema."""
    return _SQL.format(table=table, name=table.rpartition(".")[2])
