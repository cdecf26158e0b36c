"""`edo saga`: instances of sagas, what has become of their steps, and what a person can do."""

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
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
from edo_stream.core.partitioner import partition_of
from edo_stream.core.saga.instance import RESULT_BYTES_MAX, InstanceRow, SagaStatus
from edo_stream.engine.group_topics import state_changelog
from edo_stream.flows import SagaGroup
from edo_stream.flows.saga import sagas_of
from edo_stream.observe.sagas import (
    as_document,
    read_history,
    read_instances,
    whole_document,
)
from edo_stream.registry.mistakes import nearest

app = typer.Typer(no_args_is_help=True, help="Sagas: steps that are undone when one fails.")

_STATUSES: Final = tuple(status.value for status in SagaStatus)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the saga.")]
StepName = Annotated[str, typer.Option("--step", help="Name of the step.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who come later.")]


@app.callback()
def saga() -> None:
    """Sagas: steps that are undone when one fails."""


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only of this saga.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", help=f"Only those that are: {', '.join(_STATUSES)}.")
    ] = None,
    is_stuck: Annotated[
        bool, typer.Option("--stuck", help="Only those that wait for a person.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the instances that run, and those that have ended and are still remembered."""
    if status not in (None, *_STATUSES):
        raise CommandError(f"--status {status}: write one of {', '.join(_STATUSES)}", USAGE)
    environment = Environment.read()
    if name is not None:
        _group(environment, name)
    rows = [
        row
        for row in _instances(environment, environment.flows.sagas)
        if name in (None, row.saga)
        and status in (None, row.status.value)
        and (row.stuck or not is_stuck)
    ]
    if as_json:
        print(json.dumps([as_document(row) for row in rows]))
        return
    if not rows:
        print("no instances")
        return
    table = Table("saga", "key", "version", "status", "at", "since", "due", "why")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(
            row.saga,
            Text(readable(row.key)),
            str(row.version),
            f"{row.status.value}, stuck" if row.stuck else row.status.value,
            ", ".join(_at(row)),
            shown_time(row.started_ms),
            "" if row.due_ms is None or row.status.is_over else shown_time(row.due_ms),
            Text(row.stuck or row.reason),
        )
    screen().print(table)


@app.command()
def show(
    name: Name,
    key: Key = None,
    key_base64: KeyBase64 = None,
    as_json: AsJson = False,
) -> None:
    """Show one instance: its steps, what they returned, and all that has happened to it."""
    environment = Environment.read()
    wanted = key_bytes(key, key_base64)
    group = _group(environment, name)
    found = [
        row
        for row in _instances(environment, {group.name: group})
        if (row.saga, row.key) == (name, wanted)
    ]
    if not found:
        raise CommandError(
            f"no instance of {name} has key {readable(wanted)}: 'edo saga list' shows all", NOT_DONE
        )
    (row,) = found
    topic = group.sagas[name].topics.events
    with unreachable(environment.settings.broker):
        history = asyncio.run(read_history(topic, row.id, row.key, environment.access.client()))
    if as_json:
        print(json.dumps({**as_document(row), **whole_document(row), "history": history}))
        return
    _show(row, history)


@app.command()
def retry(
    name: Name,
    key: Key = None,
    key_base64: KeyBase64 = None,
    step: Annotated[str | None, typer.Option("--step", help="Only this step.")] = None,
    timeout: Timeout = 30.0,
) -> None:
    """Send again the steps, or compensations, that have failed: as new commands, with new ids.

    A command that was given up can also be sent again as it was: 'edo dlq redrive'.
    """
    _operate("saga.retry", (name, key_bytes(key, key_base64)), {"step": step}, timeout)


@app.command()
def compensate(
    name: Name,
    key: Key = None,
    key_base64: KeyBase64 = None,
    reason: Reason = "",
    timeout: Timeout = 30.0,
) -> None:
    """Undo what an instance has done, unless its pivot is done."""
    _operate("saga.compensate", (name, key_bytes(key, key_base64)), {"reason": reason}, timeout)


@app.command()
def abandon(
    name: Name,
    key: Key = None,
    key_base64: KeyBase64 = None,
    reason: Reason = "",
    timeout: Timeout = 30.0,
) -> None:
    """Leave an instance as it is, for good: nothing more is sent for it."""
    _operate("saga.abandon", (name, key_bytes(key, key_base64)), {"reason": reason}, timeout)


@app.command()
def complete(  # noqa: PLR0913 - the command line
    name: Name,
    step: StepName,
    key: Key = None,
    key_base64: KeyBase64 = None,
    result: Annotated[
        str | None, typer.Option("--result", help="JSON that later steps get.")
    ] = None,
    timeout: Timeout = 30.0,
) -> None:
    """Say that a person has done a manual step."""
    document = {} if result is None else {"result": _result(result)}
    place = (name, key_bytes(key, key_base64))
    _operate("saga.complete", place, {"step": step, **document}, timeout)


def _result(text: str) -> Any:
    """What a person's step has returned, as a worker will read it."""
    try:
        # Not by Python's own, which takes NaN for JSON, and a number that is too large for it.
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--result: not JSON: {error}", USAGE) from error
    size = len(json.dumps(found))
    if size > RESULT_BYTES_MAX:
        raise CommandError(
            f"--result: {size:,} bytes, and of more than {RESULT_BYTES_MAX:,} nothing is kept: "
            "write where it is instead",
            USAGE,
        )
    return found


@app.command()
def reject(  # noqa: PLR0913 - the command line
    name: Name,
    step: StepName,
    key: Key = None,
    key_base64: KeyBase64 = None,
    reason: Reason = "",
    timeout: Timeout = 30.0,
) -> None:
    """Say that a person will not do a manual step: what is done is undone."""
    place = (name, key_bytes(key, key_base64))
    _operate("saga.reject", place, {"step": step, "reason": reason}, timeout)


def _group(environment: Environment, name: str) -> SagaGroup:
    for group in environment.flows.sagas.values():
        if name in group.sagas:
            return group
    raise CommandError(f"no saga {name}: {nearest(name, sagas_of(environment.flows.sagas))}", USAGE)


def _instances(environment: Environment, groups: Mapping[str, SagaGroup]) -> list[InstanceRow]:
    app_id = environment.settings.app_id
    changelogs = {group: state_changelog(app_id, group) for group in groups}
    with unreachable(environment.settings.broker):
        return asyncio.run(read_instances(changelogs, environment.access.client()))


def _operate(
    op: str, instance: tuple[str, bytes], fields: Mapping[str, Any], timeout_s: float
) -> None:
    name, key = instance
    environment = Environment.read()
    group = _group(environment, name)
    task = (group.name, partition_of(key, group.partitions))
    said = {
        field: value
        for field, value in fields.items()
        if field == "result" or value not in (None, "")
    }
    request = {"op": op, "saga": name, **said}
    with unreachable(environment.settings.broker):
        asyncio.run(ask(environment, task, key, request, timeout_s))
    print(f"{op} of {name} {readable(key)}: done")


def _at(row: InstanceRow) -> list[str]:
    """Steps that something is out for, or that have failed."""
    quiet = ("waiting", "done", "undone")
    return [
        f"{name} {state.status.value}"
        for name, state in row.steps.items()
        if state.status.value not in quiet
    ]


def _show(row: InstanceRow, history: list[dict[str, Any]]) -> None:
    status = f"{row.status.value}, stuck: {row.stuck}" if row.stuck else row.status.value
    print(f"{row.saga} {readable(row.key)}, version {row.version}: {status}")
    if row.reason:
        print(f"because of {row.reason}")
    table = Table("step", "status", "attempt", "since", "result", "error")
    for name, state in row.steps.items():
        table.add_row(
            name,
            f"{state.status.value}, overdue" if state.is_overdue else state.status.value,
            str(state.attempt or ""),
            shown_time(state.since_ms),
            Text(state.result.decode() if state.was_done else ""),
            Text(state.error),
        )
    screen().print(table)
    table = Table("", "at", "what", "step", "")
    for event in history:
        told = event.get("error") or event.get("reason") or event.get("command") or ""
        table.add_row(
            str(event["number"]),
            shown_time(event["at"]),
            event["change"],
            event.get("step", ""),
            Text(str(told)),
        )
    screen().print(table)
