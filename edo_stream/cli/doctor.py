"""`edo doctor`: whether all that a worker needs is there and right, and if not, what to do."""

import asyncio
import json
import os
import resource
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from aiokafka.errors import KafkaError
from rich.table import Table
from rich.text import Text

from edo_stream.cli.contracts_broker import Broker
from edo_stream.cli.contracts_plan import Action, Step, steps
from edo_stream.cli.environment import CommandError, unreachable
from edo_stream.cli.screen import screen
from edo_stream.core.correlation.spec import JoinSpec
from edo_stream.core.saga.pipeline import VersionRow, unknown_version
from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.admin import Wanted
from edo_stream.engine.checkup import Facts, accepts, ask
from edo_stream.engine.clock import now_ms
from edo_stream.engine.group_topics import state_changelog
from edo_stream.engine.joins import join_topics
from edo_stream.engine.leftovers import leftovers
from edo_stream.engine.lookups import lookup_topics
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.saga_plans import saga_topics
from edo_stream.engine.security import AccessError, BrokerAccess, broker_access
from edo_stream.engine.sharers import Sharer, sharers
from edo_stream.engine.ticks import ticker_topics
from edo_stream.flows import SagaGroup, load_flows
from edo_stream.observe.sagas import read_versions
from edo_stream.observe.waits import read_not_declared
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.schedules.folder import load_schedules
from edo_stream.schema_ids import framed_entries, remote_registry, unregistered
from edo_stream.schemas.remote import RemoteError
from edo_stream.settings import Settings, SettingsError, read_settings

_UNREACHABLE: Final = 3
_SAGAS: Final = "sagas"
_AHEAD_MS: Final = 5_000
_FREE_BYTES_MIN: Final = 1 << 30
_OPEN_FILES_MIN: Final = 4_096
#: APIs that a worker cannot do without, and the first Kafka that has them all.
_APIS: Final = {
    0: "Produce",
    1: "Fetch",
    22: "InitProducerId",
    24: "AddPartitionsToTxn",
    26: "EndTxn",
    28: "TxnOffsetCommit",
}
_FIRST_KAFKA: Final = "2.5"
#: Settings of a topic without which records are lost, refused, or kept for nothing.
_GRAVE: Final = ("cleanup.policy", "max.message.bytes", "min.insync.replicas")


class Verdict(Enum):
    """How one check ended."""

    OK = "ok"
    WARNING = "warning"
    """Works, and somebody may want to know."""
    PROBLEM = "problem"
    """Does not work, or loses something."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    area: str
    verdict: Verdict
    found: str
    advice: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check settings, contracts, disk, registry, broker, topics, clocks and the group of workers.

    Nothing is changed. Exit codes: 0 no problem, 1 problems, 3 the broker is out of reach.
    """
    checks = list(_all())
    if as_json:
        told = [asdict(check) | {"verdict": check.verdict.value} for check in checks]
        print(json.dumps({"ok": not _exit_code(checks), "checks": told}))
    else:
        _show(checks)
    raise typer.Exit(_exit_code(checks))


def _exit_code(checks: list[Check]) -> int:
    verdicts = {check.verdict for check in checks}
    if Verdict.UNREACHABLE in verdicts:
        return _UNREACHABLE
    return 1 if Verdict.PROBLEM in verdicts else 0


def _show(checks: list[Check]) -> None:
    table = Table("area", "", "found", "what to do")
    styles = {Verdict.OK: "green", Verdict.WARNING: "yellow"}
    for column in (table.columns[2], table.columns[3]):
        column.overflow = "fold"
    for check in checks:
        style = styles.get(check.verdict, "red")
        verdict = Text(check.verdict.value, style=style)
        table.add_row(check.area, verdict, Text(check.found), Text(check.advice))
    screen().print(table)
    counts = Counter(check.verdict for check in checks)
    print(", ".join(f"{counts[one]} {one.value}" for one in Verdict if counts[one]))


def _all() -> Iterator[Check]:
    try:
        settings = read_settings()
    except SettingsError as error:
        for problem in error.problems:
            yield Check("settings", Verdict.PROBLEM, problem, "docs/settings.md lists them all")
        return
    yield Check("settings", Verdict.OK, f"service {settings.service}, broker {settings.broker}")
    wanted, groups, joins = list[Wanted](), dict[str, SagaGroup](), dict[str, JoinSpec]()
    yield from _declared(settings, wanted, groups, joins)
    yield from _machine(settings)
    try:
        access = broker_access(settings)
    except AccessError as error:
        yield Check("settings", Verdict.PROBLEM, str(error), "EDO_TLS_… and EDO_SASL_… say which")
        return
    yield from asyncio.run(_broker(settings, access, wanted, groups, joins))


