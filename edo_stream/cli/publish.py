"""`edo contracts publish`: a contract's new version, followed by workers without a restart."""

import asyncio
import json
from typing import Annotated, Any, Final

import typer
from aiokafka import AIOKafkaProducer
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import AsJson, Timeout, ask
from edo_stream.cli.screen import screen
from edo_stream.engine.admin import Admin, PreparationError, Wanted
from edo_stream.registry import Registry, RegistryError, Topic, control_topic
from edo_stream.registry.bundle import BUNDLE_BYTES_MAX, Bundle, bundle_of
from edo_stream.registry.enforced import rules_of
from edo_stream.registry.names import INTERNAL_PREFIX

REGISTRY: Final = f"{INTERNAL_PREFIX}registry"
_USAGE: Final = 2
_AT_ONCE: Final = 8


def publish(
    topics: Annotated[list[str] | None, typer.Argument(help="Topics; default: all.")] = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Publish contracts as they are in the files; each task follows from its next batch on.

    What may change so: schema versions and casts, producers, deprecation, what becomes of
    violations, the version of the results. All else, and a new topic, needs a restart of the
    workers, which then read the files; a task that is told of such a change refuses it.

    Exit codes: 0 every task follows, 1 one refuses, 3 no worker answers (the request stays).
    """
    environment = Environment.read()
    chosen = _chosen(environment.registry, topics)
    bundles = {name: _bundle(topic) for name, topic in chosen.items()}
    followed: dict[str, dict[str, Any]] = {}
    with unreachable(environment.settings.broker):
        asyncio.run(_record(environment, list(bundles.values())))
        for name, bundle in bundles.items():
            told = asyncio.run(_tell(environment, chosen[name], bundle, timeout))
            followed[name] = {"revision": bundle.revision, "version": bundle.version, **told}
    _show(followed, as_json)
    codes = [one["code"] for one in followed.values()]
    raise typer.Exit(max(codes, default=0))


def _chosen(registry: Registry, names: list[str] | None) -> dict[str, Topic]:
    known = dict(registry.topics)
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise CommandError(f"{unknown[0]} is no topic that workers read", _USAGE)
    return {name: known[name] for name in names} if names else known


def _bundle(topic: Topic) -> Bundle:
    """A contract that can be used, and travels in one record."""
    try:
        rules_of(topic.declaration, topic.file)
    except RegistryError as error:
        raise CommandError(str(error), _USAGE) from error
    bundle = bundle_of(topic.declaration, topic.file)
    if len(bundle.value) > BUNDLE_BYTES_MAX:
        size = f"{len(bundle.value):,} bytes, at most {BUNDLE_BYTES_MAX:,}"
        raise CommandError(
            f"{bundle.topic}: its files are too many to be published: {size}", _USAGE
        )
    return bundle


async def _record(environment: Environment, bundles: list[Bundle]) -> None:
    """Keep the contracts on the compacted topic: what was published last, for everyone to read."""
    replication = environment.settings.replication
    config = {"cleanup.policy": "compact"}
    wanted = Wanted(REGISTRY, 1, replication, config, is_internal=True, why="published contracts")
    async with Admin(environment.access) as admin:
        if REGISTRY not in await admin.present([REGISTRY]):
            try:
                await admin.create([wanted])
            except PreparationError as error:
                raise CommandError(str(error), 1) from error
    producer = AIOKafkaProducer(**environment.access.client(enable_idempotence=True, acks="all"))
    await producer.start()
    try:
        for bundle in bundles:
            await producer.send_and_wait(REGISTRY, bundle.value, key=bundle.topic.encode())
    finally:
        await producer.stop()


async def _tell(
    environment: Environment, topic: Topic, bundle: Bundle, timeout_s: float
) -> dict[str, Any]:
    """Ask every task of the topic's group to follow; the tasks that do, and why others do not."""
    group, partitions = topic.contract.group, range(topic.contract.partitions)
    await _require(environment, group)
    request = {
        "op": "contract.apply",
        "topic": bundle.topic,
        "revision": bundle.revision,
        "version": bundle.version,
        "bundle": bundle.value.decode(),
    }
    turn = asyncio.Semaphore(_AT_ONCE)
    refused: dict[int, str] = {}
    codes = [0]

    async def one(partition: int) -> None:
        async with turn:
            try:
                key = bundle.topic.encode()
                await ask(environment, (group, partition), key, request, timeout_s)
            except CommandError as error:
                refused[partition] = str(error)
                codes.append(error.code)

    await asyncio.gather(*map(one, partitions))
    followed = [partition for partition in partitions if partition not in refused]
    return {"followed": followed, "refused": dict(sorted(refused.items())), "code": max(codes)}


async def _require(environment: Environment, group: str) -> None:
    name = control_topic(group)
    async with Admin(environment.access) as admin:
        if name not in await admin.present([name]):
            raise CommandError(
                f"{name} is not there: a new topic needs edo topics apply, and workers that are "
                "started with its contract",
                1,
            )


def _show(followed: dict[str, dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(followed))
        return
    table = Table("topic", "version", "revision", "tasks that follow", "refused")
    for name, told in followed.items():
        reasons = sorted({*told["refused"].values()})
        table.add_row(
            name,
            f"v{told['version']}" if told["version"] else "",
            told["revision"],
            str(len(told["followed"])),
            "\n".join(reasons),
        )
    screen().print(table)
