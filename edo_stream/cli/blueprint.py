"""`edo blueprint`: the whole installation as one page, and whether a committed one is true."""

import json
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Final

import typer

from edo_stream.blueprint import blueprint as page_of
from edo_stream.cli.environment import CommandError
from edo_stream.cli.files import write_file
from edo_stream.cli.operate import NOT_DONE, USAGE, AsJson
from edo_stream.flows import load_flows
from edo_stream.registry import RegistryError, load
from edo_stream.schedules.folder import load_schedules
from edo_stream.settings import SettingsError, read_settings

_FILE: Final = Path("blueprint.md")


def blueprint(
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; for --check, blueprint.md.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: compare the file with what is true.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write contracts, flows and schedules as one Markdown page with Mermaid diagrams.

    The same files give the same page, byte for byte; no broker is asked.

    Exit codes: 0 written, or still true; 1 the file is stale; 2 mistakes in the files.
    """
    text = _page()
    if check:
        _check(out or _FILE, text, as_json)
        return
    if out is not None:
        write_file(out, text)
    if as_json:
        print(json.dumps({"file": None if out is None else str(out), "text": text}))
    elif out is None:
        print(text, end="")


def _page() -> str:
    try:
        settings = read_settings()
        registry = load(settings.topics)
        flows = load_flows(settings.flows_folder, registry)
        schedules = load_schedules(settings.schedules_folder, registry.entries)
    except (SettingsError, RegistryError) as error:
        raise CommandError(str(error), USAGE) from error
    return page_of(settings.service, registry, flows, schedules)


def _check(file: Path, text: str, as_json: bool) -> None:
    try:
        committed = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        committed = None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}", USAGE) from error
    is_stale = committed != text
    difference = "".join(
        unified_diff(
            (committed or "").splitlines(keepends=True),
            text.splitlines(keepends=True),
            str(file),
            "what is true",
        )
    )
    if as_json:
        print(json.dumps({"file": str(file), "isStale": is_stale, "difference": difference}))
    elif not is_stale:
        print(f"{file} is true")
    elif committed is None:
        print(f"{file} is not there: write it by 'edo blueprint --out {file}'")
    else:
        print(difference, end="")
        print(f"{file} is stale: write it anew by 'edo blueprint --out {file}'")
    if is_stale:
        raise typer.Exit(NOT_DONE)
