"""`edo audit`: prove from the topics that every record has exactly one fate."""

import asyncio
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

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
    for flow, count in sorted(report.not_declared.items()):
        console.print(
            f"{count:,} events or retries of flow {flow}, which is not declared now: what they led "
            "to is not judged; to have it judged, put the flow's file back and run edo audit",
            markup=False,
        )
    if report.foreign:
        console.print(f"{report.foreign:,} results and dead letters of others left out")
    console.print("all adds up" if report.is_clean else "does NOT add up")


#: Columns that are there even when nothing is in them.
_ALWAYS = frozenset(
    {"emitted", "duplicate", "held", "skipped", "dead_lettered", "pending", "unaccounted"}
)


def report_table(report: Report) -> Table:
    """One row a source topic, one column a fate; rare ones only where there are any."""
    shown = ("records", *_columns(Tally, _ALWAYS, report.tallies))
    return _counts("what became of every record", "source topic", shown, report.tallies)


#: Ends that are there even when no command has them.
_ALWAYS_ENDS = frozenset({"done", "failed", "dead_lettered", "waiting", "parked", "pending"})


def commands_table(report: Report) -> Table:
    """One row a flow, one column an end."""
    shown = ("commands", *_columns(Commands, _ALWAYS_ENDS, report.flows))
    return _counts("what became of every command", "flow", shown, report.flows)


#: Where instances may be, even when none is there.
_ALWAYS_STATES = frozenset({"running", "completed", "compensated"})


def sagas_table(report: Report) -> Table:
    """One row a saga, one column for where its instances are."""
    shown = ("instances", *_columns(Instances, _ALWAYS_STATES, report.sagas))
    return _counts("what became of every instance", "saga", shown, report.sagas)


def _columns(kind: type[Any], always: Container[str], counted: Mapping[str, Any]) -> list[str]:
    """Those of a kind's fields that are always shown, or that something is in."""
    return [
        column.name
        for column in fields(kind)
        if column.name in always or any(getattr(one, column.name) for one in counted.values())
    ]


def _counts(title: str, of: str, shown: Sequence[str], counted: Mapping[str, Any]) -> Table:
    """One row for each of what is counted, one column for each attribute shown."""
    table = Table(title=title)
    table.add_column(of, overflow="fold")
    for name in shown:
        table.add_column(name.replace("_", "-"), justify="right", no_wrap=True)
    for row, one in counted.items():
        table.add_row(row, *(f"{getattr(one, name):,}" for name in shown))
    return table
