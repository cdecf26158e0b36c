"""`edo breaker`: what is broken, by the whole fleet's account; stop flows, and let them go on."""

import asyncio
import json
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import USAGE, AsJson, Timeout, ask, shown_time
from edo_stream.cli.screen import screen
from edo_stream.engine.group_topics import state_changelog
from edo_stream.engine.keepers import keeper_changelog
from edo_stream.flows import Flow
from edo_stream.flows.targets import target_of
from edo_stream.observe.blocked import read_opened
from edo_stream.observe.targets import KnownTarget, read_targets

app = typer.Typer(no_args_is_help=True, help="Circuit breakers of flows and of what they call.")

Name = Annotated[str, typer.Argument(help="Name of a flow, or of a target that flows share.")]

_NEVER_CALLED = KnownTarget("closed", 0, "", None, None, None, 0, "")


@app.callback()
def breaker() -> None:
    """Circuit breakers of flows and of what they call."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show the breaker of each flow's target in the whole fleet, and what an operator has stopped.

    A target that was never called is closed, and has no owner yet.
    """
    environment = Environment.read()
    rows = _rows(environment)
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print("there are no flows")
        return
    table = Table("flow", "target", "breaker", "since", "why", "told by", "opened", "owner")
    for row in rows:
        count, whole = len(row["stopped"]), row["partitions"]
        since = shown_time(row["since_ms"]) if row["since_ms"] else ""
        why = f"by an operator, {count} of {whole} partitions" if count else row["why"]
        by, owner = row["by"] or "", row["owner"] or ""
        state = "stopped" if count else row["state"]
        table.add_row(row["flow"], row["target"], state, since, why, by, str(row["opened"]), owner)
    screen().print(table)


def _rows(environment: Environment) -> list[dict[str, Any]]:
    app_id, flows = environment.settings.app_id, environment.flows
    changelogs = {group: state_changelog(app_id, group) for group in flows.groups}
    client = environment.access.client()
    with unreachable(environment.settings.broker):
        opened = asyncio.run(read_opened(changelogs, client))
        targets = asyncio.run(read_targets(keeper_changelog(app_id), client))
    return [
        {
            "flow": name,
            "group": flow.declaration.group,
            "target": target_of(flow.declaration),
            **msgspec.to_builtins(targets.get(target_of(flow.declaration), _NEVER_CALLED)),
            "stopped": sorted(opened.get(name, ())),
            "partitions": flows.groups[flow.declaration.group].partitions,
        }
        for name, flow in flows.flows.items()
    ]


@app.command("open")
def open_(name: Name, timeout: Timeout = 30.0) -> None:
    """Run nothing of a flow any more, on any worker, until `edo breaker close`."""
    for flow in _switch(name, "breaker.open", timeout):
        print(f"{flow}: nothing runs until 'edo breaker close {flow}'")


@app.command()
def close(name: Name, timeout: Timeout = 30.0) -> None:
    """Let a flow go on that was stopped by an operator, by its breaker, or by dead letters."""
    for flow in _switch(name, "breaker.close", timeout):
        print(f"{flow}: goes on")


def _named(environment: Environment, name: str) -> list[Flow]:
    """The flow of that name, or all that call the target of that name."""
    flows = environment.flows.flows
    if name in flows:
        return [flows[name]]
    calling = [flow for flow in flows.values() if target_of(flow.declaration) == name]
    if not calling:
        raise CommandError(f"no flow {name}: there are {', '.join(flows) or 'none'}", USAGE)
    return calling


def _switch(name: str, op: str, timeout_s: float) -> list[str]:
    """Have every task of the flows keep it: so it holds on each worker, and after a restart."""
    environment = Environment.read()
    called = _named(environment, name)
    tasks = [
        (flow.policy.flow, (group.name, number))
        for flow in called
        for group in [environment.flows.groups[flow.declaration.group]]
        for number in range(group.partitions)
    ]

    async def switch() -> None:
        await asyncio.gather(
            *(
                ask(environment, task, b"", {"op": op, "flow": flow}, timeout_s)
                for flow, task in tasks
            )
        )

    with unreachable(environment.settings.broker):
        asyncio.run(switch())
    return [flow.policy.flow for flow in called]
