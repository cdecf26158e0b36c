"""`edo flow inbox-table`: the table that makes a statement run once."""

from typing import Annotated

import typer

from edo_stream.actions.inbox import TABLE, inbox_sql
from edo_stream.cli.environment import CommandError
from edo_stream.flows.actions import is_table


def inbox_table(
    table: Annotated[str, typer.Option(help="<name> or <schema>.<name>.")] = TABLE,
) -> None:
    """Print the SQL (PostgreSQL) that creates the inbox of `kind: sql`.

    Exit codes: 0 printed, 2 it is no name of a table.
    """
    if not is_table(table):
        raise CommandError(f"{table} is not a table: write name or schema.name", 2)
    print(inbox_sql(table), end="")
