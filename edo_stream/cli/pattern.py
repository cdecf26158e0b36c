"""`edo pattern`: whether an event is one that a pattern wants."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from edo_stream.cli.environment import CommandError
from edo_stream.core.exact import exact
from edo_stream.core.patterns import Pattern, PatternError, PatternIndex, parse_pattern

app = typer.Typer(no_args_is_help=True, help="Patterns: which events a flow wants.")

_FINDINGS: Final = 1
_USAGE: Final = 2
_DECODER: Final = msgspec.json.Decoder(float_hook=exact)
#: An id comes back as the number that it is.
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


@app.callback()
def pattern() -> None:
    """Patterns: which events a flow wants."""


@app.command()
def match(
    pattern_file: Annotated[
        Path | None, typer.Option("--pattern", help="File of the pattern, JSON.")
    ] = None,
    event_file: Annotated[
        Path, typer.Option("--event", help="File of the event, JSON; - is standard input.")
    ] = Path("-"),
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Read cases from standard input, one a line.")
    ] = False,
) -> None:
    """Hold an event against a pattern: 0 it matches, 1 it does not. With --jsonl: 0, all answered.

    A case is {"id", "pattern", "event"}; the answer is {"id", "match": true or false}, or {"id",
    "error"} for a pattern that says nothing or a line that is no case.
    """
    if jsonl:
        for line in sys.stdin.buffer:
            if line.strip():
                # Flushed, so that a program may ask and wait for the answer.
                sys.stdout.buffer.write(_ENCODER.encode(_answer(line)) + b"\n")
                sys.stdout.buffer.flush()
        return
    if pattern_file is None:
        raise CommandError("--pattern FILE is missing, or --jsonl", _USAGE)
    try:
        wanted = parse_pattern(_read(pattern_file))
    except PatternError as error:
        raise CommandError(f"{pattern_file}: {error}", _USAGE) from error
    if not _matches(wanted, _read(event_file)):
        print("no match")
        raise typer.Exit(_FINDINGS)
    print("match")


def _matches(wanted: Pattern, event: Any) -> bool:
    return bool(PatternIndex([(True, wanted)]).matches(event))


def _read(file: Path) -> Any:
    try:
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return _DECODER.decode(text)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", _USAGE) from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{file}: not JSON: {error}", _USAGE) from error


def _answer(line: bytes) -> dict[str, Any]:
    try:
        case = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        return {"id": None, "error": f"not JSON: {error}"}
    if not isinstance(case, dict):
        return {"id": None, "error": "not a case: write an object with id, pattern and event"}
    case_id = case.get("id")
    for name in ("pattern", "event"):
        if name not in case:
            return {"id": case_id, "error": f"{name} is missing"}
    try:
        # A pattern may come as the text that it has in a rule.
        wanted = case["pattern"]
        if isinstance(wanted, str):
            wanted = _pattern_of(wanted)
        return {"id": case_id, "match": _matches(parse_pattern(wanted), case["event"])}
    except (PatternError, ValueError, RecursionError) as error:
        return {"id": case_id, "error": str(error)}


def _pattern_of(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise PatternError(f"the pattern is not JSON: {error}") from error
