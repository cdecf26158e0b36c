"""`edo source`: what a source makes of a record, and if nothing, why."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
import yaml
from rich.table import Table

from edo_stream.cli.environment import CommandError
from edo_stream.cli.screen import screen
from edo_stream.core.contract import Contract
from edo_stream.outbox import TABLE, OutboxError, table_sql
from edo_stream.registry import RegistryError
from edo_stream.registry.contracts import contract_of, declaration_of
from edo_stream.registry.document import read as read_document
from edo_stream.sources.kinds import KINDS, Read, reader
from edo_stream.sources.probe import answer, probe_contract
from edo_stream.sources.refused import MappingError

app = typer.Typer(no_args_is_help=True, help="Sources: decode records as a worker does.")

_FINDINGS: Final = 1
_USAGE: Final = 2


@app.callback()
def source() -> None:
    """Sources: decode records as a worker does."""


@app.command()
def kinds() -> None:
    """List the kinds of sources."""
    table = Table("kind", "reads")
    for name, kind in KINDS.items():
        table.add_row(name, kind.summary)
    screen().print(table)


@app.command("outbox-table")
def outbox_table(
    table: Annotated[str, typer.Option(help="<name> or <schema>.<name>.")] = TABLE,
) -> None:
    """Print the SQL (PostgreSQL) that creates an outbox table."""
    try:
        print(table_sql(table), end="")
    except OutboxError as error:
        raise CommandError(str(error), _USAGE) from error


@app.command()
def decode(
    kind: Annotated[str, typer.Argument(help="Kind; `edo source kinds` lists them.")],
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Read records from standard input, one a line.")
    ] = False,
    contract: Annotated[
        Path | None, typer.Option(help="A contract.yaml: its key, order and mapping.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--mapping", "-m", help="NAME=VALUE of the mapping; the value is YAML."),
    ] = None,
) -> None:
    """Decode a record from standard input: 0 events, 1 a violation. With --jsonl: 0, all answered.

    A record is {"id", "topic", "partition", "offset", "timestamp", "headers", "key", "value"}; its
    bytes are text or {"base64": …}. The answer is {"id", "events": […]}, {"id", "violation":
    {"reason", "detail"}}, or {"id", "error"} for a line that is no record.
    """
    read = _reader(kind, contract, _mapping(mapping or []))
    if jsonl:
        for line in sys.stdin.buffer:
            if line.strip():
                # Flushed, so that a program may ask and wait for the answer.
                sys.stdout.buffer.write(answer(line, read) + b"\n")
                sys.stdout.buffer.flush()
        return
    told = answer(sys.stdin.buffer.read(), read)
    sys.stdout.buffer.write(msgspec.json.format(told, indent=2) + b"\n")
    sys.stdout.buffer.flush()
    found = msgspec.json.decode(told, type=dict[str, msgspec.Raw])
    if "error" in found:
        raise typer.Exit(_USAGE)
    if "violation" in found:
        raise typer.Exit(_FINDINGS)


def _reader(kind: str, file: Path | None, mapping: dict[str, Any]) -> Read:
    found = KINDS.get(kind)
    if found is None:
        raise CommandError(f"{kind} is not a kind of source: there are {', '.join(KINDS)}", _USAGE)
    try:
        return reader(
            found, probe_contract(kind, mapping) if file is None else _declared(file, kind, mapping)
        )
    except MappingError as error:
        raise CommandError(str(error), _USAGE) from error


def _declared(file: Path, kind: str, mapping: dict[str, Any]) -> Contract:
    document = read_document(file)
    declaration = declaration_of(document)
    if declaration is None:
        raise CommandError(str(RegistryError(document.findings)), _USAGE)
    contract = contract_of(declaration)
    if contract.codec.value != kind:
        raise CommandError(
            f"{file} says codec: {contract.codec.value}, not {kind}: decode that", _USAGE
        )
    if mapping:
        raise CommandError("--mapping beside --contract: write it into the contract", _USAGE)
    return contract


def _mapping(given: list[str]) -> dict[str, Any]:
    found = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise CommandError(f"{text[:60]!r} is no part of a mapping: write NAME=VALUE", _USAGE)
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise CommandError(f"--mapping {name}: the value is not YAML", _USAGE) from None
    return found
