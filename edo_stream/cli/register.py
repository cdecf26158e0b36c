"""`edo contracts register`: our schema versions in a schema registry with Confluent's API."""

import json
from importlib import import_module
from typing import Annotated

import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment
from edo_stream.cli.screen import screen


def register(
    topics: Annotated[
        list[str] | None, typer.Argument(help="Topics; default: all that are wire: confluent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Register all versions of topics' schemas, oldest first; what is there already stays.

    Exit codes: 0 done, 1 the registry refuses a schema, 3 it does not answer.
    """
    ids, remote_module = (
        import_module("edo_stream.schema_ids"),
        import_module("edo_stream.schemas.remote"),
    )
    environment = Environment.read()
    remote = ids.remote_registry(environment.settings)
    if remote is None:
        raise CommandError("EDO_SCHEMA_REGISTRY is not set", 2)
    entries = environment.registry.entries
    unknown = [name for name in topics or [] if name not in entries]
    if unknown:
        raise CommandError(f"{unknown[0]} is not declared", 2)
    chosen = [entries[name] for name in topics] if topics else ids.framed_entries(entries.values())
    found: dict[str, dict[int, int]] = {}
    for entry in chosen:
        if entry.declaration.schema_ is None:
            raise CommandError(f"{entry.name} has no schema", 2)
        try:
            found[entry.name] = ids.register(remote, entry)
        except remote_module.UnreachableError as error:
            raise CommandError(str(error), 3) from error
        except remote_module.RemoteError as error:
            raise CommandError(f"{entry.name}: {error}", 1) from error
    if as_json:
        print(json.dumps(found))
        return
    table = Table("topic", "version", "id")
    for name, versions in found.items():
        for version, schema_id in versions.items():
            table.add_row(name, str(version), str(schema_id))
    screen().print(table)
