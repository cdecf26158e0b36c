"""What the comparison of commands has found: as JSON, on the screen, and as a table of the docs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from load.bench.actions.contest import BY_KEY, FAUST, ONE_BY_ONE, PROGRAMS, Feat
from load.bench.machine import OTHER_CORES_MAX

BEGIN: Final = "<!-- What follows is written by `python -m load.bench.actions`. -->"
END: Final = "<!-- So far, of commands. -->"
RATIO_MIN: Final = 10.0
"""What Parallel Consumer claims, and what is asked of ours."""
_KEY: Final = "actions"
_TITLES: Final = (
    "program",
    "keeps the order",
    "commands/s",
    "CPU, µs/command",
    "retries",
    "out of order",
    "early",
    "late p50, ms",
    "late p99, ms",
    "late max, ms",
    "missing",
    "repeated",
)


@dataclass(slots=True)
class Found:
    """All runs, in the order in which they were made; each round has one of every program."""

    feats: list[Feat] = field(default_factory=list)

    def of(self, program: str, is_failing: bool = False) -> list[Feat]:
        """Runs of a program."""
        return [
            feat for feat in self.feats if (feat.program, feat.is_failing) == (program, is_failing)
        ]

    def ratios(self, other: str) -> list[float]:
        """By round, how many times as fast ours is by key as another, where nothing fails."""
        pairs = zip(self.of(BY_KEY), self.of(other), strict=False)
        return [mine.per_s / theirs.per_s for mine, theirs in pairs if theirs.per_s]

    @property
    def findings(self) -> list[str]:
        """What ours has failed at; of others it is only told."""
        wrong = [
            f"{feat.program}: {feat.as_dict()}"
            for feat in self.feats
            if PROGRAMS[feat.program].is_ours and not feat.is_exact
        ]
        ratio = _median(self.ratios(ONE_BY_ONE))
        if ratio is not None and ratio < RATIO_MIN:
            wrong.append(f"only {ratio:.1f} times as fast by key as one at a time")
        return wrong

    def as_dict(self) -> dict[str, Any]:
        """The report for programs; a ratio without a pair is null."""
        return {
            "runs": [feat.as_dict() for feat in self.feats],
            "ratio": {
                "by_key_to_one_by_one": _median(self.ratios(ONE_BY_ONE)),
                "by_key_to_faust": _median(self.ratios(FAUST)),
            },
        }


def _median(values: Sequence[float]) -> float | None:
    return round(median(values), 2) if values else None


def write_json(path: Path, found: Found) -> None:
    """Put it into the bench's report, beside what else there is."""
    report = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps({**report, _KEY: found.as_dict()}, indent=1))
    aside.replace(path)


def write_page(path: Path, found: Found) -> None:
    """Put the tables between their marks."""
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin, f"{path} has lost its mark: {BEGIN}"
    assert end, f"{path} has lost its mark: {END}"
    path.write_text(f"{head}{BEGIN}\n\n{as_markdown(found)}\n{END}{tail}", encoding="utf-8")


def as_markdown(found: Found) -> str:
    """Both tables, and the ratios in words."""
    commands = found.feats[0].commands if found.feats else 0
    is_void = any(feat.is_void for feat in found.feats)
    note = f" (void): beside it others used more than {OTHER_CORES_MAX} core." if is_void else ""
    return "\n".join(
        (
            f"{commands:,} commands of 0 to 5 ms in one partition, medians of the runs.{note}\n",
            "Nothing fails:\n",
            _table(found, is_failing=False),
            *_told_ratios(found),
            "\nOf 100 commands three fail once and one twice; retries after 1 s and 2 s:\n",
            _table(found, is_failing=True),
            "",
        )
    )


def _told_ratios(found: Found) -> list[str]:
    told = []
    for other, words in ((ONE_BY_ONE, "ours one at a time"), (FAUST, "Faust one at a time")):
        ratios = found.ratios(other)
        if ratios:
            spread = f" ({min(ratios):.1f} to {max(ratios):.1f})" if len(ratios) > 1 else ""
            told.append(f"\nBy key, ours is {median(ratios):.1f} times as fast as {words}{spread}.")
    return told


def _table(found: Found, is_failing: bool) -> str:
    rows = [_TITLES, ("---",) * 2 + ("--:",) * (len(_TITLES) - 2), *rows_of(found, is_failing)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def rows_of(found: Found, is_failing: bool) -> list[tuple[str, ...]]:
    """A row a program: medians of what it has shown, worst of what it got wrong."""
    rows = []
    for program in PROGRAMS.values():
        feats = found.of(program.name, is_failing)
        if not feats:
            continue
        is_void = all(feat.is_void for feat in feats)
        rows.append(
            (
                program.title,
                program.order,
                f"{median(feat.per_s for feat in feats):,.0f}" + " (void)" * is_void,
                f"{median(feat.cpu_us_per_command for feat in feats):,.0f}",
                f"{median(feat.retries for feat in feats):,.0f}",
                f"{max(feat.out_of_order for feat in feats):,}",
                f"{max(feat.early for feat in feats):,}",
                *(
                    _number([value for feat in feats if (value := getattr(feat, name)) is not None])
                    for name in ("late_p50_ms", "late_p99_ms", "late_max_ms")
                ),
                f"{max(feat.commands - feat.done for feat in feats):,}",
                f"{max(feat.repeated for feat in feats):,}",
            )
        )
    return rows


def _number(values: Sequence[float]) -> str:
    return f"{median(values):,.0f}" if values else ""


def titles() -> Sequence[str]:
    """Of the columns."""
    return _TITLES
