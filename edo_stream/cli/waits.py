"""`edo waits`: what flows wait for, what is missing, since when and until when."""

import asyncio
import json
from collections.abc import Collection, Sequence
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import (
    NOT_DONE,
    USAGE,
    AsJson,
    Key,
    KeyBase64,
    Timeout,
    ask,
    key_bytes,
    readable,
    shown_time,
)
from edo_stream.cli.screen import screen
from edo_stream.core.correlation.changes import encode_change
from edo_stream.core.notices import key_json
from edo_stream.core.partitioner import partition_of
from edo_stream.engine.group_topics import state_changelog
from edo_stream.flows.correlation import JoinGroup
from edo_stream.flows.lookup import LookupGroup
from edo_stream.observe.lookups import read_lookups
from edo_stream.observe.waits import (
    STATES,
    Wait,
    as_document,
    change_told,
    explained,
    read_wait_history,
    read_waits,
)
from edo_stream.registry.mistakes import nearest

app = typer.Typer(no_args_is_help=True, help="What flows wait for.")

FlowName = Annotated[str, typer.Argument(help="Name of the flow.")]
OnlyFlow = Annotated[str | None, typer.Option("--flow", help="Only of this flow.")]
State = Annotated[
    str | None,
    typer.Option("--state", help="open, early, over, resting or all; default: what waits."),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")]

_WAITING: Final = ("open", "early")


@app.callback()
def _waits() -> None:
    """What flows wait for."""


@app.command("list")
def list_waits(
    flow: OnlyFlow = None,
    state: State = None,
    limit: Limit = 1_000,
    as_json: AsJson = False,
) -> None:
    """Show what waits: what is missing, since when and until when."""
    if state not in (None, "all", *STATES):
        raise CommandError(f"--state {state}: write {', '.join(STATES)} or all", USAGE)
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        found = asyncio.run(read_all(environment, flow))
    wanted = _WAITING if state is None else STATES if state == "all" else (state,)
    found = [wait for wait in found if wait.state in wanted]
    shown = found[:limit]
    if as_json:
        print(json.dumps([as_document(wait) for wait in shown]))
    else:
        _show(shown, len(found))


@app.command("show")
def show_wait(
    flow: FlowName,
    key: Key = None,
    key_base64: KeyBase64 = None,
    with_history: Annotated[
        bool, typer.Option("--history", help="With all that has happened to it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one key: which inputs are there, which are missing, and how its last wait ended.

    With --history also what is known no longer, as far as the flow has told it (history: true).
    """
    name = key_bytes(key, key_base64)
    environment = Environment.read()
    topic = _history_of(environment, flow) if with_history else ""
    with unreachable(environment.settings.broker):
        wait = asyncio.run(find(environment, flow, name))
        access = environment.access.client()
        history = asyncio.run(read_wait_history(topic, name, access)) if topic else []
    if wait is None and not history:
        raise CommandError(f"{flow} knows nothing of key {readable(name)}", NOT_DONE)
    if as_json:
        document = {"flow": flow, "key": key_json(name)} if wait is None else as_document(wait)
        more = {"history": [json.loads(encode_change(one)) for one in history]} if topic else {}
        print(json.dumps({**document, **more}))
        return
    print(f"{flow}, key {readable(name)}: {'forgotten' if wait is None else wait.state}")
    lines = [] if wait is None else explained(wait)
    for line in [*lines, *map(change_told, history)]:
        print(f"  {line}")


def _history_of(environment: Environment, flow: str) -> str:
    topic = ""
    for group in _groups_of(environment, flow):
        if isinstance(group, JoinGroup) and flow in group.spec.correlations:
            topic = group.spec.correlations[flow].history
    if not topic:
        message = f"{flow} keeps no history: write history: true into its when, and restart workers"
        raise CommandError(message, USAGE)
    return topic


@app.command("force")
def force(
    flow: FlowName, key: Key = None, key_base64: KeyBase64 = None, timeout: Timeout = 30.0
) -> None:
    """Fire a wait at once, with what there is."""
    _operate("wait.force", flow, key_bytes(key, key_base64), timeout)


@app.command("expire")
def expire(
    flow: FlowName, key: Key = None, key_base64: KeyBase64 = None, timeout: Timeout = 30.0
) -> None:
    """End a wait as if its deadline had passed; forget a key whose wait is over.

    What an absence or a window holds is let go of, without a result: 'edo waits force' fires it.
    """
    _operate("wait.expire", flow, key_bytes(key, key_base64), timeout)


def _groups_of(environment: Environment, flow: str | None) -> Sequence[JoinGroup | LookupGroup]:
    """Groups whose tasks hold what a flow waits for, or all flows do."""
    flows = environment.flows
    groups: list[JoinGroup | LookupGroup] = [*flows.join_groups.values()]
    groups += flows.lookup_groups.values()
    if flow is None:
        return groups
    found = [group for group in groups if flow in _flows_of(group)]
    if not found:
        known = sorted({name for group in groups for name in _flows_of(group)})
        raise CommandError(f"no flow {flow} waits: {nearest(flow, known)}", USAGE)
    return found


def _flows_of(group: JoinGroup | LookupGroup) -> Collection[str]:
    return group.spec.correlations if isinstance(group, JoinGroup) else group.enrichments


async def read_all(environment: Environment, flow: str | None = None) -> list[Wait]:
    """All keys that flows know, or one flow does."""
    groups = _groups_of(environment, flow)
    application, client = environment.settings.app_id, environment.access.client()
    specs = {group.name: group.spec for group in groups if isinstance(group, JoinGroup)}
    changelogs = {group.name: state_changelog(application, group.name) for group in groups}
    looking = {name: topic for name, topic in changelogs.items() if name not in specs}
    found = await read_waits(specs, {name: changelogs[name] for name in specs}, client)
    found += await read_lookups(looking, client)
    return [wait for wait in found if flow in (None, wait.flow)]


async def find(environment: Environment, flow: str, key: bytes) -> Wait | None:
    """One key of a flow; ``None`` where it is not known."""
    found = await read_all(environment, flow)
    return next((wait for wait in found if wait.key == key), None)


def _show(found: Sequence[Wait], count: int) -> None:
    if not found:
        print("nothing waits")
        return
    table = Table("flow", "key", "state", "missing", "there", "since", "until")
    for column in table.columns:
        column.overflow = "fold"
    for wait in found:
        there = str(wait.count) if wait.expected is None else f"{wait.count} of {wait.expected}"
        table.add_row(
            wait.flow,
            Text(readable(wait.key)),
            wait.state,
            Text(", ".join(wait.missing)),
            there,
            "" if wait.since_ms is None else shown_time(wait.since_ms),
            "" if wait.until_ms is None else shown_time(wait.until_ms),
        )
    screen().print(table)
    if count > len(found):
        print(f"… and {count - len(found)} more: --limit shows them")


def _operate(op: str, flow: str, key: bytes, timeout_s: float) -> None:
    environment = Environment.read()
    groups = _groups_of(environment, flow)
    with unreachable(environment.settings.broker):
        group = groups[0]
        if len(groups) > 1:
            # It looks up in several groups: the key waits in one of them.
            wait = asyncio.run(find(environment, flow, key))
            group = next((one for one in groups if wait and one.name == wait.group), group)
        task = (group.name, partition_of(key, group.partitions))
        asyncio.run(ask(environment, task, key, {"op": op, "flow": flow}, timeout_s))
    print(f"{op} of key {readable(key)} of {flow} is done")