def _declared(
    settings: Settings,
    wanted: list[Wanted],
    groups: dict[str, SagaGroup],
    joins: dict[str, JoinSpec],
) -> Iterator[Check]:
    """Contracts, schedules and flows; ``wanted`` gets their topics, the others their groups."""
    try:
        registry: Registry = load(settings.topics)
        schedules = load_schedules(settings.schedules_folder, registry.entries)
        flows = load_flows(settings.flows_folder, registry)
    except RegistryError as error:
        for finding in error.findings:
            yield Check("contracts", Verdict.PROBLEM, str(finding), "mend the file")
        return
    app, replication = settings.app_id, settings.replication
    wanted += wanted_topics(registry, app, replication)
    if schedules:
        wanted += ticker_topics(app, replication)
    for topics in (act_topics, join_topics, lookup_topics, saga_topics):
        wanted += topics(flows, app, replication)
    groups |= flows.sagas
    joins |= {name: group.spec for name, group in flows.join_groups.items()}
    others = {flow.declaration.group for flow in flows.flows.values()} | set(registry.groups)
    if _SAGAS not in others:
        # Its state stays when its last saga is gone.
        groups.setdefault(_SAGAS, SagaGroup(_SAGAS, 1, {}))
    found = f"{len(registry.entries)} topics declared, {len(registry.topics)} read"
    told = f"{found}, {len(schedules)} schedules, {len({*flows.flows, *flows.joins})} flows"
    yield Check("contracts", Verdict.OK, told)
    yield from _schema_registry(settings, registry)


def _schema_registry(settings: Settings, registry: Registry) -> Iterator[Check]:
    framed = framed_entries(registry.entries.values())
    remote = remote_registry(settings)
    if remote is None:
        for entry in framed:
            found = f"data of {entry.name} names schemas by id, and there is no registry to ask"
            yield Check("registry", Verdict.WARNING, found, "set EDO_SCHEMA_REGISTRY")
        return
    try:
        count = len(remote.subjects())
        missing = [(entry.name, n) for entry in framed for n in unregistered(remote, entry)]
    except RemoteError as error:
        advice = "start it, or mend EDO_SCHEMA_REGISTRY: until then ids are those last known"
        yield Check("registry", Verdict.PROBLEM, str(error), advice)
        return
    yield Check("registry", Verdict.OK, f"{settings.schema_registry} has {count} subjects")
    for name, version in missing:
        found = f"version {version} of {name} is not registered"
        yield Check("registry", Verdict.WARNING, found, f"edo contracts register {name}")


