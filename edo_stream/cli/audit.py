"""`edo audit`: prove from the topics that every record has exactly one fate."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated

import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.screen import screen
from edo_stream.flows.saga import sagas_of
from edo_stream.observe.audit.reader import AuditSpec, Progress, UndecidedError, audit_topics
from edo_stream.observe.audit.report import Commands, Instances, Report, Tally
from edo_stream.registry import control_topic
from edo_stream.registry.plan import ACCOUNTS


def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    findings_max: Annotated[
        int, typer.Option("--findings", min=0, help="Findings to show; all are counted.")
    ] = 100,
) -> None:
    """Prove from the topics that every record that was read has exactly one fate.

    And that every command of a flow has exactly one end, through all of its retries; that every
    event that a flow waited with is in one result, or none; and that every instance of a saga has
    one end, or none yet, and each of its commands.

    Exit codes: 0 all adds up, 1 it does not, 3 the broker or a transaction is stuck.
    """
    environment = Environment.read()
    spec = spec_of(environment, findings_max)
    with (
        unreachable(environment.settings.broker),
        screen(is_stderr=True).status(f"audit of {spec.app}") as status,
    ):
        broker = environment.access.client()
        try:
            report = asyncio.run(audit_topics(spec, broker, _teller(status.update)))
        except UndecidedError as error:
            raise CommandError(str(error), 3) from error
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        _show(report)
    raise typer.Exit(0 if report.is_clean else 1)


def spec_of(environment: Environment, findings_max: int = 100) -> AuditSpec:
    """What there is to audit of an installation."""
    registry, flows = environment.registry, environment.flows
    tasks = (registry.groups, flows.groups, flows.sagas, flows.join_groups, flows.lookup_groups)
    sagas = tuple(sagas_of(flows.sagas).values())
    told = (saga.topics for saga in sagas)
    ways = [topic for one in told for topic in (one.starts, one.outcomes, one.dead_letters)]
    ways += [group.topic for group in flows.lookup_groups.values()]
    return AuditSpec(
        app=environment.settings.app_id,
        contracts=tuple(registry.contracts.values()),
        control_topics=tuple(control_topic(name) for names in tasks for name in names),
        accounts_topic=ACCOUNTS,
        findings_max=findings_max,
        groups=tuple(flows.groups.values()),
        joins=tuple(flows.join_groups.values()),
        accounted=tuple(ways),
        sagas=sagas,
    )


def _teller(update: Callable[[str], None]) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        update(f"{progress.what}: {progress.done:,} of {progress.total:,}")

    return tell


def _show(report: Report) -> None:
    console = screen()
    console.print(report_table(report))
    if report.flows:
        console.print(commands_table(report))
    if report.sagas:
        console.print(sagas_table(report))
    for finding in report.findings:
        console.print(str(finding), style="red", markup=False)
    for problem, count in report.counts.items():
        console.print(f"{count:,} offsets: {problem.value}", markup=False)
    if report.foreign:
        console.print(f"{report.foreign:,} results and dead letters of others left out")
    console.print("all adds up" if report.is_clean else "does NOT add up")


#: Columns that are there even when nothing is in them.
_ALWAYS = frozenset(
    {"emitted", "duplicate", "held", "skipped", "dead_lettered", "pending", "unaccounted"}
)


def report_table(report: Report) -> Table:
    """One row a source topic, one column a fate; rare ones only where there are any."""
    names = [
        column.name
        for column in fields(Tally)
        if column.name in _ALWAYS
        or any(getattr(tally, column.name) for tally in report.tallies.values())
    ]
    table = Table(title="what became of every record")
    table.add_column("source topic", overflow="fold")
    for name in ("records", *names):
        table.add_column(name.replace("_", "-"), justify="right", no_wrap=True)
    for topic, tally in report.tallies.items():
        table.add_row(topic, *(f"{getattr(tally, name):,}" for name in ("records", *names)))
    return table


#: Ends that are there even when no command has them.
_ALWAYS_ENDS = frozenset({"done", "failed", "dead_lettered", "waiting", "parked", "pending"})


def commands_table(report: Report) -> Table:
    """One row a flow, one column an end."""
    names = [
        column.name
        for column in fields(Commands)
        if column.name in _ALWAYS_ENDS
        or any(getattr(flow, column.name) for flow in report.flows.values())
    ]
    table = Table(title="what became of every command")
    table.add_column("flow", overflow="fold")
    for name in ("commands", *names):
        table.add_column(name.replace("_", "-"), justify="right", no_wrap=True)
    for flow, commands in report.flows.items():
        table.add_row(flow, *(f"{getattr(commands, name):,}" for name in ("commands", *names)))
    return table


#: Where instances may be, even when none is there.
_ALWAYS_STATES = frozenset({"running", "completed", "compensated"})


def sagas_table(report: Report) -> Table:
    """One row a saga, one column for where its instances are."""
    names = [
        column.name
        for column in fields(Instances)
        if column.name in _ALWAYS_STATES
        or any(getattr(saga, column.name) for saga in report.sagas.values())
    ]
    table = Table(title="what became of every instance")
    table.add_column("saga", overflow="fold")
    for name in ("instances", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for saga, found in report.sagas.items():
        table.add_row(saga, *(f"{getattr(found, name):,}" for name in ("instances", *names)))
    return table
