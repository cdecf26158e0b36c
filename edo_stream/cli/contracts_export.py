"""`edo contracts export`: the contracts in the words of other tools."""

import json
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from edo_stream.catalog.export.asyncapi import asyncapi
from edo_stream.catalog.export.avro import NoCounterpartError, avro_of, json_of
from edo_stream.catalog.export.kafka_cli import kafka_cli
from edo_stream.catalog.export.markdown import markdown
from edo_stream.catalog.export.mermaid import mermaid
from edo_stream.catalog.export.shelf import Shelved, shelve
from edo_stream.cli.contracts_read import AsJson, entry_of, load_topics
from edo_stream.cli.environment import CommandError, own_settings
from edo_stream.cli.files import write_file
from edo_stream.flows import load_flows
from edo_stream.flows.dapr import dapr_files
from edo_stream.registry import Registry, RegistryError
from edo_stream.settings import Settings


class Format(Enum):
    """What to write."""

    ASYNCAPI = "asyncapi"
    JSONSCHEMA = "jsonschema"
    AVSC = "avsc"
    MARKDOWN = "markdown"
    MERMAID = "mermaid"
    KAFKA_CLI = "kafka-cli"
    DAPR = "dapr"


def export(
    format: Annotated[Format, typer.Argument(help="What to write.")],
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC]...", help="Default: all.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="A file; for jsonschema and avsc a folder, a file a version; for dapr a folder.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the contracts as AsyncAPI 3.0, JSON Schema, Avro, Markdown, Mermaid, script or Dapr.

    jsonschema and avsc of one version are the schema itself, else an object by topic and version.
    An Avro schema is translated for jsonschema and a JSON Schema for avsc. The first three are JSON
    as they are; --json wraps the others into an object. dapr is what Dapr needs to serve the
    events and what flows call: component, subscriptions and resiliency, as YAML; --json lists them.

    Exit codes: 0 written, 1 a schema has no counterpart in the format, 2 mistakes in contracts.
    """
    registry = load_topics()
    names = [entry_of(registry, name).name for name in topics or ()]
    shelved = shelve(registry, names)
    if format in (Format.JSONSCHEMA, Format.AVSC):
        _write_schemas(shelved, format, out)
        return
    if format is Format.DAPR:
        _write_dapr(shelved, registry, out, as_json)
        return
    text = _WRITERS[format](shelved, registry, own_settings())
    if as_json and format is not Format.ASYNCAPI:
        text = _json({"format": format.value, "text": text})
    if out is None:
        print(text, end="")
        return
    write_file(out, text)


def _write_dapr(
    shelved: list[Shelved], registry: Registry, out: Path | None, as_json: bool
) -> None:
    settings = own_settings()
    try:
        flows = load_flows(settings.flows_folder, registry)
    except RegistryError as error:
        raise CommandError(str(error), 2) from error
    declarations = [one.declaration for one in shelved]
    files = dapr_files(declarations, flows, _access(settings))
    if out is not None:
        for name, resources in files.items():
            write_file(out / name, _yaml(resources))
        return
    every = [resource for resources in files.values() for resource in resources]
    print(_json(every) if as_json else _yaml(every), end="")


def _access(settings: Settings) -> dict[str, str | None]:
    """How the broker is reached; without the password."""
    return {
        "broker": settings.broker,
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_username": settings.sasl_username,
        "tls_ca_file": None if settings.tls_ca_file is None else str(settings.tls_ca_file),
        "tls_cert_file": None if settings.tls_cert_file is None else str(settings.tls_cert_file),
    }


def _yaml(resources: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(resources, sort_keys=False, explicit_start=True, allow_unicode=True)


def _asyncapi(shelved: list[Shelved], registry: Registry, settings: Settings) -> str:
    return _json(asyncapi(shelved, settings.service, settings.broker))


def _kafka_cli(shelved: list[Shelved], registry: Registry, settings: Settings) -> str:
    plan = registry.topic_plan(settings.replication)
    wanted = {one.name for one in shelved}
    if len(wanted) == len(registry.entries):
        return kafka_cli(plan, settings.broker)
    chosen = Registry(
        {name: topic for name, topic in registry.topics.items() if name in wanted},
        {name: entry for name, entry in registry.entries.items() if name in wanted},
    )
    return kafka_cli(chosen.topic_plan(settings.replication), settings.broker)


def _markdown(shelved: list[Shelved], registry: Registry, settings: Settings) -> str:
    return markdown(shelved, settings.service)


def _mermaid(shelved: list[Shelved], registry: Registry, settings: Settings) -> str:
    return mermaid(shelved)


_WRITERS: Mapping[Format, Callable[[list[Shelved], Registry, Settings], str]] = {
    Format.ASYNCAPI: _asyncapi,
    Format.KAFKA_CLI: _kafka_cli,
    Format.MARKDOWN: _markdown,
    Format.MERMAID: _mermaid,
}


def _write_schemas(shelved: list[Shelved], format: Format, out: Path | None) -> None:
    try:
        found = {
            one.name: {
                number: _translated(one, schema, format) for number, schema in one.schemas.items()
            }
            for one in shelved
            if one.schemas
        }
    except NoCounterpartError as error:
        raise CommandError(str(error), 1) from error
    if out is not None:
        suffix = "avsc" if format is Format.AVSC else "schema.json"
        out.mkdir(parents=True, exist_ok=True)
        for topic, versions in found.items():
            for number, schema in versions.items():
                (out / f"{topic}.v{number}.{suffix}").write_text(_json(schema), encoding="utf-8")
        return
    only = [schema for versions in found.values() for schema in versions.values()]
    print(_json(only[0] if len(only) == 1 else found), end="")


def _translated(one: Shelved, schema: Any, format: Format) -> Any:
    if format is Format.AVSC:
        try:
            return schema if one.is_avro else avro_of(schema, one.name)
        except NoCounterpartError as error:
            raise NoCounterpartError(f"{one.name}: {error}") from error
    return json_of(schema, one.name) if one.is_avro else schema


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