def _machine(settings: Settings) -> Iterator[Check]:
    place = _nearest(settings.data)
    free = shutil.disk_usage(place).free
    if not (place.is_dir() and os.access(place, os.W_OK)):
        advice = "give it to the worker's user, or set EDO_DATA"
        yield Check("disk", Verdict.PROBLEM, f"{place} cannot be written", advice)
    elif free < _FREE_BYTES_MIN:
        advice = "make room: a full disk makes the worker leave"
        yield Check("disk", Verdict.PROBLEM, f"{free >> 20:,} MiB free at {place}", advice)
    else:
        yield Check("disk", Verdict.OK, f"{free >> 30:,} GiB free at {place}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < _OPEN_FILES_MIN:
        advice = f"ulimit -n {_OPEN_FILES_MIN}: each task has connections and files of its own"
        yield Check("open files", Verdict.WARNING, f"at most {limit:,}", advice)


def _nearest(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


async def _broker(
    settings: Settings,
    access: BrokerAccess,
    wanted: list[Wanted],
    groups: Mapping[str, SagaGroup],
    joins: Mapping[str, JoinSpec],
) -> list[Check]:
    checks = await _servers(settings)
    if all(check.verdict is not Verdict.OK for check in checks):
        return [Check(one.area, Verdict.UNREACHABLE, one.found, one.advice) for one in checks]
    names = [topic.name for topic in wanted]
    try:
        with unreachable(settings.broker):
            facts = await ask(access, names, settings.app_id, now_ms() + _AHEAD_MS)
            async with Broker(access) as broker:
                differing = steps(wanted, await broker.seen(names))
            left = await leftovers(access, settings.app_id, names)
            shared = await sharers(access, settings.app_id, names)
            changelogs = {group: state_changelog(settings.app_id, group) for group in groups}
            versions = await read_versions(changelogs, access.client())
            states = {group: state_changelog(settings.app_id, group) for group in joins}
            waiting = await read_not_declared(joins, states, access.client())
    except (CommandError, KafkaError, TimeoutError) as error:
        advice = "see the broker's log; EDO_SECURITY_PROTOCOL must be the one that it speaks"
        return [*checks, Check("broker", Verdict.UNREACHABLE, str(error), advice)]
    internal = {topic.name for topic in wanted if topic.is_internal}
    return [
        *checks,
        *_nodes(facts),
        *_protocol(facts),
        *_limits(settings, facts),
        *_topics(differing, internal, len(names)),
        *_replicas(facts, {topic.name: topic.config for topic in wanted}),
        *_clock(facts),
        *_group(settings, facts),
        *(Check("flows", Verdict.PROBLEM, one.found, one.advice) for one in left),
        *_shared(shared),
        *_waits(waiting),
        *_sagas(versions, groups, changelogs),
    ]


def _shared(others: Sequence[Sharer]) -> Iterator[Check]:
    """Services that take our work, and whose work we take."""
    for other in others:
        more = f" and {len(other.topics) - 1} more" if len(other.topics) > 1 else ""
        yield Check(
            "services",
            Verdict.PROBLEM,
            f"workers of {other.group} read {other.topics[0]}{more} as well: work of one service "
            "is done by both, or is a dead letter of the other",
            "give flows, their groups and the topics that workers read names of their own in each "
            "service, or each service a broker",
        )


def _waits(waiting: Mapping[str, tuple[int, bool]]) -> Iterator[Check]:
    """What waits for flows whose files are gone."""
    for flow, (held, is_owed) in waiting.items():
        what = "1 event waits" if held == 1 else f"{held:,} events wait"
        verdict = Verdict.PROBLEM if is_owed else Verdict.WARNING
        advice = "declare it again, as it was, with draining: true, until nothing waits"
        if not is_owed:
            advice = "declare it again, or leave them: edo waits list shows them"
        yield Check("flows", verdict, f"{what} for flow {flow}, which is not declared", advice)


def _sagas(
    versions: Sequence[tuple[str, bytes, VersionRow]],
    groups: Mapping[str, SagaGroup],
    changelogs: Mapping[str, str],
) -> Iterator[Check]:
    """What would make a worker stop the tasks of sagas, or is left of sagas that are gone."""
    for group, key, row in versions:
        told = unknown_version(key, row, groups[group].sagas)
        if told is None:
            continue
        if groups[group].sagas:
            yield Check("sagas", Verdict.PROBLEM, told.found, told.advice)
        else:
            advice = f"{told.advice}; or, to give them up, delete the topic {changelogs[group]}"
            yield Check("sagas", Verdict.WARNING, told.found, advice)


async def _servers(settings: Settings) -> list[Check]:
    checks = []
    for server in settings.broker.split(","):
        host, _, port = server.strip().rpartition(":")
        if await accepts(host.strip("[]"), int(port)):
            checks.append(Check("broker", Verdict.OK, f"{server.strip()} answers"))
        else:
            advice = "start it, open the way to it, or set EDO_BROKER to where it is"
            found = f"nobody answers at {server.strip()}"
            checks.append(Check("broker", Verdict.WARNING, found, advice))
    return checks


def _nodes(facts: Facts) -> Iterator[Check]:
    away = [node for node in facts.nodes if not node.is_reachable]
    for node in away:
        yield Check(
            "broker",
            Verdict.PROBLEM,
            f"node {node.node} calls itself {node.host}:{node.port}, where nobody answers",
            "start it, or mend advertised.listeners: clients connect to what it says there",
        )
    if not away:
        yield Check("broker", Verdict.OK, f"{len(facts.nodes)} nodes, all answer")


def _protocol(facts: Facts) -> Iterator[Check]:
    missing = [name for api, name in _APIS.items() if facts.apis and api not in facts.apis]
    if missing:
        advice = f"use Kafka {_FIRST_KAFKA} or newer"
        yield Check("protocol", Verdict.PROBLEM, f"no {', '.join(missing)}", advice)
    else:
        yield Check("protocol", Verdict.OK, f"{len(facts.apis)} APIs, transactions among them")


def _limits(settings: Settings, facts: Facts) -> Iterator[Check]:
    """What the broker allows, and what workers ask for."""
    told = facts.settings
    checks = list[Check]()

    def compare(name: str, is_fine: Any, setting: str, advice: str) -> None:
        value = told.get(name, "")
        if value.isdigit() and not is_fine(int(value)):
            asked = getattr(settings, setting)
            found = f"{name} is {value}, and EDO_{setting.upper()} {asked}"
            checks.append(Check("limits", Verdict.PROBLEM, found, advice))

    timeout = settings.transaction_timeout_ms
    session = settings.session_timeout_ms
    compare(
        "transaction.max.timeout.ms",
        lambda most: most >= timeout,
        "transaction_timeout_ms",
        "write a shorter one, or raise the broker's",
    )
    for name, is_fine in (
        ("group.min.session.timeout.ms", lambda least: least <= session),
        ("group.max.session.timeout.ms", lambda most: most >= session),
    ):
        compare(name, is_fine, "session_timeout_ms", "write one that the broker allows")
    if told.get("unclean.leader.election.enable") == "true":
        found = "unclean.leader.election.enable is true"
        advice = "set it to false: a replica that is behind would lose what was acknowledged"
        checks.append(Check("limits", Verdict.PROBLEM, found, advice))
    if told.get("auto.create.topics.enable") == "true":
        found = "auto.create.topics.enable is true"
        advice = "set it to false: a misspelt topic comes into being, with one partition"
        checks.append(Check("limits", Verdict.WARNING, found, advice))
    yield from checks or [Check("limits", Verdict.OK, "the broker allows what workers ask for")]


def _topics(differing: list[Step], internal: set[str], count: int) -> Iterator[Check]:
    for step in differing:
        if step.action is Action.CREATE:
            is_own = step.topic in internal
            verdict = Verdict.WARNING if is_own else Verdict.PROBLEM
            advice = "edo topics apply" + ("; a worker creates it when it starts" if is_own else "")
            yield Check("topics", verdict, f"{step.topic} is missing", advice)
            continue
        is_grave = step.action is not Action.CONFIGURE or any(
            name in step.detail for name in _GRAVE
        )
        is_grave = is_grave and "replicas" not in step.detail.split(",")[0]
        yield Check(
            "topics",
            Verdict.PROBLEM if is_grave else Verdict.WARNING,
            f"{step.topic}: {step.detail}",
            "edo topics plan shows what can be done, edo topics apply does it",
        )
    if not differing and count:
        yield Check("topics", Verdict.OK, f"{count} topics as the contracts want them")


def _replicas(facts: Facts, configs: dict[str, Any]) -> Iterator[Check]:
    advice = "start the brokers that are down, or see why they are behind"
    for one in facts.partitions:
        least = int(configs[one.topic].get("min.insync.replicas", 1))
        name = f"{one.topic}-{one.partition}"
        if one.leader < 0:
            yield Check("replicas", Verdict.PROBLEM, f"{name} has no leader", advice)
        elif one.in_sync < least:
            found = f"{name} has {one.in_sync} replicas in sync and needs {least} to be written"
            yield Check("replicas", Verdict.PROBLEM, found, advice)
        elif one.in_sync < one.replicas:
            found = f"{name} has {one.in_sync} of {one.replicas} replicas in sync"
            yield Check("replicas", Verdict.WARNING, found, advice)


def _clock(facts: Facts) -> Iterator[Check]:
    if facts.ahead:
        found = f"records from the future in {', '.join(facts.ahead[:5])}"
        advice = (
            f"a producer's clock is more than {_AHEAD_MS // 1000} s ahead of this machine's, or "
            "this one's is behind: let NTP set both, or ticks and timers come late or early"
        )
        yield Check("clocks", Verdict.PROBLEM, found, advice)
    else:
        yield Check("clocks", Verdict.OK, "no record is later than this machine's time")


def _group(settings: Settings, facts: Facts) -> Iterator[Check]:
    name = settings.app_id
    if facts.members == 0:
        advice = "start one: faust -A edo_stream.app worker"
        yield Check("workers", Verdict.WARNING, f"no worker is in group {name}", advice)
    elif facts.group == "Stable":
        yield Check("workers", Verdict.OK, f"{facts.members} in group {name}")
    else:
        advice = "partitions are being given out; ask again, and see `edo status` if it stays so"
        yield Check("workers", Verdict.WARNING, f"group {name} is {facts.group}", advice)
