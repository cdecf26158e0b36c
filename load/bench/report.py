"""What the comparison has found: as JSON, and as the tables of ``docs/benchmarks.md``."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
from rich.table import Table

from edo_stream.local.kafka import KAFKA_VERSION
from load.bench.codecs import Codec
from load.bench.faults import Endurance
from load.bench.latency import Latency
from load.bench.machine import OTHER_CORES_MAX
from load.bench.pairs import Ratio, Summary, ratios, summaries
from load.bench.programs import OURS, PROGRAMS
from load.bench.run import Run

MARK: Final = "<!-- What follows is written by `make bench`. -->"
#: Ratios that are named in the report even where there is no valid pair.
_RATIOS: Final = ("kafka_streams_100ms", "kafka_streams_tuned", "quix_eos", "faust", "plain_loop")


T = TypeVar("T")


@dataclass(slots=True)
class Found:
    """All that was measured, in the order in which it was."""

    runs: list[Run] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    faults: list[Endurance] = field(default_factory=list)
    codecs: list[Codec] = field(default_factory=list)

    @property
    def is_ours_exact(self) -> bool:
        """Whether ours never lost, repeated or reordered anything; of others it is only told."""
        return (
            all(run.is_exact for run in self.runs if run.program == OURS)
            and all(fault.is_exact for fault in self.faults if fault.program == OURS)
            and all(codec.exact for codec in self.codecs)
        )


def read_json(path: Path) -> Found:
    """What earlier calls have found: nothing when there is no report."""
    if not path.exists():
        return Found()
    report = json.loads(path.read_text())
    return Found(
        runs=[_made(Run, one, is_void=one["void"]) for one in report["runs"]],
        latencies=[_made(Latency, one) for one in report["latency_ms"].values()],
        faults=[_made(Endurance, one) for one in report["faults"]],
        codecs=[_made(Codec, one) for one in report["codecs"]],
    )


def _made(kind: type[T], values: Mapping[str, Any], **more: Any) -> T:
    """A dataclass from what the report says of it, which is more than its fields."""
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names} | more)


def as_json(found: Found) -> dict[str, Any]:
    """The report for programs; a ratio without a valid pair is null."""
    by_program = ratios(found.runs)
    return {
        "machine": machine(),
        "runs": [run.as_dict() for run in found.runs],
        "ratio": {
            name: None if name not in by_program else round(by_program[name].median, 3)
            for name in dict.fromkeys((*_RATIOS, *by_program))
        },
        "ratio_range": {
            name: {"least": ratio.least, "greatest": ratio.greatest, "pairs": ratio.pairs}
            for name, ratio in by_program.items()
        },
        "cpu_us_per_event": {
            name: round(summary.cpu_us_per_event, 2)
            for name, summary in summaries(found.runs).items()
        },
        "latency_ms": {latency.program: latency.as_dict() for latency in found.latencies},
        "faults": [fault.as_dict() for fault in found.faults],
        "codecs": [codec.as_dict() for codec in found.codecs],
    }


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "processor": _processor(),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_json(path: Path, found: Found) -> None:
    """Write the report, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    before = json.loads(path.read_text()) if path.exists() else {}
    # What other commands have put beside it stays.
    aside.write_text(json.dumps({**before, **as_json(found)}, indent=1))
    aside.replace(path)


def write_page(path: Path, found: Found) -> None:
    """Put the tables behind the mark, in place of the old ones."""
    head, mark, _ = path.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"{path} has lost its mark: {MARK}"
    path.write_text(f"{head}{MARK}\n\n{as_markdown(found)}", encoding="utf-8")


def as_markdown(found: Found) -> str:
    """All tables that there are figures for."""
    where = machine()
    system = f"{where['cores']} cores of {where['processor']}, {where['memory_gib']} GiB"
    software = f"Python {where['python']}, Kafka {where['kafka']}"
    parts = [f"Measured on {system}, {software}.\n"]
    if found.runs:
        parts += ["## Speed\n", speed_table(found)]
    if found.latencies:
        parts += ["## Latency\n", latency_table(found.latencies)]
    if found.faults:
        parts += ["## Kills\n", faults_table(found.faults)]
    if found.codecs:
        parts += ["## Compression\n", codecs_table(found.codecs)]
    return "\n".join(parts)


