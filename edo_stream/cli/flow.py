"""`edo flow`: what is declared under flows/, and what it would do."""

from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from edo_stream.cli.contracts_read import AsJson, load_topics, print_json
from edo_stream.cli.flow_explain import explain
from edo_stream.cli.flow_graph import graph
from edo_stream.cli.flow_inbox import inbox_table
from edo_stream.cli.flow_lint import lint
from edo_stream.cli.flow_new import new
from edo_stream.cli.flow_read import FlowName, flow_of, read_flows
from edo_stream.cli.flow_trial import try_out
from edo_stream.cli.screen import screen
from edo_stream.flows import Flow, Flows

app = typer.Typer(no_args_is_help=True, help="Flows: what events trigger.")
app.command("lint")(lint)
app.command("graph")(graph)
app.command("test")(try_out)
app.command("new")(new)
app.command("explain")(explain)
app.command("inbox-table")(inbox_table)


@app.callback()
def flow() -> None:
    """Flows: what events trigger."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the declared flows.

    Exit codes: 0 listed, 2 the files have mistakes.
    """
    flows = read_flows(load_topics())
    if as_json:
        print_json([summary(one) for one in flows.flows.values()])
        return
    if not flows.flows:
        screen().print("there are no flows", markup=False)
        return
    table = Table("flow", "on", "conditions", "action", "group", "owner")
    for one in flows.flows.values():
        told = summary(one)
        topics = "\n".join(on["topic"] for on in told["on"])
        conditions = "\n".join(_condition(on) for on in told["on"])
        texts = [told["name"], topics, conditions, told["action"], told["group"], told["owner"]]
        table.add_row(*(Text(text) for text in texts))
    screen().print(table)


@app.command()
def show(name: FlowName, as_json: AsJson = False) -> None:
    """Show one flow, with all that is taken where its file says nothing.

    Exit codes: 0 shown, 2 there is no such flow, or the files have mistakes.
    """
    flows = read_flows(load_topics())
    one = flow_of(flows, name)
    if as_json:
        print_json(whole(one, flows))
        return
    table = Table(show_header=False)
    for key, value in whole(one, flows).items():
        text = value if isinstance(value, str) else _yaml(value)
        table.add_row(key, Text(text))
    screen().print(table)


def summary(one: Flow) -> dict[str, Any]:
    """A flow in a line."""
    declared = one.declaration
    return {
        "name": declared.name,
        "owner": declared.owner,
        "on": [on.model_dump(exclude_none=True) for on in declared.on],
        "action": declared.action.kind,
        "group": declared.group,
        "file": str(one.file),
    }


def whole(one: Flow, flows: Flows) -> dict[str, Any]:
    """All that is said of a flow, and the topics that it has; no secrets, which are references."""
    policy = one.policy
    return {
        **one.declaration.model_dump(mode="json", by_alias=True),
        "file": str(one.file),
        "topics": {
            "commands": policy.commands,
            "outcomes": policy.outcomes,
            "deadLetters": policy.dead_letters,
            "retries": list(flows.groups[one.declaration.group].spec.tiers.values()),
            "partitions": flows.groups[one.declaration.group].partitions,
        },
    }


def _condition(on: dict[str, Any]) -> str:
    said = [name for name in ("match", "where") if name in on]
    return " and ".join(said) or "every event"


def _yaml(value: object) -> str:
    import yaml  # noqa: PLC0415 - only for people

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n...\n").rstrip("\n")
