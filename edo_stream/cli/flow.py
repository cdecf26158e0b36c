"""`edo flow`: what is declared under flows/, and what it would do."""

import asyncio
from typing import Any, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from edo_stream.cli.contracts_read import AsJson, load_topics, print_json
from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.flow_explain import explain
from edo_stream.cli.flow_graph import graph
from edo_stream.cli.flow_inbox import inbox_table
from edo_stream.cli.flow_lint import lint
from edo_stream.cli.flow_new import new
from edo_stream.cli.flow_pause import pause, pause_text, paused_flows, resume
from edo_stream.cli.flow_read import FlowName, read_flows, require_flow
from edo_stream.cli.flow_trial import try_out
from edo_stream.cli.screen import screen
from edo_stream.flows import Flows
from edo_stream.flows.trial import topics_of, wanted_by
from edo_stream.observe.paused import PausedFlow

app = typer.Typer(no_args_is_help=True, help="Flows: what events trigger.")
app.command("lint")(lint)
app.command("graph")(graph)
app.command("test")(try_out)
app.command("new")(new)
app.command("explain")(explain)
app.command("inbox-table")(inbox_table)
app.command("pause")(pause)
app.command("resume")(resume)

_LOOK_S: Final = 10.0


@app.callback()
def flow() -> None:
    """Flows: what events trigger."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the declared flows, and which of them are paused, if the broker answers.

    Exit codes: 0 listed, 2 the files have mistakes.
    """
    flows = read_flows(load_topics())
    told = [summary(name, flows) for name in sorted({*flows.flows, *flows.joins})]
    paused, why_unknown = _paused() if flows.flows else ({}, "")
    for one in told:
        pause = paused.get(one["name"])
        one["paused"] = "unknown" if why_unknown else msgspec.to_builtins(pause)
    if as_json:
        print_json(told)
        return
    if not told:
        screen().print("there are no flows", markup=False)
        return
    columns = ("flow", "on", "wants", "action", "group", "owner")
    table = Table(*columns, *(("paused",) if paused else ()))
    for one in told:
        topics = "\n".join(on["topic"] for on in one["on"])
        conditions = "\n".join(_condition(on) for on in one["on"])
        texts = [one["name"], topics, conditions, one["action"], one["group"], one["owner"]]
        if paused:
            texts.append(pause_text(paused[one["name"]]) if one["name"] in paused else "")
        table.add_row(*(Text(text) for text in texts))
    screen().print(table)
    if why_unknown:
        screen().print(f"which flows are paused is not known: {why_unknown}", markup=False)


def _paused() -> tuple[dict[str, PausedFlow], str]:
    """Flows that are paused, or why nobody tells."""

    async def read(environment: Environment) -> dict[str, PausedFlow]:
        async with asyncio.timeout(_LOOK_S):
            return await paused_flows(environment)

    try:
        environment = Environment.read()
        with unreachable(environment.settings.broker):
            return asyncio.run(read(environment)), ""
    except CommandError as error:
        return {}, str(error)


@app.command()
def show(name: FlowName, as_json: AsJson = False) -> None:
    """Show one flow, with all that is taken where its file says nothing.

    Exit codes: 0 shown, 2 there is no such flow, or the files have mistakes.
    """
    flows = read_flows(load_topics())
    require_flow(flows, name)
    told = whole(name, flows)
    if as_json:
        print_json(told)
        return
    table = Table(show_header=False)
    for key, value in told.items():
        text = value if isinstance(value, str) else _yaml(value)
        table.add_row(key, Text(text))
    screen().print(table)


def summary(name: str, flows: Flows) -> dict[str, Any]:
    """A flow in a line; of one that waits, its inputs."""
    join, flow = flows.joins.get(name), flows.flows.get(name)
    wanted: list[dict[str, Any]] = []
    if join is not None and join.gathers is not None:
        wanted.append({"input": "ends", "topic": f"(ends of {join.gathers})"})
    if join is not None and join.word == "when":
        for topic in topics_of(name, flows):
            for label, one in wanted_by(name, flows, topic).items():
                said = one.model_dump(exclude_none=True, include={"topic", "match", "where"})
                wanted.append({"input": label, **said})
    elif flow is not None:
        wanted = [on.model_dump(exclude_none=True) for on in flow.declaration.on]
    owner, file = _owner_and_file(name, flows)
    return {
        "name": name,
        "owner": owner,
        "on": wanted,
        "action": "event" if flow is None else flow.declaration.action.kind,
        "group": flow.declaration.group if flow is not None else flows.joins[name].when.group,
        "file": file,
    }


def whole(name: str, flows: Flows) -> dict[str, Any]:
    """All that is said of a flow, and the topics that it has; no secrets, which are references."""
    owner, file = _owner_and_file(name, flows)
    flow = flows.flows.get(name)
    if flow is None:
        join = flows.joins[name]
        emit = None if join.emit is None else join.emit.topic
        when = join.when.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {"name": name, "owner": owner, "when": when, "emit": emit, "file": file}
    policy = flow.policy
    return {
        **flow.declaration.model_dump(mode="json", by_alias=True),
        "file": file,
        "topics": {
            "commands": policy.commands,
            "outcomes": policy.outcomes,
            "deadLetters": policy.dead_letters,
            "retries": list(flows.groups[flow.declaration.group].spec.tiers.values()),
            "partitions": flows.groups[flow.declaration.group].partitions,
        },
    }


def _owner_and_file(name: str, flows: Flows) -> tuple[str, str]:
    flow = flows.flows.get(name)
    if flow is not None:
        return flow.declaration.owner, str(flow.file)
    join = flows.joins[name]
    return join.owner, str(join.file)


def _condition(on: dict[str, Any]) -> str:
    said = [name for name in ("match", "where") if name in on]
    wanted = " and ".join(said) or "every event"
    return f"{on['input']}: {wanted}" if "input" in on else wanted


def _yaml(value: object) -> str:
    import yaml  # noqa: PLC0415 - only for people

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n...\n").rstrip("\n")
