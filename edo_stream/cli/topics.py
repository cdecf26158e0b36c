"""`edo contracts`, `edo topics`: the catalog of events, in files and at the broker.

One group of verbs under two names.
"""

import asyncio

import typer
from rich.table import Table

from edo_stream.cli import (
    contracts_data,
    contracts_diff,
    contracts_lint,
    contracts_new,
    contracts_show,
)
from edo_stream.cli.environment import Environment, unreachable
from edo_stream.cli.screen import screen
from edo_stream.engine.admin import Admin, PreparationError, Wanted

app = typer.Typer(no_args_is_help=True)
app.command("diff")(contracts_diff.diff)
app.command("init")(contracts_new.init)
app.command("lint")(contracts_lint.lint)
app.command("new")(contracts_new.new)
app.command("owners")(contracts_show.owners)
app.command("schema")(contracts_show.schema)
app.command("show")(contracts_show.show)
app.command("validate")(contracts_data.validate)


@app.callback()
def topics() -> None:
    """Contracts of topics: reviewed as files, applied at the broker."""


@app.command()
def apply() -> None:
    """Create what is missing; nothing that is there is changed or deleted."""
    environment = Environment.read()
    wanted = environment.wanted
    with unreachable(environment.settings.broker):
        states = asyncio.run(_apply(environment, wanted))
    table = Table("topic", "partitions", "state")
    for topic, state in states:
        table.add_row(topic.name, str(topic.partitions), state)
    screen().print(table)
    if any(state.startswith("differs") for _, state in states):
        raise typer.Exit(1)


async def _apply(environment: Environment, wanted: list[Wanted]) -> list[tuple[Wanted, str]]:
    async with Admin(environment.access) as admin:
        present = await admin.present(topic.name for topic in wanted)
        missing = [topic for topic in wanted if topic.name not in present]
        refused: list[str] = []
        try:
            created = set(await admin.create(missing))
        except PreparationError as error:
            created, refused = set(), error.findings
    states = []
    for topic in wanted:
        there = present.get(topic.name)
        if topic.name in created:
            state = "created"
        elif there is None:
            state = "differs: " + "; ".join(f for f in refused if f" {topic.name} " in f)
        elif there.partitions != topic.partitions:
            state = f"differs: has {there.partitions} partitions, {topic.why} wants other"
        else:
            state = "there"
        states.append((topic, state))
    return states
