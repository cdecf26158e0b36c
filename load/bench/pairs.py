"""Rounds of runs, and what they say: a program is compared with ours of the same round only.

What else happens on a machine comes and goes in minutes. Two runs of one round are near each
other, so their ratio is worth more than the ratio of two averages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from load.bench.programs import OURS
from load.bench.run import Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ratio:
    """Events per second of ours by those of another, over the rounds in which both are valid."""

    median: float
    least: float
    greatest: float
    pairs: int


def rotated(programs: Sequence[T], turn: int) -> list[T]:
    """The programs in another order each round, so that none always follows the same one."""
    start = turn % len(programs)
    return [*programs[start:], *programs[:start]]


def ratios(runs: Iterable[Run]) -> dict[str, Ratio]:
    """Ratio of each other program that has a pair."""
    by_pair: dict[int, dict[str, float]] = {}
    for run in runs:
        if run.is_valid:  # The last attempt of a round that is.
            by_pair.setdefault(run.pair, {})[run.program] = run.events_per_s
    found: dict[str, list[float]] = {}
    for speeds in by_pair.values():
        if OURS in speeds:
            for program, speed in speeds.items():
                if program != OURS:
                    found.setdefault(program, []).append(speeds[OURS] / speed)
    return {
        program: Ratio(median(values), min(values), max(values), len(values))
        for program, values in found.items()
    }


@dataclass(frozen=True, slots=True)
class Summary:
    """Medians of the runs of one program: of the valid ones, or of all when none is."""

    program: str
    records: int
    runs: int
    valid: int
    exact: int
    events_per_s: float
    cpu_us_per_event: float
    broker_cpu_us_per_event: float
    startup_s: float
    peak_mb: float


def summaries(runs: Sequence[Run]) -> dict[str, Summary]:
    """Summary of each program, in the order of their first runs."""
    return {
        program: _summary(program, [run for run in runs if run.program == program])
        for program in dict.fromkeys(run.program for run in runs)
    }


def _summary(program: str, runs: Sequence[Run]) -> Summary:
    valid = [run for run in runs if run.is_valid]
    shown = valid or runs
    return Summary(
        program=program,
        records=shown[0].records,
        runs=len(runs),
        valid=len(valid),
        exact=sum(run.is_exact for run in runs),
        events_per_s=median(run.events_per_s for run in shown),
        cpu_us_per_event=median(run.cpu_us_per_event for run in shown),
        broker_cpu_us_per_event=median(run.broker_cpu_us_per_event for run in shown),
        startup_s=median(run.startup_s for run in shown),
        peak_mb=max(run.peak_mb for run in shown),
    )