def screen_table(found: Found) -> Table:
    """The figures that matter most, as narrow as a screen."""
    table = Table(caption=f"* no valid run: others used over {OTHER_CORES_MAX} core, or not exact")
    table.add_column("program")
    for title in ("events/s", "µs CPU", "ours faster by", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right")
    by_program, speeds = ratios(found.runs), summaries(found.runs)
    latencies = {one.program: one for one in found.latencies}
    for name in dict.fromkeys((*speeds, *latencies)):
        speed, latency = speeds.get(name), latencies.get(name)
        table.add_row(
            name,
            "" if speed is None else f"{speed.events_per_s:,.0f}{'' if speed.valid else ' *'}",
            "" if speed is None else f"{speed.cpu_us_per_event:.1f}",
            _times(name, by_program),
            *("", "") if latency is None else (_number(latency.p50), _number(latency.p99)),
        )
    return table


def speed_table(found: Found) -> str:
    """Medians of each program, and how many times as fast ours is."""
    by_program, shown = ratios(found.runs), summaries(found.runs)
    rows = [
        [
            PROGRAMS[name].title,
            PROGRAMS[name].promise,
            PROGRAMS[name].state,
            f"{summary.records:,}",
            _marked(f"{summary.events_per_s:,.0f}", summary),
            f"{summary.cpu_us_per_event:.1f}",
            f"{summary.broker_cpu_us_per_event:.1f}",
            f"{summary.peak_mb:,.0f}",
            f"{summary.startup_s:.1f}",
            _times(name, by_program),
            f"{summary.valid} of {summary.runs}",
            "all" if summary.exact == summary.runs else f"{summary.exact} of {summary.runs}",
        ]
        for name, summary in shown.items()
    ]
    notes = ""
    if any(not summary.valid for summary in shown.values()):
        notes = (
            f"\n\\* No valid run: others used more than {OTHER_CORES_MAX} core beside each, or it "
            "was not exact. The figures are of those runs, and say little.\n"
        )
    return (
        _table(
            [
                "program",
                "promise",
                "state",
                "records",
                "events/s",
                "worker CPU, µs/event",
                "broker CPU, µs/event",
                "peak, MiB",
                "start, s",
                "ours is faster by",
                "valid runs",
                "exact",
            ],
            rows,
            words=3,
        )
        + notes
    )


def _marked(text: str, summary: Summary) -> str:
    return text if summary.valid else f"{text} \\*"


def _times(name: str, by_program: Mapping[str, Ratio]) -> str:
    if name == OURS:
        return "1"
    ratio = by_program.get(name)
    if ratio is None:
        return "none"
    return f"{ratio.median:.2f} ({ratio.least:.2f} to {ratio.greatest:.2f})"


def latency_table(latencies: Sequence[Latency]) -> str:
    """Latency of each program at the rate."""
    return _table(
        ["program", "events/s", "p50, ms", "p99, ms", "max, ms", "worker, cores", "remarks"],
        [
            [
                PROGRAMS[one.program].title,
                f"{one.rate:,.0f}",
                *map(_number, (one.p50, one.p99, one.max)),
                f"{one.worker_cores:.2f}",
                _remarks(one),
            ]
            for one in latencies
        ],
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}"


def _remarks(latency: Latency) -> str:
    remarks = []
    if latency.missing:
        remarks.append(f"fell behind: {latency.missing:,} results missing at the end")
    if latency.is_void:
        remarks.append(
            f"void: others used {latency.other_cores:.1f} cores, "
            f"records were sent up to {latency.sender_lag_ms:.0f} ms late"
        )
    return "; ".join(remarks)


def faults_table(faults: Sequence[Endurance]) -> str:
    """What each program lost and repeated under the same kills."""
    return _table(
        [
            "program",
            "records",
            "kills",
            "lost",
            "repeated",
            "out of order",
            "took, s",
            "results again after, s",
            "end",
        ],
        [
            [
                PROGRAMS[one.program].title,
                f"{one.records:,}",
                str(one.kills),
                f"{one.lost:,}",
                f"{one.repeated:,}",
                f"{one.out_of_order:,}",
                f"{one.duration_s:,.0f}",
                ", ".join(f"{seconds:.0f}" for seconds in one.resumed_s[1:]),
                one.end + (f", ended {one.deaths} times by itself" if one.deaths else ""),
            ]
            for one in faults
        ],
    )


def codecs_table(codecs: Sequence[Codec]) -> str:
    """Bytes and time by codec; bytes are those on the broker's disk."""
    return _table(
        [
            "reads",
            "writes",
            "input, bytes/event",
            "results, bytes/event",
            "changelogs, bytes/event",
            "events/s",
            "worker CPU, µs/event",
            "broker CPU, µs/event",
            "exact",
        ],
        [
            [
                one.read,
                one.written,
                f"{one.input_bytes_per_event:.0f}",
                f"{one.results_bytes_per_event:.0f}",
                f"{one.changelogs_bytes_per_event:.0f}",
                f"{one.events_per_s:,.0f}{' (void)' if one.void else ''}",
                f"{one.cpu_us_per_event:.1f}",
                f"{one.broker_cpu_us_per_event:.1f}",
                "yes" if one.exact else "NO",
            ]
            for one in codecs
        ],
        words=2,
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Markdown; all but the first ``words`` columns are aligned to the right."""
    rule = ["---"] * words + ["--:"] * (len(titles) - words)
    lines = [titles, rule, *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
