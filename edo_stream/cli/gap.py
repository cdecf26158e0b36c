"""`edo gap`: what waits for a missing number, and what an operator can do about it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import (
    NOT_DONE,
    USAGE,
    Key,
    KeyBase64,
    Partition,
    Timeout,
    ask,
    key_bytes,
    readable,
    shown_time,
)
from edo_stream.core.notices import key_json
from edo_stream.engine.plans import group_tables
from edo_stream.observe.held import HeldKey, read_held

app = typer.Typer(no_args_is_help=True, help="Events that wait for a missing number.")

Topic = Annotated[str, typer.Argument(help="Topic that the events were read from.")]


@dataclass(frozen=True, slots=True)
class _Target:
    """What an operator wants to act on."""

    topic: str
    key: bytes
    partition: int | None


@app.callback()
def gap() -> None:
    """Events that wait for a missing number."""


@app.command("list")
def list_(
    topic: Annotated[str | None, typer.Option(help="Only of this topic.")] = None,
    key: Annotated[str | None, typer.Option(help="Only of this key, as text.")] = None,
    key_base64: KeyBase64 = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the keys that wait, for which number, since when and for how long."""
    wanted = None if key is None and key_base64 is None else key_bytes(key, key_base64)
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        found = asyncio.run(_held(environment, topic, wanted))
    if as_json:
        print(json.dumps([_as_json(held) for held in found]))
    else:
        _show(found)


@app.command()
def skip(  # noqa: PLR0913 - the command line
    topic: Topic,
    key: Key = None,
    to: Annotated[
        int | None, typer.Option(min=0, help="Give up the missing numbers up to this one.")
    ] = None,
    key_base64: KeyBase64 = None,
    partition: Partition = None,
    timeout: Timeout = 30.0,
) -> None:
    """Give up the missing numbers of a key up to --to, and let go on what waits for them."""
    if to is None:
        raise CommandError("--to is missing: write the last number to give up", USAGE)
    target = _Target(topic, key_bytes(key, key_base64), partition)
    _operate(target, {"op": "gap.skip", "to": to}, timeout)


@app.command()
def release(
    topic: Topic,
    key: Key = None,
    key_base64: KeyBase64 = None,
    partition: Partition = None,
    timeout: Timeout = 30.0,
) -> None:
    """Let go on, in order, all that waits of a key, and give up every gap in it."""
    target = _Target(topic, key_bytes(key, key_base64), partition)
    _operate(target, {"op": "gap.release"}, timeout)


async def _held(environment: Environment, topic: str | None, key: bytes | None) -> list[HeldKey]:
    """Keys that wait, read from the changelogs of all groups that may have them."""
    registry, app_id = environment.registry, environment.settings.app_id
    if topic is not None and topic not in registry.topics:
        raise CommandError(
            f"{topic} is not declared in {environment.settings.topics}: there are "
            f"{', '.join(registry.topics)}",
            USAGE,
        )
    groups = registry.groups if topic is None else [registry.contracts[topic].group]
    changelogs = {group: group_tables(app_id, group)[0].changelog for group in groups}
    found = await read_held(changelogs, environment.access.client())
    return [
        held for held in found if topic in (None, held.topic) and (key is None or key == held.key)
    ]


def _as_json(held: HeldKey) -> dict[str, Any]:
    return {
        "topic": held.topic,
        "partition": held.partition,
        "group": held.group,
        "key": key_json(held.key),
        "next": held.next,
        "held": held.held,
        "lowest": held.lowest,
        "highest": held.highest,
        "sinceMs": held.since_ms,
        "deadlineMs": held.due_ms,
    }


def _show(found: Sequence[HeldKey]) -> None:
    if not found:
        print("nothing is held")
        return
    table = Table("topic", "partition", "key", "next", "held", "since", "deadline")
    for column in table.columns:
        column.overflow = "fold"
    for held in found:
        table.add_row(
            held.topic,
            str(held.partition),
            Text(readable(held.key)),
            str(held.next),
            f"{held.held} ({held.lowest}..{held.highest})",
            shown_time(held.since_ms),
            "none" if held.due_ms is None else shown_time(held.due_ms),
        )
    Console().print(table)


def _operate(target: _Target, request: Mapping[str, Any], timeout_s: float) -> None:
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        held = _only(asyncio.run(_held(environment, target.topic, target.key)), target)
        whole = {**request, "topic": held.topic}
        task = (held.group, held.partition)
        asyncio.run(ask(environment, task, held.key, whole, timeout_s))
    print(f"{request['op']} of {_name(held)} is done")


def _only(found: Sequence[HeldKey], target: _Target) -> HeldKey:
    """Where the key waits; the request goes to that partition and no other."""
    partition = target.partition
    here = [held for held in found if partition in (None, held.partition)]
    match here:
        case [held]:
            return held
        case []:
            where = "" if partition is None else f" in partition {partition}"
            raise CommandError(
                f"nothing is held for key {readable(target.key)} of {target.topic}{where}: "
                "'edo gap list' shows what is",
                NOT_DONE,
            )
        case _:
            partitions = ", ".join(str(held.partition) for held in here)
            raise CommandError(
                f"key {readable(target.key)} of {target.topic} waits in partitions {partitions}: "
                "choose one with --partition",
                NOT_DONE,
            )


def _name(held: HeldKey) -> str:
    return f"key {readable(held.key)} of {held.topic}-{held.partition}"
