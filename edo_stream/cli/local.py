"""`edo local`: a real Kafka, PostgreSQL and Debezium on this machine, without Docker or Java."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.table import Table

from edo_stream.local.errors import LocalError
from edo_stream.local.stack import SERVICES, Ports, Stack, State

app = typer.Typer(no_args_is_help=True, help="Run Kafka, PostgreSQL and Debezium on this machine.")

_POLL_S = 0.3
_TAIL_BYTES = 1_000_000

Directory = Annotated[
    Path, typer.Option("--dir", envvar="EDO_LOCAL_DIR", help="Where data and logs are kept.")
]
Cdc = Annotated[bool, typer.Option("--cdc", help="Also PostgreSQL and Debezium.")]
KafkaPort = Annotated[int, typer.Option(min=1, max=65_535)]
PostgresPort = Annotated[int, typer.Option(min=1, max=65_535)]
ConnectPort = Annotated[int, typer.Option(min=1, max=65_535)]
Foreground = Annotated[bool, typer.Option("--foreground", help="Until Ctrl-C.")]
DEFAULT_DIRECTORY = Path("data/local")


@app.command()
def up(  # noqa: PLR0913 - options of a command
    directory: Directory = DEFAULT_DIRECTORY,
    cdc: Cdc = False,
    foreground: Foreground = False,
    kafka_port: KafkaPort = 9092,
    postgres_port: PostgresPort = 15432,
    connect_port: ConnectPort = 8083,
) -> None:
    """Start the services; what already runs stays as it is."""
    stack = Stack(directory)
    ports = Ports(kafka_port, postgres_port, connect_port)
    before = {state.pid for state in stack.states()}
    if foreground:
        _run_until_interrupted(stack, ports, cdc)
        return
    states = stack.up(ports, cdc, _report)
    _print_table(states)
    if all(state.pid in before for state in states):
        print("Already running.")


@app.command()
def down(
    directory: Directory = DEFAULT_DIRECTORY,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the data too.")] = False,
) -> None:
    """Stop the services in order; their data stays."""
    if not Stack(directory).down(wipe, _report):
        print("Nothing was running.")
    if wipe:
        print(f"Deleted the data in {directory}.")


@app.command()
def status(
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the services; exit with 0 when all that was started runs, else with 1."""
    states = Stack(directory).states()
    if as_json:
        print(json.dumps([_plain(state) for state in states], indent=1))
    elif states:
        _print_table(states)
    else:
        print("Nothing was started: edo local up")
    if not states or not all(state.is_running for state in states):
        raise typer.Exit(1)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help=", ".join(SERVICES))] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0)] = 20,
) -> None:
    """Show what the services logged last."""
    if service is not None and service not in SERVICES:
        raise typer.BadParameter(f"{service} is none of {', '.join(SERVICES)}")
    stack = Stack(directory)
    names = SERVICES if service is None else (service,)
    paths = {name: stack.log(name) for name in names if stack.log(name).exists()}
    if not paths:
        raise LocalError(f"no log in {directory}: nothing was started there")
    prefixes = {path: f"{name}: " if len(paths) > 1 else "" for name, path in paths.items()}
    positions = {path: _print_last(path, lines, prefixes[path]) for path in paths.values()}
    while follow:
        time.sleep(_POLL_S)
        for path, position in positions.items():
            positions[path] = _print_from(path, position, prefixes[path])


def _run_until_interrupted(stack: Stack, ports: Ports, with_cdc: bool) -> None:
    # As Ctrl-C, so that a service manager ends us in order too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with stack.foreground(ports, with_cdc, _report) as states:
            _print_table(states)
            print("Ctrl-C stops them.", flush=True)
            ended = _wait_for_an_end(stack, {state.service for state in states})
            raise LocalError(f"{ended.service} ended by itself; its log: {ended.log}")
    except KeyboardInterrupt:
        print("Stopped.")


def _wait_for_an_end(stack: Stack, services: set[str]) -> State:
    while True:
        for state in stack.states():
            if state.service in services and not state.is_running:
                return state
        time.sleep(_POLL_S)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_table(states: list[State]) -> None:
    table = Table("Service", "State", "Address", "Pid")
    for state in states:
        colour, word = ("green", "running") if state.is_running else ("red", "not running")
        pid = str(state.pid) if state.pid is not None else ""
        table.add_row(state.service, f"[{colour}]{word}[/]", state.address, pid)
    Console().print(table)


def _plain(state: State) -> dict[str, object]:
    return {
        "service": state.service,
        "is_running": state.is_running,
        "address": state.address,
        "pid": state.pid,
        "log": str(state.log),
    }


def _print_last(path: Path, lines: int, prefix: str) -> int:
    """Print the last lines of a log; give the position in bytes up to which it was read."""
    with path.open("rb") as log:
        log.seek(0, 2)
        log.seek(max(0, log.tell() - _TAIL_BYTES))
        text = log.read()
        position = log.tell()
    for line in text.decode(errors="replace").splitlines()[-lines or len(text) :]:
        print(f"{prefix}{line}")
    return position


def _print_from(path: Path, position: int, prefix: str) -> int:
    """Print the whole lines that came since; a log that is shorter than before begins anew."""
    with path.open("rb") as log:
        log.seek(0, 2)
        log.seek(position if log.tell() >= position else 0)
        return _print_whole_lines(log, prefix)


def _print_whole_lines(log: BinaryIO, prefix: str) -> int:
    start = log.tell()
    whole, newline, _ = log.read().rpartition(b"\n")
    for line in whole.decode(errors="replace").splitlines() if newline else ():
        print(f"{prefix}{line}", flush=True)
    return start + len(whole) + len(newline)
