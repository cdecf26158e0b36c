"""`edo events request`: a request by hand, and its reply."""

import asyncio
import json
import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.events import read_documents, split_event
from edo_stream.cli.operate import NOT_DONE, UNREACHABLE, USAGE
from edo_stream.flows.replying import name_of, replies_topic
from edo_stream.registry import RegistryError


def request(  # noqa: PLR0913 - options
    topic: Annotated[str, typer.Argument(help="Topic whose contract the request is of.")],
    file: Annotated[str, typer.Argument(help="A JSON document; - is standard input.")],
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds to wait for the reply.")
    ] = 10.0,
    replies: Annotated[
        str | None,
        typer.Option(help="What the flow's replies are named; default: if there is one."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="CloudEvents source of an event that does not say its own.")
    ] = "/edo/request",
    key: Annotated[str | None, typer.Option(help="Default: what the contract says.")] = None,
    version: Annotated[
        int | None, typer.Option(help="Schema version of data alone; default: the newest.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the reply as JSON, with what is around its data.")
    ] = False,
) -> None:
    """Send an event, and wait for the end of the command that it leads to.

    A flow of the topic has to say replies. Its command is not run once the time is over.

    Exit codes: 0 done, and the result is printed; 1 it has ended otherwise, or the event breaks
    its contract; 2 the file or the topic cannot be used; 3 no reply in time, or no broker.
    """
    environment = Environment.read()
    name = replies or _replies_of(environment, topic)
    documents = list(read_documents(file))
    if len(documents) != 1:
        raise CommandError(f"{file}: expected one document, found {len(documents)}", USAGE)
    data, told = split_event(documents[0])
    envelope = {"key": key, "version": version, "source": source} | told
    requester = import_module("edo_stream.requester")
    outgoing = import_module("edo_stream.outgoing")
    try:
        with unreachable(environment.settings.broker):
            # Within, since a time-out is an OSError as well.
            try:
                reply = asyncio.run(_ask(environment, name, topic, data, timeout, envelope))
            except requester.NoReplyError as error:
                raise CommandError(str(error), UNREACHABLE) from error
    except outgoing.ContractError as error:
        raise CommandError(f"{error}\nedo: nothing was written", NOT_DONE) from error
    except (ValueError, RegistryError) as error:
        raise CommandError(str(error), USAGE) from error
    if as_json:
        print(json.dumps(_document(reply)))
    elif reply.is_done:
        sys.stdout.buffer.write((reply.data or b"") + b"\n")
        sys.stdout.flush()
    if not reply.is_done:
        raise CommandError(str(requester.RequestFailedError(reply)), NOT_DONE)


async def _ask(  # noqa: PLR0913 - a request, and where and how long
    environment: Environment,
    replies: str,
    topic: str,
    data: Any,
    timeout_s: float,
    envelope: dict[str, Any],
) -> Any:
    entries = [entry for name, entry in environment.registry.entries.items() if name == topic]
    ids = import_module("edo_stream.schema_ids").schema_ids(environment.settings, entries)
    requester = import_module("edo_stream.requester").Requester(
        envelope.pop("source"),
        replies,
        settings=environment.settings,
        registry=environment.registry,
        schema_ids=ids,
    )
    key = envelope.pop("key")
    async with requester:
        return await requester.request(topic, key, data, timeout=timeout_s, **envelope)


def _replies_of(environment: Environment, topic: str) -> str:
    """The name that the flows of a topic reply by, where there is only one."""
    names = {name_of(one.topic) for one in environment.flows.repliers(topic).values()}
    if len(names) == 1:
        return names.pop()
    if not names:
        message = f"no flow of {topic} replies: write for instance replies: shop into its file"
        raise CommandError(message, USAGE)
    known = ", ".join(replies_topic(name) for name in sorted(names))
    raise CommandError(f"flows of {topic} reply on {known}: say which with --replies", USAGE)


def _document(reply: Any) -> dict[str, Any]:
    try:
        data = reply.json()
    except ValueError:
        data = (reply.data or b"").decode("utf-8", "replace")
    return {
        "flow": reply.flow,
        "end": reply.end,
        "data": data,
        "request": reply.request,
        "correlationId": reply.correlation_id,
        "command": reply.command,
    }
