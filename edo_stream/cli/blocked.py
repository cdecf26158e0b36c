"""`edo retry` and `edo key`: keys of flows that wait for a retry or for a person."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

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
    Partition,
    Timeout,
    ask,
    key_bytes,
    readable,
    shown_time,
)
from edo_stream.cli.screen import screen
from edo_stream.core.notices import key_json
from edo_stream.engine.clock import now_ms
from edo_stream.engine.group_topics import state_changelog
from edo_stream.observe.blocked import BlockedKey, read_blocked

retry = typer.Typer(no_args_is_help=True, help="Commands that wait to be run again.")
key = typer.Typer(no_args_is_help=True, help="Keys of flows that are blocked.")

FlowName = Annotated[str, typer.Argument(help="Name of the flow.")]
OnlyFlow = Annotated[str | None, typer.Option("--flow", help="Only of this flow.")]
Class = Annotated[
    str | None, typer.Option("--state", help="Only waiting, draining, resting, paused or stopped.")
]

_STATES: Final = ("waiting", "draining", "resting", "paused", "stopped")


@retry.callback()
def _retry() -> None:
    """Commands that wait to be run again."""


@key.callback()
def _key() -> None:
    """Keys of flows that are blocked."""


@retry.command("list")
def list_retries(flow: OnlyFlow = None, as_json: AsJson = False) -> None:
    """Show what waits for its next attempt, or is due while its flow is paused, and why."""
    _list(flow, lambda one: one.is_retry, as_json)


@key.command("list")
def list_keys(flow: OnlyFlow = None, state: Class = None, as_json: AsJson = False) -> None:
    """Show the keys that are blocked, by what, and how many commands are parked behind."""
    if state not in (None, *_STATES):
        raise CommandError(f"--state {state}: write one of {', '.join(_STATES)}", USAGE)
    _list(flow, lambda one: state in (None, one.state), as_json)


def _add(app: typer.Typer, op: str, help_: str) -> None:
    """Add the command of a request about one blocked key."""

    def operate(
        flow: FlowName,
        key: Key = None,
        key_base64: KeyBase64 = None,
        partition: Partition = None,
        timeout: Timeout = 30.0,
    ) -> None:
        _operate(op, (flow, key_bytes(key, key_base64), partition), timeout)

    app.command(op.partition(".")[2], help=help_)(operate)


_add(retry, "retry.run-now", "Run the waiting command of a key at once.")
_add(
    retry,
    "retry.drop",
    "Forget the waiting command of a key, without a dead letter; the key goes on.",
)
_add(key, "key.continue", "Let a key go on that was stopped after a dead letter.")
_add(
    key,
    "key.skip",
    "Make the first command of a blocked key a dead letter, and let the key go on.",
)


async def _blocked(environment: Environment, flow: str | None) -> list[BlockedKey]:
    flows = environment.flows
    if flow is not None and flow not in flows.flows:
        known = ", ".join(flows.flows) or "none"
        raise CommandError(f"no flow {flow}: there are {known}", USAGE)
    app = environment.settings.app_id
    changelogs = {group: state_changelog(app, group) for group in flows.groups}
    found = await read_blocked(changelogs, environment.access.client())
    return [one for one in found if flow in (None, one.flow)]


def _list(flow: str | None, is_wanted: Callable[[BlockedKey], bool], as_json: bool) -> None:
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        found = asyncio.run(_blocked(environment, flow))
    found = [one for one in found if is_wanted(one)]
    if as_json:
        print(json.dumps([_as_json(one) for one in found]))
    else:
        _show(found)


def _as_json(one: BlockedKey) -> dict[str, Any]:
    return {
        "flow": one.flow,
        "partition": one.partition,
        "group": one.group,
        "key": key_json(one.key),
        "state": one.state,
        "head": one.head,
        "attempt": one.attempt,
        "dueMs": one.due_ms,
        "lateMs": _late_ms(one),
        "parked": one.parked,
        "sinceMs": one.since_ms,
        "error": one.error,
    }


def _late_ms(one: BlockedKey) -> int:
    """How long ago its head was due, and did not end since; 0 when it waits for its time."""
    return 0 if one.due_ms is None else max(0, now_ms() - one.due_ms)


def _show(found: Sequence[BlockedKey]) -> None:
    if not found:
        print("nothing is blocked")
        return
    table = Table(
        *("flow", "partition", "key", "state", "attempt", "due", "late", "parked", "since", "why")
    )
    for column in table.columns:
        column.overflow = "fold"
    for one in found:
        table.add_row(
            one.flow,
            str(one.partition),
            Text(readable(one.key)),
            one.state,
            str(one.attempt or ""),
            "" if one.due_ms is None else shown_time(one.due_ms),
            f"{late_ms / 1000:,.1f} s" if (late_ms := _late_ms(one)) else "",
            str(one.parked),
            shown_time(one.since_ms),
            Text(one.error),
        )
    screen().print(table)


def _operate(op: str, target: tuple[str, bytes, int | None], timeout_s: float) -> None:
    flow, name, partition = target
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        found = asyncio.run(_blocked(environment, flow))
        here = [one for one in found if one.key == name and partition in (None, one.partition)]
        if not here:
            raise CommandError(
                f"key {readable(name)} of {flow} is not blocked: 'edo key list' shows what is",
                NOT_DONE,
            )
        if len(here) > 1:
            numbers = ", ".join(str(one.partition) for one in here)
            raise CommandError(
                f"key {readable(name)} of {flow} is blocked in partitions {numbers}: choose one "
                "with --partition",
                NOT_DONE,
            )
        task = (here[0].group, here[0].partition)
        asyncio.run(ask(environment, task, name, {"op": op, "flow": flow}, timeout_s))
    print(f"{op} of key {readable(name)} of {flow} is done")
