"""`edo status`: who works on what, how far it is, and what has stopped."""

import asyncio
import json
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import typer
from aiokafka import TopicPartition
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.flow_pause import pause_text, paused_flows
from edo_stream.cli.lag import reader
from edo_stream.cli.screen import screen
from edo_stream.observe.group import GroupState
from edo_stream.observe.paused import PausedFlow

_TIMEOUT_S: Final = 5.0
_USAGE: Final = 2
_UNREACHABLE: Final = 3

Workers = dict[str, Mapping[str, Any]]


def status(
    worker: Annotated[
        list[str] | None,
        typer.Option(help="Address of a worker, http://host:port; again for another."),
    ] = None,
    lag_max: Annotated[
        int | None, typer.Option(min=0, help="More records to read than this are too many.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the members of the group, its offsets, and how the tasks of workers stand.

    Without --worker the one of EDO_WEB_BIND and EDO_WEB_PORT is asked, if it runs.

    Exit codes: 0 all is well; 1 nobody works, a task has stopped or is stuck, a standby has
    failed, dead letters are overdue, or there is more to read than --lag-max, commands of paused
    flows not counted; 3 the broker, or a
    worker that was named, does not answer.
    """
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        group, paused = asyncio.run(_read(environment))
    workers = _workers(environment, worker)
    findings = [*_of_group(_without(group, environment, paused), lag_max), *_of_workers(workers)]
    if as_json:
        told = _as_json(environment, group, workers, findings)
        print(json.dumps({**told, "paused": msgspec.to_builtins(paused)}))
    else:
        for name, pause in paused.items():
            screen().print(f"flow {name} is PAUSED {pause_text(pause)}", markup=False)
        _show(environment, group, workers, findings)
    raise typer.Exit(1 if findings else 0)


async def _read(environment: Environment) -> tuple[GroupState, dict[str, PausedFlow]]:
    async with reader(environment) as group:
        return await group.read(), await paused_flows(environment)


def _without(
    group: GroupState, environment: Environment, paused: Mapping[str, PausedFlow]
) -> GroupState:
    """The group without the commands that are to wait."""
    flows = environment.flows.flows
    waiting = {flows[name].policy.commands for name in paused if name in flows}
    readings = {place: one for place, one in group.readings.items() if place.topic not in waiting}
    return GroupState(group.state, group.members, readings)


def _workers(environment: Environment, named: Sequence[str] | None) -> Workers:
    """What workers say of themselves, by address."""
    settings = environment.settings
    if named:
        workers = {address: _ask(address) for address in named}
        for address, worker in workers.items():
            if (app := worker.get("app")) != settings.app_id:
                said = f"{address} is a worker of {app}, not of {settings.app_id} (EDO_SERVICE)"
                raise CommandError(said, _USAGE)
        return workers
    address = f"http://{settings.web_bind}:{settings.web_port}"
    try:
        worker = _ask(address)
    except CommandError:
        return {}
    return {address: worker} if worker.get("app") == settings.app_id else {}


def _ask(address: str) -> Mapping[str, Any]:
    if urlsplit(address).scheme not in {"http", "https"}:
        raise CommandError(f"--worker {address}: write http://host:port", _USAGE)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address.rstrip('/')}/status", timeout=_TIMEOUT_S) as answer:
            told: Mapping[str, Any] = json.load(answer)
            return told
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CommandError(f"no answer from {address}: {reason}", _UNREACHABLE) from error


def _of_group(group: GroupState, lag_max: int | None) -> list[str]:
    findings = []
    if not group.members:
        findings.append("nobody works: the group has no members")
    total = sum(reading.lag for reading in group.readings.values())
    if lag_max is not None and total > lag_max:
        findings.append(f"{total:,} records to read, at most {lag_max:,} are wanted")
    return findings


def _of_workers(workers: Workers) -> list[str]:
    findings = []
    for address, told in workers.items():
        findings += [f"{address}: {reason}" for reason in told["stuck"]]
        findings += [
            f"{address}: task {task['group']}-{task['partition']} has stopped: {task['refusal']}"
            for task in told["tasks"]
            if task["refusal"] is not None
        ]
        findings += [
            f"{address}: standby {standby['group']}-{standby['partition']} has failed: see the "
            "worker's log"
            for standby in _standbys_of(told)
            if standby["phase"] == "failed"
        ]
        findings += [
            f"{one['overdue']:,} dead letters of {one['owner']} are overdue: see edo dlq list"
            for one in told.get("letters") or ()
            if one["overdue"]
        ]
    return findings


def _as_json(
    environment: Environment, group: GroupState, workers: Workers, findings: Sequence[str]
) -> dict[str, Any]:
    return {
        "group": environment.settings.app_id,
        "state": group.state,
        "members": [
            {
                "clientId": member.client_id,
                "host": member.host,
                "partitions": [list(partition) for partition in member.partitions],
            }
            for member in group.members
        ],
        "partitions": [
            {
                "topic": partition.topic,
                "partition": partition.partition,
                "committed": reading.committed,
                "end": reading.end,
                "lag": reading.lag,
            }
            for partition, reading in group.readings.items()
        ],
        "workers": workers,
        "findings": list(findings),
    }


def _show(
    environment: Environment, group: GroupState, workers: Workers, findings: Sequence[str]
) -> None:
    console = screen()
    console.print(f"group {environment.settings.app_id}: {group.state}", markup=False)
    console.print(_members(group))
    console.print(_offsets(environment, group))
    if workers:
        console.print(_tasks(workers))
        if any(map(_standbys_of, workers.values())):
            console.print(_standbys(workers))
        if any(told.get("tables") for told in workers.values()):
            console.print(_tables(workers))
        if any(told.get("targets") for told in workers.values()):
            console.print(_flows(workers))
        if any(one["waiting"] for told in workers.values() for one in told.get("letters") or ()):
            console.print(_letters(workers))
    else:
        console.print("no worker was asked for its tasks: name some with --worker", markup=False)
    for finding in findings:
        console.print(finding, style="red", markup=False)
    console.print("something needs attention" if findings else "all is well")


def _members(group: GroupState) -> Table:
    table = Table("member", "host", "partitions")
    for column in table.columns:
        column.overflow = "fold"
    for member in group.members:
        table.add_row(member.client_id, member.host, _in_short(member.partitions))
    return table


def _in_short(partitions: Sequence[TopicPartition]) -> str:
    numbers: dict[str, list[int]] = defaultdict(list)
    for topic, number in partitions:
        numbers[topic].append(number)
    return "\n".join(f"{topic}: {', '.join(map(str, each))}" for topic, each in numbers.items())


def _offsets(environment: Environment, group: GroupState) -> Table:
    contracts, acting = environment.registry.contracts, _groups_of_flows(environment)
    table = Table("group", "topic", "partition", "committed", "end", "lag")
    for column in table.columns[2:]:
        column.justify = "right"
    table.columns[1].overflow = "fold"
    for (topic, number), reading in group.readings.items():
        name = contracts[topic].group if topic in contracts else acting.get(topic)
        name = name or topic.rpartition(".control.")[2]
        committed = "none" if reading.committed is None else f"{reading.committed:,}"
        table.add_row(name, topic, str(number), committed, f"{reading.end:,}", f"{reading.lag:,}")
    return table


def _groups_of_flows(environment: Environment) -> dict[str, str]:
    """Groups of flows by their topics of commands, and of sagas by the topics that they read."""
    flows = environment.flows
    acting = {
        policy.commands: name
        for name, group in flows.groups.items()
        for policy in group.spec.flows.values()
    }
    return acting | {topic: name for name, group in flows.sagas.items() for topic in group.topics}


def _tasks(workers: Workers) -> Table:
    table = Table("worker", "task", "phase", "contracts", "lag", "held", "resets", "restored")
    for column in table.columns[4:]:
        column.justify = "right"
    table.columns[0].overflow = "fold"
    for address, told in workers.items():
        for task in told["tasks"]:
            table.add_row(
                address,
                f"{task['group']}-{task['partition']}",
                task["phase"],
                "\n".join(map(_contract, task["sources"])).strip(),
                f"{sum(source['lagRecords'] or 0 for source in task['sources']):,}",
                f"{sum(source['held'] for source in task['sources']):,}",
                f"{task['resets']:,}",
                f"{task['restoredRecords']:,}",
            )
    return table


def _contract(source: Mapping[str, Any]) -> str:
    """Which contract a source's records are judged by; since when, if it was published."""
    if not source.get("contract"):
        return ""
    since = source.get("contractFrom")
    version = f" v{source['contractVersion']}" if source["contractVersion"] else ""
    published = "" if since is None else f" from {since}"
    return f"{source['topic']}{version} {source['contract'][:8]}{published}"


def _standbys(workers: Workers) -> Table:
    table = Table("worker", "standby", "phase", "lag", "applied")
    for column in table.columns[3:]:
        column.justify = "right"
    table.columns[0].overflow = "fold"
    for address, told in workers.items():
        for standby in _standbys_of(told):
            lag = standby["lagRecords"]
            table.add_row(
                address,
                f"{standby['group']}-{standby['partition']}",
                standby["phase"],
                "unknown" if lag is None else f"{lag:,}",
                f"{standby['appliedRecords']:,}",
            )
    return table


def _tables(workers: Workers) -> Table:
    """Global tables of each worker."""
    table = Table("worker", "global table", "state", "rows", "lag", "files")
    for column in table.columns[3:]:
        column.justify = "right"
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for address, told in workers.items():
        for one in told.get("tables", ()):
            lag = one["lagRecords"]
            table.add_row(
                address,
                one["topic"],
                "loaded" if one["isLoaded"] else "being read",
                f"{one['rows']:,}",
                "unknown" if lag is None else f"{lag:,}",
                f"{one['fileBytes']:,} B",
            )
    return table


def _flows(workers: Workers) -> Table:
    """Flows of each worker: what runs, and how late its retries were."""
    table = Table("worker", "flow", "running", "breaker", "retries", "late", "p99", "most")
    for column in (table.columns[2], *table.columns[4:]):
        column.justify = "right"
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for address, told in workers.items():
        late = {one["flow"]: one for one in told.get("retries", ())}
        for target in told.get("targets", ()):
            one = late.get(target["flow"])
            names = ("lateMedianMs", "lateP99Ms", "lateMaxMs")
            table.add_row(
                address,
                target["flow"],
                f"{target['running']:,}",
                "stopped" if target["isStopped"] else target["breaker"],
                "0" if one is None else f"{one['retries']:,}",
                *("" if one is None else f"{one[name]:,} ms" for name in names),
            )
    return table


def _letters(workers: Workers) -> Table:
    """Dead letters that nobody has acknowledged, as the worker that counts them says."""
    table = Table("dead letters of", "waiting", "oldest", "overdue")
    for column in table.columns[1:]:
        column.justify = "right"
    told = {one["owner"]: one for worker in workers.values() for one in worker.get("letters") or ()}
    for owner, one in told.items():
        oldest = f"{one['oldestAgeMs'] / 1000:,.0f} s"
        table.add_row(owner, f"{one['waiting']:,}", oldest, f"{one['overdue']:,}")
    return table


def _standbys_of(told: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """None of a worker of an earlier version, which does not know the word."""
    standbys: Sequence[Mapping[str, Any]] = told.get("standbys", ())
    return standbys
