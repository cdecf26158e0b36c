"""`edo webhook`: whether a request would be believed, and if not, why."""

import base64
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.request import urlopen

import msgspec
import orjson
import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError
from edo_stream.cli.screen import screen
from edo_stream.gateway.secrets import SecretUnreadError, is_reference, read_secret
from edo_stream.registry.quantity import duration_ms
from edo_stream.webhooks.options import MEANINGFUL, Options

app = typer.Typer(no_args_is_help=True, help="Webhooks: verify a request as the gateway does.")

_FETCH_TIMEOUT_S: Final = 5.0
_DOCUMENT_BYTES_MAX: Final = 1 << 20


@app.callback()
def webhook() -> None:
    """Webhooks: verify a request as the gateway does."""


@app.command()
def schemes() -> None:
    """List the schemes and the options of each."""
    table = Table("scheme", "options")
    for name, options in MEANINGFUL.items():
        table.add_row(name, ", ".join(sorted(options)))
    screen().print(table)


@app.command()
def verify(  # noqa: PLR0913 - options of a command
    scheme: Annotated[str, typer.Argument(help="Scheme; `edo webhook schemes` lists them.")],
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Read requests from standard input, one a line.")
    ] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option(help="Secret, or where it is: env:NAME, file:PATH. May be given again."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="Header line, 'Name: value'.")
    ] = None,
    body: Annotated[Path, typer.Option(help="File of the body; - is standard input.")] = Path("-"),
    query: Annotated[str, typer.Option(help="Query of the address, without ?.")] = "",
    now: Annotated[
        str | None, typer.Option(help="Time to judge by: epoch s or ms, or ISO 8601.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Option of the scheme, NAME=VALUE, such as header=X."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify a request: 0 accepted, 1 rejected. With --jsonl: 0 when every line has its answer.

    A line is {"id", "secrets", "headers", "body", "now"}; its body is text or {"base64": …}, its
    time epoch seconds or ms. The answer is {"id", "accepted": true, …}, {"id", "accepted": false,
    "cause", "detail"}, or {"id", "error"} for a line that cannot be read.
    """
    try:
        options = _options(option or [])
        _probe().check(scheme, options)
        at_ms = _now_ms(now)
    except ValueError as error:
        raise CommandError(str(error), 2) from error
    if jsonl:
        _answer_lines(scheme, options, at_ms)
        return
    asked = {
        "secrets": [_resolved(one) for one in secret or []],
        "headers": [_header(line) for line in header or []],
        "query": query,
    }
    told = _judged(asked, _read(body), scheme, options, at_ms)
    if as_json:
        print(orjson.dumps(told).decode())
    elif told["accepted"]:
        print(
            "accepted" + "".join(f", {name} {told[name]}" for name in ("event_id",) if name in told)
        )
    else:
        print(f"rejected: {told['cause']}: {told['detail']}")
    if not told["accepted"]:
        raise typer.Exit(1)


def _probe() -> Any:
    """The schemes; loaded when used, as no other command needs what they need."""
    return import_module("edo_stream.webhooks.probe")


def _answer_lines(scheme: str, options: Options, now_ms: int) -> None:
    for line in sys.stdin.buffer:
        if line.strip():
            told = _probe().answer(line, scheme, options, now_ms, _fetch)
            # Flushed, so that a program may ask and wait for the answer.
            print(orjson.dumps(told).decode(), flush=True)


def _judged(
    asked: dict[str, Any], body: bytes, scheme: str, options: Options, now_ms: int
) -> dict[str, Any]:
    asked["body"] = {"base64": base64.b64encode(body).decode()}
    try:
        line = orjson.dumps(asked)
    except TypeError as error:
        raise CommandError(f"a secret or header is not UTF-8: {error}", 2) from error
    told: dict[str, Any] = _probe().answer(line, scheme, options, now_ms, _fetch)
    if "error" in told:
        raise CommandError(told["error"], 2)
    del told["id"]
    return told


def _options(given: Iterable[str]) -> Options:
    found: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not separator:
            raise ValueError(f"{text[:60]!r} is not an option: write NAME=VALUE")
        if name == "window":
            found["window_ms"] = duration_ms(value)
        elif name == "topic_arns":
            found[name] = value.split(",")
        else:
            found[name] = value
    try:
        return msgspec.convert(found, Options, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(Options.__struct_fields__)
        raise ValueError(f"option: {error}; known are {known}") from None


def _now_ms(text: str | None) -> int:
    return time.time_ns() // 1_000_000 if text is None else _probe().time_ms(text)


def _resolved(secret: str) -> str:
    if not is_reference(secret):
        return secret
    try:
        return read_secret(secret)[0]
    except SecretUnreadError as error:
        raise CommandError(str(error), 2) from error


def _header(line: str) -> tuple[str, str]:
    name, separator, value = line.partition(":")
    if not separator or not name.strip():
        raise CommandError(f"{line[:60]!r} is not a header: write 'Name: value'", 2)
    return name.strip(), value.strip()


def _read(body: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(body) == "-" else body.read_bytes()
    except OSError as error:
        raise CommandError(f"{body} cannot be read: {error.strerror}", 2) from error


@lru_cache(maxsize=64)
def _fetch(url: str) -> str:
    """Get a certificate or key set; the scheme has checked whose address it is."""
    with urlopen(url, timeout=_FETCH_TIMEOUT_S) as found:  # noqa: S310 - https, checked
        return str(found.read(_DOCUMENT_BYTES_MAX).decode("utf-8", "replace"))
