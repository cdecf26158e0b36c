"""Try all mutants, or some: ``make mutants``, or ``python -m tests.mutants --invariant 4``.

The status is 0 when a test has killed each, 1 when one survives, 2 when something could not be
tried: a mutant whose text is gone, or tests that fail without any mutant.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter

from rich.console import Console
from rich.table import Column, Table

from tests.mutants.catalogue import INVARIANTS, MUTANTS
from tests.mutants.trial import ROOT, Copy, DoesNotApplyError, Mutant, TrialError, Verdict

Results = Sequence[tuple[Mutant, Verdict]]


def main() -> int:
    """Run what was asked for; the status says whether all are dead."""
    arguments = _arguments()
    mutants = [
        mutant
        for mutant in MUTANTS
        if arguments.invariant in (None, mutant.invariant) and arguments.name in mutant.name
    ]
    screen = Console(width=None if sys.stdout.isatty() else 160)
    if not mutants:
        screen.print("no such mutant")
        return 2
    began = perf_counter()
    try:
        for mutant in mutants:
            mutant.applied_to((ROOT / mutant.path).read_text())
        results = _try_all(mutants, arguments.processes, screen)
    except (DoesNotApplyError, TrialError) as error:
        screen.print(str(error), style="red", markup=False)
        return 2
    seconds = perf_counter() - began
    survivors = [mutant.name for mutant, verdict in results if verdict.killed_by is None]
    screen.print(_table(results))
    screen.print(
        f"{len(results)} mutants, {len(results) - len(survivors)} killed, "
        f"{len(survivors)} survived, {seconds:.0f} s"
    )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(_document(results, seconds), indent=1) + "\n")
    return 1 if survivors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--invariant", type=int, choices=INVARIANTS, help="of one invariant only")
    parser.add_argument("--name", default="", help="only those whose name has this in it")
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--json", type=Path, default=ROOT / "build/mutants.json")
    return parser.parse_args()


def _try_all(mutants: Sequence[Mutant], processes: int, screen: Console) -> Results:
    """Try each mutant, several at a time, each in the copy of its thread."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(processes):
            copies.put(Copy(Path(directory, str(number))))

        def check(test: str, is_compiled: bool) -> None:
            copy = copies.get()
            try:
                copy.check((test,), is_compiled)
            finally:
                copies.put(copy)

        def try_out(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                verdict = copy.try_out(mutant)
            finally:
                copies.put(copy)
            fate = "survived" if verdict.killed_by is None else "killed"
            screen.print(f"{fate:8} {verdict.seconds:5.1f} s  {mutant.name}", markup=False)
            return verdict

        with ThreadPoolExecutor(processes) as pool:
            # Tests that are red by themselves would kill anything.
            list(pool.map(check, *zip(*_tests_of(mutants), strict=True)))
            return list(zip(mutants, pool.map(try_out, mutants), strict=True))


def _tests_of(mutants: Iterable[Mutant]) -> list[tuple[str, bool]]:
    """Tests, and whether they look at the compiled half."""
    return list(dict.fromkeys((test, one.is_compiled) for one in mutants for test in one.tests))


def _table(results: Results) -> Table:
    table = Table("invariant", "mutant", Column("killed by", overflow="fold"), "s")
    for mutant, verdict in results:
        killed_by = "[red]nothing: it survives[/]"
        if verdict.killed_by is not None:
            killed_by = verdict.killed_by.replace("[", r"\[")
        table.add_row(
            f"{mutant.invariant} {INVARIANTS[mutant.invariant]}",
            mutant.name,
            killed_by,
            f"{verdict.seconds:.1f}",
        )
    return table


def _document(results: Results, seconds: float) -> dict[str, object]:
    return {
        "mutants": [
            {
                "invariant": mutant.invariant,
                "title": INVARIANTS[mutant.invariant],
                "mutant": mutant.name,
                "file": mutant.path,
                "killed_by": verdict.killed_by,
                "seconds": round(verdict.seconds, 1),
            }
            for mutant, verdict in results
        ],
        "killed": sum(verdict.killed_by is not None for _, verdict in results),
        "survived": sum(verdict.killed_by is None for _, verdict in results),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
