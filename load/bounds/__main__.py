"""Measure the bounds on a broker of its own: ``make bounds``, or ``python -m load.bounds idle``.

The status is 0 when every figure is within its bar, 1 when one is not, 2 for a wrong command, and
3 when something could not be measured.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer
from rich.console import Console
from rich.table import Table

from edo_stream.local.errors import LocalError
from edo_stream.local.kafka import LocalKafka
from load.bench.machine import wait_until_quiet
from load.bounds.figures import Bound, Scale
from load.bounds.measures import MEASURES, names_of
from load.bounds.place import SETTINGS, BoundError

_WIDTH: Final = 150
_PATIENCE_S: Final = 60.0
_SCALE: Final = Scale()

Names = Annotated[list[str] | None, typer.Argument(help=f"Some of: {', '.join(MEASURES)}.")]
Records = Annotated[int, typer.Option(help="Of the burst, and ids remembered.")]
Pairs = Annotated[int, typer.Option(help="Of runs with and without metrics.")]
Output = Annotated[Path, typer.Option("--json", help="Where the figures are written.")]

app = typer.Typer(add_completion=False)


@app.command()
def main(
    names: Names = None,
    records: Records = _SCALE.burst,
    pairs: Pairs = _SCALE.pairs,
    output: Output = Path("build/bounds.json"),
) -> None:
    """Measure memory, idle cost, lateness, size of state and cost of metrics against their bars."""
    screen = Console(width=None if sys.stdout.isatty() else _WIDTH)
    try:
        chosen = names_of(names or [])
    except BoundError as error:
        screen.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from None
    root = Path(tempfile.mkdtemp(prefix="bounds-"))
    try:
        bounds = _measure(chosen, root, Scale(burst=records, pairs=pairs), screen)
    except (BoundError, LocalError) as error:
        screen.print(str(error), style="red", markup=False)
        raise typer.Exit(3) from None
    finally:
        shutil.rmtree(root, ignore_errors=True)
    screen.print(_table(bounds))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(_document(bounds), indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(0 if all(bound.is_kept for bound in bounds) else 1)


def _measure(chosen: list[str], root: Path, scale: Scale, screen: Console) -> list[Bound]:
    """One after the other, each on a broker that the one before has left nothing on."""
    bounds = []
    for name in chosen:
        kafka = LocalKafka(root / name / "kafka", settings=SETTINGS)
        kafka.launch()
        try:
            kafka.wait_ready(90.0)
            assert kafka.pid is not None
            wait_until_quiet(kafka.pid, _PATIENCE_S, lambda _: None)
            for bound in MEASURES[name](root / name, kafka, scale):
                bounds.append(bound)
                screen.print(f"{bound.name}: {bound.value:.1f} {bound.unit}")
        finally:
            kafka.stop()
            shutil.rmtree(root / name, ignore_errors=True)
    return bounds


def _table(bounds: list[Bound]) -> Table:
    table = Table("bound", "measured", "bar", "", "of what")
    for bound in bounds:
        table.add_row(
            bound.name,
            f"{bound.value:.1f} {bound.unit}",
            f"≤ {bound.bar:g} {bound.unit}",
            "kept" if bound.is_kept else "[red]missed[/]",
            bound.detail,
        )
    return table


def _document(bounds: list[Bound]) -> dict[str, object]:
    return {
        "bounds": [
            {**asdict(bound), "value": round(bound.value, 2), "kept": bound.is_kept}
            for bound in bounds
        ],
        "machine": {
            "cores": psutil.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        },
    }


if __name__ == "__main__":
    app()
