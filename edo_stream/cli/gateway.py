"""`edo gateway`: receive webhooks, write them to Kafka, acknowledge them."""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edo_stream.cli.environment import CommandError
from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.security import AccessError, broker_access
from edo_stream.flows import NO_FLOWS, commands_topic, load_flows
from edo_stream.observe.log_format import JsonFormatter
from edo_stream.registry import RegistryError, load
from edo_stream.settings import Settings, SettingsError, read_settings

_REJECTED_PARTITIONS = 1
_RETENTION_MS = 14 * 86_400_000


def gateway(
    config: Annotated[Path, typer.Option(help="What to receive.")] = Path("gateway.yaml"),
    listen: Annotated[str | None, typer.Option(help="Address, instead of the file's.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the file and its secrets, and stop.")
    ] = False,
) -> None:
    """Receive webhooks over HTTP, and acknowledge them when Kafka has their events."""
    declared = _read(config, listen)
    if check:
        print(f"{config}: {len(declared.sources)} sources")
        return
    try:
        settings = read_settings()
        access = broker_access(settings)
        bounds = _bounds(declared, settings)
    except (SettingsError, RegistryError, AccessError) as error:
        raise CommandError(str(error), 2) from error
    _set_up_logging(settings)
    # Here, as no other command needs what these need.
    import uvloop  # noqa: PLC0415

    from edo_stream.gateway import access as own_access  # noqa: PLC0415
    from edo_stream.gateway import process  # noqa: PLC0415

    async def run() -> bool:
        prepared = asyncio.create_task(_prepare(declared.rejected.topic, access, settings))
        try:
            client = own_access.broker_access(settings)
            return await process.run(declared, os.environ, client, settings.app_id, bounds)
        finally:
            prepared.cancel()
            await asyncio.gather(prepared, return_exceptions=True)

    try:
        is_clean = uvloop.run(run())
    except process.ListenError as error:
        raise CommandError(str(error), 1) from error
    if not is_clean:
        raise CommandError("stopped with requests unanswered", 1)


def _read(config: Path, listen: str | None) -> Any:
    from edo_stream.gateway import config as reading  # noqa: PLC0415
    from edo_stream.gateway import declaration  # noqa: PLC0415

    try:
        declared = reading.read_config(config, os.environ)
        if listen is None:
            return declared
        return declared.model_copy(update={"listen": declaration.address(listen)})
    except (RegistryError, ValueError) as error:
        raise CommandError(str(error), 2) from error


def _bounds(declared: Any, settings: Settings) -> dict[str, Any]:
    """What each source with backpressure watches: its topic, and the commands that it triggers."""
    pressed = {name: one for name, one in declared.sources.items() if one.backpressure is not None}
    if not pressed:
        return {}
    from edo_stream.gateway.backlog import Bound  # noqa: PLC0415

    flows = NO_FLOWS
    if settings.flows_folder.is_dir():
        flows = load_flows(settings.flows_folder, load(settings.topics))
    bounds = {}
    for name, source in pressed.items():
        wanted = source.backpressure
        commands = [trigger.commands for trigger in flows.triggers(source.topic)]
        if wanted.flows is not None:
            if flows is not NO_FLOWS and (unknown := set(wanted.flows) - set(flows.flows)):
                known = ", ".join(flows.flows) or "none"
                names = ", ".join(sorted(unknown))
                raise CommandError(f"sources.{name}: no flow {names}: there are {known}", 2)
            commands = [commands_topic(flow) for flow in wanted.flows]
        topics = (source.topic, *commands)
        bounds[name] = Bound(topics, wanted.lag, wanted.age, wanted.retry_after / 1_000)
    return bounds


def _set_up_logging(settings: Settings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Librdkafka tells of every try to connect; whether it is connected is on /readyz.
    logging.getLogger("edo_stream.gateway.outgoing").setLevel(logging.WARNING)


async def _prepare(topic: str | None, access: Any, settings: Settings) -> None:
    """Create the topic of what is refused, as soon as the broker is there."""
    if topic is None:
        return
    config = {"cleanup.policy": "delete", "retention.ms": str(_RETENTION_MS)}
    wanted = Wanted(
        topic,
        _REJECTED_PARTITIONS,
        settings.replication,
        config,
        is_internal=True,
        why="the gateway",
    )
    while True:
        try:
            async with Admin(access) as admin:
                if topic not in await admin.present([topic]):
                    await admin.create([wanted])
                return
        except Exception as error:  # noqa: BLE001 - it is only a sample; tried again
            logging.getLogger(__name__).warning("topic %s: %s", topic, type(error).__name__)
            await asyncio.sleep(5)
