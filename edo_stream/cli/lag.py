"""`edo lag`: how far the workers are behind, in records and in seconds."""

import asyncio
import json
from collections.abc import Callable, Container, Sequence
from typing import Annotated, Any, Final

import typer
from aiokafka import TopicPartition
from rich.table import Table

from edo_stream.cli.environment import Environment, unreachable
from edo_stream.cli.flow_pause import paused_flows
from edo_stream.cli.screen import screen
from edo_stream.engine.clock import now_ms
from edo_stream.observe.group import GroupReader, GroupState
from edo_stream.observe.lag import PartitionLag, lags
from edo_stream.registry import control_topic

_EVERY_S: Final = 2.0


def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line each time.")] = False,
    window: Annotated[
        float, typer.Option(min=0.5, help="Seconds between the two looks that are compared.")
    ] = 3.0,
) -> None:
    """Show how far each partition is behind: records, and the age of the first unread one.

    Commands of flows are behind until they have ended, or wait for a retry; those of a flow that
    is paused stand still on purpose (PAUSED).

    Exit codes: 0 all is read or being read, 1 something stands still (STOP, STALL, REWIND),
    3 the broker does not answer.
    """
    environment = Environment.read()
    show = _print_json if as_json else _print_table
    with unreachable(environment.settings.broker):
        found = asyncio.run(_run(environment, show, window, watch))
    raise typer.Exit(0 if all(one.pace.is_well for one in found) else 1)


async def _run(
    environment: Environment,
    show: Callable[[Sequence[PartitionLag]], None],
    window_s: float,
    is_watch: bool,
) -> list[PartitionLag]:
    async with reader(environment) as group:
        before = await group.read()
        while True:
            # Without lag there is nothing to compare.
            if is_watch or any(reading.lag for reading in before.readings.values()):
                await asyncio.sleep(_EVERY_S if is_watch else window_s)
            now = await group.read()
            paused = await paused_partitions(environment)
            found = await _lags(group, before, now, paused)
            show(found)
            if not is_watch:
                return found
            before = now


async def _lags(
    group: GroupReader, before: GroupState, now: GroupState, paused: Container[TopicPartition]
) -> list[PartitionLag]:
    return lags(before, now, await group.first_unread_ms(now.readings), now_ms(), paused)


async def paused_partitions(environment: Environment) -> set[TopicPartition]:
    """Partitions of commands of the flows that are paused."""
    flows = environment.flows.flows
    return {
        TopicPartition(flows[name].policy.commands, partition)
        for name, paused in (await paused_flows(environment)).items()
        if name in flows
        for partition in paused.partitions
    }


def reader(environment: Environment) -> GroupReader:
    """Make a reader of the workers' group, over all topics that they read.

    Not over the tiers of flows: what waits there waits on purpose.
    """
    registry, flows = environment.registry, environment.flows
    topics = [*registry.contracts, *(flow.policy.commands for flow in flows.flows.values())]
    topics += (topic for group in flows.sagas.values() for topic in group.topics)
    topics += map(control_topic, (*registry.groups, *flows.groups, *flows.sagas))
    return GroupReader(environment.settings.app_id, topics, environment.access.client())


def _print_json(found: Sequence[PartitionLag]) -> None:
    print(json.dumps([_as_json(one) for one in found]), flush=True)


def _as_json(lag: PartitionLag) -> dict[str, Any]:
    return {
        "topic": lag.topic,
        "partition": lag.partition,
        "committed": lag.committed,
        "end": lag.end,
        "lag": lag.lag,
        "lagMs": lag.lag_ms,
        "status": lag.pace.value,
    }


def _print_table(found: Sequence[PartitionLag]) -> None:
    table = Table("topic", "partition", "committed", "end", "lag", "seconds", "status")
    for name in ("partition", "committed", "end", "lag", "seconds"):
        column = next(column for column in table.columns if column.header == name)
        column.justify, column.no_wrap = "right", True
    table.columns[0].overflow = "fold"
    for one in found:
        table.add_row(
            one.topic,
            str(one.partition),
            "none" if one.committed is None else f"{one.committed:,}",
            f"{one.end:,}",
            f"{one.lag:,}",
            "unknown" if one.lag_ms is None else f"{one.lag_ms / 1000:,.1f}",
            one.pace.value,
        )
    seconds = max((one.lag_ms or 0 for one in found), default=0) / 1000
    table.add_section()
    table.add_row("total", "", "", "", f"{sum(o.lag for o in found):,}", f"{seconds:,.1f}", "")
    screen().print(table)
