"""`edo flow test`: what a flow would do with an event, without doing it."""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from edo_stream.actions.rendered import rendered
from edo_stream.actions.template import UnfilledError
from edo_stream.cli.contracts_live import judged_as_workers_do
from edo_stream.cli.contracts_read import AsJson, load_topics, print_json
from edo_stream.cli.environment import CommandError
from edo_stream.cli.events import split_event
from edo_stream.cli.files import read_input
from edo_stream.cli.flow_read import FlowName, read_flows, require_flow
from edo_stream.cli.flow_rows import given_rows
from edo_stream.cli.screen import screen
from edo_stream.core.act.command import Command, parse_command
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Violation
from edo_stream.core.headers import time_text
from edo_stream.core.record import Record, StoredRecord
from edo_stream.engine.clock import now_ms
from edo_stream.flows import Flow, Flows
from edo_stream.flows.alone import command_alone, waits_until_ms
from edo_stream.flows.cancelling import Cancelling, cancel_topics, cancelling_of
from edo_stream.flows.trial import Trial, topics_of, trial_of
from edo_stream.registry import Registry
from edo_stream.registry.mistakes import nearest
from edo_stream.settings import read_settings

_SOURCE: Final = "/edo/flow-test"
_TEXT_MAX: Final = 2_000


def try_out(  # noqa: PLR0913 - the command line has them
    name: FlowName,
    event_file: Annotated[
        str,
        typer.Option("--event", metavar="FILE", help="Event, or its data; - is standard input."),
    ],
    topic: Annotated[
        str | None, typer.Option(help="Topic; default: the event's type, or the flow's only one.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Key of the record, as text.")] = None,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="NAME=FILE", help="A row that is looked up, as JSON."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether an event triggers the flow, with which command, and what that would do.

    Nothing is written, called or changed, and no broker is asked; secrets are not read.

    Of what the flow waits for, it is told until when, if nothing else comes; of what cancels, which
    commands.

    Exit codes: 0 it is a command, is waited with, or cancels; 1 it is not (the first false
    condition is told), or its record breaks the contract; 2 the flow or the file cannot be read.
    """
    registry = load_topics()
    flows = read_flows(registry)
    require_flow(flows, name)
    content = read_input(event_file)
    topics = dict.fromkeys((*topics_of(name, flows), *cancel_topics(name, flows)))
    chosen = _topic(name, [*topics], topic, content)
    rows = given_rows(registry, flows.flows.get(name), row or [], taken=event_file)
    told = tell(name, flows, registry, chosen, _record(registry, chosen, content, key), rows)
    if as_json:
        print_json(told)
    else:
        _show(told)
    raise typer.Exit(0 if told["result"] in ("command", "input", "lookup", "cancels") else 1)


def tell(  # noqa: PLR0913 - all that an answer depends on
    name: str,
    flows: Flows,
    registry: Registry,
    topic: str,
    record: Record | Violation,
    rows: Mapping[str, bytes],
) -> dict[str, Any]:
    """What comes of a record, as plain values."""
    said: dict[str, Any] = {"flow": name, "topic": topic}
    event: Any = record
    if not isinstance(record, Violation):
        event = judged_as_workers_do(registry.entries[topic])(record)
    if isinstance(event, Violation):
        why = f"{event.reason}: {event.detail}"
        return {**said, "result": "no-event", "why": why}
    if not isinstance(event, Event):
        return {**said, "result": "no-event", "why": f"ignored: {event.reason}"}
    assert not isinstance(record, Violation), "a violation is no event"
    contract, app = registry.topics[topic].contract, read_settings().app_id
    said["event"] = event.id
    cancelling = cancelling_of(name, flows, contract, app, (record, event))
    if topic not in topics_of(name, flows):
        return {**said, "result": "no-match", "why": None, **_cancelling(cancelling)}
    trial = trial_of(name, flows, contract, app, (record, event), rows)
    outcome = _outcome(name, flows, trial)
    cancels = _cancelling(cancelling)
    if outcome["result"] != "no-match":
        cancels = {name: cancels[name] for name in cancels if name == "cancels"}
    else:
        cancels["conditions"] = [*outcome["conditions"], *cancels.get("conditions", ())]
    return {**said, **outcome, **cancels}


def _cancelling(cancelling: Cancelling) -> dict[str, Any]:
    """What an event cancels; what it says besides, if that is all that it does."""
    conditions = [
        {"cancelOn": int(one.label), "isMet": one.is_met, "why": one.why}
        for one in cancelling.answers
    ]
    said: dict[str, Any] = {"conditions": conditions} if conditions else {}
    if cancelling.cancelled:
        cancels = [{"by": one.field or "key", "value": one.value} for one in cancelling.cancelled]
        return {**said, "result": "cancels", "why": None, "cancels": cancels}
    if cancelling.reason is not None:
        return {**said, "result": "dead-letter", "why": cancelling.reason}
    first = next((one.why for one in cancelling.answers if one.why is not None), None)
    return {**said, "why": first} if first is not None else said


def _outcome(name: str, flows: Flows, trial: Trial) -> dict[str, Any]:
    said: dict[str, Any] = {
        "conditions": [
            {
                **({"on": int(one.label)} if one.label.isdigit() else {"input": one.label}),
                "isMet": one.is_met,
                "why": one.why,
            }
            for one in trial.answers
        ]
    }
    if trial.waits_for is not None:
        return {**said, "result": "lookup", "why": f"{trial.waits_for}: give it by --row"}
    if trial.written is None:
        return {**said, "result": "no-match", "why": trial.why}
    if trial.reason is not None:
        return {
            **said,
            "result": "dead-letter",
            "why": trial.reason,
            "deadLetter": {"topic": trial.written.topic},
        }
    if not trial.is_command:
        key = (trial.written.key or b"").decode("utf-8", "replace")
        join, app = flows.joins[name], read_settings().app_id
        group = flows.join_groups[join.when.group]
        until_ms = waits_until_ms(group, app, trial.written)
        until = None if until_ms is None else (time_text(until_ms) or b"").decode()
        waits = {**said, "result": "input", "why": None, "wait": {"key": key, "until": until}}
        if trial.input is not None:
            return {**waits, "input": trial.input}
        alone = command_alone(name, group, app, trial.written)
        return {**waits, **_end(name, flows, alone, "input")}
    return {**said, **_end(name, flows, trial.written, "command")}


def _end(name: str, flows: Flows, command: Publish, result: str) -> dict[str, Any]:
    """What comes of a command, or of the dead letter that it became."""
    headers = dict(command.headers)
    if "edo-reason" in headers:
        why = b": ".join(headers[key] or b"" for key in ("edo-reason", "edo-detail")).decode()
        letter = {"topic": command.topic}
        return {"result": "dead-letter", "why": why, "deadLetter": letter}
    action = _action(flows.flows[name], command)
    return {
        "result": "dead-letter" if "error" in action else result,
        "why": action.get("error"),
        "command": _command(command),
        "action": action,
    }


def _command(written: Publish) -> dict[str, Any]:
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in written.headers}
    return {
        "id": headers["ce_id"],
        "topic": written.topic,
        "partition": written.partition,
        "key": (written.key or b"").decode("utf-8", "replace"),
        "headers": headers,
        "data": _readable(written.value),
    }


def _action(flow: Flow, written: Publish) -> dict[str, Any]:
    record = StoredRecord(
        written.topic,
        written.partition,
        0,
        written.timestamp_ms,
        written.key,
        written.value,
        tuple(written.headers),
    )
    command = parse_command(record, flow.policy.flow)
    assert isinstance(command, Command), "a trigger writes commands that can be read"
    action = flow.declaration.action
    try:
        return rendered(action, command)
    except UnfilledError as error:
        return {"kind": action.kind, "error": f"template: {error}"}


def _readable(value: bytes | None) -> Any:
    try:
        return None if value is None else msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return (value or b"").decode("utf-8", "replace")


def _topic(name: str, topics: list[str], wanted: str | None, content: bytes) -> str:
    if not topics:
        raise CommandError(
            f"{name} wants no events: it is draining, gathers, or is a step of a saga", 2
        )
    if wanted is not None:
        if wanted not in topics:
            near = nearest(wanted, topics)
            raise CommandError(f"{name} is not on {wanted}: {near}", 2)
        return wanted
    document = _readable(content)
    said = document.get("type") if isinstance(document, Mapping) else None
    if said in topics:
        return str(said)
    if len(topics) == 1:
        return topics[0]
    raise CommandError(f"which topic is it of? say --topic, one of {', '.join(topics)}", 2)


def _record(registry: Registry, topic: str, content: bytes, key: str | None) -> Record | Violation:
    """The record of an event as a producer would write it; of other codecs, the file as it is."""
    outgoing = import_module("edo_stream.outgoing")
    entry = registry.entries[topic]
    sources = (one.source for one in entry.declaration.producers if one.source is not None)
    source = next(sources, _SOURCE)
    try:
        document = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the event is not JSON: {error}", 2) from error
    try:
        writer = outgoing.Writer(entry, source)
    except outgoing.NotProducedError:
        bare = None if key is None else key.encode()
        return StoredRecord(topic, 0, 0, now_ms(), bare, content)
    data, told = split_event(document)
    told |= {} if key is None else {"key": key}
    told.setdefault("id", outgoing.repeatable_id(topic, source, data, 1))
    try:
        made = writer.record(data, outgoing.Envelope(**told))
    except outgoing.ContractError as error:
        found: Violation = error.violation
        return found
    except outgoing.NotProducedError as error:
        raise CommandError(str(error), 2) from error
    return StoredRecord(
        topic, made.partition, 0, made.timestamp_ms, made.key, made.value, tuple(made.headers)
    )


def _show(told: dict[str, Any]) -> None:
    console = screen()
    results = {
        "command": "is a command",
        "lookup": "looks up what is not known here",
        "input": "is an input, of what the flow waits for",
        "cancels": "is no command, and cancels others",
        "no-match": "does not trigger it",
        "dead-letter": "is a dead letter",
        "no-event": "is no event",
    }
    result = results[told["result"]]
    if "input" in told:
        result = f"is the input {told['input']}, of what the flow waits for"
    console.print(f"{told['flow']}: the event {result}", markup=False)
    if told.get("why"):
        console.print(f"  {told['why']}", markup=False, highlight=False, soft_wrap=True)
    if (count := told.get("commands", 1)) > 1:
        console.print(f"  {count} commands, of which this is the first", markup=False)
    for one in told.get("cancels", ()):
        text = f"  cancels what has not ended of its commands whose {one['by']} is {one['value']}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    table = Table(show_header=False)
    for part in ("wait", "command", "action"):
        for name, value in told.get(part, {}).items():
            if name == "headers" and part == "command":
                continue
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            table.add_row(f"{part}.{name}", Text(text[:_TEXT_MAX]))
    if table.row_count:
        console.print(table)
