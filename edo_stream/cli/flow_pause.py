"""`edo flow pause` and `resume`: nothing of a flow begins for a while, and nothing is lost."""

import asyncio
from typing import Annotated, Any

import typer

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.flow_read import FlowName, require_flow
from edo_stream.cli.operate import NOT_DONE, Timeout, ask, operator, shown_time
from edo_stream.engine.group_topics import state_changelog
from edo_stream.observe.paused import PausedFlow, read_paused

Reason = Annotated[str, typer.Option("--reason", help="Why, for those who look.")]
By = Annotated[str | None, typer.Option("--by", help="Who; default: the user of this shell.")]

_TOLD_CHARS_MAX = 500


def pause(name: FlowName, reason: Reason = "", by: By = None, timeout: Timeout = 30.0) -> None:
    """Let nothing of a flow begin, on any worker, until `edo flow resume`.

    What runs ends; events go on being commands, which wait in order. Also a restart of all workers
    changes nothing of it.

    Exit codes: 0 paused, 1 refused, 2 there is no such flow, 3 no worker has answered in time.
    """
    for option, text in (("--reason", reason), ("--by", by or "")):
        if len(text) > _TOLD_CHARS_MAX:
            raise CommandError(f"{option}: write at most {_TOLD_CHARS_MAX} characters", 2)
    told = {"by": operator(by), "reason": reason}
    _ask_all(name, {"op": "flow.pause", "flow": name, **told}, timeout)
    print(f"{name}: nothing begins until 'edo flow resume {name}'")


def resume(name: FlowName, timeout: Timeout = 30.0) -> None:
    """Let a flow that was paused go on, with what has waited first.

    Exit codes: 0 it goes on, 1 refused, 2 there is no such flow, 3 no worker has answered in time.
    """
    _ask_all(name, {"op": "flow.resume", "flow": name}, timeout)
    print(f"{name}: goes on")


def _ask_all(name: str, request: dict[str, Any], timeout_s: float) -> None:
    """Have every task of the flow's group keep it."""
    environment = Environment.read()
    require_flow(environment.flows, name)
    flow = environment.flows.flows.get(name)
    if flow is None:
        raise CommandError(f"flow {name} ends in an event and runs nothing: nothing to pause", 2)
    group = environment.flows.groups[flow.declaration.group]

    async def ask_all() -> list[BaseException | None]:
        asked = (
            ask(environment, (group.name, number), b"", request, timeout_s)
            for number in range(group.partitions)
        )
        return await asyncio.gather(*asked, return_exceptions=True)

    with unreachable(environment.settings.broker):
        failures = [one for one in asyncio.run(ask_all()) if one is not None]
        if not failures:
            return
        first = failures[0]
        if not isinstance(first, CommandError):
            raise first
    done = group.partitions - len(failures)
    code = first.code if done == 0 else NOT_DONE
    raise CommandError(
        f"{done} of {group.partitions} partitions of group {group.name} have done it, say it again "
        f"for the others: {first}",
        code,
    )


async def paused_flows(environment: Environment) -> dict[str, PausedFlow]:
    """Read which flows are paused now.

    Raises:
        KafkaError: the broker does not answer.
    """
    app = environment.settings.app_id
    changelogs = {group: state_changelog(app, group) for group in environment.flows.groups}
    if not changelogs:
        return {}
    return await read_paused(changelogs, environment.access.client())


def pause_text(paused: PausedFlow) -> str:
    """A pause in a line, for people."""
    by = f" by {paused.by}" if paused.by else ""
    why = f": {paused.reason}" if paused.reason else ""
    return f"since {shown_time(paused.since_ms)}{by}{why}"
