"""The effects ledger: what executors write down themselves, so that nobody has to be believed.

Theory of operation. An executor appends a line when it is called, and one when its side effect has
happened, each by one write to a file that all processes of a run share: such a write is whole or
not there at all, whatever becomes of the process. The order of the lines is the order of the runs.
What is counted from it needs neither the engine nor its topics:

- *runs*: how often the executor of each command was called, and how often at the same attempt;
- *effects without memory*: what a receiver has done that does whatever it is told;
- *effects by key*: what a receiver has done that knows the idempotency keys it has seen.

``python -m load.effects LEDGER`` shows that of any ledger, and with ``--jsonl`` of each command.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

_WIDTH: Final = 150


class Moment(Enum):
    """What a line is about."""

    BEGAN = "began"
    """The executor was called."""
    EFFECT = "effect"
    """Its side effect has happened."""


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line of the ledger."""

    moment: Moment
    flow: str
    command: str
    idempotency_key: str
    key: str
    """What the flow keeps in order."""
    number: int
    """Place of the command among those of its key, ascending."""
    attempt: int
    at_ms: float
    """Epoch ms."""
    process: int
    due_ms: float = 0.0
    """When a retry is due, where its executor is told."""


_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


class Ledger:
    """A ledger to write into; the file is opened once a process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, line: Line) -> None:
        """Append a line."""
        os.write(self._file, _encode(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_ledger(path: Path) -> list[Line]:
    """All lines, in the order in which they were written; none when nobody has written."""
    if not path.exists():
        return []
    return [_decode(line) for line in path.read_bytes().splitlines()]


class Receiver:
    """A receiver that knows what it has done: the same idempotency key again has no effect."""

    def __init__(self) -> None:
        self.applied: set[str] = set()

    def apply(self, idempotency_key: str) -> bool:
        """Do what is asked for; ``False`` when that was done before."""
        is_new = idempotency_key not in self.applied
        self.applied.add(idempotency_key)
        return is_new


@dataclass(slots=True)
class Tally:
    """How often the commands of a flow really ran."""

    commands: int = 0
    """That ran at all."""
    runs: int = 0
    repeated_runs: int = 0
    """Runs beyond the first of the same command and attempt."""
    effects: int = 0
    """Of a receiver without memory."""
    repeated_effects: int = 0
    """Of those, beyond the first of the same command."""
    effects_by_key: int = 0
    """Of a receiver that knows the idempotency keys it has seen."""
    runs_of: Counter[int] = field(default_factory=Counter)
    """Commands by how often they ran."""


def tally(lines: Iterable[Line]) -> dict[str, Tally]:
    """Count runs and effects by flow."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    receivers: dict[str, Receiver] = defaultdict(Receiver)
    seen: set[tuple[str, str, int]] = set()
    runs: dict[str, Counter[str]] = defaultdict(Counter)
    effects: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        one = tallies[line.flow]
        if line.moment is Moment.BEGAN:
            run = (line.flow, line.command, line.attempt)
            one.repeated_runs += run in seen
            seen.add(run)
            runs[line.flow][line.command] += 1
        else:
            effects[line.flow][line.command] += 1
            one.effects_by_key += receivers[line.flow].apply(line.idempotency_key)
    for flow, one in tallies.items():
        one.commands = len(runs[flow])
        one.runs = runs[flow].total()
        one.effects = effects[flow].total()
        one.repeated_effects = one.effects - len(effects[flow])
        one.runs_of = Counter(runs[flow].values())
    return dict(sorted(tallies.items()))


def by_command(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """The same of each command, in the order in which they first ran."""
    found: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        found[line.flow, line.command].append(line)
    told = []
    for (flow, command), mine in found.items():
        one = tally(mine)[flow]
        told.append(
            {
                "flow": flow,
                "command": command,
                "key": mine[0].key,
                "attempts": max(line.attempt for line in mine),
                "runs": one.runs,
                "effects": one.effects,
                "effects_by_key": one.effects_by_key,
            }
        )
    return told


def out_of_order(lines: Sequence[Line]) -> list[Line]:
    """First effects of commands of which a later one of the same key had its effect before."""
    latest: dict[tuple[str, str], int] = {}
    done: set[tuple[str, str]] = set()
    wrong = []
    for line in lines:
        if line.moment is not Moment.EFFECT or (line.flow, line.command) in done:
            continue
        done.add((line.flow, line.command))
        queue = (line.flow, line.key)
        if line.number < latest.get(queue, -1):
            wrong.append(line)
        latest[queue] = max(line.number, latest.get(queue, -1))
    return wrong


def effects_table(tallies: dict[str, Tally]) -> Table:
    """How often commands ran, and what that did to either kind of receiver."""
    table = Table(title="Effects ledger, written by the executors")
    table.add_column("flow")
    for title in (
        "commands",
        "runs",
        "of an attempt again",
        "ran 1, 2, 3, more times",
        "effects, no memory",
        "of them repeated",
        "effects, idempotent",
    ):
        table.add_column(title, justify="right")
    for flow, one in tallies.items():
        more = sum(count for times, count in one.runs_of.items() if times > 3)
        times = ", ".join(f"{count:,}" for count in (*(one.runs_of[n] for n in (1, 2, 3)), more))
        table.add_row(
            flow,
            f"{one.commands:,}",
            f"{one.runs:,}",
            f"{one.repeated_runs:,}",
            times,
            f"{one.effects:,}",
            f"{one.repeated_effects:,}",
            f"{one.effects_by_key:,}",
        )
    return table


app = typer.Typer(add_completion=False)


@app.command()
def effects(
    ledger: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="To be read.")],
    jsonl: Annotated[bool, typer.Option("--jsonl", help="A line a command.")] = False,
) -> None:
    """How often the executor of each command really ran, and what came of that."""
    try:
        lines = read_ledger(ledger)
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(f"{ledger} is no effects ledger: {error}") from None
    if jsonl:
        for one in by_command(lines):
            print(_encode(one).decode())
    else:
        Console(width=_WIDTH).print(effects_table(tally(lines)))


if __name__ == "__main__":
    app()
