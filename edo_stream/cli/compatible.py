"""`edo contracts compatible`: whether a new version of a schema may follow the old ones."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError
from edo_stream.cli.screen import screen
from edo_stream.schemas.errors import SchemaError

_USAGE = 2


def compatible(
    schemas: Annotated[
        list[Path] | None,
        typer.Argument(help="OLD NEW: files of schemas. Several old ones, oldest first."),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="BACKWARD, FORWARD or FULL, …_TRANSITIVE, NONE.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="json or avro; by default *.avsc is avro.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Read pairs from standard input, one a line.")
    ] = False,
) -> None:
    """Compare schemas: 0 compatible, 1 not. With --jsonl: 0 when every line has its answer.

    A line is {"id", "format": "json" or "avro", "mode", "old", "new"}; in a transitive mode old is
    a list of schemas. The answer is {"id", "compatible", "breaks": […]}, or {"id", "error"}.
    """
    if jsonl:
        for line in sys.stdin.buffer:
            if line.strip():
                # Flushed, so that a program may ask and wait for the answer.
                print(json.dumps(_answer(line)), flush=True)
        return
    if schemas is None or len(schemas) < _USAGE or mode is None:
        raise CommandError("write --mode MODE OLD NEW, or --jsonl", _USAGE)
    *old, new = schemas
    question = {
        "format": format or ("avro" if new.suffix == ".avsc" else "json"),
        "mode": mode,
        "old": [_read(file) for file in old]
        if mode.upper().endswith("_TRANSITIVE")
        else _read(old[-1]),
        "new": _read(new),
    }
    try:
        breaks = _breaks(question)
    except (SchemaError, ValueError) as error:
        raise CommandError(str(error), _USAGE) from error
    if as_json:
        print(json.dumps({"compatible": not breaks, "breaks": breaks}))
    else:
        _show(breaks, mode.upper())
    raise typer.Exit(1 if breaks else 0)


def _answer(line: bytes) -> dict[str, Any]:
    """The answer to one line, whatever it is."""
    identity: Any = None
    try:
        question = json.loads(line)
        if not isinstance(question, dict):
            raise ValueError("not an object")
        identity = question.get("id")
        breaks = _breaks(question)
    except RecursionError:
        return {"id": identity, "error": "nested too deeply"}
    except Exception as error:  # noqa: BLE001 - one bad line must not end the others
        return {"id": identity, "error": f"{error}" or type(error).__name__}
    return {"id": identity, "compatible": not breaks, "breaks": breaks}


def _breaks(question: dict[str, Any]) -> list[dict[str, Any]]:
    rules = import_module("edo_stream.schemas.compatibility")
    for name in ("format", "mode", "old", "new"):
        if name not in question:
            raise ValueError(f"{name} is missing")
    given = str(question["format"]).lower(), str(question["mode"]).upper()
    if given[0] not in [member.value for member in rules.SchemaFormat]:
        raise ValueError(f"format is {question['format']}: write json or avro")
    if given[1] not in [member.value for member in rules.Mode]:
        modes = ", ".join(member.value for member in rules.Mode)
        raise ValueError(f"mode is {question['mode']}: write one of {modes}")
    found = rules.compatible(
        rules.SchemaFormat(given[0]), rules.Mode(given[1]), question["old"], question["new"]
    )
    return [item.as_json() for item in found]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: {error}", _USAGE) from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{file}: not JSON: {error}", _USAGE) from error


def _show(breaks: list[dict[str, Any]], mode: str) -> None:
    if not breaks:
        print(f"compatible ({mode})")
        return
    table = Table("direction", "place", "rule", "what breaks")
    for item in breaks:
        place = item["pointer"] or "/"
        if "against" in item:
            place += f" (old schema {item['against'] + 1})"
        table.add_row(item["direction"], place, item["rule"], item["message"])
    screen().print(table)
    print(f"not compatible ({mode}): {len(breaks)} {'break' if len(breaks) == 1 else 'breaks'}")
