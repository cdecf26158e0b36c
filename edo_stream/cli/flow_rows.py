"""Rows that are given to `edo flow test --row`, judged as a worker judges those of the tables."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import msgspec

from edo_stream.cli.environment import CommandError
from edo_stream.cli.files import read_input
from edo_stream.cli.operate import USAGE
from edo_stream.core.event import Violation
from edo_stream.flows import Flow
from edo_stream.registry import Registry
from edo_stream.registry.entry import Entry
from edo_stream.registry.mistakes import nearest

_STANDARD_INPUT: Final = "-"
_SOURCE: Final = "/edo/flow-test"


def given_rows(
    registry: Registry, flow: Flow | None, given: Sequence[str], taken: str
) -> dict[str, bytes]:
    """Rows by the names of a flow's lookups; ``taken`` is the file that the event is read from.

    Raises:
        CommandError: one of them is of no lookup, cannot be read, or is no row of its table.
    """
    known = {} if flow is None else flow.declaration.lookup or {}
    rows: dict[str, bytes] = {}
    read = {taken: "--event"}
    for one in given:
        name, file = _parts(one, [*known])
        if name in rows:
            raise CommandError(
                f"--row {one}: {name} is given twice; give each lookup one row", USAGE
            )
        if file == _STANDARD_INPUT and file in read:
            reader = read[file]
            raise CommandError(
                f"--row {one}: standard input is read by {reader}; write the row to a file", USAGE
            )
        read[file] = f"--row {name}=-"
        try:
            rows[name] = read_input(file)
        except CommandError as error:
            raise CommandError(f"--row {one}: {error}", USAGE) from error
        _judge(one, registry.entries[known[name].topic], rows[name])
    return rows


def _parts(one: str, known: Sequence[str]) -> tuple[str, str]:
    """Name and file; of a flow with one lookup the name may be left out."""
    if not known:
        raise CommandError(f"--row {one}: the flow looks no rows up; leave --row out", USAGE)
    name, is_named, file = one.partition("=")
    if not is_named and len(known) == 1:
        name, file = known[0], one
    elif name not in known:
        raise CommandError(
            f"--row {one}: write NAME=FILE, NAME as in lookup of the flow; {nearest(name, known)}",
            USAGE,
        )
    if not file:
        raise CommandError(f"--row {one}: names no file; write {name}=FILE, or {name}=-", USAGE)
    return name, file


def _judge(one: str, entry: Entry, content: bytes) -> None:
    """Refuse what a worker would make a dead letter of, as it is no row."""
    try:
        row: Any = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise CommandError(
            f"--row {one}: not JSON: {error}; write the data of a row of {entry.name}",
            USAGE,
        ) from error
    outgoing = import_module("edo_stream.outgoing")
    try:
        outgoing.Writer(entry, _SOURCE).record(row, _envelope(entry, outgoing))
    except outgoing.ContractError as error:
        found: Violation = error.violation
        raise CommandError(
            f"--row {one}: no row of {entry.name} by its contract: {found.reason}: {found.detail}",
            USAGE,
        ) from error
    except outgoing.NotProducedError:
        # A connector writes them, in a form of its own: the data are taken as they are.
        return


def _envelope(entry: Entry, outgoing: Any) -> Any:
    """Of a row whose key nobody has said: any will do, unless the data have it."""
    is_in_data = entry.declaration.record_key.startswith("/")
    key = None if is_in_data else "row"
    return outgoing.Envelope(id="row", subject="row", key=key, extensions={"sequence": "1"})
