"""`edo breaker`: stop the actions of a flow on every worker, and let them go on."""

import asyncio
import json
from typing import Annotated, Any

import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import USAGE, AsJson, Timeout, ask
from edo_stream.cli.screen import screen
from edo_stream.engine.act_plans import act_changelog
from edo_stream.observe.blocked import read_opened

app = typer.Typer(no_args_is_help=True, help="Circuit breakers of flows.")

FlowName = Annotated[str, typer.Argument(help="Name of the flow.")]


@app.callback()
def breaker() -> None:
    """Circuit breakers of flows."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show which flows an operator has stopped.

    Breakers that have opened by themselves are each worker's own: the metric edo_breaker_open.
    """
    environment = Environment.read()
    app_id, flows = environment.settings.app_id, environment.flows
    changelogs = {group: act_changelog(app_id, group) for group in flows.groups}
    with unreachable(environment.settings.broker):
        opened = asyncio.run(read_opened(changelogs, environment.access.client()))
    rows: list[dict[str, Any]] = [
        {
            "flow": name,
            "group": flow.declaration.group,
            "stopped": sorted(opened.get(name, ())),
            "partitions": flows.groups[flow.declaration.group].partitions,
        }
        for name, flow in flows.flows.items()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print("there are no flows")
        return
    table = Table("flow", "group", "breaker")
    for row in rows:
        count, whole = len(row["stopped"]), row["partitions"]
        state = "automatic" if not count else f"open on {count} of {whole} partitions"
        table.add_row(row["flow"], row["group"], state)
    screen().print(table)


@app.command("open")
def open_(flow: FlowName, timeout: Timeout = 30.0) -> None:
    """Run nothing of a flow any more, on any worker, until `edo breaker close`."""
    _switch(flow, "breaker.open", timeout)
    print(f"{flow}: nothing runs until 'edo breaker close {flow}'")


@app.command()
def close(flow: FlowName, timeout: Timeout = 30.0) -> None:
    """Let a flow go on that was stopped by an operator, by its breaker, or by dead letters."""
    _switch(flow, "breaker.close", timeout)
    print(f"{flow}: goes on")


def _switch(flow: str, op: str, timeout_s: float) -> None:
    environment = Environment.read()
    found = environment.flows.flows.get(flow)
    if found is None:
        known = ", ".join(environment.flows.flows) or "none"
        raise CommandError(f"no flow {flow}: there are {known}", USAGE)
    group = environment.flows.groups[found.declaration.group]

    async def switch() -> None:
        # Each task keeps it, so that it holds on each worker and after a restart.
        await asyncio.gather(
            *(
                ask(environment, (group.name, number), b"", {"op": op, "flow": flow}, timeout_s)
                for number in range(group.partitions)
            )
        )

    with unreachable(environment.settings.broker):
        asyncio.run(switch())
